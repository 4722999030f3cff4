"""Rows that stay where they are, of which those that are asked for become a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["LazyRows"]

_CELLS = 2**24  # of a piece, where nobody says how many rows it should have


class LazyRows:
    """Stands in for a tensor of shape (n, ...) wherever rows are picked from it; subclasses say how.

    Parameters
    ----------
    shape : tuple of int
    device : torch.device or str
        Of what comes out; the rows themselves stay where they are.
    """

    dtype = torch.float32

    def __init__(self, shape: tuple[int, ...], device: Any):
        self.shape = torch.Size(shape)
        self.ndim = len(shape)
        self.device = torch.device(device)

    def picked(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows of a run or of an index, as a new array of the net's kind."""
        raise NotImplementedError

    def to(self, device: torch.device) -> LazyRows:
        """The same rows, that come out on another device."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, run: slice) -> Tensor:
        return torch.from_numpy(self.picked(run)).to(self.device)

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """The given rows; `dim` is 0."""
        return torch.from_numpy(self.picked(rows.cpu().numpy())).to(self.device)

    def split(self, most: int) -> Iterator[Tensor]:
        """All rows in runs of at most `most`, and of fewer where rows are long; at least one run."""
        size = max(1, min(most, _CELLS // max(1, self.shape[1:].numel())))
        for start in range(0, max(1, len(self)), size):
            yield self[start : start + size]

    def new_zeros(self, shape: tuple[int, ...]) -> Tensor:
        """Zeros of the type and on the device of the rows."""
        return torch.zeros(shape, dtype=self.dtype, device=self.device)
