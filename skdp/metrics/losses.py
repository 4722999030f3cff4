"""Proper scores: what probabilities cost where the truth comes out, row by row and on average."""

from __future__ import annotations

import numpy as np

from skdp.metrics.probabilities import read_predictions

__all__ = ["brier_score", "log_losses", "negative_log_likelihood", "squared_distances"]

# The log loss of one row that a float64 can still tell from certainty.
_SMALLEST = np.finfo(np.float64).eps


def negative_log_likelihood(y_true, y_proba, *, labels=None, sample_weight=None):
    """Mean negative logarithm of the probability that was given to what came out (log loss), in nats.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        One dimension holds the probability of the greater of two labels.
    labels : array-like of shape (n_classes,), optional
        All labels, where `y_true` may lack one.
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    float
        0 is certain and right; a probability of 0 counts as 2.2e-16.

    Notes
    -----
    `sklearn.metrics.log_loss` with this family's way to read probabilities. Computed exactly: not private.

    Examples
    --------
    >>> from skdp.metrics import negative_log_likelihood
    >>> round(negative_log_likelihood([0, 1], [0.5, 0.5]), 3)
    0.693
    """
    found = read_predictions(y_true, y_proba, labels, sample_weight)
    return float(np.average(log_losses(found.proba, found.label), weights=found.weight))


def brier_score(y_true, y_proba, *, labels=None, sample_weight=None):
    """Mean squared distance between probabilities and what came out, summed over the classes.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
    y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        One dimension holds the probability of the greater of two labels.
    labels : array-like of shape (n_classes,), optional
        All labels, where `y_true` may lack one.
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    float
        In [0, 2]; for two classes twice scikit-learn's `brier_score_loss`, which by default looks at one of them.

    Notes
    -----
    Computed exactly: on private records it is not private.

    Examples
    --------
    >>> from skdp.metrics import brier_score
    >>> brier_score([0, 1], [0.5, 0.5])
    0.5
    """
    found = read_predictions(y_true, y_proba, labels, sample_weight)
    return float(np.average(squared_distances(found.proba, found.label), weights=found.weight))


def log_losses(proba: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Log loss of each row."""
    return -np.log(np.clip(proba[np.arange(len(proba)), label], _SMALLEST, 1.0))


def squared_distances(proba: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Squared distance of each row's probabilities from its outcome."""
    return (proba**2).sum(axis=1) - 2 * proba[np.arange(len(proba)), label] + 1
