"""Private rows behind a fitted model: its predictions beside the truth, one row of numbers each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdp.contract.shown import shown
from skdp.neural_network.problem import positions
from skdp.neural_network.reading import invalid_targets, read_labels, read_numbers
from skdp.user_line import private_rows

__all__ = ["MODEL_IS_PUBLIC", "ROW_BY_ROW", "PrivateRows", "classified_rows", "predicted_rows"]

MODEL_IS_PUBLIC = "the fitted model, which was public or has a statement of its own"
ROW_BY_ROW = "the model predicts each row from that row alone"
_NO_ERROR = "that each row can be predicted and has a valid target (an error would have told)"
_REMEDY = "; pass on_invalid='null' to leave such rows out"


@dataclass(frozen=True, eq=False)
class PrivateRows:
    """What a release may sum up, and what was taken as public on the way.

    Parameters
    ----------
    values : ndarray of shape (n, columns)
        Predictions first, truth last.
    null : ndarray of bool of shape (n,)
        Rows without a valid truth or prediction.
    facts : list of str
        For the statement.
    """

    values: np.ndarray
    null: np.ndarray
    facts: list[str]


def classified_rows(estimator: Any, X: Any, y: Any, on_invalid: str) -> PrivateRows:
    """Probabilities of each class, and the position of the label among ``estimator.classes_``.

    Parameters
    ----------
    estimator : fitted classifier with ``predict_proba``
    X : array-like of shape (n, ...)
    y : array-like of shape (n,)
    on_invalid : {"raise", "null"}

    Returns
    -------
    PrivateRows

    Raises
    ------
    ValueError
        Where a row has no valid label or prediction and `on_invalid` is "raise"; or lengths differ.
    """
    _check(estimator, on_invalid, "predict_proba")
    classes = np.asarray(estimator.classes_)
    labels = read_labels(y, on_invalid)
    if labels is None or labels.ndim != 1:
        raise ValueError(f"y {_shape(y)}, and must be one label per row (a column: y.ravel())")
    proba, null = _predicted(estimator.predict_proba, X, on_invalid, len(labels), "predict_proba")
    # Multi-output classifiers give lists, others rows of the wrong width.
    if proba.shape != (len(labels), len(classes)):
        raise ValueError(f"predict_proba gave shape {proba.shape}, not ({len(labels)}, {len(classes)})")
    label = positions(classes, labels)
    null |= (label < 0) | ~((proba >= 0) & (proba <= 1 + 1e-6)).all(axis=1)
    if on_invalid == "raise" and null.any():
        known = shown(classes.tolist())
        raise ValueError(
            f"some rows of y have a label that is not among the model's classes_={known}, or no valid "
            f"probabilities{_REMEDY}"
        )
    values = np.column_stack([np.where(null[:, None], 0.0, proba), np.where(null, 0, label)])
    return PrivateRows(values, null, _facts("the labels in classes_", on_invalid))


def predicted_rows(estimator: Any, X: Any, y: Any, on_invalid: str) -> PrivateRows:
    """Predicted numbers, and the targets.

    Parameters
    ----------
    estimator : fitted regressor
    X : array-like of shape (n, ...)
    y : array-like of shape (n,)
    on_invalid : {"raise", "null"}

    Returns
    -------
    PrivateRows

    Raises
    ------
    ValueError
        As in `classified_rows`.
    """
    _check(estimator, on_invalid, "predict")
    targets = np.empty((0, 0)) if y is None else read_numbers("y", y, on_invalid)
    if targets.ndim != 1:
        raise ValueError(f"y {_shape(y)}, and must be one number per row (a column: y.ravel())")
    prediction, null = _predicted(estimator.predict, X, on_invalid, len(targets), "predict")
    if prediction.shape != targets.shape:
        raise ValueError(f"predict gave shape {prediction.shape} for {len(targets)} targets")
    null |= invalid_targets(targets) | ~np.isfinite(prediction)
    if on_invalid == "raise" and null.any():
        raise ValueError(f"some rows of y are not finite, or have no finite prediction{_REMEDY}")
    values = np.where(null[:, None], 0.0, np.column_stack([prediction, targets]))
    return PrivateRows(values, null, _facts("the bounds of the target", on_invalid))


def _check(estimator: Any, on_invalid: str, method: str) -> None:
    if on_invalid not in ("raise", "null"):
        raise ValueError(f"on_invalid={on_invalid!r} must be one of 'raise', 'null'")
    if not hasattr(estimator, method):
        kind = "classifier with probabilities" if method == "predict_proba" else "model that predicts"
        raise ValueError(f"estimator={type(estimator).__name__} has no {method}, which is needed here; pass a {kind}")
    check_is_fitted(estimator)


def _shape(y: Any) -> str:
    return "is None" if y is None else f"has shape {np.shape(y)}"


def _predicted(
    method: Callable[[Any], Any], X: Any, on_invalid: str, n: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions, and the rows that the model refuses because of missing or infinite numbers."""
    null = np.zeros(n, dtype=bool)
    try:
        with private_rows():
            found = method(X)
    except ValueError:
        # Each row's fate depends on itself alone: only those that are not finite are left out, and only by a model
        # that takes no such row.
        numbers = np.asarray(X)
        if on_invalid == "raise" or numbers.dtype.kind not in "fc" or len(numbers) != n:
            raise
        null = ~np.isfinite(numbers).reshape(n, -1).all(axis=1)
        if not null.any():
            raise
        cleaned = np.where(null.reshape(-1, *[1] * (numbers.ndim - 1)), 0.0, numbers)
        with private_rows():
            found = method(type(X)(cleaned, columns=X.columns) if hasattr(X, "columns") else cleaned)
    found = np.asarray(found, dtype=np.float64)
    if len(found) != n:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: {name} {len(found)}, y {n}")
    return found, null


def _facts(what: str, on_invalid: str) -> list[str]:
    return [MODEL_IS_PUBLIC, what, *([_NO_ERROR] if on_invalid == "raise" else [])]
