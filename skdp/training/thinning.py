"""Sums of gradients that are kept by chance, and sums of norms alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skdp.contract import NormSum, ThinnedSum
from skdp.training.executor import GradientTotal, Piece, TorchExecutor, start
from skdp.training.randomness import SecretRandomness
from skdp.training.rules.sums import accumulator
from skdp.training.sum_total import FLOAT_SLACK, SumTotal

__all__ = ["thinning_factors"]


def thinning_factors(norms: Tensor, bound: Any, coins: Tensor) -> Tensor:
    r"""Factors that keep a gradient with probability proportional to its norm and bring what is kept to the bound.

    Parameters
    ----------
    norms : tensor of shape (batch,)
        Gradient norms; one that is not finite belongs to a null row.
    bound : float or 0-dim tensor
        Clip norm :math:`C`, positive and finite.
    coins : tensor of shape (batch,)
        Independent uniform numbers in (0, 1], one per record.

    Returns
    -------
    float32 tensor of shape (batch,)
        :math:`C/n_i` where the coin is at most :math:`n_i/C`, else exactly zero.

    Notes
    -----
    *Formal guarantee*: for every coin, the factor times the gradient has norm 0 or :math:`C(1 \pm 10^{-6})`. Over
    coins its mean is the gradient clipped to :math:`C`.

    References
    ----------
    Wei, Bao, Xiao and Yang, "DPIS: an enhanced mechanism for differentially private SGD with importance sampling",
    2022.

    Examples
    --------
    >>> thinning_factors(torch.tensor([0.5, 0.5, 4.0, 0.0]), 1.0, torch.tensor([0.4, 0.6, 1.0, 0.1]))
    tensor([2.0000, 0.0000, 0.2500, 0.0000])
    """
    # A coin is never zero, so a norm of zero is never kept, and a factor is at most one over the least coin.
    norms = norms.to(coins)
    kept = (coins * bound <= norms) & torch.isfinite(norms)
    return torch.where(kept, bound / norms, 0.0).float()


@start.register(ThinnedSum)
class _ThinnedTotal(GradientTotal):
    def __init__(self, value: ThinnedSum, executor: TorchExecutor):
        super().__init__(value, executor)
        self._randomness = executor.randomness

    def add(self, piece: Piece) -> None:
        norms = piece.norms
        # One coin per candidate in order, null rows too: pieces shift none, and no record decides over another's.
        coins = torch.from_numpy(self._randomness.coins(len(norms)))
        coins = coins.to(accumulator(norms.device)).to(norms.device, non_blocking=True)
        piece.captured.add_weighted_sums(thinning_factors(norms, self._value.bound, coins), self._views)


@start.register(NormSum)
class _NormTotal(SumTotal):
    def __init__(self, value: NormSum, executor: TorchExecutor):
        self._bound = value.bound
        super().__init__(torch.zeros(1, dtype=torch.float64), executor, torch.float64)

    def add(self, piece: Piece) -> None:
        # In float64 wherever the net runs: a long float32 sum would let one record decide what is kept of others.
        self._numbers += piece.norms.clamp(max=self._bound).masked_fill(piece.null, 0.0).cpu().double().sum()

    def add_noise(self, part: Tensor, sensitivity: Any, multiplier: float, randomness: SecretRandomness) -> None:
        part += float(randomness.array_normal((1,))[0]) * float(sensitivity) * multiplier * (1 + FLOAT_SLACK)
