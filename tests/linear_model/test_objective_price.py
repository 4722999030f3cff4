"""What a perturbed minimum costs: the inequality of the proof, exact densities in one dimension, the noise drawn."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from suite import check_noise

from skdp.accounting.objective import mills, objective_terms
from skdp.contract import Gaussian, PerturbedMinimum, Poisson, Query, Touch
from skdp.exceptions import WeakPrivacyWarning
from skdp.linear_model.losses import Logistic
from skdp.releases import ArrayExecutor, arrays
from tests.linear_model.fits import classifier, rows


def gaussian_delta(mu, epsilon):
    return norm.cdf(-epsilon / mu + mu / 2) - np.exp(epsilon + norm.logcdf(-epsilon / mu - mu / 2))


@pytest.mark.parametrize("mu", [0.01, 0.1, 0.5, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("c", [1e-4, 0.01, 0.3, 2.0])
def test_a_larger_gaussian_covers_the_shifted_curve(mu, c):
    t = np.concatenate([[0.0], np.geomspace(1e-4, 40, 400)])
    covered = gaussian_delta(mu + c * mills(mu / 2), t + c)
    assert (covered >= gaussian_delta(mu, t) - 1e-14).all()
    # A good deal less would not do.
    assert (gaussian_delta(mu + 0.3 * c * mills(mu / 2), t + c) < gaussian_delta(mu, t) - 1e-14).any()


@pytest.mark.parametrize("multiplier", [0.05, 0.3, 1.0, 4.0, 100.0])
def test_noise_and_curvature_add_up_to_one_gaussian(multiplier):
    terms = objective_terms(multiplier)
    mu, c, point = 1 / terms.noise, math.log1p(1 / terms.curvature), 2 / terms.point
    whole = math.hypot(mu + c * mills(mu / 2), point)
    assert whole <= 1 / multiplier and whole == pytest.approx(1 / multiplier, rel=1e-8)
    assert terms.noise > multiplier


def density(coefs, others, row, sigma, ridge):
    """Of the minimum in one dimension, where the gradient of the other rows is ``others @`` a logistic slope."""
    values, labels = others
    slope = np.sum(-labels * values * expit(-labels * np.outer(coefs, values)), axis=1)
    bend = np.sum(values**2 * expit(np.outer(coefs, values)) * expit(-np.outer(coefs, values)), axis=1)
    if row is not None:
        x, t = row
        slope = slope - t * x * expit(-t * x * coefs)
        bend = bend + x * x * expit(x * coefs) * expit(-x * coefs)
    return norm.pdf(slope + ridge * coefs, scale=sigma) * (bend + ridge)


@pytest.mark.parametrize("multiplier", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("others", [0, 3, 30])
@pytest.mark.parametrize("x", [0.4, 1.0])
def test_exact_densities_stay_below_the_gaussian(multiplier, others, x):
    """The whole curve of delta against epsilon, both ways; with a third of the noise it is exceeded."""
    rng = np.random.default_rng(others)
    rest = rng.uniform(-1, 1, others), rng.choice([-1.0, 1.0], others)
    terms = objective_terms(multiplier)

    def excess(noise):
        ridge, sigma = terms.curvature * 0.25, noise * terms.noise
        reach = (others + 40 * sigma) / ridge
        coefs = np.sort(np.concatenate([np.linspace(-reach, reach, 200_001), np.linspace(-5, 5, 20_001)]))
        with_row, without = (density(coefs, rest, row, sigma, ridge) for row in ((x, 1.0), None))
        assert np.trapezoid(with_row, coefs) == pytest.approx(1, abs=1e-5)
        epsilons, worst = np.linspace(-2, 6 / multiplier, 80), -1.0
        for one, two in ((with_row, without), (without, with_row)):
            found = [np.trapezoid(np.maximum(one - math.exp(e) * two, 0), coefs) for e in epsilons]
            worst = max(worst, float(np.max(found - gaussian_delta(1 / multiplier, epsilons))))
        return worst

    assert excess(1.0) <= 1e-6
    if x == 1.0 and others == 0:
        assert excess(1 / 3) > 1e-3, "the bound is of no use here"


def source(n=200, seed=None):
    X, labels, _ = rows(n)
    draw = np.random.default_rng(seed).standard_normal
    return ArrayExecutor({"X": X, "y": 2.0 * labels[:, None] - 1}, np.zeros(n, bool), spend=lambda t: 0, normal=draw)


def test_the_linear_term_is_noise_as_declared():
    """Its coefficients are minus the gradient at the minimum. False alarm 1e-6, certain to see two thirds of it."""
    X, labels, _ = rows(200)
    signs, bound, multiplier, executor = 2.0 * labels - 1, 1.0, 2.0, source(seed=None)
    terms, found = objective_terms(multiplier), []
    X = X * np.minimum(1, bound / np.linalg.norm(X, axis=1))[:, None]
    query = Query(
        Touch("minimum", Poisson(), Gaussian((multiplier,)), 1), (PerturbedMinimum(Logistic(), 0, bound, np.zeros(4)),)
    )
    for _ in range(300):
        (coef,) = executor.answer(query)
        found.append(X.T @ (signs * expit(-signs * (X @ coef))) - terms.curvature * 0.25 * coef)
    samples = np.concatenate(found)
    check_noise(samples, terms.noise * bound)
    with pytest.raises(AssertionError, match=r"noise is 0\.[67]"):
        check_noise(samples * 2 / 3, terms.noise * bound)


@pytest.mark.parametrize(
    "row", [[0.3, 0.2, 0.1, 0.0], [9.0, 9, 9, 9], [1e300] * 4, [np.nan] * 4, [np.inf] * 4, [1e-310] * 4]
)
@pytest.mark.parametrize("weight", [0.5, 1.0, 7.0, 1e30, np.nan])
def test_no_row_is_steeper_or_more_bent_than_declared(row, weight):
    X, labels, _ = rows(50)
    X[7], weights, bound = row, np.ones(50), 0.8
    weights[7] = weight
    value = PerturbedMinimum(Logistic(), 0, bound, np.zeros(4))
    held = arrays._Rows({"X": X, "y": 2.0 * labels[:, None] - 1, "weight": weights}, np.zeros(50, bool))
    short, targets, w = arrays._shortened(held, value)
    lengths = np.linalg.norm(short, axis=1)
    assert np.isfinite(short).all() and np.isfinite(w).all() and np.abs(targets).max() == 1
    assert (w * lengths).max() <= bound * (1 + 1e-12) and (w * lengths**2).max() <= bound**2 * (1 + 1e-12)
    if row[0] == 9.0 and weight == 7.0:
        assert w[7] * lengths[7] == pytest.approx(bound), "the bound is attained"


def test_a_minimum_is_about_all_rows():
    touch = Touch("minimum", Poisson(0.5), Gaussian((1.0,)), 1)
    with pytest.raises(ValueError, match="about all rows"):
        source().answer(Query(touch, (PerturbedMinimum(Logistic(), 0, 1.0, np.zeros(4)),)))
    with pytest.raises(ValueError, match="bound=0"):
        PerturbedMinimum(Logistic(), 0, 0.0, np.zeros(4))


def test_a_minimum_that_is_not_found_is_an_error_after_the_charge():
    X, labels, _ = rows()
    model = classifier("objective-perturbation")
    with mock.patch.object(arrays, "minimum", lambda objective, tolerance: np.full(5, 3.0)):
        with pytest.raises(ArithmeticError, match="is spent"):
            model.fit(X, labels)
    assert model.privacy_.epsilon == pytest.approx(1.0) and not hasattr(model, "coef_")


@pytest.mark.filterwarnings(f"ignore::{WeakPrivacyWarning.__module__}.WeakPrivacyWarning")
@pytest.mark.parametrize("epsilon", [0.01, 1.0, 1e4])
def test_the_minimum_is_found_for_every_budget_and_separable_rows(epsilon):
    X = np.linspace(-1, 1, 200)[:, None] ** [1, 2, 3]
    model = classifier("objective-perturbation", epsilon=epsilon, alpha=0.0).fit(X, (X[:, 0] > 0).astype(int))
    assert np.isfinite(model.coef_).all()
