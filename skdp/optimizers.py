"""Optimizer specifications: tunable by nested parameters, built once per fit.

A specification has no state; `build` returns an ordinary ``torch.optim.Optimizer``. What an optimizer does to
released gradients is post-processing, so any of them keeps the guarantee.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from sklearn.base import BaseEstimator

__all__ = ["SGD", "Adam", "AdamBC", "DPAdam", "Optimizer", "resolve_optimizer"]


class Optimizer(BaseEstimator):
    """Any ``torch.optim`` optimizer class with its keyword arguments.

    Parameters
    ----------
    optimizer : type
        A subclass of ``torch.optim.Optimizer``.
    **kwargs
        Its arguments other than the parameters and ``lr``; each can be tuned as ``optimizer__<name>``.

    Examples
    --------
    >>> import torch
    >>> from skdp.optimizers import Optimizer
    >>> Optimizer(torch.optim.RMSprop, alpha=0.9).get_params()["alpha"]
    0.9
    """

    def __init__(self, optimizer: type, **kwargs: Any):
        self.optimizer = optimizer
        self._kwargs = kwargs

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The class and its keyword arguments by name."""
        return {"optimizer": self.optimizer, **self._kwargs}

    def set_params(self, **params: Any) -> Optimizer:
        """Set the class or any keyword argument."""
        self.optimizer = params.pop("optimizer", self.optimizer)
        self._kwargs = {**self._kwargs, **params}
        return self

    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """The optimizer over `parameters` at learning rate `lr`."""
        try:
            return self.optimizer(parameters, lr=lr, **self._kwargs)
        except TypeError as error:
            known = ", ".join(list(inspect.signature(self.optimizer).parameters)[2:])
            raise ValueError(f"optimizer {self.optimizer.__name__}: {error}; it knows {known}") from error


class SGD(BaseEstimator):
    """Gradient descent with momentum.

    Parameters
    ----------
    momentum : float, default=0.9
    nesterov : bool, default=False
    weight_decay : float, default=0.0

    Examples
    --------
    >>> import torch
    >>> from skdp.optimizers import SGD
    >>> SGD(momentum=0.5).build([torch.nn.Parameter(torch.zeros(2))], lr=0.1).defaults["momentum"]
    0.5
    """

    def __init__(self, momentum: float = 0.9, nesterov: bool = False, weight_decay: float = 0.0):
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay

    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """The optimizer over `parameters` at learning rate `lr`."""
        return torch.optim.SGD(parameters, lr=lr, **self.get_params())


class Adam(BaseEstimator):
    """Adam on noisy gradients, without correction.

    Parameters
    ----------
    betas : tuple of float, default=(0.9, 0.999)
    eps : float, default=1e-8
    weight_decay : float, default=0.0

    Examples
    --------
    >>> from skdp.optimizers import Adam
    >>> Adam(betas=(0.8, 0.99)).betas
    (0.8, 0.99)
    """

    def __init__(self, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0):
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay

    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """The optimizer over `parameters` at learning rate `lr`."""
        return torch.optim.Adam(parameters, lr=lr, fused=True, **self.get_params())


class DPAdam(BaseEstimator):
    """Adam whose second moment is corrected for the known variance of the privacy noise (DP-AdamBC).

    Parameters
    ----------
    betas : tuple of float, default=(0.9, 0.999)
    eps_root : float, default=1e-8
        Floor of the corrected second moment, in squared gradient units.

    References
    ----------
    Tang, Shpilevskiy, Lécuyer, *DP-AdamBC: Your DP-Adam Is Actually DP-SGD (Unless You Apply Bias Correction)*,
    AAAI 2024.

    Examples
    --------
    >>> from skdp.optimizers import DPAdam
    >>> DPAdam(eps_root=1e-7).eps_root
    1e-07
    """

    def __init__(self, betas: tuple[float, float] = (0.9, 0.999), eps_root: float = 1e-8):
        self.betas = betas
        self.eps_root = eps_root

    def build(self, parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """The optimizer over `parameters` at learning rate `lr`."""
        return AdamBC(parameters, lr=lr, betas=tuple(self.betas), eps_root=self.eps_root)


class AdamBC(torch.optim.Optimizer):
    """The optimizer behind `DPAdam`; ``param_group["noise_std"]`` is the public noise level of the gradients.

    It is a number, or a list with a number or a tensor for each parameter of the group, where levels differ.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter
    lr : float
    betas : tuple of float
        Decay of the first and second moment.
    eps_root : float
        Floor of the corrected second moment.

    Examples
    --------
    >>> import torch
    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> weight.grad = torch.ones(2)
    >>> AdamBC([weight], lr=0.1, betas=(0.9, 0.999), eps_root=1e-8).step()
    >>> weight.detach()
    tensor([-0.1000, -0.1000])
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps_root: float):
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas={betas!r} must lie in [0, 1)")
        if not eps_root > 0:
            raise ValueError(f"eps_root={eps_root!r} must be positive")
        super().__init__(params, {"lr": lr, "betas": betas, "eps_root": eps_root, "noise_std": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update from the gradients in ``.grad``."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            levels = group["noise_std"]
            levels = levels if isinstance(levels, list) else [levels] * len(group["params"])
            for parameter, level in zip(group["params"], levels, strict=True):
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(step=0, noise=0.0)
                    state["mean"] = torch.zeros_like(parameter)
                    state["square"] = torch.zeros_like(parameter)
                state["step"] += 1
                grad = parameter.grad
                state["mean"].lerp_(grad, 1 - beta1)
                state["square"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                # The noise variance may change with an adaptive clip norm: average it like the squares.
                state["noise"] = beta2 * state["noise"] + (1 - beta2) * level**2
                root = ((state["square"] - state["noise"]) / (1 - beta2 ** state["step"])).clamp_min(group["eps_root"])
                parameter.addcdiv_(state["mean"], root.sqrt(), value=-group["lr"] / (1 - beta1 ** state["step"]))


_NAMES = {"sgd": SGD, "adam": Adam, "dp-adam": DPAdam}


def resolve_optimizer(optimizer: Any) -> Any:
    """The specification that a name, a torch class or a specification stands for."""
    if isinstance(optimizer, str) and optimizer in _NAMES:
        return _NAMES[optimizer]()
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        return Optimizer(optimizer)
    if hasattr(optimizer, "build") and not isinstance(optimizer, type):
        return optimizer
    names = ", ".join(repr(name) for name in _NAMES)
    raise ValueError(
        f"optimizer={optimizer!r} must be one of {names}, a torch.optim class, or a specification such as "
        "SGD(momentum=0.9)"
    )
