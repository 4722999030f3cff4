"""Rows and targets as linear models are trained on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from skdp.linear_model.losses import Multinomial, Poisson
from skdp.linear_model.terms import row_length
from skdp.neural_network.mapped_table import MappedTable
from skdp.neural_network.problem import Problem, as_columns
from skdp.neural_network.scaling import scale_inputs
from skdp.neural_network.sparse_table import SparseTable
from skdp.releases.row_pieces import ShiftedRows, StreamedRows

__all__ = ["linear_arrays", "linear_outputs", "linear_rows", "raw_coefficients", "usual_length"]

_STORED = 3.0  # squared norm of what a sparse row stores


def linear_arrays(
    problem: Problem,
    loss: Any,
    *,
    feature_bounds: np.ndarray | None,
    target_bounds: np.ndarray | None,
    fit_intercept: bool,
    class_weights: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Arrays for an `skdp.releases.ArrayExecutor` that answers `LinearGradient` queries.

    Parameters
    ----------
    problem : Problem
    loss : object
        From `skdp.linear_model.losses`; decides how targets are encoded.
    feature_bounds : ndarray of shape (n_features, 2) or None
        Public or released; columns are clipped to them and mapped to [-1, 1].
    target_bounds : ndarray of shape (n_targets, 2) or None
        Of a regression: targets are clipped and mapped to [-1, 1], counts to [0, 1].
    fit_intercept : bool
        Appends a column of ones.
    class_weights : ndarray of shape (n_classes,), optional

    Returns
    -------
    dict
        "X" (n, columns), "y" (n, k), and "weight" (n,) where there are weights.
    """
    X = linear_rows(problem.inputs, feature_bounds, fit_intercept)
    arrays = {"X": X, "y": _targets(problem, loss, target_bounds)}
    weights = problem.weights
    if class_weights is not None:
        per_row = class_weights[problem.targets]
        weights = per_row if weights is None else weights * per_row
    if weights is not None:
        arrays["weight"] = weights
    return arrays


def linear_rows(inputs: Any, bounds: np.ndarray | None, ones: bool) -> np.ndarray | StreamedRows | ShiftedRows:
    """Rows within their bounds, mapped to [-1, 1], with a column of ones where asked for.

    Parameters
    ----------
    inputs : ndarray, MappedTable or SparseTable of shape (n, n_features)
        What lies in a file stays there, and what is sparse stays sparse.
    bounds : ndarray of shape (n_features, 2) or None
    ones : bool

    Returns
    -------
    ndarray, StreamedRows or ShiftedRows of shape (n, columns)
    """
    if isinstance(inputs, SparseTable):
        return _sparse_rows(inputs, bounds, scale_inputs, ones)
    if isinstance(inputs, MappedTable):
        return StreamedRows(inputs, partial(scale_inputs, bounds=bounds), ones)
    X = scale_inputs(inputs, bounds)
    return np.ascontiguousarray(np.hstack([X, np.ones((len(X), 1))]) if ones else X)


def linear_outputs(inputs: Any, bounds: np.ndarray | None, coef: np.ndarray) -> np.ndarray:
    """Rows within their bounds times coefficients: (n, k).

    Parameters
    ----------
    inputs : ndarray, MappedTable or SparseTable of shape (n, n_features)
    bounds : ndarray of shape (n_features, 2) or None
    coef : ndarray of shape (k, n_features)
    """
    if isinstance(inputs, SparseTable):
        return _sparse_rows(inputs, bounds, _clipped, False) @ coef.T
    rows = StreamedRows(inputs, partial(_clipped, bounds=bounds), False)
    return np.concatenate([rows[run] @ coef.T for run in rows.runs()])


def _clipped(inputs: np.ndarray, bounds: np.ndarray | None) -> np.ndarray:
    return inputs if bounds is None else np.clip(inputs, bounds[:, 0], bounds[:, 1])


def _sparse_rows(table: SparseTable, bounds: np.ndarray | None, change: Callable, ones: bool) -> ShiftedRows:
    """Rows whose values are changed within their columns' bounds; what a zero becomes is in every row."""
    data, indices, indptr = table.matrix.data, table.matrix.indices, table.matrix.indptr
    n, columns = table.shape
    offset = np.append(change(np.zeros((1, columns)), bounds)[0], np.ones(int(ones)))
    if bounds is not None:
        data = change(data, bounds[indices]) - offset[indices]
    return ShiftedRows(sparse.csr_array((data, indices, indptr), shape=(n, columns + ones)), offset)


def usual_length(inputs: Any, bounds: np.ndarray | None, indicators: int, ones: bool) -> float:
    """L2 norm that few scaled rows exceed, from public facts alone, of which one is that rows are sparse.

    Sparse rows are taken to store hardly more than texts do whose lengths are brought to 1, or a few categories; to
    this is added what zeros become within the bounds.

    Parameters
    ----------
    inputs : ndarray, MappedTable or SparseTable of shape (n, n_features)
    bounds : ndarray of shape (n_features, 2) or None
    indicators : int
        How many columns hold 0 and 1.
    ones : bool
        Whether there is a column of ones.

    Returns
    -------
    float
    """
    columns = inputs.shape[1]
    length = row_length(columns, indicators, ones)
    if not isinstance(inputs, SparseTable):
        return length
    offset = scale_inputs(np.zeros((1, columns)), bounds)
    return min(length, math.sqrt(_STORED + float(np.square(offset).sum()) + ones))


def _targets(problem: Problem, loss: Any, bounds: np.ndarray | None) -> np.ndarray:
    if problem.classes is None:
        low, high = bounds.T
        targets = np.clip(as_columns(problem.targets), low, high)
        return targets / high if isinstance(loss, Poisson) else 2 * (targets - low) / (high - low) - 1
    if problem.public.n_outputs == 1:
        return 2.0 * problem.targets[:, None] - 1
    # Of one byte each: there are as many for each row as there are classes.
    hot = np.eye(problem.public.n_outputs, dtype=np.int8)[problem.targets]
    return hot if isinstance(loss, Multinomial) else 2 * hot - 1


def raw_coefficients(
    coef: np.ndarray, feature_bounds: np.ndarray | None, fit_intercept: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and intercepts for values as they came, within their bounds.

    Parameters
    ----------
    coef : ndarray of shape (k, columns)
        For values mapped to [-1, 1]; the last column is that of ones where there is an intercept.
    feature_bounds : ndarray of shape (n_features, 2) or None
    fit_intercept : bool

    Returns
    -------
    tuple of ndarray of shapes (k, n_features) and (k,)

    Examples
    --------
    >>> raw_coefficients(np.array([[2.0, 1.0]]), np.array([[0.0, 4.0]]), True)
    (array([[1.]]), array([-1.]))
    """
    weights, intercept = (coef[:, :-1], coef[:, -1]) if fit_intercept else (coef, np.zeros(len(coef)))
    if feature_bounds is None:
        return weights.copy(), intercept.copy()
    middle, half = feature_bounds.mean(axis=1), (feature_bounds[:, 1] - feature_bounds[:, 0]) / 2
    return weights / half, intercept - weights @ (middle / half)
