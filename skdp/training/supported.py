"""What of a module trains, and layers for which no per-record bound exists and what to do about each."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from skdp.exceptions import UnsupportedModuleError

__all__ = ["check_mode", "check_supported", "train_mode", "trainable_parameters"]


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that train, in ``named_parameters()`` order; a tied one once, under its first name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def check_supported(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Raise where a layer mixes records; return the frozen batch norms, which must stay in evaluation mode."""
    frozen = []
    for name, layer in module.named_modules():
        reason = _refusal(layer)
        if reason is not None:
            raise UnsupportedModuleError(f"{_named(name, layer)} {reason}")
        if isinstance(layer, _BatchNorm):
            frozen.append((name, layer))
    return frozen


def train_mode(module: nn.Module) -> nn.Module:
    """Put a module into training mode, but for batch norms that were frozen: evaluation mode, nothing to train."""
    frozen = [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and not layer.training and not any(p.requires_grad for p in layer.parameters())
    ]
    module.train()
    for layer in frozen:
        layer.eval()
    return module


def check_mode(frozen: list[tuple[str, nn.Module]]) -> None:
    """Raise where a frozen batch norm was put back into training mode."""
    for name, layer in frozen:
        if layer.training:
            raise UnsupportedModuleError(
                f"{_named(name, layer)} is in training mode, where it normalises each record with the others "
                f"of its batch; call .eval() on it after .train(), or replace it by nn.GroupNorm"
            )


def _named(name: str, layer: nn.Module) -> str:
    """A layer in an error message."""
    return f"layer {name or 'the module itself'!r} ({type(layer).__name__}({layer.extra_repr()}))"


def _refusal(layer: nn.Module) -> str | None:
    """Why `layer` is refused and the remedy, or None."""
    if isinstance(layer, _BatchNorm):
        return _batch_norm(layer)
    if any(is_lazy(tensor) for tensor in (*layer._parameters.values(), *layer._buffers.values())):
        return "is not initialised yet; run the module once on public inputs of the right shape first"
    if isinstance(layer, (DataParallel, DistributedDataParallel)):
        return "spreads a batch over devices; pass the module that it wraps"
    if any(isinstance(hook, (WeightNorm, SpectralNorm)) for hook in layer._forward_pre_hooks.values()):
        return (
            "computes its weight in a hook that per-record gradients cannot follow; use "
            "torch.nn.utils.parametrizations.weight_norm or spectral_norm instead"
        )
    if isinstance(layer, _InstanceNorm) and layer.track_running_stats:
        return "keeps statistics of the records; set track_running_stats=False"
    if isinstance(layer, (nn.MultiheadAttention, nn.RNNBase)) and not layer.batch_first:
        return "takes records along its second dimension; set batch_first=True and put the batch first"
    if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        return _embedding(layer)
    return None


def _batch_norm(layer: _BatchNorm) -> str | None:
    """Batch norm is an ordinary per-record map only in evaluation mode with fixed statistics and nothing to train."""
    remedy = (
        "replace it by nn.GroupNorm, nn.LayerNorm or nn.InstanceNorm (track_running_stats=False), or, if its "
        "statistics and weights come from public data, freeze it: .eval() and .requires_grad_(False)"
    )
    if layer.training or not layer.track_running_stats:
        return f"normalises each record with the others of its batch, so no per-record bound exists; {remedy}"
    if any(parameter.requires_grad for parameter in layer.parameters()):
        return f"has trainable parameters; {remedy}"
    return None


def _embedding(layer: nn.Embedding | nn.EmbeddingBag) -> str | None:
    """Options of embeddings that let one record change what another sees."""
    if layer.max_norm is not None:
        return (
            f"has max_norm={layer.max_norm!r}, which rescales the rows that the records name, in the forward pass; "
            f"set max_norm=None"
        )
    if layer.scale_grad_by_freq:
        return "divides gradients by how often the batch names a row, so records mix; set scale_grad_by_freq=False"
    if isinstance(layer, nn.EmbeddingBag) and layer.mode == "max":
        return "has mode='max'; use mode='sum' or mode='mean'"
    return None
