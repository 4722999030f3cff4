"""Column bounds from two noisy histograms: first on a ladder of powers of two, then evenly within it."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from skdp.contract import Answers, Counts, Gaussian, Poisson, Query, Touch

__all__ = ["bounds_queries", "bounds_touches"]

# Powers of two from 1e-9 to 1e15 on either side of zero hold every quantity people write into a table.
_LADDER = np.concatenate([-(2.0 ** np.arange(50, -31, -1)), 2.0 ** np.arange(-30, 51)])
# Even bins are as many as leave each of them eight noise standard deviations of a column spread evenly.
_FEWEST_BINS, _MOST_BINS = 4, 64
# Bins below this many noise standard deviations are taken for empty: false alarms in 160 bins are then rare.
_SIGNIFICANT = 4.0


def bounds_touches(prefix: str, multiplier: float | None) -> tuple[Touch, Touch]:
    """Prices of the two histograms, each at `multiplier` (None: no noise)."""
    noise = multiplier and Gaussian((multiplier,))
    return tuple(Touch(f"{prefix} {stage}", Poisson(1.0), noise, 1) for stage in ("magnitude", "range"))


def bounds_queries(
    touches: tuple[Touch, Touch], of: str, groups: int, n: int, tail: float = 0.005
) -> Generator[Query, Answers, tuple[np.ndarray, np.ndarray]]:
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
    bounds : ndarray of shape (groups, 2)
    found : ndarray of bool of shape (groups,)
        False where noise hides the column, whose bounds are then (-1, 1).
    """
    coarse, fine = touches
    (ladder,) = yield Query(coarse, (Counts(of, np.tile(_LADDER, (groups, 1))),))
    outer = np.concatenate([[_LADDER[0] * 2], _LADDER, [_LADDER[-1] * 2]])
    wide = np.tile([-1.0, 1.0], (groups, 1))
    found = np.zeros(groups, dtype=bool)
    noise = _noise_std(coarse, groups)
    for group, counts in enumerate(ladder):
        seen = np.flatnonzero(counts > _threshold(counts, noise, tail))
        if len(seen):
            found[group] = True
            wide[group] = outer[seen[0]], outer[seen[-1] + 1]
    noise = _noise_std(fine, groups)
    bins = _MOST_BINS if noise == 0 else int(np.clip(n / (8 * noise), _FEWEST_BINS, _MOST_BINS))
    edges = np.linspace(wide[:, 0], wide[:, 1], bins + 1, axis=1)
    (even,) = yield Query(fine, (Counts(of, edges[:, 1:-1]),))
    bounds = wide.copy()
    for group, counts in enumerate(even):
        seen = np.flatnonzero(counts > _threshold(counts, noise, tail))
        if found[group] and len(seen):
            bounds[group] = edges[group, seen[0]], edges[group, seen[-1] + 1]
    return bounds, found


def _noise_std(touch: Touch, groups: int) -> float:
    return touch.noise.multipliers[0] * groups**0.5 if touch.noise else 0.0


def _threshold(counts: np.ndarray, noise: float, tail: float) -> float:
    """A bin matters if it stands out of the noise and holds more than a small share of the rows."""
    return max(_SIGNIFICANT * noise, tail * max(float(counts.sum()), 0.0))
