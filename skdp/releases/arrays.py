"""The array executor: answers queries about numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from skdp.contract import Answers, Counts, Frequent, Query, RowSum
from skdp.exceptions import PlanViolationError

if TYPE_CHECKING:
    from skdp.distributed import Ranks

__all__ = ["ArrayExecutor"]

_CELLS = 2**24  # of contributions that are held at a time


class ArrayExecutor:
    """Holds arrays and answers `skdp.contract.Counts`, `RowSum` and `Frequent` about all rows, with noise added once.

    Parameters
    ----------
    arrays : dict of str to ndarray of shape (n, columns)
        Private columns by name; NaN is the null value of a column: it falls into no bin. Text for `Frequent`, with
        None.
    null : ndarray of bool of shape (n,)
        Null rows: they add to no bin and no sum.
    spend : callable
        ``spend(touch)`` ticks the book.
    normal : callable
        ``normal(shape)`` gives independent standard normal numbers.
    ranks : Ranks or None
        The processes whose rows are counted and summed up together with these; noise is then added once to the total.

    Examples
    --------
    >>> from skdp.contract import Gaussian, Poisson, Touch
    >>> rows, no_null = {"y": np.array([[0.0], [1.0], [1.0]])}, np.zeros(3, dtype=bool)
    >>> silent = ArrayExecutor(rows, no_null, spend=lambda touch: 0, normal=np.zeros)
    >>> touch = Touch("counts", Poisson(), Gaussian((2.0,)), 1)
    >>> silent.answer(Query(touch, (Counts("y", np.array([[0.5]])),)))[0].tolist()
    [[1.0, 2.0]]
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        null: np.ndarray,
        *,
        spend: Callable[[Any], Any],
        normal: Callable[[tuple[int, ...]], np.ndarray],
        ranks: Ranks | None = None,
    ):
        self._arrays = arrays
        self._null = null
        self._spend = spend
        self._normal = normal
        self._ranks = ranks

    def answer(self, query: Query) -> Answers:
        """Noisy values: (groups, bins or sums) of `Counts`, (k,) of a `RowSum`; every touch here is full batch."""
        self._spend(query.touch)
        if query.touch.sampler.rate != 1:
            raise ValueError(f"touch {query.touch.name!r}: releases on arrays see all rows, use Poisson(1.0)")
        noise = query.touch.noise
        multipliers = noise.multipliers if noise else (0.0,) * len(query.values)
        return tuple(self._noisy(value, z) for value, z in zip(query.values, multipliers, strict=True))

    def _noisy(self, value: Counts | RowSum | Frequent, multiplier: float) -> Any:
        if isinstance(value, Frequent):
            if self._ranks is not None:
                raise PlanViolationError("values found in a column are no sum, so several processes cannot share them")
            return self._frequent(value, multiplier)
        exact = self._histograms(value) if isinstance(value, Counts) else self._sum(value)
        if self._ranks is None:
            return exact + self._noise(value, multiplier, exact.shape)
        return self._ranks.release_array(exact, lambda shape: self._noise(value, multiplier, shape))

    def _noise(
        self, value: Counts | RowSum | Frequent, multiplier: float, shape: tuple[int, ...]
    ) -> np.ndarray | float:
        return self._normal(shape) * (multiplier * value.sensitivity) if multiplier else 0.0

    def _histograms(self, value: Counts) -> np.ndarray:
        columns = self._arrays[value.of]
        edges = np.asarray(value.edges, dtype=float)
        counts = np.empty((len(edges), edges.shape[1] + 1))
        for group, inner in enumerate(edges):
            column = columns[:, group]
            seen = column[~(self._null | np.isnan(column))]
            bins = np.searchsorted(inner, seen, side="right")
            counts[group] = np.bincount(bins, minlength=len(inner) + 1)
        return counts if value.sums is None else counts @ np.transpose(value.sums)

    def _frequent(self, value: Frequent, multiplier: float) -> list[tuple[np.ndarray, np.ndarray]]:
        found, columns = [], self._arrays[value.of][~self._null]
        for column in columns.T:
            counts = pd.Series(column, dtype=object).value_counts().sort_index()
            noisy = counts.to_numpy() + self._noise(value, multiplier, counts.shape)
            seen = noisy > value.threshold
            found.append((counts.index.to_numpy()[seen], noisy[seen]))
        return found

    def _sum(self, value: RowSum) -> np.ndarray:
        rows, total = self._arrays[value.of], 0.0
        size = max(1, _CELLS // np.shape(value.map(rows[:0]))[1])
        for start in range(0, max(len(rows), 1), size):
            piece = slice(start, start + size)
            with np.errstate(all="ignore"):
                mapped = np.asarray(value.map(rows[piece]), dtype=np.float64)
                largest = np.abs(mapped).max(axis=1, initial=0.0)
                # In units of its largest entry no row overflows in its norm.
                norms = largest * np.sqrt(((mapped / np.maximum(largest, 1e-300)[:, None]) ** 2).sum(axis=1))
                mapped = mapped * np.minimum(1.0, value.bound / np.maximum(norms, 1e-300))[:, None]
            null = self._null[piece] | ~np.isfinite(norms)
            total = total + np.where(null[:, None], 0.0, mapped).sum(axis=0)
        return total
