"""The minimum of a perturbed objective is found for any rows: an error would tell about them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from skdp.contract import Gaussian, PerturbedMinimum, Poisson, Query, Touch
from skdp.exceptions import WeakPrivacyWarning
from skdp.linear_model import DPLinearClassifier
from skdp.linear_model.losses import Logistic
from skdp.releases import ArrayExecutor
from skdp.releases.minimum import Objective, minimum
from tests.linear_model.fits import rows


def tables(n):
    """Rows by name: ordinary, separable, all alike, one against all, of all sizes, along one another."""
    rng = np.random.default_rng(0)
    X, labels, _ = rows(n)
    signs, alike = 2.0 * labels - 1, np.ones((n, 4)) / 2
    ones = np.ones(n)
    return {
        "ordinary": (X, signs),
        "separable": (X, np.sign(X[:, 0])),
        "alike": (alike, ones),
        "one against all": (alike, np.where(np.arange(n) == 0, -1.0, 1.0)),
        "all sizes": (X * 10.0 ** rng.uniform(-320, 300, n)[:, None], signs),
        "nearly dependent": (X[:, :1] + 1e-9 * X, signs),
        "nearly orthogonal": (np.c_[ones * n**-0.5, rng.choice([-1.0, 1.0], n), np.zeros((n, 2))], ones),
    }


def weightings(n):
    rng = np.random.default_rng(1)
    one = np.ones(n)
    one[3] = 1.7e308
    return [None, np.full(n, 1.7e308), one, 10.0 ** rng.uniform(-320, 308, n), 10.0 ** rng.uniform(0, 6, n)]


@pytest.mark.parametrize("name", tables(8))
@pytest.mark.parametrize("multiplier", [0.02, 0.5, 4.0, 400.0])
def test_it_is_found_for_any_rows(name, multiplier):
    X, y = tables(300)[name]
    for weights, ridge, bound in itertools.product(weightings(300), [0.0, 1.0, 3e17], [1e-12, 0.9, 1e6]):
        ridges = np.array([ridge, ridge, ridge / 1e9, 0.0])
        arrays = {"X": X, "y": y[:, None]} | ({} if weights is None else {"weight": weights})
        source = ArrayExecutor(
            arrays, np.zeros(300, bool), spend=lambda t: 0, normal=np.random.default_rng(2).standard_normal
        )
        query = Query(
            Touch("minimum", Poisson(), Gaussian((multiplier,)), 1), (PerturbedMinimum(Logistic(), 0, bound, ridges),)
        )
        assert np.isfinite(source.answer(query)[0]).all()


@pytest.mark.filterwarnings(f"ignore::{WeakPrivacyWarning.__module__}.WeakPrivacyWarning")
@pytest.mark.parametrize("epsilon", [0.01, 1.0, 200.0])
@pytest.mark.parametrize("alpha", [0.0, 1e-3, 1e15])
def test_no_fit_is_aborted(epsilon, alpha):
    for X, signs in tables(200).values():
        X = np.clip(X, -1e38, 1e38)  # more is refused
        for weights in weightings(200):
            model = DPLinearClassifier(
                "objective-perturbation", classes=[-1, 1], epsilon=epsilon, alpha=alpha, feature_bounds=None,
                max_grad_norm=1.0, insecure_noise_seed=0,
            )  # fmt: skip
            assert np.isfinite(model.fit(X, signs, sample_weight=weights).coef_).all()


def test_many_rows_that_are_alike_are_added_up_exactly():
    """One after the other, their rounding adds up, and decides by single rows whether the minimum is found."""
    n, row = 400_000, np.array([1.0, 0.7, 0.3, 0.55, 0.111])
    row /= np.linalg.norm(row) * (1 + 1e-15)
    X, signs = np.tile(row, (n, 1)), np.where(np.arange(n) < 0.37 * n, 1.0, -1.0)
    objective = Objective([(X, signs, np.ones(n))], Logistic(), np.ones(5), np.zeros(5))
    # Near the minimum, where the sums of the two labels nearly cancel.
    coef = row * (math.log(0.37 / 0.63) + 1e-3) / (row @ row)
    slope = np.longdouble(1) / (1 + np.exp(np.longdouble(-(row @ coef))))
    exact = row * (n * slope - 0.37 * n) + coef
    np.testing.assert_allclose(objective.gradient(coef), exact.astype(float), atol=2e-9, rtol=0)
    query = Query(
        Touch("minimum", Poisson(), Gaussian((1.0,)), 1), (PerturbedMinimum(Logistic(), 0, 1.0, np.zeros(5)),)
    )
    for seed in range(4):
        source = ArrayExecutor(
            {"X": X, "y": signs[:, None]}, np.zeros(n, bool), spend=lambda t: 0,
            normal=np.random.default_rng(seed).standard_normal,
        )  # fmt: skip
        assert np.isfinite(source.answer(query)[0]).all()


def test_so_many_rows_that_rounding_decides_are_refused_before_they_are_read():
    model = DPLinearClassifier("objective-perturbation", classes=[0, 1], feature_bounds=(-1, 1))
    model.planned_charge(model.public_facts(4_000_000, 3))
    with pytest.raises(ValueError, match="gradient-descent"):
        model.planned_charge(model.public_facts(4_000_001, 3))


def test_one_tiny_row_of_a_huge_weight_moves_little():
    X, labels, _ = rows(200)
    given = {"classes": [0, 1], "epsilon": 1.0, "fit_intercept": False, "feature_bounds": None}

    def fitted(weight):
        changed, weights = X.copy(), np.ones(200)
        changed[7], weights[7] = 1e-170, weight
        model = DPLinearClassifier("objective-perturbation", **given, insecure_noise_seed=0)
        return model.fit(changed, labels, sample_weight=weights).coef_

    without = fitted(0.0)
    for weight in (1e172, 1e200, 1.7e308):
        np.testing.assert_allclose(fitted(weight), without, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.2, 5.0, [0.2, 1e12, 0.2, 3.0]])
def test_it_is_where_a_reference_finds_it(ridge):
    X, labels, _ = rows(150)
    linear, weights = np.array([1.0, -2.0, 0.5, 30.0]), np.random.default_rng(3).uniform(0, 4, 150)
    ridge = np.broadcast_to(ridge, 4)
    signs = 2.0 * labels - 1
    objective = Objective([(X, signs, weights)], Logistic(), ridge, linear)

    def value(scaled):
        coef = scaled / np.sqrt(ridge)
        return weights @ np.logaddexp(0, -signs * (X @ coef)) + ridge @ coef**2 / 2 + linear @ coef

    reference = minimize(value, np.zeros(4), method="BFGS", options={"gtol": 1e-6}).x / np.sqrt(ridge)
    np.testing.assert_allclose(minimum(objective, 1e-9), reference, rtol=1e-4, atol=1e-6)
