"""How well predicted probabilities agree with what happens."""

from __future__ import annotations

import numpy as np
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import (
    _check_sample_weight,
    assert_all_finite,
    check_array,
    check_consistent_length,
    column_or_1d,
)

__all__ = ["expected_calibration_error"]


def expected_calibration_error(y_true, y_proba, *, n_bins=15, strategy="uniform", labels=None, sample_weight=None):
    """Weighted mean gap between confidence and accuracy over bins of the top predicted probability.

    A record's confidence is the probability of its predicted class, and its accuracy is 1 if that class is
    right. Records are binned by confidence; the error is the sum over bins of the bin's share of the records
    times the absolute difference of its mean accuracy and mean confidence. 0 is calibrated, 1 the worst.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        Probabilities as from ``predict_proba``, its columns in sorted order of the labels; one dimension
        holds the probability of the greater of two labels.
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width over [0, 1], a confidence on an edge in the upper bin and 1 in the last; or bins
        whose edges are quantiles of the confidences.
    labels : array-like of shape (n_classes,), optional
        All labels, where `y_true` may lack one.
    sample_weight : array-like of shape (n_samples,), optional
        Non-negative weights.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If lengths, labels or probabilities do not fit together, or a weight is negative or all are zero.

    Notes
    -----
    The value is computed exactly: on private records it is not private.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> from skdp.metrics import expected_calibration_error
    >>> round(expected_calibration_error([0, 1, 1, 0], [0.1, 0.9, 0.9, 0.9]), 3)
    0.15
    """
    if isinstance(n_bins, bool) or int(n_bins) != n_bins or n_bins < 1:
        raise ValueError(f"n_bins={n_bins!r} must be a whole number of at least 1")
    if strategy not in ("uniform", "quantile"):
        raise ValueError(f"strategy={strategy!r} must be 'uniform' or 'quantile'")
    y_true = column_or_1d(y_true)
    proba = check_array(y_proba, ensure_2d=False, dtype=np.float64, input_name="y_proba")
    check_consistent_length(y_true, proba, sample_weight)
    weight = _check_sample_weight(sample_weight, proba, dtype=np.float64, ensure_non_negative=True)
    if proba.ndim == 1:
        proba = np.column_stack([1 - proba, proba])
    _check_probabilities(proba)
    classes = _classes(y_true, proba.shape[1], labels)

    predicted = proba.argmax(axis=1)
    confidence = proba[np.arange(len(proba)), predicted]
    gap = weight * ((classes[predicted] == y_true) - confidence)
    edges = _inner_edges(confidence, int(n_bins), strategy)
    bins = np.searchsorted(edges, confidence, side="right")
    return float(np.abs(np.bincount(bins, gap, minlength=int(n_bins))).sum() / weight.sum())


def _check_probabilities(proba: np.ndarray) -> None:
    """Raise unless rows are probabilities, to float32's precision."""
    if proba.min() < 0 or proba.max() > 1 + 1e-6:
        raise ValueError("y_proba has values outside [0, 1]; pass probabilities, not decision values")
    if not np.allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-3):
        raise ValueError("rows of y_proba must sum to 1; pass one dimension for the greater of two labels")


def _classes(y_true: np.ndarray, n_classes: int, labels) -> np.ndarray:
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


def _inner_edges(confidence: np.ndarray, n_bins: int, strategy: str) -> np.ndarray:
    """Edges between bins, so that every confidence up to and including 1 has a bin."""
    inner = np.arange(1, n_bins) / n_bins
    return inner if strategy == "uniform" else np.quantile(confidence, inner)
