"""The stated noise of coefficients: public, a bound for descents and minima, an estimate for noisy moments."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fits import BOUNDS, classifier, regressor, rows

from skdp.contract import LinearGradient, Query
from skdp.linear_model import DPADMMClassifier, DPADMMRegressor, Huber
from skdp.linear_model.admm import Terms as ADMMTerms
from skdp.linear_model.admm.model_noise import model_noise
from skdp.linear_model.coefficient_noise import descent_response, minimum_noise, moments_noise, rounds_noise
from skdp.linear_model.gradient_descent import descend, descent_touches
from skdp.linear_model.losses import Logistic
from skdp.linear_model.penalties import Penalty
from skdp.linear_model.terms import FitFacts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

TERMS = FitFacts(4000, 1, 3, Logistic(), Penalty(0.01, 0.0, 1), length=1.5, max_grad_norm=1.0, scale=2.0, steps=30)


def played(terms, steps, answers):
    """What a descent makes of given gradients."""
    (touch,) = descent_touches(terms)
    asked = descend((touch,), terms)
    query = next(asked)
    for k in range(steps):
        assert isinstance(query, Query) and isinstance(query.values[0], LinearGradient)
        try:
            query = asked.send((answers[k],))
        except StopIteration as end:
            return end.value
    raise AssertionError("it asked for more gradients")


@pytest.mark.parametrize("n", [400, 4_000, 400_000])  # without momentum and with it
def test_the_response_is_that_of_the_descent_itself(n):
    terms = replace(TERMS, n=n)
    (touch,) = descent_touches(terms)
    std = touch.noise.multipliers[0]
    gains = np.zeros((1, 3))
    for k in range(30):
        answers = np.zeros((30, 1, 3))
        answers[k] = std
        coef, steps, noise = played(terms, 30, answers)
        gains += coef**2
    assert steps == 30
    np.testing.assert_allclose(noise, np.sqrt(gains), rtol=1e-10)


def test_a_curved_loss_only_damps():
    def gain(curvature, rate, momentum, steps, averaged):
        response = np.zeros(steps + 1)
        response[1] = rate
        for k in range(2, steps + 1):
            response[k] = (1 - rate * curvature) * ((1 + momentum) * response[k - 1] - momentum * response[k - 2])
        return math.sqrt(sum((response[max(1, i - averaged + 1) : i + 1].sum() / averaged) ** 2
                             for i in range(1, steps + 1)))  # fmt: skip

    for momentum in (0.0, 0.3, 0.7, 0.95):
        for steps in (1, 3, 20, 200):
            averaged = math.ceil(steps / 2)
            stated = descent_response(0.5, momentum, steps, averaged)
            assert gain(0.0, 0.5, momentum, steps, averaged) == pytest.approx(stated)
            assert max(gain(c, 0.5, momentum, steps, averaged) for c in np.linspace(0, 2, 30)) <= stated * (1 + 1e-9)


def test_a_minimum_moves_by_the_inverse_curvature():
    rng = np.random.default_rng(0)
    ridge, A = np.array([1.0, 5.0, 0.2]), rng.normal(size=(3, 3))
    for data in (np.zeros((3, 3)), A @ A.T):  # quadratic losses, of which the exact answer is known
        exact = 2.0 * np.linalg.norm(np.linalg.inv(data + np.diag(ridge)), axis=1)
        assert (exact <= minimum_noise(2.0, ridge) * (1 + 1e-12)).all()
    assert minimum_noise(2.0, np.full(2, 4.0)).tolist() == [0.5, 0.5]


def test_noisy_moments_are_linearised():
    """Against many draws of symmetric noise; 20,000 of them tell a deviation to 0.5 %."""
    rng = np.random.default_rng(1)
    A, b = np.array([[9.0, 3.0], [3.0, 5.0]]), np.array([[4.0, -6.0]])
    coef = np.linalg.solve(A, b.T).T
    upper = rng.normal(size=(20_000, 2, 2)) * 0.02 / 2**0.5
    noise = np.triu(upper, 1) + np.transpose(np.triu(upper, 1), (0, 2, 1)) + 2**0.5 * upper * np.eye(2)
    moved = np.linalg.solve(A + noise, (b + 0.03 * rng.normal(size=(20_000, 2)))[..., None])[..., 0]
    np.testing.assert_allclose(moments_noise(A, coef, 0.02, 0.03)[0], moved.std(axis=0), rtol=0.03)


def test_noisy_rounds_are_a_filter():
    A, std, rate, rounds = np.array([[9.0, 3.0], [3.0, 5.0]]), 0.1, 0.2, 30
    step = np.linalg.inv(A + 2 * np.eye(2))
    total, power = np.zeros((2, 2)), np.eye(2)
    for _ in range(rounds):
        total += power @ step @ step.T @ power.T
        power = power @ (np.eye(2) - rate * step @ A)
    expected = rate * std * np.sqrt(np.diag(total))
    np.testing.assert_allclose(rounds_noise(A + 2 * np.eye(2), 2.0, std, rate, rounds), expected)


@pytest.mark.parametrize("changed", [{}, {"growth": 0.3}, {"average": 0.5, "alpha": 0.1}, {"momentum": 0.0}])
def test_the_model_of_sites_is_played_exactly(changed):
    """Against all sites, one after the other, with a unit of noise in one round of one of them."""
    from skdp.linear_model.admm.coordinator import Consensus
    from skdp.linear_model.admm.iterate import Iterate

    given = {"rho": 0.4, "curvature": 0.6, "momentum": 0.9, "alpha": 0.01, "average": 0.0} | changed
    terms = ADMMTerms(columns=("a",), task="binary", outputs=1, rows=90, sites=3, classes=(0, 1), rounds=12, clip=1.5,
                      delta=1e-5, **given)  # fmt: skip
    z, squares = (2.0, 3.0, 5.0), np.zeros(terms.shape)
    for noisy in range(3):
        for loud in range(1, 13):
            consensus, sites = Consensus(terms), [Iterate(terms)] * 3
            for k in range(1, 13):
                sites = [site.heard(consensus.model) for site in sites]
                noise = [np.full(terms.shape, z[i] * 1.5 / 90 * (i == noisy and k == loud)) for i in range(3)]
                sites = [s.moved(s.model_after(g, k), k) for s, g in zip(sites, noise, strict=True)]
                consensus.step(sum(site.proposal for site in sites), 0.0, 3)
            squares += consensus.result**2
    np.testing.assert_allclose(model_noise(terms, z), np.sqrt(squares), rtol=1e-9)
    assert not model_noise(terms, (None,) * 3).any()


def unheard(n=400):
    """Rows whose last column is 0, so that nothing but noise moves its coefficient."""
    X, labels, numbers = rows(n)
    X[:, -1] = 0
    return X, labels, numbers


MODELS = {
    "descent": lambda **o: classifier(max_iter=40, **o),
    "multinomial": lambda **o: classifier(max_iter=40, **o | {"classes": [0, 1, 2]}),
    "minimum": lambda **o: classifier("objective-perturbation", **o),
    "huber": lambda **o: regressor("gradient-descent", loss=Huber(0.2), max_iter=40, **o),
    "poisson": lambda **o: regressor("gradient-descent", loss="poisson", max_iter=40, **o | {"y_bounds": (0, 4)}),
    "adassp": lambda **o: regressor("adassp", **o),
    "boosted-adassp": lambda **o: regressor("boosted-adassp", **o),
    "sites": lambda **o: DPADMMClassifier(n_agents=2, rounds=30, classes=[0, 1], **{"feature_bounds": BOUNDS} | o),
    "sites, numbers": lambda **o: DPADMMRegressor(
        n_agents=2, rounds=30, y_bounds=BOUNDS, **{"feature_bounds": BOUNDS} | o
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_it_is_in_the_units_of_the_coefficients(kind):
    X, labels, numbers = rows(200)
    y = labels if hasattr(MODELS[kind](), "classes") else np.abs(numbers)
    small = MODELS[kind](epsilon=1.0, insecure_noise_seed=3).fit(X, y)
    large = MODELS[kind](epsilon=1.0, insecure_noise_seed=3, feature_bounds=(-10, 10)).fit(10 * X, y)
    assert small.coef_noise_std_.shape == small.coef_.shape
    assert (small.coef_noise_std_ > 0).all()
    np.testing.assert_allclose(large.coef_noise_std_ * 10, small.coef_noise_std_, rtol=1e-6)
    assert not MODELS[kind](epsilon=math.inf).fit(X, y).coef_noise_std_.any()


def test_half_the_range_of_y_is_half_the_noise():
    X, _, numbers = rows(200)
    narrow, wide = (regressor("gradient-descent", y_bounds=(-w, w)).fit(X, numbers) for w in (1, 2))
    np.testing.assert_allclose(2 * narrow.coef_noise_std_, wide.coef_noise_std_)


@pytest.mark.parametrize("kind", ["descent", "minimum", "sites"])
def test_the_bound_is_public(kind):
    X, labels, _ = rows(200)
    first = MODELS[kind](epsilon=1.0, insecure_noise_seed=3).fit(X, labels).coef_noise_std_
    other = MODELS[kind](epsilon=1.0, insecure_noise_seed=4).fit(1e3 * X[::-1] ** 3, 1 - labels).coef_noise_std_
    np.testing.assert_array_equal(first, other)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("epsilon", [0.5, 4.0])
def test_coefficients_of_fixed_rows_spread_as_stated(kind, epsilon):
    """200 fits: a standard deviation is then right to 5 %, and beyond a ratio of 1.2 once in 30,000 columns.

    A column of zeros reaches the bound of descents and minima, from 0.8 of it on; with noise scaled by 2/3 it would
    not. Moments are too noisy for such a column; they have others, for which the estimate is within the same band.
    """
    X, labels, numbers = rows(1000) if "adassp" in kind else unheard(1000)
    y = numbers if not hasattr(MODELS[kind](), "classes") else labels
    y = np.abs(y) if kind == "poisson" else y
    fits = [MODELS[kind](epsilon=epsilon, insecure_noise_seed=seed).fit(X, y) for seed in range(200)]
    spread = np.std([model.coef_ for model in fits], axis=0, ddof=1)
    stated = np.sqrt(np.mean([model.coef_noise_std_**2 for model in fits], axis=0))
    assert (spread <= 1.2 * stated).all()
    unheard_of = slice(None) if "adassp" in kind else slice(-1, None)
    assert (spread[:, unheard_of] >= 0.8 * stated[:, unheard_of]).all()
