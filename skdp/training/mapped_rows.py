"""Rows of a file, of which only those that are asked for are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from skdp.training.lazy_rows import LazyRows

__all__ = ["MappedRows"]

_CELLS = 2**15  # that are float64 at a time: they stay in a processor's cache


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
        self.dtype = torch.int64 if table.dtype.kind == "i" else torch.float32

    def to(self, device: torch.device) -> MappedRows:
        """The same rows, that come out on another device."""
        return MappedRows(self._table, self._scale, device)

    def picked(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows of a run or of an index, read now; the same numbers as if all rows had been scaled at once."""
        stored = self._table.stored(rows)
        if self._scale is None and stored.dtype == np.float32:
            return stored.copy() if isinstance(rows, slice) else stored  # never the file itself
        out = np.empty(stored.shape, np.int64 if self.dtype == torch.int64 else np.float32)
        size = max(1, _CELLS // max(1, self.shape[1:].numel()))
        with np.errstate(over="ignore"):
            for start in range(0, len(stored), size):
                piece = self._table.decoded(stored[start : start + size])
                out[start : start + size] = piece if self._scale is None else self._scale(piece)
        return out
