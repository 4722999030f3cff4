"""Scores that are means of one bounded number per row, so that they can be released with little noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from skdp.metrics.losses import log_losses, squared_distances
from skdp.neural_network.reading import read_numbers
from skdp.user_line import private_rows

__all__ = ["ROW_SCORES", "in_words", "row_scores"]

# Probabilities count as no smaller than this share of what guessing all classes alike gives them. With a quarter,
# overconfident nets were chosen on two tables out of two; from an eighth to 1/500 the choice hardly depended on it.
_LEAST_PROBABILITY = 1 / 16


def _classified(model: Any, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, position of the true class, and whether there is one."""
    classes, y = np.asarray(model.classes_), np.asarray(y)
    true = y[:, None] == classes[None]
    return model.predict_proba(X), true.argmax(axis=1), true.any(axis=1)


def _accuracy(model: Any, X: Any, y: Any) -> np.ndarray:
    return np.asarray(model.predict(X)) == np.asarray(y)


def _log_loss(model: Any, X: Any, y: Any) -> np.ndarray:
    proba, label, known = _classified(model, X, y)
    worst = np.log(proba.shape[1] / _LEAST_PROBABILITY)
    return known * (1 - np.minimum(log_losses(proba, label), worst) / worst)


def _brier(model: Any, X: Any, y: Any) -> np.ndarray:
    proba, label, known = _classified(model, X, y)
    return known * (1 - squared_distances(proba, label) / 2)


def _residuals(model: Any, X: Any, y: Any) -> np.ndarray:
    """Errors of a regression in units of the width of the model's range of y."""
    low, high = np.asarray(model.y_bounds_, dtype=float).T
    wrong = np.asarray(model.predict(X), float) - read_numbers("y", y, "null")
    return np.clip(np.abs(wrong.reshape(len(wrong), -1)) / (high - low), 0, 1).mean(axis=1)


def _absolute_error(model: Any, X: Any, y: Any) -> np.ndarray:
    return 1 - _residuals(model, X, y)


def _squared_error(model: Any, X: Any, y: Any) -> np.ndarray:
    return 1 - _residuals(model, X, y) ** 2


ROW_SCORES: Mapping[str, Callable[[Any, Any, Any], np.ndarray]] = MappingProxyType({
    "accuracy": _accuracy,
    "neg_log_loss": _log_loss,
    "neg_brier_score": _brier,
    "neg_mean_absolute_error": _absolute_error,
    "neg_mean_squared_error": _squared_error,
})  # fmt: skip
"""Scores by name: functions from a fitted model, rows and targets to one number in [0, 1] per row, larger is better."""


_WORDS = {
    "accuracy": "accuracy",
    "neg_log_loss": "log loss, rescaled to [0, 1]",
    "neg_brier_score": "Brier score, rescaled to [0, 1]",
    "neg_mean_absolute_error": "absolute error in ranges of y, from 1 down to 0",
    "neg_mean_squared_error": "squared error in ranges of y, from 1 down to 0",
}


def in_words(scoring: Any) -> str:
    """What the mean of a score is, whose best value is 1.

    Examples
    --------
    >>> in_words("neg_log_loss")
    'log loss, rescaled to [0, 1]; 1 is best'
    """
    named = getattr(scoring, "__name__", type(scoring).__name__)
    return f"{_WORDS[scoring] if isinstance(scoring, str) else named}; 1 is best"


def _scored(scoring: Any, model: Any, X: Any, y: Any, rows: np.ndarray) -> np.ndarray:
    """Scores of some rows; halves are tried where a model refuses, for its error would tell of a row and quote it."""
    try:
        return np.asarray(scoring(model, _safe_indexing(X, rows), _safe_indexing(y, rows)), dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        if len(rows) <= 1:
            return np.full(len(rows), 0.5)
    half = len(rows) // 2
    return np.concatenate([_scored(scoring, model, X, y, part) for part in (rows[:half], rows[half:])])


def row_scores(scoring: Any, model: Any, X: Any, y: Any) -> np.ndarray:
    """One number in [0, 1] per row; what is none counts as 0, and a row that the model cannot take as 1/2.

    Parameters
    ----------
    scoring : str or callable
        A name of `ROW_SCORES`, or a function like those there, which looks at each row alone.
    model : fitted estimator
    X : array-like or table
    y : array-like

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        For an unknown name, or a function that gives anything but one number per row.
    """
    if isinstance(scoring, str):
        if scoring not in ROW_SCORES:
            raise ValueError(f"scoring={scoring!r} must be one of {', '.join(ROW_SCORES)}, or a function of its own")
        scoring = ROW_SCORES[scoring]
    with private_rows():
        found = _scored(scoring, model, X, y, np.arange(len(y)))
    if found.shape != (len(y),):
        raise ValueError(f"scoring gave an array of shape {found.shape} for {len(y)} rows; it must give one per row")
    return np.clip(np.nan_to_num(found, nan=0.0), 0, 1)
