r"""Quantiles of all columns from one noisy query: running sums of histograms, factorised so that noise stays small.

To publish how many of a column's values lie below each of :math:`B` edges is to publish :math:`Lx`, where :math:`x` is
the column's histogram and :math:`L` adds up from the left. One row is in up to :math:`B` of these sums, and noise for
that would drown them; noise on the bins would add up along the sums. The root :math:`S` of :math:`L` (:math:`S S = L`,
lower triangular, Toeplitz) lies between: :math:`Sx` gets the noise, and :math:`S` times the answer is :math:`Lx` with
noise whose standard deviation grows with the logarithm of :math:`B`. In units of the noise on one count, the deviation
of the worst of 1024 sums is 3.3; it is 32 for noise on the bins, and 4.4 for the dyadic tree of counts with consistency
by least squares, which is the usual way. Being square, :math:`S` needs no consistency; what is left to repair is that a
distribution function does not fall, by isotonic regression.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.linalg import toeplitz
from sklearn.isotonic import isotonic_regression

from skdp.contract import Answers, Counts, Gaussian, Poisson, Query, Touch

__all__ = ["NoisyCDF", "quantile_queries", "quantile_touches"]

# Twice the bins cost 7 % more noise; finer than a thousandth of the range is of use to no one.
_BINS = 1024


def quantile_touches(prefix: str, multiplier: float | None) -> tuple[Touch, ...]:
    """Price of `quantile_queries` at a noise multiplier (None: no noise).

    Parameters
    ----------
    prefix : str
        Begins the touch's name.
    multiplier : float or None

    Returns
    -------
    tuple of Touch
    """
    return (Touch(f"{prefix} quantiles", Poisson(1.0), multiplier and Gaussian((multiplier,)), 1),)


@dataclass(frozen=True, eq=False)
class NoisyCDF:
    """Noisy distribution functions of columns.

    Made by `quantile_queries`; everything here is released.

    Parameters
    ----------
    edges : ndarray of shape (groups, bins + 1)
        Edges of the bins, evenly between a column's bounds.
    ranks : ndarray of shape (groups, bins + 1)
        Noisy number of values below each edge; starts at 0, does not fall, and ends with the number of values.
    rank_std : float
        Largest standard deviation of the noise on a rank, before isotonic regression, which only lessens it.

    Examples
    --------
    >>> from skdp.contract import drive
    >>> from skdp.releases import ArrayExecutor, quantile_queries, quantile_touches
    >>> scores, no_null = {"X": np.linspace(0, 1, 1001)[:, None]}, np.zeros(1001, dtype=bool)
    >>> source = ArrayExecutor(scores, no_null, spend=lambda touch: 0, normal=np.random.default_rng(0).standard_normal)
    >>> cdf = drive(quantile_queries(quantile_touches("score", 3.0), "X", [(0, 1)]), source.answer)
    >>> bool(abs(cdf.quantile(0.9)[0] - 0.9) < 0.05), round(cdf.rank_std, 1)
    (True, 9.8)
    """

    edges: np.ndarray
    ranks: np.ndarray
    rank_std: float

    @property
    def totals(self) -> np.ndarray:
        """Noisy number of values of each column, of shape (groups,)."""
        return self.ranks[:, -1]

    @property
    def found(self) -> np.ndarray:
        """Which columns have more values than noise (three standard deviations) alone would show."""
        return self.totals > 3 * self.rank_std

    def quantile(self, level: Any) -> np.ndarray:
        """Values below which a share of `level` of the values lies, linear within bins.

        Parameters
        ----------
        level : float or array-like of shape (k,)
            In [0, 1]. Add ``c * rank_std / totals`` for a quantile that is too low with a small chance only.

        Returns
        -------
        ndarray of shape (groups,) or (k, groups)
            A column that shows no values counts as evenly spread between its bounds.
        """
        levels = np.atleast_1d(np.asarray(level, dtype=float))
        if not ((levels >= 0) & (levels <= 1)).all():
            raise ValueError(f"level={level!r} must lie in [0, 1]")
        found = np.empty((len(levels), len(self.edges)))
        for group, (edges, ranks) in enumerate(zip(self.edges, self._shares(), strict=True)):
            # Where no value lies, a whole interval has the level; from either side one comes to its ends.
            last = np.interp(levels, ranks, edges)
            first = np.interp(-levels, -ranks[::-1], edges[::-1])
            found[:, group] = np.select([levels == 0, levels == 1], [last, first], (first + last) / 2)
        return found if np.ndim(level) else found[0]

    def cdf(self, values: Any) -> np.ndarray:
        """Share of a column's values at or below others, linear within bins.

        Parameters
        ----------
        values : array-like of shape (m, groups)

        Returns
        -------
        ndarray of shape (m, groups)
        """
        values = np.asarray(values, dtype=float)
        pairs = zip(values.T, self.edges, self._shares(), strict=True)
        return np.column_stack([np.interp(column, edges, shares) for column, edges, shares in pairs])

    def _shares(self) -> np.ndarray:
        even = np.linspace(0, 1, self.ranks.shape[1])
        totals = self.totals[:, None]
        return np.where(totals > 0, self.ranks / np.where(totals > 0, totals, 1.0), even)


def quantile_queries(
    touches: tuple[Touch, ...], of: str, bounds: Any, bins: int = _BINS
) -> Generator[Query, Answers, NoisyCDF]:
    r"""Ask for the distribution functions of all columns of an array at once.

    Parameters
    ----------
    touches : tuple of Touch
        From `quantile_touches`.
    of : str
        Name of the array, whose columns are the groups. NaN is no value.
    bounds : array-like of shape (groups, 2)
        Public or released (low, high) of each column; what lies beyond counts as the bound.
    bins : int, default=1024
        Evenly between the bounds. Noise grows with the logarithm of it.

    Returns
    -------
    NoisyCDF

    Notes
    -----
    *Formal guarantee.* A row adds 1 to one bin of each column, which moves :math:`Sx` by a column of :math:`S`, the
    first of which is the longest: the L2 sensitivity is its norm times the root of the number of columns, under
    zero-out and add-remove (`Counts`). Everything after the noise is post-processing.

    References
    ----------
    Fichtenberger, Henzinger, Upadhyay, *Constant matters: Fine-grained error bound on differentially private continual
    observation*, ICML 2023 (the root). Li, Hay, Rastogi, Miklau, McGregor, *Optimizing linear counting queries under
    differential privacy*, PODS 2010 (the idea).
    """
    (touch,) = touches
    low, high = np.asarray(bounds, dtype=float).reshape(-1, 2).T
    # A column that is constant within rounding still needs edges that grow.
    high = np.maximum(high, low + np.maximum(np.abs(low) * 1e-9, 1e-300))
    edges = np.linspace(low, high, bins + 1, axis=1)
    root, largest_row = _root(bins)
    value = Counts(of, edges[:, 1:-1], root)
    (noisy,) = yield Query(touch, (value,))
    sums = noisy @ root.T
    std = touch.noise.multipliers[0] * value.sensitivity * largest_row if touch.noise else 0.0
    ranks = np.zeros((len(edges), bins + 1))
    for group, own in enumerate(sums):
        # Rounding errors of the product would hide where a rank does not grow.
        ranks[group, 1:] = isotonic_regression(own, y_min=0.0).round(6)
    return NoisyCDF(edges, ranks, std)


@lru_cache(maxsize=4)
def _root(bins: int) -> tuple[np.ndarray, float]:
    """The root of running sums, and the largest norm of its rows."""
    k = np.arange(1, bins)
    first = np.concatenate([[1.0], np.cumprod((2 * k - 1) / (2 * k))])
    root = toeplitz(first, np.zeros(bins))
    root.flags.writeable = False
    return root, float(np.linalg.norm(root[-1]))
