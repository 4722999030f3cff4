"""Rows of a file, of which only those that are asked for are read."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from skdp.training.lazy_rows import LazyRows

__all__ = ["MappedRows"]

_CELLS = 2**17  # that are float64 at a time: they stay in a processor's cache
# A disk answers many requests at once as fast as one, and a thread that touches a page has one. What lies in memory
# already needs hardly more threads than torch may use: others would only stand in each other's way.
_READERS, _FEWEST = 16, 2
_PAGE = 4096  # bytes
_FROM_DISK = 3e-5  # seconds of a thread for a page, from which on a disk is what it waits for


class MappedRows(LazyRows):
    """Stands in for a tensor of shape (n, ...) whose rows lie in a file.

    Parameters
    ----------
    table : MappedTable
        Gives rows as they are stored, and what stored rows mean.
    scale : callable or None
        Makes of rows in float64 what the net is given, each by itself; None gives them as they are.
    device : torch.device or str, default="cpu"
        Of what comes out.

    Examples
    --------
    >>> from skdp.neural_network.mapped_table import MappedTable
    >>> rows = MappedRows(MappedTable(np.eye(3)), lambda rows: 2 * rows)
    >>> rows.index_select(0, torch.tensor([2])).tolist(), rows[:0].shape
    ([[0.0, 0.0, 2.0]], torch.Size([0, 3]))
    """

    def __init__(self, table: Any, scale: Callable[[np.ndarray], np.ndarray] | None = None, device: Any = "cpu"):
        super().__init__(table.shape, device)
        self._table, self._scale = table, scale
        self._readers = ThreadPoolExecutor(_READERS, "skdp-rows")
        self._from_disk = True
        self.dtype = torch.int64 if table.dtype.kind == "i" else torch.float32

    def to(self, device: torch.device) -> MappedRows:
        """The same rows, that come out on another device."""
        return MappedRows(self._table, self._scale, device)

    def picked(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows of a run or of an index, read now; the same numbers as if all rows had been scaled at once."""
        run = isinstance(rows, slice)
        first, last, _ = rows.indices(len(self)) if run else (0, len(rows), 1)
        count = max(0, last - first)
        out = np.empty((count, *self.shape[1:]), np.int64 if self.dtype == torch.int64 else np.float32)
        as_it_is = self._scale is None and self._table.is_float32
        pages = count * -(-self._table.row_bytes // _PAGE)
        threads = _READERS if self._from_disk else min(_READERS, max(_FEWEST, torch.get_num_threads()))
        share = max(1, -(-count // threads))
        size = max(1, min(_CELLS // max(1, self.shape[1:].numel()), share))

        def read(start: int) -> None:
            whole = min(start + share, count)
            for begin in range(start, whole, size):
                end = min(begin + size, whole)
                with np.errstate(over="ignore"):
                    stored = self._table.stored(slice(first + begin, first + end) if run else rows[begin:end])
                    piece = stored if as_it_is else self._table.decoded(stored)
                    out[begin:end] = piece if self._scale is None else self._scale(piece)

        began = time.perf_counter()
        with nullcontext() if run else self._table.scattered(rows):
            list(self._readers.map(read, range(0, count, share)))
        self._from_disk = (time.perf_counter() - began) * min(threads, count) > _FROM_DISK * pages
        return out
