"""Column bounds from two noisy histograms: first on a ladder of powers of two, then evenly within it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from skdp.contract import Answers, Counts, Gaussian, Poisson, Query, Touch

__all__ = ["bounds_queries", "bounds_touches"]

# Powers of two from 1e-9 to 1e15 on either side of zero hold every quantity people write into a table.
_LADDER = np.concatenate([-(2.0 ** np.arange(50, -31, -1)), 2.0 ** np.arange(-30, 51)])
_OUTER = np.concatenate([[_LADDER[0] * 2], _LADDER, [_LADDER[-1] * 2]])
_ZERO, _ONE = np.searchsorted(_LADDER, (0.0, 1.0), side="right")
# Even bins are as many as leave each of them eight noise standard deviations of a column spread evenly.
_FEWEST_BINS, _MOST_BINS = 4, 64
# Chance that noise alone widens any column of a table: one such bin far out on the ladder ruins a column.
_FALSE_ALARM = 1e-3
# Share of the rows that a range may leave out where noise is strong: clipping more costs more than a wide range.
_LEFT_OUT = 0.05
# Share of the rows that may lie at 2 or more, at two standard deviations of the noise, in what counts as an indicator.
_BEYOND_ONE = 0.02
# Neighbouring bins of the ladder are looked at together where none stands out alone.
_TOGETHER = (1, 2, 4)
_NAMED_COLUMNS = 5


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
    weak : ndarray of bool of shape (groups,)
        Columns found only in part: the noise is large next to the number of rows, or what stands out of it holds too
        few of them, so that the range was widened to where the others may be. Public bounds are better there.
    indicator : ndarray of bool of shape (groups,)
        Columns that show 0 and otherwise only 1, as a 0/1 indicator does, and of which hardly any row can lie above:
        a column of small counts, mostly 0 and 1, is none. Their bounds are (0, 1).
    from_zero : ndarray of bool of shape (groups,)
        Columns that would be indicators, if noise did not hide whether rows lie above 1, or if none did. Their bounds
        begin at 0, where most of their rows are.
    """

    bounds: np.ndarray
    found: np.ndarray
    weak: np.ndarray
    indicator: np.ndarray
    from_zero: np.ndarray

    def doubt(self, names: Sequence[Any]) -> str:
        """What noise does to which of the columns, in words; empty where all is well.

        Parameters
        ----------
        names : sequence of length groups

        Returns
        -------
        str
        """
        doubts = [
            f"noise {what} of columns {_listed([names[i] for i in np.flatnonzero(columns)])}{then}"
            for columns, what, then in (
                (~self.found, "hides the range", ", taken as [-1, 1]"),
                (self.found & self.weak, "blurs the range", ", which may be too wide or too narrow"),
            )
            if columns.any()
        ]
        return " and ".join(doubts)


def _listed(names: Sequence[Any]) -> str:
    """The first names, and how many more there are."""
    first = [repr(str(name)) if isinstance(name, str) else str(name) for name in names[:_NAMED_COLUMNS]]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


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
    wide = np.tile([-1.0, 1.0], (groups, 1))
    reach = wide.copy()
    found, weak, candidate = np.zeros((3, groups), dtype=bool)
    noise = _noise_std(fine, groups)
    bins = _MOST_BINS if noise == 0 else int(np.clip(n / (8 * noise), _FEWEST_BINS, _MOST_BINS)) // 2 * 2
    noise = _noise_std(coarse, groups)
    for group, counts in enumerate(ladder):
        seen = _seen(ladder, counts, noise, tail)
        found[group] = len(seen) > 0
        candidate[group] = _ZERO in seen and np.isin(seen, (_ZERO, _ONE)).all()
        if found[group]:
            first, last = _widened(counts, seen, n, noise)
        if candidate[group]:
            # Noise hides the few rows above 1 of small counts: where they may be, the range reaches to 2 at least.
            reach[group] = 0.0 if _OUTER[first] > -0.5 else _OUTER[first], max(_OUTER[last + 1], 2.0)
            # 0 lies in the middle of the lowest even bin and 1 in the middle of another.
            wide[group] = -1 / bins, 2 - 1 / bins
        elif found[group]:
            unsure = noise * len(seen) ** 0.5 > 2 * _LEFT_OUT * n
            weak[group] = unsure or last - first > seen[-1] - seen[0]
            wide[group] = _OUTER[first], _OUTER[last + 1]
    noise = _noise_std(fine, groups)
    edges = np.linspace(wide[:, 0], wide[:, 1], bins + 1, axis=1)
    (even,) = yield Query(fine, (Counts(of, edges[:, 1:-1]),))
    bounds = wide.copy()
    indicator = np.zeros(groups, dtype=bool)
    for group, counts in enumerate(even):
        stands_out = counts > _threshold(even, counts, noise, tail)
        # The last bin has no upper end.
        if candidate[group] and counts[-1] + 2 * noise > _BEYOND_ONE * n:
            bounds[group], weak[group] = reach[group], noise > 0
            continue
        indicator[group] = candidate[group] and np.isin(np.flatnonzero(stands_out), (0, bins // 2)).all()
        if indicator[group]:
            bounds[group] = 0, 1
        elif found[group] and stands_out.any():
            low, high = _narrowed(even, counts, n, noise, tail)
            # Zeros may hide the rest of a column that is mostly zero: its range reaches to 1 at least.
            bounds[group] = edges[group, low], max(edges[group, high], 1.0 if candidate[group] else -np.inf)
    return Ranges(bounds, found, weak, indicator, candidate & ~indicator & (bounds[:, 0] == 0))


def _noise_std(touch: Touch, groups: int) -> float:
    return touch.noise.multipliers[0] * groups**0.5 if touch.noise else 0.0


def _threshold(histograms: np.ndarray, counts: np.ndarray, noise: Any, tail: float) -> Any:
    """Counts matter if they stand out of the noise of all histograms and hold more than a small share of the rows."""
    significant = noise * norm.isf(_FALSE_ALARM / histograms.size)
    return np.maximum(significant, tail * max(float(counts.sum()), 0.0))


def _seen(ladder: np.ndarray, counts: np.ndarray, noise: float, tail: float) -> np.ndarray:
    """Bins of the ladder that surely hold rows: those that stand out alone, or else the clearest few neighbours."""
    alone = np.flatnonzero(counts > _threshold(ladder, counts, noise, tail))
    if len(alone) or noise == 0:
        return alone
    for length in _TOGETHER[1:]:
        sums = np.convolve(counts, np.ones(length), mode="valid")
        first = int(sums.argmax())
        if sums[first] > noise * length**0.5 * norm.isf(_FALSE_ALARM / (len(_TOGETHER) * ladder.size)):
            return np.arange(first, first + length)
    return alone


def _widened(counts: np.ndarray, seen: np.ndarray, n: int, noise: float) -> tuple[int, int]:
    """First and last bin of the narrowest range around `seen` that may well hold nearly all of `n` rows.

    It reaches at most four times as far as what is seen; where no such range holds them, others are missing values.
    """
    first, last = seen[0], seen[-1]
    reach = 4 * max(abs(_OUTER[first]), abs(_OUTER[last + 1]))
    total = np.concatenate([[0.0], np.cumsum(counts)])
    start, end = np.arange(first + 1)[:, None], np.arange(last + 1, len(counts) + 1)
    holds = total[end] - total[start] >= (1 - _LEFT_OUT) * n - noise * (end - start) ** 0.5
    holds &= (_OUTER[start] >= -reach) & (_OUTER[end] <= reach)
    if not holds.any():
        return first, last
    width = np.where(holds, _OUTER[end] - _OUTER[start], np.inf)
    low, high = np.unravel_index(width.argmin(), width.shape)
    return low, last + high


def _narrowed(even: np.ndarray, counts: np.ndarray, n: int, noise: float, tail: float) -> tuple[int, int]:
    """First and last edge of what is left without the outer bins that hold hardly any row.

    Bins count by themselves and summed from either side: a long tail shows in many bins together before it does in
    any one. Where noise would hide more than a small share of the rows, bins stay in doubt.
    """
    most = max(_LEFT_OUT * n, tail * float(counts.sum()))
    alone = np.minimum(_threshold(even, counts, noise, tail), most)
    together = np.minimum(_threshold(even, counts, noise * np.arange(1, len(counts) + 1) ** 0.5, tail), most)
    low = ((counts > alone) | (np.cumsum(counts) > together)).argmax()
    beyond = ((counts > alone)[::-1] | (np.cumsum(counts[::-1]) > together)).argmax()
    return low, len(counts) - beyond
