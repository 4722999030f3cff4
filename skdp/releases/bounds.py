"""Column bounds from two noisy histograms: first on a ladder of powers of two, then evenly within it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from skdp.contract import Answers, Counts, Gaussian, Poisson, Query, Touch

__all__ = ["bounds_queries", "bounds_touches"]

# Powers of two from 1e-9 to 1e15 on either side of zero hold every quantity people write into a table.
_LADDER = np.concatenate([-(2.0 ** np.arange(50, -31, -1)), 2.0 ** np.arange(-30, 51)])
_ZERO_AND_ONE = np.searchsorted(_LADDER, (0.0, 1.0), side="right")
# Even bins are as many as leave each of them eight noise standard deviations of a column spread evenly.
_FEWEST_BINS, _MOST_BINS = 4, 64
# Chance that noise alone widens any column of a table: one such bin far out on the ladder ruins a column.
_FALSE_ALARM = 1e-3


def bounds_touches(prefix: str, multiplier: float | None) -> tuple[Touch, Touch]:
    """Prices of the two histograms, each at `multiplier` (None: no noise)."""
    noise = multiplier and Gaussian((multiplier,))
    return tuple(Touch(f"{prefix} {stage}", Poisson(1.0), noise, 1) for stage in ("magnitude", "range"))


@dataclass(frozen=True, eq=False)
class Ranges:
    """What two noisy histograms tell about columns.

    Parameters
    ----------
    bounds : ndarray of shape (groups, 2)
    found : ndarray of bool of shape (groups,)
        False where noise hides the column, whose bounds are then (-1, 1).
    indicator : ndarray of bool of shape (groups,)
        Columns that show values at 0 and in [1, 2) only, as a 0/1 indicator does.
    """

    bounds: np.ndarray
    found: np.ndarray
    indicator: np.ndarray


def bounds_queries(
    touches: tuple[Touch, Touch], of: str, groups: int, n: int, tail: float = 0.005
) -> Generator[Query, Answers, Ranges]:
    """Ask for the range that holds nearly all of each column's values.

    Parameters
    ----------
    touches : tuple of Touch
        From `bounds_touches`.
    of : {"X", "y"}
    groups : int
        Number of columns.
    n : int
        Public number of rows.
    tail : float
        A bin with a smaller share of the rows does not extend the range.

    Returns
    -------
    Ranges
    """
    coarse, fine = touches
    (ladder,) = yield Query(coarse, (Counts(of, np.tile(_LADDER, (groups, 1))),))
    outer = np.concatenate([[_LADDER[0] * 2], _LADDER, [_LADDER[-1] * 2]])
    wide = np.tile([-1.0, 1.0], (groups, 1))
    found, indicator = np.zeros((2, groups), dtype=bool)
    noise = _noise_std(coarse, groups)
    for group, counts in enumerate(ladder):
        seen = np.flatnonzero(counts > _threshold(ladder, counts, noise, tail))
        if len(seen):
            found[group] = True
            indicator[group] = np.isin(seen, _ZERO_AND_ONE).all()
            wide[group] = outer[seen[0]], outer[seen[-1] + 1]
    noise = _noise_std(fine, groups)
    bins = _MOST_BINS if noise == 0 else int(np.clip(n / (8 * noise), _FEWEST_BINS, _MOST_BINS))
    edges = np.linspace(wide[:, 0], wide[:, 1], bins + 1, axis=1)
    (even,) = yield Query(fine, (Counts(of, edges[:, 1:-1]),))
    bounds = wide.copy()
    for group, counts in enumerate(even):
        # By bin, and summed from either side: a long tail shows in many bins together before it does in any one.
        alone = _threshold(even, counts, noise, tail)
        together = _threshold(even, counts, noise * np.arange(1, bins + 1) ** 0.5, tail)
        stands_out = counts > alone
        low = (stands_out | (np.cumsum(counts) > together)).argmax()
        high = bins - (stands_out[::-1] | (np.cumsum(counts[::-1]) > together)).argmax()
        if found[group] and stands_out.any():
            bounds[group] = edges[group, low], edges[group, high]
    return Ranges(bounds, found, indicator)


def _noise_std(touch: Touch, groups: int) -> float:
    return touch.noise.multipliers[0] * groups**0.5 if touch.noise else 0.0


def _threshold(histograms: np.ndarray, counts: np.ndarray, noise: Any, tail: float) -> Any:
    """Counts matter if they stand out of the noise of all histograms and hold more than a small share of the rows."""
    significant = noise * norm.isf(_FALSE_ALARM / histograms.size)
    return np.maximum(significant, tail * max(float(counts.sum()), 0.0))
