"""Rows kept sparse, of which those that are asked for become a dense tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["SparseRows"]

_CELLS = 2**24  # of a piece, where nobody says how many rows it should have


class SparseRows:
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

    ndim = 2
    dtype = torch.float32

    def __init__(self, matrix: Any, scale: Callable[[np.ndarray], np.ndarray] | None = None, device: Any = "cpu"):
        self._matrix = matrix.astype(np.float32) if scale is None else matrix
        self._scale = scale
        self.device = torch.device(device)

    def __len__(self) -> int:
        return self._matrix.shape[0]

    @property
    def shape(self) -> torch.Size:
        """As of a tensor."""
        return torch.Size(self._matrix.shape)

    def to(self, device: torch.device) -> SparseRows:
        """The same rows, that come out on another device."""
        return SparseRows(self._matrix, self._scale, device)

    def __getitem__(self, run: slice) -> Tensor:
        return self._dense(self._matrix[run])

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """The given rows; `dim` is 0."""
        return self._dense(self._matrix[rows.cpu().numpy()])

    def split(self, most: int) -> Iterator[Tensor]:
        """All rows in runs of at most `most`, and of fewer where rows are long; at least one run."""
        size = max(1, min(most, _CELLS // max(1, self.shape[1])))
        for start in range(0, max(1, len(self)), size):
            yield self[start : start + size]

    def new_zeros(self, shape: tuple[int, ...]) -> Tensor:
        """Zeros of the type and on the device of the rows."""
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def _dense(self, matrix: Any) -> Tensor:
        dense = matrix.toarray()
        dense = dense if self._scale is None else self._scale(dense).astype(np.float32)
        return torch.from_numpy(dense).to(self.device)
