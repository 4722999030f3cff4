"""How far predicted probabilities are from frequencies, in bins of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from skdp.metrics.binning import BinnedCurve, check_bins
from skdp.metrics.probabilities import Predictions, read_predictions

__all__ = [
    "adaptive_calibration_error",
    "classwise_calibration_error",
    "expected_calibration_error",
    "maximum_calibration_error",
    "top_label_curve",
]


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
    The value is computed exactly: on private records it is not private (`skdp.calibration.DPCalibrationReport` is).

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> from skdp.metrics import expected_calibration_error
    >>> round(expected_calibration_error([0, 1, 1, 0], [0.1, 0.9, 0.9, 0.9]), 3)
    0.15
    """
    n_bins = check_bins(n_bins, strategy)
    return top_label_curve(read_predictions(y_true, y_proba, labels, sample_weight), n_bins, strategy).error


def adaptive_calibration_error(y_true, y_proba, *, n_bins=15, labels=None, sample_weight=None):
    """`expected_calibration_error` over bins of equally many records (equal mass).

    Where nearly all confidences are high, bins of equal width hold either nothing or everything; these do not.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
    n_bins : int, default=15
    labels : array-like of shape (n_classes,), optional
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    float
        In [0, 1].

    Notes
    -----
    Computed exactly: on private records it is not private.

    References
    ----------
    Nixon, Dusenberry, Zhang, Jerfel and Tran, "Measuring calibration in deep learning", CVPR Workshops 2019.

    Examples
    --------
    >>> from skdp.metrics import adaptive_calibration_error
    >>> round(adaptive_calibration_error([0, 1, 1, 0], [0.1, 0.8, 0.9, 0.9], n_bins=2), 3)
    0.225
    """
    return expected_calibration_error(
        y_true, y_proba, n_bins=n_bins, strategy="quantile", labels=labels, sample_weight=sample_weight
    )


def maximum_calibration_error(y_true, y_proba, *, n_bins=15, strategy="uniform", labels=None, sample_weight=None):
    """Largest gap between confidence and accuracy over the bins of the top probability that hold anything.

    A bin with a handful of records decides it by their luck: look at `skdp.calibration.ReliabilityDisplay` as well.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
    n_bins : int, default=15
    strategy : {"uniform", "quantile"}, default="uniform"
        As in `expected_calibration_error`.
    labels : array-like of shape (n_classes,), optional
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    float
        In [0, 1], never below the expected calibration error.

    Notes
    -----
    Computed exactly: on private records it is not private.

    Examples
    --------
    >>> from skdp.metrics import maximum_calibration_error
    >>> round(maximum_calibration_error([0, 1, 1, 0], [0.1, 0.9, 0.9, 0.6]), 3)
    0.6
    """
    n_bins = check_bins(n_bins, strategy)
    return top_label_curve(read_predictions(y_true, y_proba, labels, sample_weight), n_bins, strategy).largest_error


def classwise_calibration_error(y_true, y_proba, *, n_bins=15, strategy="uniform", labels=None, sample_weight=None):
    """Mean over classes of the gap between a class's predicted probability and its frequency.

    For every class all records are binned by the probability of that class, whether it is the top one or not: a rare
    class that is never predicted counts as much as the others, where the top label hides it.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
    n_bins : int, default=15
    strategy : {"uniform", "quantile"}, default="uniform"
        As in `expected_calibration_error`.
    labels : array-like of shape (n_classes,), optional
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    float
        In [0, 1].

    Notes
    -----
    Computed exactly: on private records it is not private.

    References
    ----------
    Kull et al., "Beyond temperature scaling: obtaining well-calibrated multi-class probabilities with Dirichlet
    calibration", NeurIPS 2019.

    Examples
    --------
    >>> from skdp.metrics import classwise_calibration_error
    >>> round(classwise_calibration_error([0, 1, 1, 0], [0.1, 0.9, 0.9, 0.9]), 3)
    0.2
    """
    n_bins = check_bins(n_bins, strategy)
    found = read_predictions(y_true, y_proba, labels, sample_weight)
    return float(np.mean([curve.error for curve in classwise_curves(found, n_bins, strategy)]))


def top_label_curve(found: Predictions, n_bins: int, strategy: str) -> BinnedCurve:
    """The curve of the predicted class's probability."""
    return BinnedCurve.of(found.confidence, found.hit, found.weight, n_bins, strategy)


def classwise_curves(found: Predictions, n_bins: int, strategy: str, columns: Any = None) -> list[BinnedCurve]:
    """A curve for the probability of every class, or of some of them."""
    columns = range(found.proba.shape[1]) if columns is None else columns
    outcomes = found.outcomes
    return [BinnedCurve.of(found.proba[:, k], outcomes[:, k], found.weight, n_bins, strategy) for k in columns]
