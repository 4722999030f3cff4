"""Without noise every solver finds the optimum of the objective that it names: against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, QuantileRegressor, Ridge
from sklearn.svm import LinearSVC

from skdp.exceptions import NotPrivateWarning
from skdp.linear_model import DPLinearClassifier, Huber
from skdp.linear_model.losses import resolve_loss
from skdp.linear_model.penalties import resolve_penalty
from tests.linear_model.fits import classifier, regressor, rows

X, LABELS, NUMBERS = rows()
N = len(X)
pytestmark = pytest.mark.filterwarnings(f"ignore::{NotPrivateWarning.__module__}.NotPrivateWarning")


def objective(model, coef, intercept, targets, task, weights=None):
    """Mean loss plus penalty, as the user guide defines it."""
    loss = resolve_loss(model.loss, task)
    penalty = resolve_penalty(model.penalty, model.alpha, model.l1_ratio, 0)
    weights = np.ones(len(X)) if weights is None else weights
    values = loss.values(X @ np.atleast_2d(coef).T + intercept, targets.reshape(len(X), -1))
    return float((weights * values).mean() + penalty.value(np.atleast_2d(coef)))


def fitted(model, targets, alpha=0.01):
    return model.set_params(epsilon=float("inf"), alpha=alpha).fit(X, targets)


def least(model, targets, task):
    """By a general optimiser."""
    at = lambda flat: objective(model, flat[:-1], flat[-1], targets, task)  # noqa: E731
    return minimize(at, np.zeros(X.shape[1] + 1), method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10}).fun


SIGNS = 2.0 * LABELS - 1


@pytest.mark.parametrize("solver", ["objective-perturbation", "gradient-descent"])
@pytest.mark.parametrize("weights", [None, {0: 1.0, 1: 0.3}])
def test_logistic_regression(solver, weights):
    model = fitted(classifier(solver, class_weight=weights), LABELS)
    peer = LogisticRegression(C=1 / (N * 0.01), class_weight=weights, tol=1e-10).fit(X, LABELS)
    per_row = None if weights is None else np.where(LABELS, 0.3, 1.0)
    ours, theirs = (objective(model, m.coef_, m.intercept_, SIGNS, "binary", per_row) for m in (model, peer))
    assert ours == pytest.approx(theirs, rel=1e-6)
    np.testing.assert_allclose(model.coef_, peer.coef_, atol=1e-3)
    np.testing.assert_allclose(model.predict_proba(X), peer.predict_proba(X), atol=1e-3)


def test_more_classes():
    _, labels, _ = rows(classes=3)
    hot = np.eye(3)[labels]
    peer = LogisticRegression(C=1 / (N * 0.01), tol=1e-10).fit(X, labels)
    model = fitted(classifier("gradient-descent", classes=[0, 1, 2]), labels)
    ours, theirs = (objective(model, m.coef_, m.intercept_, hot, "multiclass") for m in (model, peer))
    assert ours == pytest.approx(theirs, rel=1e-6)
    np.testing.assert_allclose(model.predict_proba(X), peer.predict_proba(X), atol=1e-3)
    rest = fitted(classifier("objective-perturbation", classes=[0, 1, 2]), labels)
    odds = np.column_stack([
        LogisticRegression(C=1 / (N * 0.01), tol=1e-10).fit(X, labels == k).predict_proba(X)[:, 1] for k in range(3)
    ])  # fmt: skip
    np.testing.assert_allclose(rest.predict_proba(X), odds / odds.sum(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize(("loss", "off"), [("squared_hinge", 1e-6), ("hinge", 2e-3)])
def test_support_vectors(loss, off):
    peer = LinearSVC(loss=loss, C=1 / (N * 0.01), fit_intercept=False, tol=1e-10, max_iter=10**6).fit(X, LABELS)
    model = fitted(classifier(loss=loss, fit_intercept=False), LABELS)
    ours, theirs = (objective(model, m.coef_, 0.0, SIGNS, "binary") for m in (model, peer))
    assert ours == pytest.approx(theirs, rel=off)


def test_absolute_values_of_coefficients():
    model = fitted(classifier("gradient-descent", penalty="l1"), LABELS, alpha=0.03)
    peer = LogisticRegression(C=1 / (N * 0.03), l1_ratio=1, solver="saga", tol=1e-9, max_iter=10**5).fit(X, LABELS)
    ours, theirs = (objective(model, m.coef_, m.intercept_, SIGNS, "binary") for m in (model, peer))
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ((model.coef_ == 0) == (peer.coef_ == 0)).all() and (model.coef_ == 0).any()


@pytest.mark.parametrize("solver", ["gradient-descent", "adassp", "boosted-adassp"])
def test_ridge(solver):
    model = fitted(regressor(solver), NUMBERS)
    peer = Ridge(alpha=N * 0.01, tol=1e-12).fit(X, NUMBERS)
    ours, theirs = (objective(model, m.coef_, m.intercept_, NUMBERS, "regression") for m in (model, peer))
    assert ours == pytest.approx(theirs, rel=1e-6)
    np.testing.assert_allclose(model.coef_.ravel(), peer.coef_, atol=1e-4)
    two = np.column_stack([NUMBERS, -NUMBERS])
    np.testing.assert_allclose(fitted(regressor(solver), two).coef_[1], -peer.coef_, atol=1e-4)


def test_huber_and_counts():
    model = fitted(regressor(loss=Huber(0.05)), NUMBERS)
    assert objective(model, model.coef_, model.intercept_, NUMBERS, "regression") == pytest.approx(
        least(model, NUMBERS, "regression"), rel=1e-6
    )
    counts = np.random.default_rng(0).poisson(np.exp(X[:, 0]))
    model = fitted(regressor(loss="poisson", y_bounds=(0, 8)), counts)
    ours = objective(model, model.coef_, model.intercept_ - np.log(8), counts / 8, "regression")
    assert ours == pytest.approx(least(model, counts / 8, "regression"), rel=1e-6)


def test_absolute_errors():
    model = fitted(regressor(loss="absolute_error", penalty="l1"), NUMBERS)
    peer = QuantileRegressor(alpha=0.01 / 2).fit(X, NUMBERS)
    ours, theirs = (objective(model, m.coef_, m.intercept_, NUMBERS, "regression") for m in (model, peer))
    assert ours == pytest.approx(theirs, rel=5e-3)


def test_values_are_taken_within_their_bounds_and_named_on_their_own_scale():
    wide = 10 + 5 * X
    y = 100 + 50 * NUMBERS
    model = regressor("adassp", epsilon=float("inf"), feature_bounds=(5, 15), y_bounds=(50, 150), alpha=0.01)
    model.fit(wide, y)
    same = fitted(regressor("adassp"), NUMBERS)
    np.testing.assert_allclose(model.coef_, same.coef_ * 10, atol=1e-8)
    np.testing.assert_allclose(model.predict(wide), 100 + 50 * same.predict(X), atol=1e-6)
    np.testing.assert_array_equal(model.predict(wide * 1e6), model.predict(np.clip(wide * 1e6, 5, 15)))


@pytest.mark.parametrize("solver", ["gradient-descent", "objective-perturbation"])
def test_clipping_leaves_coefficients_alone_where_noise_is_weak(solver):
    """A dozen flags that are 1 in half of the rows: longer than rows usually are, and clipped they grow by half."""
    rng = np.random.default_rng(0)
    X = (rng.random((50_000, 12)) < 0.5).astype(float)
    truth = np.array([1.0] * 3 + [0.0] * 9)
    y = (X @ truth - 1.5 + rng.logistic(size=len(X)) > 0).astype(int)
    model = DPLinearClassifier(solver, epsilon=4.0, classes=[0, 1], feature_bounds=[(0, 1)] * 12, insecure_noise_seed=0)
    np.testing.assert_allclose(model.fit(X, y).coef_[0], truth, atol=0.15)
