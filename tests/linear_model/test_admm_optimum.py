"""Without noise, private ADMM is ADMM: it ends at the optimum of the objective that it states."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from sklearn.linear_model import LogisticRegression, Ridge

from skdp.exceptions import NotPrivateWarning
from skdp.linear_model import DPADMMClassifier, DPADMMRegressor, Huber
from skdp.linear_model.losses import resolve_loss
from skdp.linear_model.penalties import resolve_penalty

N = 300


def table(task):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(N, 4))
    signal = X @ rng.normal(scale=2, size=(4, 3)) + rng.normal(size=(N, 3))
    if task == "binary":
        return X, (signal[:, 0] > 0).astype(int)
    if task == "multiclass":
        return X, signal.argmax(axis=1)
    if task == "counts":
        return X, rng.poisson(np.exp(0.5 * X[:, 0] + 0.5)).astype(float)
    return X, np.clip(signal[:, 0] / 8, -1, 1)


def best_objective(loss, penalty, X, targets, k):
    """Least value of the mean loss with its penalty: split in positive and negative parts, so that it is smooth."""
    Z = np.hstack([X, np.ones((len(X), 1))])
    shape = (k, Z.shape[1])

    def value(flat):
        up, down = flat.reshape(2, *shape)
        coef = up - down
        w = (up + down)[:, :-1]
        size = penalty.alpha * (penalty.l1 * w.sum() + (1 - penalty.l1) / 2 * np.square(coef[:, :-1]).sum())
        outputs = Z @ coef.T
        slope = loss.slopes(outputs, targets).T @ Z / len(Z)
        slope[:, :-1] += penalty.alpha * (1 - penalty.l1) * coef[:, :-1]
        tilt = np.zeros(shape)
        tilt[:, :-1] = penalty.alpha * penalty.l1
        return loss.values(outputs, targets).mean() + size, np.concatenate(
            [(slope + tilt).ravel(), (tilt - slope).ravel()]
        )

    start = np.full(2 * math.prod(shape), 1e-3)
    options = {"maxiter": 10**5, "maxfun": 10**6, "ftol": 1e-16, "gtol": 1e-10}
    return minimize(value, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start), options=options).fun


def fit(model, X, y, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotPrivateWarning)
        return model.set_params(epsilon=math.inf, feature_bounds=(-1, 1)).fit(X, y, **kwargs)


def gap(model, loss, penalty, X, targets):
    """Relative distance of a fitted model's objective from the best."""
    coef = model.coef_, model.intercept_[:, None]
    if hasattr(model, "y_bounds_") and model.loss == "poisson":
        coef = coef[0], coef[1] - np.log(model.y_bounds_[:, 1:])
    elif hasattr(model, "y_bounds_"):
        assert (model.y_bounds_ == (-1, 1)).all(), "so that coefficients are those of scaled targets"
    coef = np.hstack(coef)
    Z = np.hstack([X, np.ones((len(X), 1))])
    found = loss.values(Z @ coef.T, targets).mean() + penalty.value(coef)
    return found / best_objective(loss, penalty, X, targets, len(coef)) - 1


CLASSIFIERS = [
    ("log_loss", "binary"), ("log_loss", "multiclass"), ("squared_hinge", "binary"), ("squared_hinge", "multiclass"),
]  # fmt: skip
PENALTIES = [("l2", 1e-2), ("l1", 1e-2), ("elasticnet", 1e-2), (None, 1.0)]


def encoded(y, task, loss):
    if task == "binary":
        return 2.0 * y[:, None] - 1
    hot = np.eye(3)[y]
    return hot if loss == "log_loss" else 2 * hot - 1


@pytest.mark.parametrize(("loss", "task"), CLASSIFIERS)
@pytest.mark.parametrize(("penalty", "alpha"), PENALTIES[:2])
def test_classifiers_reach_the_optimum(loss, task, penalty, alpha):
    X, y = table(task)
    model = DPADMMClassifier(
        loss, penalty=penalty, alpha=alpha, n_agents=3, rounds=400, classes=sorted(set(y.tolist()))
    )
    fit(model, X, y)
    reference = resolve_penalty(penalty, alpha, 0.15, 1)
    assert abs(gap(model, resolve_loss(loss, task), reference, X, encoded(y, task, loss))) < 1e-6


@pytest.mark.parametrize("loss", ["squared_error", "poisson", Huber(0.05)], ids=str)
@pytest.mark.parametrize(("penalty", "alpha"), PENALTIES)
def test_regressors_reach_the_optimum(loss, penalty, alpha):
    counts = loss == "poisson"
    X, y = table("counts" if counts else "regression")
    high = y.max() if counts else 1.0
    model = DPADMMRegressor(
        loss, penalty=penalty, alpha=alpha, n_agents=3, rounds=400, y_bounds=(0, high) if counts else (-1, 1)
    )
    fit(model, X, y)
    reference = resolve_penalty(penalty, alpha, 0.15, 1)
    assert abs(gap(model, resolve_loss(loss, "regression"), reference, X, y[:, None] / high)) < 1e-6


def test_logistic_regression_and_ridge_of_scikit_learn_agree():
    X, y = table("binary")
    model = fit(DPADMMClassifier(alpha=1e-2, n_agents=5, rounds=600, classes=[0, 1]), X, y)
    theirs = LogisticRegression(C=1 / (N * 1e-2), tol=1e-10, max_iter=10**4).fit(X, y)
    np.testing.assert_allclose(model.coef_, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(model.intercept_, theirs.intercept_, atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), atol=1e-5)
    X, y = table("regression")
    model = fit(DPADMMRegressor(alpha=1e-2, n_agents=5, rounds=600, y_bounds=(-1, 1)), X, y)
    theirs = Ridge(alpha=N * 1e-2, tol=1e-12).fit(X, y)
    np.testing.assert_allclose(model.coef_[0], theirs.coef_, atol=1e-5)


def test_class_weights_leave_the_objective_that_of_scikit_learn():
    X, y = table("binary")
    weight = {0: 5.0, 1: 0.5}
    model = fit(DPADMMClassifier(alpha=1e-2, n_agents=2, rounds=600, classes=[0, 1], class_weight=weight), X, y)
    theirs = LogisticRegression(C=1 / (N * 1e-2), tol=1e-10, max_iter=10**4, class_weight=weight).fit(X, y)
    np.testing.assert_allclose(model.coef_, theirs.coef_, atol=1e-4)


@pytest.mark.parametrize("sort", ["labels", "feature"])
def test_sites_with_other_rows_than_the_rest_end_at_the_same_optimum(sort):
    """Also one site that has three rows, and sites that have one class only."""
    X, y = table("binary")
    order = np.argsort(y if sort == "labels" else X[:, 0], kind="stable")
    groups = np.empty(N, dtype=int)
    groups[order] = np.repeat([0, 1, 2, 3], [3, 97, 100, 100])
    model = fit(DPADMMClassifier(alpha=1e-2, rounds=500, classes=[0, 1]), X, y, groups=groups)
    loss, penalty = resolve_loss("log_loss", "binary"), resolve_penalty("l2", 1e-2, 0.15, 1)
    assert abs(gap(model, loss, penalty, X, encoded(y, "binary", "log_loss"))) < 1e-6


def nonsmooth_gaps(loss, rounds):
    """Relative gaps of the mean loss to its least value, which a linear programme finds."""
    X, y = table("binary" if loss == "hinge" else "regression")
    targets = encoded(y, "binary", loss) if loss == "hinge" else y[:, None]
    Z = np.hstack([X, np.ones((N, 1))])
    function = resolve_loss(loss, "binary" if loss == "hinge" else "regression")
    best = least_kinked(loss, Z, targets[:, 0])
    found = []
    for count in rounds:
        kwargs = {"penalty": None, "n_agents": 2, "rounds": count}
        model = DPADMMClassifier(loss, classes=[0, 1], **kwargs) if loss == "hinge" else DPADMMRegressor(
            loss, y_bounds=(-1, 1), **kwargs)  # fmt: skip
        fit(model, X, y)
        coef = np.hstack([model.coef_, model.intercept_[:, None]])
        found.append(function.values(Z @ coef.T, targets).mean() / best - 1)
    return found


def least_kinked(loss, Z, t):
    """Least mean of slacks above the linear pieces of max(0, 1 - t z) or |z - t|."""
    n, p = Z.shape
    if loss == "hinge":
        rows, limits = np.hstack([-t[:, None] * Z, -np.eye(n)]), -np.ones(n)
    else:
        rows = np.vstack([np.hstack([Z, -np.eye(n)]), np.hstack([-Z, -np.eye(n)])])
        limits = np.r_[t, -t]
    cost = np.r_[np.zeros(p), np.full(n, 1 / n)]
    found = linprog(cost, A_ub=rows, b_ub=limits, bounds=[(None, None)] * p + [(0, None)] * n)
    assert found.status == 0
    return found.fun


@pytest.mark.parametrize("loss", ["hinge", "absolute_error"])
def test_kinked_losses_get_closer_with_more_rounds(loss):
    near = nonsmooth_gaps(loss, (30, 150, 750))
    assert near[0] > near[1] > near[2] > -1e-9 and near[2] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["hinge", "absolute_error"])
def test_kinked_losses_after_ten_thousand_rounds(loss):
    near = nonsmooth_gaps(loss, (1000, 10_000))
    assert near[0] > near[1] > -1e-9 and near[1] < 0.005
