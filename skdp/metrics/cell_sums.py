r"""Hits, misses and further numbers of rows that lie in public cells: bins of confidence, or groups.

A row lies in one cell, and there either among the hits or among the misses: of those counts it moves one, by 1. Beside
them each cell has sums of numbers that are brought to :math:`[-w_j, w_j]`. So a row's contribution has the norm
:math:`\sqrt{1 + \sum_j w_j^2}` at most, whatever the number of cells.

The plain contribution (1, hit, confidence) has :math:`\sqrt 3`, and what one wants of it is a difference: the noise in
hits less confidence is that of two entries, of deviation :math:`\sqrt 6` per unit of noise multiplier. With hits,
misses and the confidence relative to the middle :math:`m` of the bin, which varies by :math:`h`, half a bin's width,
hits less confidence is :math:`(1-m)\cdot` hits :math:`- m\cdot` misses less the sum of the rest, of deviation
:math:`\sqrt{1+w^2}\sqrt{(1-m)^2+m^2+h^2/w^2}`: at most 1.04 for 15 bins and :math:`w = 1/4`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from skdp.contract import Answers, Query, RowSum, Touch

__all__ = ["CellSums", "CellTotals", "cell_queries"]


@dataclass(frozen=True, eq=False)
class CellSums:
    """From rows to a contribution to hits and misses of every cell, and to further sums of every cell.

    Parameters
    ----------
    cells : int
    read : callable
        Public, a dataclass of public values: from rows to (cell, hit, extras) of shapes (m,), (m,) and (m, k), extras
        within [-1, 1]. A cell of -1 is none.
    weights : tuple of float
        One per column of extras, which is multiplied by it.
    """

    cells: int
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
    weights: tuple[float, ...]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Contributions of rows, cell by cell: hits, misses, extras."""
        cell, hit, extras = self.read(rows)
        own = np.column_stack([hit, ~hit, np.clip(extras, -1, 1) * self.weights])
        # One more cell takes the rows that lie in none.
        placed = np.zeros((len(rows), self.cells + 1, own.shape[1]))
        placed[np.arange(len(rows)), cell] = own
        return placed[:, :-1].reshape(len(rows), self.cells * own.shape[1])

    @property
    def sensitivity(self) -> float:
        """Largest norm of a contribution."""
        return float(1 + sum(w * w for w in self.weights)) ** 0.5


@dataclass(frozen=True, eq=False)
class CellTotals:
    """Noisy sums by cell.

    Parameters
    ----------
    hits, misses : ndarray of shape (cells,)
    extras : ndarray of shape (cells, k)
        In units of [-1, 1].
    std : float
        Standard deviation of the noise in hits and in misses.
    extras_std : ndarray of shape (k,)
        Of the noise in extras.
    """

    hits: np.ndarray
    misses: np.ndarray
    extras: np.ndarray
    std: float
    extras_std: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Rows by cell; noise may make it negative."""
        return self.hits + self.misses


def cell_queries(touch: Touch, of: str, sums: CellSums) -> Generator[Query, Answers, CellTotals]:
    """Ask for the sums of all cells at once.

    Parameters
    ----------
    touch : Touch
        Of one query with one value.
    of : str
        Name of the array.
    sums : CellSums

    Returns
    -------
    CellTotals
    """
    (total,) = yield Query(touch, (RowSum(of, sums, sums.sensitivity),))
    return read_totals(total, sums, touch.noise.multipliers[0] * sums.sensitivity if touch.noise else 0.0)


def read_totals(total: np.ndarray, sums: CellSums, std: float) -> CellTotals:
    """The answer to a query for `sums`, whose entries have noise of `std`."""
    hits, misses, *extras = total.reshape(sums.cells, -1).T
    weights = np.array(sums.weights)
    scaled = np.array(extras).reshape(len(weights), sums.cells).T / weights
    return CellTotals(hits, misses, scaled, std, std / weights)
