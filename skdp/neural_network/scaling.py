"""Features and targets within their bounds, as tensors of the net's kind."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from skdp.training.mapped_rows import MappedRows
from skdp.training.sparse_rows import SparseRows

__all__ = ["as_inputs", "as_rows", "scale_inputs", "scale_targets"]

_CELLS = 2**22  # that are held in float64 at a time


def scale_inputs(inputs: np.ndarray, bounds: np.ndarray | None) -> np.ndarray:
    """Columns clipped to their bounds and mapped to [-1, 1], in float64; as they are without bounds."""
    if bounds is None:
        return inputs.astype(np.float64) if inputs.dtype == np.float32 else inputs
    low, high = bounds[:, 0] / 2, bounds[:, 1] / 2
    scaled = np.array(inputs, dtype=np.float64)  # the only copy
    with np.errstate(over="ignore"):  # a warning would tell of a huge value
        scaled -= low + high
        scaled /= high - low
    return np.clip(scaled, -1, 1, out=scaled)


def scale_targets(targets: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Targets clipped to their bounds and mapped to [-1, 1], as float32."""
    low, high = (bounds[0] if targets.ndim == 1 else bounds.T) if len(bounds) == 1 else bounds.T
    return (2 * ((np.clip(targets, low, high) - low) / (high - low)) - 1).astype(np.float32)


def as_rows(inputs: Any, bounds: np.ndarray | None) -> Any:
    """Features within their bounds, from which a net's rows are picked: a tensor, or rows that stay
    where they are.

    Dense ones are scaled some at a time, so that a large table is not held in float64 besides.
    """
    if hasattr(inputs, "scaled"):
        return SparseRows(*inputs.scaled(bounds))
    if hasattr(inputs, "stored"):
        return MappedRows(inputs, None if bounds is None else partial(scale_inputs, bounds=bounds))
    if bounds is None:  # a net of the user's may write to what it is given, and must not reach the user's own array
        return as_inputs(inputs.copy() if inputs.dtype == np.float32 else inputs)
    scaled = np.empty(inputs.shape, dtype=np.float32)
    step = max(1, _CELLS // max(1, scaled[:1].size))
    for start in range(0, len(scaled), step):
        rows = slice(start, start + step)
        scaled[rows] = scale_inputs(inputs[rows], bounds)
    return torch.from_numpy(scaled)


def as_inputs(inputs: np.ndarray) -> torch.Tensor:
    """A float32 tensor, or int64 tokens as they are."""
    kind = np.int64 if inputs.dtype.kind == "i" else np.float32
    return torch.from_numpy(np.ascontiguousarray(inputs.astype(kind, copy=False)))
