r"""Means and variances of all columns from one noisy sum over rows, at the price of the means alone."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdp.contract import Answers, Gaussian, Poisson, Query, RowSum, Touch

__all__ = ["Moments", "moments_queries", "moments_touch"]


def moments_touch(prefix: str, multiplier: float | None) -> Touch:
    """Price of `moments_queries` at a noise multiplier (None: no noise).

    Parameters
    ----------
    prefix : str
        Begins the touch's name.
    multiplier : float or None

    Returns
    -------
    Touch
    """
    return Touch(f"{prefix} moments", Poisson(1.0), multiplier and Gaussian((multiplier,)), 1)


@dataclass(frozen=True, eq=False)
class Moments:
    """Noisy means and variances of columns, each over the values that are not missing.

    Made by `moments_queries`; everything here is released.

    Parameters
    ----------
    mean : ndarray of shape (groups,)
        Within the bounds.
    variance : ndarray of shape (groups,)
        Not less than what noise alone may show; 0 is possible without noise only.
    counts : ndarray of shape (groups,)
        Number of values.
    std : float
        Standard deviation of the noise on a count; over the count and times half the width of the bounds it is that of
        the mean.

    Examples
    --------
    >>> from skdp.contract import drive
    >>> from skdp.releases import ArrayExecutor, moments_queries, moments_touch
    >>> X, no_null = np.array([[1.0], [2.0], [np.nan], [3.0]]), np.zeros(4, dtype=bool)
    >>> silent = ArrayExecutor({"X": X}, no_null, spend=lambda touch: 0, normal=np.zeros)
    >>> moments = drive(moments_queries(moments_touch("column", None), "X", [(0, 4)], 4), silent.answer)
    >>> moments.mean.round(6).tolist(), moments.variance.round(6).tolist(), moments.counts.tolist()
    ([2.0], [0.666667], [3.0])
    """

    mean: np.ndarray
    variance: np.ndarray
    counts: np.ndarray
    std: float


def moments_queries(touch: Touch, of: str, bounds: Any, n: int) -> Generator[Query, Answers, Moments]:
    r"""Ask for the mean and the variance of all columns of an array at once.

    Parameters
    ----------
    touch : Touch
        From `moments_touch`.
    of : str
        Name of the array, whose columns are the groups. NaN is no value.
    bounds : array-like of shape (groups, 2)
        Public or released (low, high) of each column; what lies beyond counts as the bound.
    n : int
        Public number of rows.

    Returns
    -------
    Moments

    Notes
    -----
    *Formal guarantee.* With :math:`u \in [-1, 1]` a value relative to its bounds, a row contributes of each column
    :math:`(u, 1 - u^2, 0)`, or :math:`(0, 0, 1)` where its value is missing. As :math:`u^2 + (1 - u^2)^2 \le 1`, the
    L2 sensitivity for :math:`d` columns is :math:`\sqrt d` under zero-out and add-remove, that of the means alone: the
    squares and the missing values come at no more noise. (:math:`1 - u^2` in place of :math:`u^2` is what does that.)
    Values are counted as `n` less the missing ones.
    """
    low, high = np.asarray(bounds, dtype=float).reshape(-1, 2).T
    value = RowSum(of, _Contributions((low + high) / 2, (high - low) / 2), float(len(low)) ** 0.5)
    (total,) = yield Query(touch, (value,))
    std = touch.noise.multipliers[0] * value.sensitivity if touch.noise else 0.0
    sums, missing, inverted = np.split(total, 3)
    counts = np.clip(n - missing, max(std, 1.0), max(std, n))
    mean = np.clip(sums / counts, -1, 1)
    variance = np.clip(1 - inverted / counts - mean**2, std / counts, 1.0)
    half = (high - low) / 2
    return Moments((low + high) / 2 + half * mean, half**2 * variance, counts, std)


@dataclass(frozen=True, eq=False)
class _Contributions:
    """Values relative to their bounds, which are missing, and one less their squares."""

    middle: np.ndarray
    half: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        missing = np.isnan(rows)
        values = np.clip((rows - self.middle) / self.half, -1, 1)
        return np.hstack([np.where(missing, 0, values), missing, np.where(missing, 0, 1 - values**2)])
