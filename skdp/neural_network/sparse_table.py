"""Sparse features: tables that are never dense as a whole."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from skdp.neural_network.scaling import scale_inputs

__all__ = ["SparseTable"]


class SparseTable:
    """A sparse table that is read like an array, of which a run of rows or one column is dense at a time.

    Parameters
    ----------
    matrix : scipy.sparse matrix or array of shape (n, columns)
        What it does not store is zero. Entries stored twice are added up.

    Examples
    --------
    >>> table = SparseTable(sparse.csr_array(np.eye(3)))
    >>> len(table), table[1:2].tolist(), table[:, 2].tolist()
    (3, [[0.0, 1.0, 0.0]], [0.0, 0.0, 1.0])
    """

    ndim = 2
    dtype = np.dtype(np.float64)

    def __init__(self, matrix: Any):
        with np.errstate(over="ignore"):  # a warning would tell of a huge value
            # A copy, because adding up happens in place.
            self.matrix = sparse.csr_array(matrix, dtype=np.float64, copy=True)
            self.matrix.sum_duplicates()
        self._by_column: Any = None

    def __len__(self) -> int:
        return self.matrix.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.matrix.shape

    def __getitem__(self, key: Any) -> Any:
        """A run of rows, or a column, as an array; chosen rows or columns as a table like this one."""
        if isinstance(key, slice):
            return self.matrix[key].toarray()
        if not isinstance(key, tuple):
            return SparseTable(self.matrix[key])
        rows, columns = key
        if rows != slice(None):
            raise IndexError("pick rows or columns, one after the other")
        if np.ndim(columns):
            return SparseTable(self.matrix[:, columns])
        found = np.zeros(len(self))
        values, stored = self.column(columns)
        found[stored] = values
        return found

    def column(self, column: int) -> tuple[np.ndarray, np.ndarray]:
        """What a column stores, and in which rows."""
        if self._by_column is None:
            self._by_column = self.matrix.tocsc()
        part = slice(*self._by_column.indptr[[column, column + 1]])
        return self._by_column.data[part], self._by_column.indices[part]

    def without(self, null: np.ndarray) -> SparseTable:
        """The same table, all of whose null rows are zeros."""
        kept = np.repeat(~null, np.diff(self.matrix.indptr))
        ends = np.concatenate([[0], np.cumsum(kept)])[self.matrix.indptr]
        return SparseTable(
            sparse.csr_array((self.matrix.data[kept], self.matrix.indices[kept], ends), shape=self.shape)
        )

    def invalid(self, largest: float) -> sparse.csr_array:
        """Which cells are NaN, or larger than `largest` in size."""
        with np.errstate(invalid="ignore"):
            odd = ~(np.abs(self.matrix.data) <= largest)
        found = sparse.csr_array((odd, self.matrix.indices, self.matrix.indptr), shape=self.shape, copy=True)
        found.eliminate_zeros()
        return found

    def scaled(self, bounds: np.ndarray | None) -> Any:
        """The matrix as a net is given it, and what dense rows of it have still to go through (None: nothing).

        Where zero stays zero, as within bounds that are as far below zero as above, the matrix is scaled once.
        """
        if bounds is None:
            return self.matrix, None
        if scale_inputs(np.zeros((1, self.shape[1])), bounds).any():
            return self.matrix, partial(scale_inputs, bounds=bounds)
        own = np.broadcast_to(bounds, (self.shape[1], 2))[self.matrix.indices]
        data = scale_inputs(self.matrix.data, own)
        return sparse.csr_array((data, self.matrix.indices, self.matrix.indptr), shape=self.shape), None
