"""Nets that are plainly one layer after the other, each of a kind that treats every record by itself."""

from __future__ import annotations

from torch import nn

__all__ = ["chain_of"]

# Layers that map each number by itself, whatever the dimensions around it.
_ELEMENTWISE = (nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Identity)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def chain_of(module: object) -> list[nn.Module] | None:
    """The layers of a chain of linear layers and activations, in order.

    Parameters
    ----------
    module : object

    Returns
    -------
    list of torch.nn.Module, or None
        None for anything else: other layers, subclasses, hooks, a forward method of its own, changes in place.

    Examples
    --------
    >>> chain_of(nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 3), nn.Tanh())))
    [Flatten(start_dim=1, end_dim=-1), Linear(in_features=4, out_features=3, bias=True), Tanh()]
    >>> chain_of(nn.Sequential(nn.Linear(4, 3), nn.Softmax(0))) is None
    True
    """
    if not isinstance(module, nn.Module) or "forward" in vars(module) or any(getattr(module, h) for h in _HOOKS):
        return None
    if type(module) is nn.Sequential:
        parts = [chain_of(child) for child in module]
        return None if None in parts else [layer for part in parts for layer in part]
    flattens = type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)
    maps = type(module) in _ELEMENTWISE and not getattr(module, "inplace", False)
    return [module] if flattens or maps or type(module) is nn.Linear else None
