"""Canaries: records that a fit would have to remember one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

__all__ = ["mislabelled", "put_in"]


def mislabelled(X: Any, y: Any, places: np.ndarray, rng: Any, classifies: bool) -> tuple[Any, Any]:
    """The records at these places with wrong labels: another class, or the end of the range that is farther off.

    Nothing but a record's own memory makes a model give it such a label.
    """
    records, right = _safe_indexing(X, places), np.asarray(_safe_indexing(y, places))
    if not classifies:
        low, high = np.min(np.asarray(y), axis=0), np.max(np.asarray(y), axis=0)
        return records, np.where(right - low > high - right, low, high)
    classes = np.unique(np.asarray(y))
    if len(classes) < 2:
        raise ValueError(f"y holds one class only ({classes.tolist()}), so no label is wrong; pass canaries=(X_c, y_c)")
    shift = rng.randint(1, len(classes), size=len(right))
    return records, classes[(np.searchsorted(classes, right) + shift) % len(classes)]


def put_in(whole: Any, part: Any, places: np.ndarray) -> Any:
    """A copy with other records at these places."""
    if hasattr(whole, "iloc"):
        whole = whole.copy()
        # By value: a Series or table would be aligned by its index.
        whole.iloc[places] = part.to_numpy() if hasattr(part, "to_numpy") else np.asarray(part)
        return whole
    whole = whole.clone() if hasattr(whole, "clone") else np.array(whole)
    whole[places] = part if hasattr(whole, "detach") else np.asarray(part)
    return whole
