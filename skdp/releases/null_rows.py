"""Which rows a sample weight makes null."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["OWN_WEIGHTS", "VALID_WEIGHTS", "null_rows"]

OWN_WEIGHTS = "sample weights were computed from each record alone"
VALID_WEIGHTS = "that every sample weight is finite and not negative (an error would have told)"


def null_rows(sample_weight: Any, n: int) -> np.ndarray:
    """Rows of weight 0, of shape (n,): they add to nothing. What any other weight says is not used.

    A release counts a row once or not at all: no weight can raise its sensitivity, and a number of rows stays one.

    Raises
    ------
    ValueError
        For weights that are not one finite number of at least 0 for each row; none is quoted.
    """
    if sample_weight is None:
        return np.zeros(n, dtype=bool)
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("sample_weight must be numeric, one number per row") from None
    if weights.ndim > 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got shape {weights.shape}")
    if weights.ndim and weights.shape != (n,):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected ({n},): one weight per row")
    weights = np.broadcast_to(weights, (n,))
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("sample_weight must be finite and not negative; 0 makes a null row")
    return weights == 0
