"""Bounds from counts: published values, exact cases, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from skdp.audit import epsilon_lower_bound, mu_lower_bound


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "expected"),
    [
        (100, 100, 100, 0.0, 3.493),
        (1000, 1000, 750, 0.0, 0.977),
        (1000, 100, 95, 1e-5, 2.165),
        (1000, 100, 100, 1e-5, 3.465),
        (5000, 200, 180, 1e-5, 1.786),
        (100, 100, 50, 0.0, 0.0),
        (100, 100, 0, 1e-5, 0.0),
    ],
)
def test_known_values(canaries, guesses, correct, delta, expected):
    found = epsilon_lower_bound(correct=correct, guesses=guesses, canaries=canaries, delta=delta, confidence=0.95)
    assert found == pytest.approx(expected, abs=5e-4)


def test_all_right_without_delta_is_elementary():
    # q ** 100 = 0.05 is the rate at which a hundred right guesses are just believable
    q = 0.05 ** (1 / 100)
    assert epsilon_lower_bound(100, 100, 100) == pytest.approx(math.log(q / (1 - q)))


def test_delta_canaries_and_confidence_each_cost_something():
    bound = epsilon_lower_bound(95, 100, 1000, 1e-5, 0.95)
    assert bound > epsilon_lower_bound(95, 100, 1000, 1e-3, 0.95)
    assert bound > epsilon_lower_bound(95, 100, 5000, 1e-5, 0.95)
    assert bound > epsilon_lower_bound(95, 100, 1000, 1e-5, 0.99)
    assert epsilon_lower_bound(95, 100, 1000, 0.1) == 0.0


@pytest.mark.parametrize("delta", [0.0, 1e-4, 1e-3, 1e-2])
def test_the_bound_is_the_first_epsilon_that_is_not_rejected(delta):
    """A scan over epsilon, also where 2 m delta is above one and the chance need not be monotone further up."""
    m, r, v = 400, 200, 160
    steps = np.arange(1, v + 1)

    def chance(epsilon):
        q = 1 / (1 + math.exp(-epsilon))
        reached = stats.binom.sf(v - 1, r, q)
        return reached + 2 * m * delta * ((stats.binom.sf(v - steps - 1, r, q) - reached) / steps).max()

    scan = np.linspace(0, 3, 3001)
    first = next(epsilon for epsilon in scan if chance(epsilon) > 0.05)
    assert epsilon_lower_bound(v, r, m, delta) == pytest.approx(first, abs=1.1e-3)


def test_a_private_coin_is_seldom_accused():
    """Randomised response of epsilon 1 is as bad as the theorem allows."""
    q = math.e / (1 + math.e)
    chances = stats.binom.pmf(np.arange(101), 100, q)
    accused = sum(p for v, p in enumerate(chances) if epsilon_lower_bound(v, 100, 100) > 1)
    assert 0.02 < accused <= 0.05  # exact, no draws: valid and not needlessly weak


@pytest.mark.parametrize("rate", [1.0, 0.25])
def test_mu_bound_is_valid_and_close_for_a_gaussian(rate):
    """Of 400 tests of a Gaussian at confidence 0.99, the share that exceeds mu; false alarm of this test 1e-6."""
    rng, mu, draws = np.random.default_rng(0), 1.5, 20_000
    alpha = stats.norm.sf(1.2)
    found = (1 - rate) * alpha + rate * stats.norm.sf(1.2 - mu)
    bounds = mu_lower_bound(
        rng.binomial(draws, alpha, 400), draws - rng.binomial(draws, found, 400), draws, confidence=0.99, rate=rate
    )
    assert (bounds > mu).sum() <= stats.binom.isf(1e-6, 400, 0.01)
    assert np.median(bounds) > 0.85 * mu


def test_mu_bound_at_the_ends():
    assert mu_lower_bound(1000, 0, 1000) == 0.0
    assert mu_lower_bound(500, 500, 1000) == 0.0
    assert mu_lower_bound(0, 1000, 1000) == 0.0
    assert 4 < mu_lower_bound(0, 0, 1000) < math.inf
    # A row that is in a tenth of the samples cannot be found in half of them, whatever the noise.
    assert mu_lower_bound(0, 500, 1000, rate=0.1) == math.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"correct": 11, "guesses": 10, "canaries": 10}, "ascending order"),
        ({"correct": 5, "guesses": 20, "canaries": 10}, "ascending order"),
        ({"correct": 5.5, "guesses": 10, "canaries": 10}, "whole number"),
        ({"correct": 5, "guesses": 10, "canaries": 10, "delta": 1.0}, "delta=1.0"),
        ({"correct": 5, "guesses": 10, "canaries": 10, "confidence": 95}, "confidence=95"),
    ],
)
def test_impossible_counts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        epsilon_lower_bound(**arguments)


def test_impossible_test_results_are_refused():
    with pytest.raises(ValueError, match="between 0 and draws=10"):
        mu_lower_bound(11, 0, 10)
    with pytest.raises(ValueError, match="rate=0"):
        mu_lower_bound(1, 1, 10, rate=0)
