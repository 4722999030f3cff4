"""Features in a memory-mapped file: tables that are never in memory as a whole."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["InvalidCells", "MappedTable", "is_mapped"]

_CELLS = 2**20  # that are read at a time
_READ_AROUND = 2**15  # bytes between rows, from which on single pages are read faster than all of them
_NO_TOKEN = -1


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array is a view of a mapped file, row by row: cells of a row that lie apart are read as a whole.

    Raises
    ------
    ValueError
        The file is shorter than what was mapped: to read its end would kill the process.
    """
    file, start = _file_of(array)
    if file is None:
        return False
    try:
        size = file.size()
    except (OSError, ValueError):  # it maps no file
        return False
    if size < start - start % mmap.ALLOCATIONGRANULARITY + len(file):
        raise ValueError("the mapped file has been cut short since it was opened; write it again and open it anew")
    return array[:1].flags.c_contiguous


def _file_of(array: Any) -> tuple[mmap.mmap | None, int]:
    """The mapped file that an array is a view of, where it is one, and where in it the map begins."""
    start, base = 0, array
    while base is not None and not isinstance(base, mmap.mmap):
        start = getattr(base, "offset", start)
        base = getattr(base, "base", None)
    return base, start


@dataclass(frozen=True, eq=False)
class InvalidCells:
    """Which rows hold a cell that no net can take, and the first column with one.

    Parameters
    ----------
    rows : ndarray of bool of shape (n,)
    column : int
        0 where there is none.
    count : int
        Rows that it spoils.
    nan : bool
        Whether NaN is among its cells.
    """

    rows: np.ndarray
    column: int
    count: int
    nan: bool


class MappedTable:
    """Rows of a mapped file that are read like a float64 array, or like int64 tokens, as many as are asked for.

    Parameters
    ----------
    array : ndarray of shape (n, ...)
        Numbers of any type, in the file.
    vocabulary : int or None
        Number of tokens, where cells are tokens; what is none of them is -1.
    null : ndarray of bool of shape (n,) or None
        Rows that are read as zeros.

    Examples
    --------
    >>> table = MappedTable(np.eye(3, dtype=np.float16))
    >>> len(table), table[1:2].tolist(), table.without(np.array([True, False, False]))[:1].tolist()
    (3, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]])
    """

    def __init__(self, array: np.ndarray, vocabulary: int | None = None, null: np.ndarray | None = None):
        self._array = np.asarray(array)
        self._file, _ = _file_of(self._array)
        self._vocabulary = vocabulary
        self._null = null
        self.shape, self.ndim = self._array.shape, self._array.ndim
        self.dtype = np.dtype(np.float64 if vocabulary is None else np.int64)

    def __reduce__(self) -> tuple:
        """Made anew from the array, which joblib hands to its workers as a map; a map itself cannot be pickled."""
        return MappedTable, (self._array, self._vocabulary, self._null)

    @property
    def is_float32(self) -> bool:
        """Whether rows are stored as a net takes them."""
        return self._array.dtype == np.float32

    @property
    def row_bytes(self) -> int:
        """Size of a row in the file."""
        return int(np.prod(self.shape[1:])) * self._array.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """A run of rows or chosen rows, as an array in memory."""
        return self.decoded(self.stored(rows))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """All rows in memory, for what cannot do with less."""
        return np.array(self[:], dtype=self.dtype if dtype is None else dtype, copy=copy)

    def without(self, null: np.ndarray) -> MappedTable:
        """The same table, all of whose null rows are read as zeros."""
        return MappedTable(self._array, self._vocabulary, null if self._null is None else null | self._null)

    def stored(self, rows: slice | np.ndarray) -> np.ndarray:
        """A run of rows or chosen rows, as the file has them; null rows are zeros."""
        # `take` is twice as fast, but would first copy an array whose rows do not lie side by side.
        side_by_side = not isinstance(rows, slice) and rows.dtype.kind == "i" and self._array.flags.c_contiguous
        found = self._array.take(rows, axis=0) if side_by_side else self._array[rows]
        if self._null is not None and (null := self._null[rows]).any():
            found = found.copy()
            found[null] = 0
        return found

    def decoded(self, stored: np.ndarray) -> np.ndarray:
        """What stored rows mean: float64, or int64 tokens."""
        if self._vocabulary is None:
            with np.errstate(over="ignore"):  # a warning would tell of a huge value
                return stored.astype(np.float64, copy=False)
        with np.errstate(invalid="ignore"):
            known = (stored >= 0) & (stored < self._vocabulary) & (stored % 1 == 0)
        return np.where(known, stored, _NO_TOKEN).astype(np.int64)

    @contextmanager
    def scattered(self, rows: np.ndarray) -> Iterator[None]:
        """While ascending rows are read that lie far apart, the system need not read what lies around them."""
        apart = len(rows) and (rows[-1] - rows[0]) * self._array[:1].nbytes > len(rows) * _READ_AROUND
        advisable = apart and self._file is not None and hasattr(mmap, "MADV_RANDOM")
        if advisable:
            self._file.madvise(mmap.MADV_RANDOM)
        try:
            yield
        finally:
            if advisable:
                self._file.madvise(mmap.MADV_NORMAL)

    def runs(self) -> Iterator[slice]:
        """All rows, in order and a few at a time."""
        size = max(1, _CELLS // max(1, int(np.prod(self.shape[1:]))))
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def invalid(self, largest: float) -> InvalidCells:
        """Which rows hold NaN, something larger than `largest` in size, or no token."""
        rows = np.zeros(len(self), dtype=bool)
        counts = nans = np.zeros(int(np.prod(self.shape[1:])), dtype=np.int64)
        for run in self.runs() if self._may_be_invalid() else ():
            stored = self.stored(run)
            low, high = (0, self._vocabulary - 1) if self._vocabulary else (-largest, largest)
            whole = self._vocabulary is None or stored.dtype.kind in "iu"
            if whole and low <= float(stored.min()) and float(stored.max()) <= high:  # false where one of them is NaN
                continue
            cells = self.decoded(stored).reshape(len(stored), -1)
            with np.errstate(invalid="ignore"):
                odd = ~(np.abs(cells) <= largest) if self._vocabulary is None else cells == _NO_TOKEN
            rows[run] = odd.any(axis=1)
            counts, nans = counts + odd.sum(axis=0), nans + np.isnan(cells).sum(axis=0)
        column = int((counts > 0).argmax())
        return InvalidCells(rows, column, int(counts[column]), bool(nans[column]))

    def _may_be_invalid(self) -> bool:
        """Whole numbers of any type fit into float32."""
        return 0 not in self.shape and (self._vocabulary is not None or self._array.dtype.kind not in "iub")
