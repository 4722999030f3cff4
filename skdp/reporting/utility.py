"""How good a model is on test rows: figures with their meaning, and how far its probabilities can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from skdp.metrics import expected_calibration_error

__all__ = ["Metric", "ReliabilityBin", "Utility", "classification_scores", "utility_of"]

_BINS = 10


@dataclass(frozen=True)
class Metric:
    """One figure on test rows.

    Parameters
    ----------
    name : str
    value : float or None
        None where it is not defined on these rows.
    meaning : str
    """

    name: str
    value: float | None
    meaning: str


@dataclass(frozen=True)
class ReliabilityBin:
    """Test rows whose probability was about the same: what was predicted, and what happened.

    Parameters
    ----------
    predicted, observed : float
        Means over the rows.
    rows : int
    """

    predicted: float
    observed: float
    rows: int


@dataclass(frozen=True)
class Utility:
    """Figures on test rows.

    Parameters
    ----------
    rows : int
    public : bool
        Whether the test rows were declared public.
    metrics : tuple of Metric
    reliability : tuple of ReliabilityBin
        Empty where there are no probabilities.
    about : str
        What the reliability bins are about.
    """

    rows: int
    public: bool
    metrics: tuple[Metric, ...]
    reliability: tuple[ReliabilityBin, ...] = ()
    about: str = ""


def utility_of(model: Any, X: Any, y: Any, public: bool, intervals: Any = None) -> Utility:
    """Exact figures of a fitted model on test rows.

    Parameters
    ----------
    model : estimator
    X : array-like or table
    y : array-like
    public : bool
        Whether these rows are public.
    intervals : tuple (low, high) of array-like, or array-like of shape (n, 2), optional
        Prediction intervals of a regression, by row.

    Returns
    -------
    Utility

    Raises
    ------
    ValueError
        There are no rows, or labels that the model does not know.
    """
    y = np.asarray(y)
    if len(y) == 0:
        raise ValueError("y_test holds no rows; pass test rows that the model was not fitted on")
    if not is_classifier(model):
        return Utility(len(y), public, tuple(_regression(y, np.asarray(model.predict(X)), intervals)))
    if intervals is not None:
        raise ValueError("intervals= are for regressions; a classifier has probabilities")
    classes, predicted = np.asarray(model.classes_), model.predict(X)
    unknown = np.unique(y[~np.isin(y, classes)])
    if len(unknown):
        raise ValueError(
            f"y_test has {len(unknown)} label(s) that the model does not know (it knows {classes.tolist()}); leave "
            "these rows out, or fit with classes=[...] that lists all labels"
        )
    most = np.unique(y, return_counts=True)[1].max() / len(y)
    common = Metric(
        "Accuracy of a constant guess", float(most), "share of the most frequent class, for which no model is needed"
    )
    if not hasattr(model, "predict_proba"):
        metrics = (Metric("Accuracy", float(accuracy_score(y, predicted)), _MEANING["Accuracy"]), common)
        return Utility(len(y), public, metrics)
    proba = np.asarray(model.predict_proba(X), dtype=float)
    scores = classification_scores(y, predicted, proba, classes)
    metrics = [Metric(name, value, _MEANING[name]) for name, value in scores.items()]
    metrics.insert(1, common)
    if len(classes) == 2:
        bins, about = _bins(proba[:, 1], y == classes[1]), f"probability of class “{classes[1]}”"
    else:
        bins, about = _bins(proba.max(axis=1), predicted == y), "probability of the predicted class"
    return Utility(len(y), public, tuple(metrics), bins, about)


_MEANING = {
    "Accuracy": "share of rows whose class is predicted right",
    "ROC AUC": "chance that a row of one class is ranked above a row of another; 0.5 is chance, 1 perfect",
    "Log loss": "mean surprise by the true class; 0 is perfect",
    "Brier score": "mean squared error of the probabilities; 0 is perfect",
    "ECE": "expected calibration error: by how much stated confidence misses the share of right predictions; 15 bins",
}


def classification_scores(y: Any, predicted: Any, proba: np.ndarray, classes: Any) -> dict[str, float | None]:
    """Accuracy, ROC AUC, log loss, Brier score and expected calibration error.

    Parameters
    ----------
    y, predicted : array-like of shape (n,)
    proba : ndarray of shape (n, n_classes)
    classes : array-like of shape (n_classes,)
        Sorted labels, all of those in `y` among them.

    Returns
    -------
    dict of str to float or None
        None where a figure is not defined: the AUC of rows that lack a class.

    Examples
    --------
    >>> scores = classification_scores([0, 1], [0, 1], np.array([[0.9, 0.1], [0.2, 0.8]]), [0, 1])
    >>> scores["Accuracy"], scores["ROC AUC"], round(scores["Brier score"], 3)
    (1.0, 1.0, 0.025)
    """
    y, labels = np.asarray(y), list(classes)
    auc = None
    if len(np.unique(y)) == len(labels):
        if len(labels) == 2:
            auc = float(roc_auc_score(y == labels[1], proba[:, 1]))
        else:
            normed = proba / proba.sum(axis=1, keepdims=True)
            auc = float(roc_auc_score(y, normed, multi_class="ovr", labels=labels))
    return {
        "Accuracy": float(accuracy_score(y, predicted)),
        "ROC AUC": auc,
        "Log loss": float(log_loss(y, proba, labels=labels)),
        "Brier score": float(brier_score_loss(y, proba, labels=labels)),
        "ECE": expected_calibration_error(y, proba, labels=labels),
    }


def _regression(y: np.ndarray, predicted: np.ndarray, intervals: Any) -> list[Metric]:
    found = [
        Metric(
            "R²", float(r2_score(y, predicted)) if len(y) > 1 else None, "explained share of the variance; 1 is perfect"
        ),
        Metric("Mean absolute error", float(mean_absolute_error(y, predicted)), "in units of the target"),
        Metric("Root mean squared error", float(root_mean_squared_error(y, predicted)), "in units of the target"),
    ]
    if intervals is not None:
        pairs = np.ndim(intervals) == 2 and np.shape(intervals) == (len(y), 2) and len(y) != 2
        low, high = (np.asarray(side, dtype=float) for side in (np.transpose(intervals) if pairs else intervals))
        if low.shape != y.shape or high.shape != y.shape:
            raise ValueError(
                f"intervals=(low, high) have shapes {low.shape} and {high.shape}, and y_test has {y.shape}; pass one "
                "low and one high for each value"
            )
        inside = float(np.mean((low <= y) & (y <= high)))
        found += [
            Metric("Interval coverage", inside, "share of values that lie within their prediction interval"),
            Metric("Mean interval width", float(np.mean(high - low)), "in units of the target"),
        ]
    return found


def _bins(predicted: np.ndarray, happened: np.ndarray) -> tuple[ReliabilityBin, ...]:
    """Bins of equal width that hold rows."""
    place = np.minimum((predicted * _BINS).astype(int), _BINS - 1)
    return tuple(
        ReliabilityBin(float(predicted[place == k].mean()), float(happened[place == k].mean()), int((place == k).sum()))
        for k in range(_BINS)
        if (place == k).any()
    )
