"""Canaries: records that a fit would have to remember one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.utils import _safe_indexing

__all__ = ["mislabelled", "put_in"]


def mislabelled(X: Any, y: Any, places: np.ndarray, rng: Any, classifies: bool) -> tuple[Any, np.ndarray]:
    """The records at these places with wrong labels: another class, or the end of the range that is farther off.

    Only a model that remembers such a record has a reason to give it such a label.
    """
    records, y = _safe_indexing(X, places), np.asarray(y)
    right = y[places]
    if not classifies:
        low, high = y.min(axis=0), y.max(axis=0)
        return records, np.where(right - low > high - right, low, high)
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(f"y holds one class only ({classes.tolist()}), so no label is wrong; pass canaries=(X_c, y_c)")
    shift = rng.randint(1, len(classes), size=len(right))
    return records, classes[(np.searchsorted(classes, right) + shift) % len(classes)]


def put_in(whole: Any, part: Any, places: np.ndarray) -> Any:
    """A copy of a table, array or tensor with other records at these places."""
    n = whole.shape[0] if hasattr(whole, "shape") else len(whole)
    index = np.arange(n)
    index[places] = n + np.arange(len(places))
    # Joined and picked rather than assigned, which would cut long texts and change the types of columns.
    if hasattr(whole, "iloc"):
        part = type(whole)(part, **_labels(whole))
        return pd.concat([whole, part]).iloc[index].set_axis(whole.index)
    if sparse.issparse(whole):
        return sparse.vstack([whole, sparse.csr_array(part)], format="csr")[index]
    if isinstance(whole, torch.Tensor):
        return torch.cat([whole, torch.as_tensor(part, dtype=whole.dtype, device=whole.device)])[index]
    return np.concatenate([np.asarray(whole), np.asarray(part)])[index]


def _labels(whole: Any) -> dict[str, Any]:
    """Arguments that give another table or column the same names."""
    return {"columns": whole.columns} if hasattr(whole, "columns") else {"name": whole.name}
