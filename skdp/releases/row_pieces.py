"""Rows of linear models that are no array in memory: they stay in a file, or sparse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import sparse

__all__ = ["ShiftedRows", "StreamedRows", "runs_of"]

_CELLS = 2**17  # that are float64 at a time
_DIGITS = 4 * np.finfo(np.float64).eps


class StreamedRows:
    """Rows of a file, of which a run at a time is in memory.

    Parameters
    ----------
    table : MappedTable or array of shape (n, columns)
        Gives rows in float64.
    scale : callable
        Makes of such rows what a model is given, each by itself; may return its argument.
    ones : bool
        Appends a column of ones.
    index : ndarray of int, optional
        Rows that these are, where they are not all.

    Examples
    --------
    >>> rows = StreamedRows(np.eye(3), lambda rows: 2 * rows, ones=True)
    >>> rows.shape, rows[1:2].tolist(), rows[np.array([2, 0])][:1].tolist()
    ((3, 4), [[0.0, 2.0, 0.0, 1.0]], [[0.0, 0.0, 2.0, 1.0]])
    """

    ndim, dtype = 2, np.dtype(np.float64)

    def __init__(
        self, table: Any, scale: Callable[[np.ndarray], np.ndarray], ones: bool, index: np.ndarray | None = None
    ):
        self._table, self._scale, self._ones, self._index = table, scale, ones, index
        self.shape = len(table) if index is None else len(index), table.shape[1] + ones

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> Any:
        """A run of rows as an array; chosen rows as something like this."""
        if not isinstance(rows, slice):
            index = rows if self._index is None else self._index[rows]
            return StreamedRows(self._table, self._scale, self._ones, index)
        scaled = self._scale(self._table[rows if self._index is None else self._index[rows]])
        if not self._ones:
            return scaled
        found = np.empty((len(scaled), self.shape[1]))
        found[:, :-1], found[:, -1] = scaled, 1.0
        return found

    def runs(self) -> Iterator[slice]:
        """All rows, in order and a few at a time; at least one run."""
        return runs_of(self.shape, _CELLS)

    def contents(self) -> Iterator[np.ndarray]:
        """Arrays that say which rows these are."""
        return (self[run] for run in self.runs())


class ShiftedRows:
    """Sparse rows, to each of which the same dense row is added.

    So scaled columns need not be zero where nothing is stored, and the ones of an intercept take no room.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array of shape (n, columns)
        Without duplicates.
    offset : ndarray of shape (columns,)

    Examples
    --------
    >>> rows = ShiftedRows(sparse.csr_array([[0.0, 4.0], [0.0, 0.0]]), np.array([3.0, 0.0]))
    >>> rows[:].tolist(), (rows @ np.ones((2, 1))).tolist(), (np.ones((1, 2)) @ rows).tolist()
    ([[3.0, 4.0], [3.0, 0.0]], [[7.0], [3.0]], [[6.0, 4.0]])
    >>> rows.lengths().round(9).tolist()
    [5.0, 3.0]
    """

    ndim, dtype = 2, np.dtype(np.float64)
    __array_ufunc__ = None  # arrays leave products to these rows

    def __init__(self, matrix: Any, offset: np.ndarray):
        self.matrix, self.offset, self.shape = matrix, offset, matrix.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> Any:
        """A run of rows as an array; chosen rows as something like this."""
        if isinstance(rows, slice):
            return self.matrix[rows].toarray() + self.offset
        return ShiftedRows(self.matrix[rows], self.offset)

    def __matmul__(self, right: np.ndarray) -> np.ndarray:
        return self.matrix @ right + self.offset @ right

    def __rmatmul__(self, left: np.ndarray) -> np.ndarray:
        return (self.matrix.T @ left.T).T + np.outer(left.sum(axis=1), self.offset)

    def runs(self) -> Iterator[slice]:
        """All rows, in order and a few at a time; at least one run."""
        return runs_of(self.shape, _CELLS)

    def contents(self) -> Iterator[np.ndarray]:
        """Arrays that say which rows these are."""
        return iter((self.matrix.indptr, self.matrix.indices, self.matrix.data, self.offset))

    def only_offset(self, rows: np.ndarray) -> ShiftedRows:
        """The same rows, of which some (ndarray of bool) store zeros alone."""
        matrix = self.matrix
        data = np.where(np.repeat(rows, np.diff(matrix.indptr)), 0.0, matrix.data)
        return ShiftedRows(sparse.csr_array((data, matrix.indices, matrix.indptr), shape=self.shape), self.offset)

    def lengths(self) -> np.ndarray:
        r"""L2 norms: (n,).

        They are sums over what is stored, :math:`|o|^2 + \sum (v^2 - o^2)`, in units of the largest entry. Where an
        offset cancels, rounding must not make a row too short, which would let it count for more: what rounding may
        have taken is added.
        """
        matrix, offset = self.matrix, self.offset
        with np.errstate(all="ignore"):
            own = offset[matrix.indices]
            values = matrix.data + own
            largest = abs(self._like(values)).max(axis=1).toarray().reshape(len(self))
            largest = np.maximum(largest, np.abs(offset).max(initial=0.0))
            unit = np.where(largest == 0, 1.0, largest)
            units = np.repeat(unit, np.diff(matrix.indptr))
            squares = self._like(np.square(values / units) - np.square(own / units)) @ np.ones(self.shape[1])
            of_offset = np.square(np.linalg.norm(offset) / unit)
            margin = _DIGITS * (self.shape[1] + 8) * of_offset
            return largest * np.sqrt(np.maximum(squares + of_offset, 0.0) + margin)

    def _like(self, data: np.ndarray) -> Any:
        return sparse.csr_array((data, self.matrix.indices, self.matrix.indptr), shape=self.shape)


def runs_of(shape: tuple[int, int], cells: int) -> Iterator[slice]:
    """Rows of a table of that shape, in order and about so many cells at a time; at least one run."""
    size = max(1, cells // max(1, shape[1]))
    for start in range(0, max(1, shape[0]), size):
        yield slice(start, min(start + size, shape[0]))
