"""Factors that bring every record's gradient under a bound."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from skdp.contract import CLIPPINGS

__all__ = ["CLIPPINGS", "clip_factors", "total_squares"]


def total_squares(squared_norms: list[Tensor]) -> Tensor:
    """Squared norm over all groups: list of (batch,) -> (batch,)."""
    total = squared_norms[0]
    for squares in squared_norms[1:]:
        total = total + squares
    return total


def clip_factors(squared_norms: list[Tensor], bound: Any, clipping: str = "flat") -> Tensor | list[Tensor]:
    r"""Factor of each record, so that the factor times its gradient has L2 norm at most `bound`.

    Parameters
    ----------
    squared_norms : list of float32 tensors of shape (batch,)
        Upper bounds on each record's squared gradient norm, one tensor per group of parameters. A record with a
        value that is not finite in any group is the null row.
    bound : float, 0-dim tensor, or tensor of shape (batch,)
        Clip norm :math:`C \ge 0`; ``inf`` leaves all finite gradients as they are.
    clipping : {"flat", "automatic", "global", "per-layer"}
        With :math:`n_i` the norm of record i: ``"flat"`` is :math:`\min(1, C/n_i)`; ``"automatic"`` is
        :math:`C/(n_i + C)`, AUTO-S with :math:`C` for its stability constant; ``"global"`` keeps gradients of norm at
        most :math:`C` and drops the others; ``"per-layer"`` clips each of the :math:`L` groups to :math:`C/\sqrt L`.

    Returns
    -------
    tensor of shape (batch,), or a list of one per group for "per-layer"
        Exactly zero for null rows.

    Raises
    ------
    ValueError
        If `clipping` is unknown.

    Notes
    -----
    *Formal guarantee*: for every input, the factor times the gradient has norm at most :math:`C(1 + 10^{-6})`, so
    a sum over records has L2 sensitivity `bound` (to rounding) under zero-out adjacency.

    References
    ----------
    Abadi et al., "Deep learning with differential privacy", 2016 (flat); McMahan et al., "Learning differentially
    private recurrent language models", 2018 (per-layer); Bu et al., "Automatic clipping", 2023; Bu et al., "On the
    convergence and calibration of deep learning with differential privacy", 2023 (global).

    Examples
    --------
    >>> import torch
    >>> clip_factors([torch.tensor([0.25, 4.0, float("nan")])], 1.0)
    tensor([1.0000, 0.5000, 0.0000])
    """
    if clipping not in CLIPPINGS:
        raise ValueError(f"clipping={clipping!r} must be one of {', '.join(map(repr, CLIPPINGS))}")
    total = total_squares(squared_norms)
    if clipping == "flat":
        return _flat(total, bound)
    if clipping == "per-layer":
        share, finite = bound / math.sqrt(len(squared_norms)), torch.isfinite(total)
        return [torch.where(finite, _flat(squares, share), 0.0) for squares in squared_norms]
    if clipping == "automatic":
        factors = (1 / (1 + total.sqrt() / bound)).nan_to_num(nan=0.0)  # 0 / 0 where the bound is 0
    else:
        factors = (total.sqrt() <= bound).to(total.dtype)
    return torch.where(torch.isfinite(total), factors, 0.0)


def _flat(squares: Tensor, bound: Any) -> Tensor:
    """Largest factor up to one that keeps the norm within the bound; zero where the norm is inf or NaN."""
    # inf becomes 1/inf = 0; NaN (also 0 * inf, an infinite norm under an infinite bound) is replaced.
    return squares.rsqrt().mul_(bound).clamp_(max=1.0).nan_to_num_(nan=0.0)
