"""The engine by itself: clipped gradient sums of any supported module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skdp.training.clipping import clip_factors, total_squares
from skdp.training.per_example import PerExample
from skdp.training.rules.sums import accumulator

__all__ = ["ClippedGradient", "clipped_gradient", "one_loss_each", "zero_sums"]


@dataclass(frozen=True, eq=False)
class ClippedGradient:
    """What `clipped_gradient` returns; private until noise is added.

    Parameters
    ----------
    norms : float32 tensor of shape (batch,)
        Gradient norm of each record before clipping; not finite for null rows.
    sums : dict of str to float32 tensor
        By parameter name, the sum over records of the clipped gradients.

    Examples
    --------
    >>> import torch
    >>> ClippedGradient(torch.ones(2), {"weight": torch.zeros(1, 3)}).norms.shape
    torch.Size([2])
    """

    norms: Tensor
    sums: dict[str, Tensor]


def clipped_gradient(
    module: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    max_grad_norm: float = 1.0,
    clipping: str = "flat",
    sample_weight: Tensor | None = None,
) -> ClippedGradient:
    r"""Sum of per-record gradients, each clipped, from one backward pass.

    Parameters
    ----------
    module : torch.nn.Module
        Net whose records lie along the first dimension; its mode (training or evaluation) is left as it is.
    loss_fn : callable
        ``loss_fn(module(x), y)`` with one loss per record, for instance
        ``torch.nn.CrossEntropyLoss(reduction="none")``; further dimensions are summed over.
    x : tensor of shape (batch, ...)
        Inputs; the batch may be empty.
    y : tensor of shape (batch, ...)
        Targets.
    max_grad_norm : float, default=1.0
        Clip norm; ``inf`` clips nothing.
    clipping : {"flat", "automatic", "global", "per-layer"}, default="flat"
        See `clip_factors`.
    sample_weight : tensor of shape (batch,), optional
        Multiplies the losses, before clipping; weight 0 makes a null row.

    Returns
    -------
    ClippedGradient
        Per-record norms, and the clipped sum by parameter name.

    Raises
    ------
    UnsupportedModuleError
        If a layer mixes records; the message names the layer and the remedy.
    ValueError
        If the loss is not one number per record, or `max_grad_norm` or `clipping` is out of range.

    Notes
    -----
    *Formal guarantee*: if each loss is a function of its own record (see `check_rows_independent`), one record moves
    the sums, taken as one vector, by at most `max_grad_norm` :math:`(1 + 2 \cdot 10^{-3})` in L2 norm under zero-out
    adjacency, whatever the record holds; a record whose gradient is not finite contributes exactly zero. The
    result is *not* private before noise is added.

    References
    ----------
    Bu et al., "Differentially private optimization on large model at small cost", 2023.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(2, 1, bias=False)
    >>> loss = torch.nn.MSELoss(reduction="none")
    >>> result = clipped_gradient(net, loss, torch.randn(5, 2), torch.randn(5, 1), max_grad_norm=0.1)
    >>> bool(result.sums["weight"].norm() <= 5 * 0.1 * (1 + 2e-3))
    True
    """
    if not max_grad_norm >= 0:
        raise ValueError(f"max_grad_norm={max_grad_norm!r} must be a number of at least 0")
    per_example = PerExample(module)
    with per_example:
        losses = one_loss_each(loss_fn(module(x), y), len(x))
        if sample_weight is not None:
            losses = losses * sample_weight
        captured = per_example.backward(losses)
    squares = captured.squared_norms()
    sums = zero_sums(per_example.parameters)
    captured.add_weighted_sums(clip_factors(squares, float(max_grad_norm), clipping), list(sums.values()))
    return ClippedGradient(total_squares(squares).sqrt(), {name: total.float() for name, total in sums.items()})


def zero_sums(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Where sums of the parameters' gradients are added up."""
    return {n: torch.zeros(p.shape, dtype=accumulator(p.device), device=p.device) for n, p in parameters.items()}


def one_loss_each(losses: Any, batch: int) -> Tensor:
    """Losses as (batch,), summed over further dimensions."""
    if not isinstance(losses, Tensor) or losses.dim() == 0 or len(losses) != batch:
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ValueError(
            f'the loss has shape {shape} for {batch} records; it must be one loss per record: use reduction="none"'
        )
    return losses if losses.dim() == 1 else losses.flatten(1).sum(1)
