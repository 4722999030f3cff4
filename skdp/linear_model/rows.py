"""Rows and targets as linear models are trained on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from skdp.linear_model.losses import Multinomial, Poisson
from skdp.neural_network.problem import Problem
from skdp.neural_network.scaling import scale_inputs

__all__ = ["linear_arrays", "raw_coefficients"]


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
    X = scale_inputs(problem.inputs, feature_bounds)
    if fit_intercept:
        X = np.hstack([X, np.ones((len(X), 1))])
    arrays = {"X": np.ascontiguousarray(X), "y": _targets(problem, loss, target_bounds)}
    weights = problem.weights
    if class_weights is not None:
        per_row = class_weights[problem.targets]
        weights = per_row if weights is None else weights * per_row
    if weights is not None:
        arrays["weight"] = weights
    return arrays


def _targets(problem: Problem, loss: Any, bounds: np.ndarray | None) -> np.ndarray:
    if problem.classes is None:
        low, high = bounds.T
        targets = np.clip(problem.targets.reshape(len(problem.targets), -1), low, high)
        return targets / high if isinstance(loss, Poisson) else 2 * (targets - low) / (high - low) - 1
    if problem.public.n_outputs == 1:
        return 2.0 * problem.targets[:, None] - 1
    hot = np.eye(problem.public.n_outputs)[problem.targets]
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
