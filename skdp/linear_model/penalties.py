"""Penalties on coefficients: value, and the exact step towards smaller ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from skdp.accounting.checks import is_real

__all__ = ["PENALTIES", "Penalty", "resolve_penalty"]

PENALTIES = ("l2", "l1", "elasticnet", None)


@dataclass(frozen=True)
class Penalty:
    """``alpha * (l1 * |w|_1 + (1 - l1) / 2 * |w|_2 ** 2)``, on the rows of coefficients without their intercept.

    Parameters
    ----------
    alpha : float
        Strength, relative to the *mean* loss.
    l1 : float
        Share of the absolute values.
    free : int
        Number of last columns that are not penalised: 1 for an intercept.

    Examples
    --------
    >>> Penalty(1.0, 1.0).prox(np.array([[3.0, -0.5]]), 1.0)
    array([[ 2., -0.]])
    """

    alpha: float
    l1: float
    free: int = 0

    def value(self, coef: np.ndarray) -> float:
        """Penalty of coefficients of shape (k, columns)."""
        w = self._penalised(coef)
        return float(self.alpha * (self.l1 * np.abs(w).sum() + (1 - self.l1) / 2 * np.square(w).sum()))

    def prox(self, coef: np.ndarray, step: float) -> np.ndarray:
        """The coefficients that make ``step * value(w) + |w - coef| ** 2 / 2`` least; exact."""
        found = np.array(coef, dtype=float)
        w = self._penalised(found)
        w[...] = np.sign(w) * np.maximum(np.abs(w) - step * self.alpha * self.l1, 0.0)
        w /= 1 + step * self.alpha * (1 - self.l1)
        return found

    def _penalised(self, coef: np.ndarray) -> np.ndarray:
        return coef[:, : coef.shape[1] - self.free]


def resolve_penalty(penalty: str | None, alpha: float, l1_ratio: float, free: int) -> Penalty:
    """The penalty that parameters ask for.

    Parameters
    ----------
    penalty : {"l2", "l1", "elasticnet", None}
    alpha : float
    l1_ratio : float
        Of "elasticnet", in [0, 1].
    free : int

    Returns
    -------
    Penalty

    Raises
    ------
    ValueError
    """
    if penalty not in PENALTIES:
        raise ValueError(f"penalty={penalty!r} must be one of {', '.join(map(repr, PENALTIES))}")
    if not (is_real(alpha) and 0 <= alpha < math.inf):
        raise ValueError(f"alpha={alpha!r} must be a finite number of at least 0")
    if not (is_real(l1_ratio) and 0 <= l1_ratio <= 1):
        raise ValueError(f"l1_ratio={l1_ratio!r} must lie between 0 and 1")
    shares = {"l2": 0.0, "l1": 1.0, "elasticnet": float(l1_ratio), None: 0.0}
    return Penalty(0.0 if penalty is None else float(alpha), shares[penalty], free)
