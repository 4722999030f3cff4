"""Predicted probabilities beside the labels that came out, checked once for every metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import (
    _check_sample_weight,
    assert_all_finite,
    check_array,
    check_consistent_length,
    column_or_1d,
)

__all__ = ["Predictions", "read_predictions"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities, labels and weights of the same rows.

    Parameters
    ----------
    proba : ndarray of shape (n, n_classes)
    label : ndarray of int of shape (n,)
        Column of the true class.
    weight : ndarray of shape (n,)
    classes : ndarray of shape (n_classes,)
    """

    proba: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    classes: np.ndarray

    @property
    def top(self) -> np.ndarray:
        """Predicted class, as a column."""
        return self.proba.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class."""
        return self.proba.max(axis=1)

    @property
    def hit(self) -> np.ndarray:
        """Whether the predicted class came out."""
        return self.top == self.label

    @property
    def outcomes(self) -> np.ndarray:
        """1 in the column of the true class, 0 elsewhere."""
        return (self.label[:, None] == np.arange(self.proba.shape[1])).astype(float)


def read_predictions(y_true: Any, y_proba: Any, labels: Any = None, sample_weight: Any = None) -> Predictions:
    """Check labels and probabilities against each other.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        One dimension holds the probability of the greater of two labels.
    labels : array-like of shape (n_classes,), optional
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    Predictions

    Raises
    ------
    ValueError
        If lengths, labels or probabilities do not fit together, or a weight is negative or all are zero.
    """
    y_true = column_or_1d(y_true)
    proba = check_array(y_proba, ensure_2d=False, dtype=np.float64, input_name="y_proba")
    check_consistent_length(y_true, proba, sample_weight)
    weight = _check_sample_weight(sample_weight, proba, dtype=np.float64, ensure_non_negative=True)
    if proba.ndim == 1:
        proba = np.column_stack([1 - proba, proba])
    _check_probabilities(proba)
    classes = _classes(y_true, proba.shape[1], labels)
    return Predictions(proba, np.searchsorted(classes, y_true), weight, classes)


def _check_probabilities(proba: np.ndarray) -> None:
    """Raise unless rows are probabilities, to float32's precision."""
    if proba.min() < 0 or proba.max() > 1 + 1e-6:
        raise ValueError("y_proba has values outside [0, 1]; pass probabilities, not decision values")
    if not np.allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-3):
        raise ValueError("rows of y_proba must sum to 1; pass one dimension for the greater of two labels")


def _classes(y_true: np.ndarray, n_classes: int, labels: Any) -> np.ndarray:
    """Sorted labels, one per column of the probabilities."""
    if labels is None:
        assert_all_finite(y_true, input_name="y_true")
        classes = unique_labels(y_true)
        # One label alone says nothing about the other, unless they are the usual 0 and 1.
        if len(classes) < 2 and n_classes == 2 and set(classes.tolist()) <= {0, 1}:
            classes = np.array([0, 1])
    else:
        classes = np.unique(column_or_1d(labels))
        if not np.isin(y_true, classes).all():
            raise ValueError("y_true has labels that are not in labels")
    if len(classes) != n_classes:
        raise ValueError(
            f"y_proba is about {n_classes} classes but there are {len(classes)} labels; "
            f"pass labels=[...] with all of them"
        )
    return classes
