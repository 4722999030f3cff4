"""Prediction intervals and prediction sets: how often they hold the truth, and how much else."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

__all__ = ["interval_coverage", "interval_width", "set_coverage", "set_size"]


def interval_coverage(y_true, intervals, *, sample_weight=None):
    """Share of the targets that lie within their intervals, ends included.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    intervals : array-like of shape (n_samples, 2)
        Lower and upper end of each row, as from `skdp.calibration.DPConformalRegressor.predict_interval`.
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    float
        In [0, 1].

    Notes
    -----
    Computed exactly: on private records it is not private.

    Examples
    --------
    >>> from skdp.metrics import interval_coverage
    >>> interval_coverage([0.0, 5.0], [[-1, 1], [0, 1]])
    0.5
    """
    y_true, intervals = column_or_1d(y_true), _intervals(intervals)
    check_consistent_length(y_true, intervals, sample_weight)
    return float(np.average((intervals[:, 0] <= y_true) & (y_true <= intervals[:, 1]), weights=sample_weight))


def interval_width(intervals, *, sample_weight=None):
    """Mean width of intervals.

    Parameters
    ----------
    intervals : array-like of shape (n_samples, 2)
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    float

    Examples
    --------
    >>> from skdp.metrics import interval_width
    >>> interval_width([[-1, 1], [0, 1]])
    1.5
    """
    intervals = _intervals(intervals)
    return float(np.average(intervals[:, 1] - intervals[:, 0], weights=sample_weight))


def set_coverage(y_true, sets, classes, *, sample_weight=None):
    """Share of the labels that are in their prediction sets.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    sets : array-like of bool of shape (n_samples, n_classes)
        Which classes are in the set, as from `skdp.calibration.DPConformalClassifier.predict_set`.
    classes : array-like of shape (n_classes,)
        Labels of the columns; a label that is none of them is in no set.
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> from skdp.metrics import set_coverage
    >>> set_coverage(["a", "b"], [[True, False], [True, False]], ["a", "b"])
    0.5
    """
    y_true, sets = column_or_1d(y_true), np.asarray(sets, dtype=bool)
    check_consistent_length(y_true, sets, sample_weight)
    held = (sets & (y_true[:, None] == np.asarray(classes))).any(axis=1)
    return float(np.average(held, weights=sample_weight))


def set_size(sets, *, sample_weight=None):
    """Mean number of classes in prediction sets.

    Parameters
    ----------
    sets : array-like of bool of shape (n_samples, n_classes)
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    float

    Examples
    --------
    >>> from skdp.metrics import set_size
    >>> set_size([[True, False], [True, True]])
    1.5
    """
    return float(np.average(np.asarray(sets, dtype=bool).sum(axis=1), weights=sample_weight))


def _intervals(intervals) -> np.ndarray:
    found = check_array(intervals, dtype=np.float64, ensure_all_finite=False, input_name="intervals")
    if found.shape[1] != 2 or not (found[:, 0] <= found[:, 1]).all():
        raise ValueError("intervals must have two columns, the lower end and then the upper end of each row")
    return found
