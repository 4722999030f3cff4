"""The array executor: answers histogram queries about numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skdp.contract import Answers, Counts, Query

__all__ = ["ArrayExecutor"]


class ArrayExecutor:
    """Holds arrays and answers `skdp.contract.Counts` queries about all rows, with noise added once.

    Parameters
    ----------
    arrays : dict of str to ndarray of shape (n, groups)
        Private columns by name; NaN is the null value of a column and falls into no bin.
    null : ndarray of bool of shape (n,)
        Null rows: they add to no bin of any group.
    spend : callable
        ``spend(touch)`` ticks the book.
    normal : callable
        ``normal(shape)`` gives independent standard normal numbers.

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
    ):
        self._arrays = arrays
        self._null = null
        self._spend = spend
        self._normal = normal

    def answer(self, query: Query) -> Answers:
        """Noisy histograms, one array of shape (groups, bins) per value; every touch here is full batch."""
        self._spend(query.touch)
        if query.touch.sampler.rate != 1:
            raise ValueError(f"touch {query.touch.name!r}: releases on arrays see all rows, use Poisson(1.0)")
        noise = query.touch.noise
        multipliers = noise.multipliers if noise else (0.0,) * len(query.values)
        return tuple(
            self._histograms(value) + self._noise(value, z) for value, z in zip(query.values, multipliers, strict=True)
        )

    def _histograms(self, value: Counts) -> np.ndarray:
        columns = self._arrays[value.of]
        edges = np.asarray(value.edges, dtype=float)
        counts = np.empty((len(edges), edges.shape[1] + 1))
        for group, inner in enumerate(edges):
            column = columns[:, group]
            seen = column[~(self._null | np.isnan(column))]
            bins = np.searchsorted(inner, seen, side="right")
            counts[group] = np.bincount(bins, minlength=len(inner) + 1)
        return counts

    def _noise(self, value: Counts, multiplier: float) -> np.ndarray | float:
        shape = (len(value.edges), np.asarray(value.edges).shape[1] + 1)
        return self._normal(shape) * (multiplier * value.sensitivity) if multiplier else 0.0
