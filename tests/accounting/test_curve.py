"""The certified bound on delta(epsilon): never below the truth, for any grid, and tight for a planned one."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy.special import ndtr

from skdp.accounting import curve_gaussian
from skdp.accounting.curve import (
    Composition,
    bound_like,
    delta_bound,
    epsilon_bound,
    gaussian_mu,
    log_never_sampled,
    merge,
    most_added,
)
from skdp.accounting.curve_plan import Plan, plan_at_epsilon
from skdp.accounting.curve_step import Phase, step_masses

RELATIONS = {
    "zero-out": NeighboringRelation.REPLACE_SPECIAL,
    "replace-one": NeighboringRelation.REPLACE_ONE,
    "add-remove": NeighboringRelation.ADD_OR_REMOVE_ONE,
}


def exact_gaussian(mu: float, epsilon: float) -> mpmath.mpf:
    """Delta of the Gaussian mechanism to 50 digits."""
    with mpmath.workdps(50):
        a = mpmath.mpf(mu) / 2 - mpmath.mpf(epsilon) / mpmath.mpf(mu)
        return mpmath.ncdf(a) - mpmath.exp(epsilon) * mpmath.ncdf(a - mpmath.mpf(mu))


def exact_single_step(q: float, sigma: float, epsilon: float, direction: str) -> float:
    """Hockey-stick divergence of one sampled step, to 40 digits."""
    with mpmath.workdps(40):
        q, s, e = mpmath.mpf(q), mpmath.mpf(sigma), mpmath.mpf(epsilon)

        def mass(mean: float, x: mpmath.mpf) -> mpmath.mpf:  # of N(mean, s^2) above x
            return mpmath.ncdf((mean - x) / s)

        if direction == "remove":
            ratio = 1 + mpmath.expm1(e) / q
            x = s**2 * mpmath.log(ratio) + mpmath.mpf("0.5")
            return float(q * mass(1, x) + (1 - q) * mass(0, x) - mpmath.exp(e) * mass(0, x))
        if direction == "add":
            ratio = 1 + mpmath.expm1(-e) / q
            if ratio <= 0:
                return 0.0
            x = s**2 * mpmath.log(ratio) + mpmath.mpf("0.5")  # the loss is above epsilon below x
            zero, one = 1 - mass(0, x), 1 - mass(1, x)
            return float(zero - mpmath.exp(e) * ((1 - q) * zero + q * one))
        c = q * mpmath.exp(-1 / (2 * s**2)) / (1 - q)
        x = s**2 * (e / 2 + mpmath.asinh(mpmath.sinh(e / 2) / c))
        upper = (1 - q) * mass(0, x) + q * mass(1, x)
        return float(upper - mpmath.exp(e) * ((1 - q) * mass(0, x) + q * mass(-1, x)))


def random_plan(rng: np.random.Generator, good: Plan) -> Plan:
    """Any tilt and any grid near a good plan's; window and range of a step may be too short."""
    step = good.step * 2.0 ** rng.integers(-1, 6)
    low, high = good.low - rng.exponential(0.3), good.high + rng.normal(0, 0.3)
    tilt, tail = good.tilt * math.exp(rng.normal(0, 0.3)), good.tail * rng.choice([1.0, 0.6, 0.3])
    return good._replace(tilt=tilt, step=step, low=low, high=high, tail=tail)


# ------------------------------------------------------------------ closed form
@pytest.mark.parametrize("seed", range(4))
def test_gaussian_curve_and_its_inverses_are_safe_and_tight(seed):
    rng = np.random.default_rng(seed)
    for _ in range(100):
        epsilon, delta = 10 ** rng.uniform(-4, 2.5), 10 ** rng.uniform(-40, -0.05)
        mu = curve_gaussian.largest_mu(epsilon, delta)
        truth = exact_gaussian(mu, epsilon)
        assert truth <= delta
        assert truth >= delta * (1 - 1e-5)
        assert float(mpmath.log(truth)) <= curve_gaussian.log_delta(mu, epsilon)
        assert curve_gaussian.smallest_epsilon(mu, delta) == pytest.approx(epsilon, rel=1e-7)
        assert exact_gaussian(mu, curve_gaussian.smallest_epsilon(mu, delta)) <= delta


def test_gaussian_epsilon_is_zero_where_the_total_variation_is_below_delta():
    assert curve_gaussian.smallest_epsilon(1e-4, 1e-3) == 0.0
    assert curve_gaussian.smallest_epsilon(1e-2, 1e-3) > 0.0


# ------------------------------------------------------------------ one step
@pytest.mark.parametrize("direction", ["remove", "add", "replace"])
@pytest.mark.parametrize("q", [1e-4, 0.01, 0.3, 0.97])
def test_step_masses_keep_both_densities(direction, q):
    made = step_masses(q, 0.8, direction, 2.0**-7, 9.0)
    losses = (made.first + np.arange(len(made.masses))) * 2.0**-7
    assert made.masses.min() >= 0
    assert made.masses.sum() + made.infinite == pytest.approx(1, abs=1e-9)
    assert (made.masses * np.exp(-losses)).sum() == pytest.approx(1, abs=1e-8)
    assert made.masses.sum() + made.infinite >= 1 - 1e-15, "masses are rounded up"


@pytest.mark.parametrize("direction", ["remove", "add", "replace"])
def test_one_step_bounds_the_exact_formula_on_any_grid(direction):
    rng = np.random.default_rng(5)
    tested = tight = 0
    for _ in range(80):
        q, sigma = 10 ** rng.uniform(-3, -0.01), 10 ** rng.uniform(-0.6, 1.2)
        epsilon = 10 ** rng.uniform(-2, 0.7)
        truth = exact_single_step(q, sigma, epsilon, direction)
        if truth < 1e-14:
            continue
        phases = (Phase(q, sigma, 1),)
        good = plan_at_epsilon(phases, direction, epsilon, truth)
        bound = Composition(phases, direction, good).delta(epsilon)
        assert bound >= truth
        tested, tight = tested + 1, tight + (bound <= 1.01 * truth)
        assert Composition(phases, direction, random_plan(rng, good)).delta(epsilon) >= truth
    assert tested >= 12
    assert tight >= 0.8 * tested


# ------------------------------------------------------------------ compositions
def test_full_batches_through_the_transform_bound_the_closed_form_on_any_grid():
    rng = np.random.default_rng(6)
    for _ in range(60):
        steps, epsilon, delta = int(10 ** rng.uniform(0, 4)), 10 ** rng.uniform(-1.5, 1.5), 10 ** rng.uniform(-12, -2)
        mu = curve_gaussian.largest_mu(epsilon, delta)
        direction = rng.choice(["remove", "add", "replace"])
        sigma = math.sqrt(steps) / mu * (2 if direction == "replace" else 1)
        phases = (Phase(1.0, sigma, steps),)
        good = plan_at_epsilon(phases, direction, epsilon, delta)
        truth = float(exact_gaussian(mu, epsilon))
        bound = Composition(phases, direction, good).delta(epsilon)
        assert truth <= bound <= truth * 1.02
        assert Composition(phases, direction, random_plan(rng, good)).delta(epsilon) >= truth


@pytest.mark.parametrize("adjacency", list(RELATIONS))
def test_bound_is_never_below_a_finer_dp_accounting(adjacency):
    rng = np.random.default_rng(7)
    ratios = []
    for _ in range(10):
        q, sigma = 10 ** rng.uniform(-2.0, -0.1), 10 ** rng.uniform(0.0, 0.8)
        steps, epsilon = int(10 ** rng.uniform(0.3, 3)), 10 ** rng.uniform(-0.7, 0.7)
        phases = merge([(q, sigma, steps)])
        reference = pld.from_gaussian_mechanism(
            sigma, sampling_prob=q, value_discretization_interval=2**-9, neighboring_relation=RELATIONS[adjacency]
        ).self_compose(steps)
        fine = delta_bound(phases, epsilon, adjacency)
        if not 1e-9 < fine < 0.5:
            continue
        # connecting the dots on a coarser grid that holds the finer one can only give more
        theirs = float(reference.get_delta_for_epsilon(epsilon))
        way = "replace" if adjacency == "replace-one" else "remove"
        plan = plan_at_epsilon(phases, way, epsilon, fine)
        coarse = bound_like(phases, way, epsilon, fine, plan._replace(step=2**-6))
        assert coarse >= theirs * (1 - 1e-9)
        ratios.append(fine / theirs)
    assert len(ratios) >= 4
    assert max(ratios) < 1.01, "tight: our grid is the finer one"


def test_finer_grids_give_less():
    phases = merge([(0.01, 1.0, 1000)])
    plan = plan_at_epsilon(phases, "remove", 1.8, 1e-5)
    deltas = [Composition(phases, "remove", plan._replace(step=plan.step * 2.0**k)).delta(1.8) for k in range(-2, 5)]
    assert deltas == sorted(deltas)
    assert deltas[-1] > 1.1 * deltas[0], "a coarse grid must cost something, or this test sees nothing"


def test_clipping_the_cell_of_the_least_loss_would_be_caught():
    """The mass that the cell of log(1-q) sends up is negative before it is put together; zero is too little."""
    made = step_masses(0.3, 1.0, "remove", 2.0**-3, 8.0)
    losses = (made.first + np.arange(len(made.masses))) * 2.0**-3
    assert losses[0] < math.log(0.7) < losses[1]
    assert (made.masses * np.exp(-losses)).sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("q", "sigma", "steps", "delta", "adjacency", "epsilon"),
    [
        (0.04, 1.5, 2250, 1e-5, "zero-out", 6.768787),
        (0.01, 1.0, 1000, 1e-5, "zero-out", 1.828244),
        (0.1, 3.0, 512, 1e-6, "add-remove", 3.769687),
        (0.005, 0.6, 4000, 1e-5, "zero-out", 6.993005),
        (0.1, 1.0, 10, 1e-5, "zero-out", 2.854519),
        (1.0, 4.0, 100, 1e-5, "zero-out", 13.206712),
        (1.0, 4.0, 100, 1e-5, "replace-one", 33.10),
        (0.01, 1.0, 1000, 1e-5, "replace-one", 2.843),
    ],
)
def test_golden_epsilons(q, sigma, steps, delta, adjacency, epsilon):
    found = epsilon_bound(merge([(q, sigma, steps)]), delta, adjacency)
    assert found == pytest.approx(epsilon, rel=5e-4)
    assert delta_bound(merge([(q, sigma, steps)]), found, adjacency) == pytest.approx(delta, rel=2e-3)


@pytest.mark.parametrize(
    ("q", "sigma", "steps", "delta", "epsilon"),
    [
        (0.04, 1.5, 2250, 1e-5, 6.179),
        (0.01, 1.0, 1000, 1e-5, 1.417),
        (0.1, 3.0, 512, 1e-6, 3.505),
        (0.005, 0.6, 4000, 1e-5, 3.816),
    ],
)
def test_golden_epsilons_of_adding_a_row(q, sigma, steps, delta, epsilon):
    phases = merge([(q, sigma, steps)])
    plan = plan_at_epsilon(phases, "add", epsilon, delta)
    found = Composition(phases, "add", plan).delta(epsilon)
    assert found == pytest.approx(delta, rel=0.02)


@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one"])
def test_mixed_phases_agree_with_dp_accounting(adjacency):
    phases = merge([(0.01, 1.0, 500), (1.0, 10.0, 1), (0.05, 2.0, 100), (1.0, 20.0, 4)])
    assert phases[-1] == Phase(1.0, (1 / 100 + 4 / 400) ** -0.5, 1)
    whole = None
    for q, sigma, count in phases:
        one = pld.from_gaussian_mechanism(
            sigma, sampling_prob=q, value_discretization_interval=1e-3, neighboring_relation=RELATIONS[adjacency]
        ).self_compose(count)
        whole = one if whole is None else whole.compose(one)
    assert delta_bound(phases, 1.5, adjacency) == pytest.approx(float(whole.get_delta_for_epsilon(1.5)), rel=0.01)


# ------------------------------------------------------------------ shape and edges
@pytest.mark.parametrize("adjacency", list(RELATIONS))
def test_curve_is_monotone(adjacency):
    def at(q=0.02, sigma=1.0, steps=300, epsilon=1.0):
        return delta_bound(merge([(q, sigma, steps)]), epsilon, adjacency)

    for name, values in {
        "q": (0.001, 0.01, 0.02, 0.1, 0.9, 1.0),
        "steps": (1, 10, 300, 301, 5000),
        "epsilon": (3.0, 1.0, 0.3, 0.01, 0.0),
        "sigma": (5.0, 2.0, 1.0, 0.7, 0.3, 0.1),
    }.items():
        deltas = [at(**{name: value}) for value in values]
        assert deltas == sorted(deltas), name
        assert deltas[0] < deltas[-1] <= 1.0


def test_delta_at_zero_is_the_total_variation_and_epsilon_vanishes_above_it():
    q, sigma = 0.2, 1.5
    truth = q * (2 * ndtr(1 / (2 * sigma)) - 1)
    found = delta_bound((Phase(q, sigma, 1),), 0.0, "zero-out")
    assert truth <= found <= 1.01 * truth
    assert epsilon_bound((Phase(q, sigma, 1),), 1.02 * truth, "zero-out") == 0.0
    assert epsilon_bound((Phase(q, sigma, 1),), 0.9 * truth, "zero-out") > 0.0


@pytest.mark.parametrize("sigma", [0.1, 0.05, 0.02])
def test_too_little_noise_costs_the_chance_to_be_drawn(sigma):
    chance = 1 - 0.99**10
    found = delta_bound((Phase(0.01, sigma, 10),), 1.0, "zero-out")
    assert found == pytest.approx(chance, rel=0.01)
    assert found <= chance
    assert log_never_sampled((Phase(0.01, sigma, 10),)) == pytest.approx(10 * math.log(0.99))


def test_adding_a_row_cannot_lose_more_than_its_ceiling():
    phases = (Phase(0.01, 0.3, 10),)
    ceiling = -10 * math.log(0.99)
    assert most_added(phases, ceiling) == 0.0
    assert most_added(phases, 0.0) == pytest.approx(1 - 0.99**10)
    assert bound_like(phases, "add", ceiling, 1e-9, plan_at_epsilon(phases, "remove", ceiling, 1e-9)) == 0.0


def test_a_window_that_misses_epsilon_says_nothing():
    phases = merge([(0.01, 1.0, 1000)])
    plan = plan_at_epsilon(phases, "remove", 1.8, 1e-5)
    assert Composition(phases, "remove", plan).delta(plan.low - 1.0) == 1.0
    short = Composition(phases, "remove", plan._replace(high=plan.low + 0.3 * (plan.high - plan.low)))
    assert short.delta(1.8) >= Composition(phases, "remove", plan).delta(1.8)


def test_merge_adds_up_and_treats_almost_full_batches_as_full():
    assert merge([(0.1, 2.0, 3), (0.1, 2.0, 4), (0.2, 1.0, 0)]) == (Phase(0.1, 2.0, 7),)
    assert merge([(1 - 1e-12, 2.0, 4)]) == (Phase(1.0, 1.0, 1),)
    assert merge([]) == ()
    assert gaussian_mu(merge([(1.0, 2.0, 4)]), "replace-one") == 2.0
    assert delta_bound((), 0.5, "zero-out") == 0.0
    assert epsilon_bound((), 1e-5, "zero-out") == 0.0


def test_rounding_of_the_transform_is_covered_where_it_drowns_delta():
    """Hardly tilted, the transform loses all of a delta of 1e-15: what remains must still be above it."""
    loose = 0
    for steps, epsilon, tilt in [(s, e, t) for s in (30, 1000, 30_000) for e in (7.0, 7.5) for t in (0.02, 0.3, 1.0)]:
        truth = float(exact_gaussian(1.0, epsilon))
        phases = (Phase(1.0, math.sqrt(steps), steps),)
        plan = plan_at_epsilon(phases, "remove", epsilon, truth)._replace(tilt=tilt, low=-9.0)
        bound = Composition(phases, "remove", plan).delta(epsilon)
        assert bound >= truth
        loose += bound > 1.5 * truth
    assert loose >= 6, "or the rounding played no part"


def test_small_deltas_keep_their_relative_precision():
    """Without the tilt a transform loses everything below about 1e-12 of the total mass."""
    phases = (Phase(1.0, math.sqrt(1e5), 100_000),)
    for epsilon in (8.0, 10.0):
        truth = float(exact_gaussian(1.0, epsilon))
        assert truth < 1e-14
        bound = Composition(phases, "remove", plan_at_epsilon(phases, "remove", epsilon, truth)).delta(epsilon)
        assert truth <= bound <= 1.02 * truth


def test_far_tails_are_resolved_without_invalid_numbers():
    """Where the difference of the two terms drowns in rounding, the first alone is the bound."""
    import warnings

    from skdp.accounting import noise_multiplier

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        multiplier = noise_multiplier(1e-12, 1e-300)
        assert 0 < multiplier < math.inf
        assert curve_gaussian.smallest_epsilon(1 / multiplier, 1e-300) <= 1e-12 * (1 + 1e-9)
        assert 0 < curve_gaussian.smallest_epsilon(1e-14, 1e-300) < 1e-12
        assert curve_gaussian.log_delta(1e-200, 1.0) < -1e300
