"""Rows kept sparse, of which those that are asked for become a dense tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from skdp.training.lazy_rows import LazyRows

__all__ = ["SparseRows"]


class SparseRows(LazyRows):
    """Stands in for a float32 tensor of shape (n, columns) wherever rows are picked from it.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array of shape (n, columns)
    scale : callable or None
        Makes of dense rows what the net is given, each by itself; None gives them as they are.
    device : torch.device or str, default="cpu"
        Of what comes out; the rows themselves stay in main memory.

    Examples
    --------
    >>> from scipy import sparse
    >>> rows = SparseRows(sparse.csr_array(np.eye(3)))
    >>> rows.index_select(0, torch.tensor([2])).tolist(), rows[:0].shape
    ([[0.0, 0.0, 1.0]], torch.Size([0, 3]))
    """

    def __init__(self, matrix: Any, scale: Callable[[np.ndarray], np.ndarray] | None = None, device: Any = "cpu"):
        super().__init__(matrix.shape, device)
        self._matrix = matrix.astype(np.float32) if scale is None else matrix
        self._scale = scale

    def to(self, device: torch.device) -> SparseRows:
        """The same rows, that come out on another device."""
        return SparseRows(self._matrix, self._scale, device)

    def picked(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows of a run or of an index, dense."""
        return self._dense(self._matrix[rows])

    def _dense(self, matrix: Any) -> np.ndarray:
        dense = matrix.toarray()
        return dense if self._scale is None else self._scale(dense).astype(np.float32)
