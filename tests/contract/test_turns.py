"""Prices of samplers whose rows take turns, and of correlated noise, against matrices and dp_accounting."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from dp_accounting import dp_event, get_epsilon_gaussian
from dp_accounting.pld import PLDAccountant
from scipy.linalg import toeplitz

from skdp.accounting import PrivacyStatement, calibrate, charge_from_dict, charge_to_dict, compose, epsilon, verify
from skdp.contract import Charge, Correlated, CyclicPoisson, FixedOrder, Gaussian, Poisson, Touch
from skdp.mechanisms.factorisation import coefficients

DELTA = 1e-5


def sensitivity(column, steps, turns):
    """Largest L2 change of C G by a record of unit gradients that takes part in `turns`, whatever their directions."""
    C = np.tril(toeplitz(np.pad(column, (0, max(0, steps - len(column))))[:steps]))
    return math.sqrt(np.abs(C[:, turns].T @ C[:, turns]).sum())


@pytest.mark.parametrize(("bands", "epoch"), [(1, 4), (3, 4), (4, 4), (2, 2), (5, 7)])
def test_every_prefix_costs_at_least_its_brute_force_sensitivity(bands, epoch):
    column = coefficients(bands, 30)
    noise = Correlated((3.0,), column)
    for count in range(1, 31):
        event = noise.event(FixedOrder(epoch), count)
        moved = max(sensitivity(column, count, list(range(first, count, epoch))) for first in range(min(epoch, count)))
        claimed = math.sqrt(event.count) / event.event.noise_multiplier
        assert moved / 3.0 <= claimed * (1 + 1e-9)
    assert moved / 3.0 > 0.9 * claimed  # and hardly more


def test_turns_that_are_too_close_would_cost_more():
    """Why the number of bands is checked: positive coefficients overlap, and the squares no longer just add up."""
    column = coefficients(5, 30)
    assert sensitivity(column, 30, list(range(0, 30, 3))) > 1.2 * math.sqrt(10)
    noise = Correlated((3.0,), column)
    for sampler in (FixedOrder(4), CyclicPoisson(0.1, 4), Poisson(0.1), Poisson(1.0)):
        with pytest.raises(ValueError, match="5 bands of correlated noise need turns"):
            noise.event(sampler, 10)
        with pytest.raises(ValueError, match="use fewer bands"):
            Touch("gradient", sampler, noise, 10)


@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one"])
def test_golden_costs(adjacency):
    doubled = 2 if adjacency == "replace-one" else 1
    touch = Touch("gradient", FixedOrder(100), Correlated((4.0,), coefficients(16, 300)), 300)
    for executed, turns in ((1, 1), (100, 1), (101, 2), (300, 3)):
        wanted = get_epsilon_gaussian(4.0 / doubled / math.sqrt(turns), DELTA)
        assert epsilon(touch.event(executed), DELTA, adjacency) == pytest.approx(wanted, rel=1e-6)


def test_golden_costs_with_amplification():
    def by_hand(rate, count):
        one = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(1.0))
        return PLDAccountant().compose(dp_event.SelfComposedDpEvent(one, count)).get_epsilon(DELTA)

    def ours(bands, executed=None):
        noise = Correlated((1.0,), coefficients(bands, 1000))
        touch = Touch("gradient", CyclicPoisson(0.01, bands) if bands > 1 else Poisson(0.01), noise, 1000)
        return epsilon(touch.event(executed), DELTA)

    assert ours(1) == pytest.approx(1.828244, rel=5e-4)  # DP-SGD's golden figure
    assert ours(4) == pytest.approx(by_hand(0.04, 250), rel=5e-4)
    assert ours(3, executed=100) == pytest.approx(by_hand(0.03, 34), rel=5e-4)
    assert ours(100) == pytest.approx(get_epsilon_gaussian(1 / math.sqrt(10), DELTA), rel=1e-6)  # no amplification left


@pytest.mark.parametrize("sampler", [FixedOrder(7), CyclicPoisson(0.1, 5), CyclicPoisson(1 / 3, 3)])
def test_cost_is_monotone_in_count(sampler):
    touch = Touch("gradient", sampler, Correlated((2.0,), coefficients(3, 30)), 30)
    costs = [epsilon(touch.event(k), DELTA) for k in (0, 1, 2, 3, 5, 7, 8, 15, 30)]
    assert costs == sorted(costs) and costs[0] == 0 < costs[1] < costs[-1]


def test_one_group_is_poisson_and_full_turns_are_a_fixed_order():
    one = dp_event.GaussianDpEvent(1.0)
    assert CyclicPoisson(0.1, 1).event(one, 9) == Poisson(0.1).event(one, 9)
    assert FixedOrder(1).event(one, 9) == Poisson(1.0).event(one, 9)
    for groups in (3, 49, 103):  # 49 / 49 and 103 / 103 by way of a float
        assert CyclicPoisson(1 / groups, groups).event(one, 200) == FixedOrder(groups).event(one, 200)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedOrder(0), "steps_per_epoch=0"),
        (lambda: FixedOrder(2.5), "steps_per_epoch=2.5"),
        (lambda: CyclicPoisson(0.3, 4), "rate=0.3 with groups=4"),
        (lambda: CyclicPoisson(0.0, 4), "rate=0.0"),
        (lambda: CyclicPoisson(0.1, 0), "groups=0"),
        (lambda: Correlated((1.0, 2.0), (1.0,)), "must hold one"),
        (lambda: Correlated((0.0,), (1.0,)), "positive finite"),
        (lambda: Correlated((1.0,), (0.9, 0.9)), "divide them by the root"),
        (lambda: Correlated((1.0,), (0.0, 1.0)), "start with a positive"),
        (lambda: Correlated((1.0,), ()), "start with a positive"),
        (lambda: Correlated((1.0,), (float("nan"),)), "start with a positive"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def charge_at(scale, sampler, adjacency="zero-out"):
    noise = Correlated((scale,), coefficients(5, 100))
    counts = Touch("class counts", Poisson(), Gaussian((10 * scale,)), 1)
    return Charge((counts, Touch("gradient", sampler, noise, 95)), adjacency)


SAMPLERS = [FixedOrder(10), CyclicPoisson(0.05, 5)]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one"])
def test_statements_are_calibrated_written_verified_and_composed(sampler, adjacency):
    found = calibrate(lambda scale: charge_at(scale, sampler, adjacency=adjacency), 2.0, DELTA)
    charge = found.charge
    assert charge_from_dict(charge_to_dict(charge)) == charge and hash(charge_from_dict(charge_to_dict(charge)))
    assert 1.99 < epsilon(charge.event(), DELTA, adjacency) <= 2.001
    facts = {"mechanism": "dp-ftrl", "n": 1000, "target_epsilon": 2.0, "certificate": found}
    whole = PrivacyStatement.from_charge(charge, DELTA, **facts)
    part = PrivacyStatement.from_charge(charge, DELTA, executed={"class counts": 1, "gradient": 23}, **facts)
    for statement in (whole, part, compose([whole, part]), compose([whole, whole])):
        read = PrivacyStatement.from_json(statement.to_json())
        assert read == statement and verify(read), verify(read).reason
    turns = math.ceil(23 / sampler.groups)
    cut = dataclasses.replace(
        charge, touches=(charge.touches[0], Touch("gradient", sampler, charge.touches[1].noise, 23))
    )
    assert part.executed_epsilon == pytest.approx(epsilon(cut.event(), DELTA, adjacency), rel=1e-6)
    assert part.queries[1].phase("executed")[2] == turns < part.queries[1].phase("planned")[2]
    assert whole.steps == 95 and part.steps == 23 and whole.sampling_rate == sampler.rate
    turn = "once in 10 queries" if sampler is SAMPLERS[0] else "0.25 of one of 5 groups of rows in turn"
    assert turn in " ".join(whole.text.split())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_altered_statements_are_found_out(sampler):
    statement = PrivacyStatement.from_charge(charge_at(8.0, sampler), DELTA, mechanism="dp-ftrl", n=1000)
    counts, gradient = statement.queries
    for change in (
        {"groups": sampler.groups * 2},
        {"groups": 1},
        {"planned": 200, "executed": 200},
        {"noise_multiplier": 9.0},
    ):
        try:
            line = gradient._replace(**change)
            altered = dataclasses.replace(statement, queries=(counts, line))
            assert not verify(altered).holds, change
        except ValueError:
            pass  # no such sampler
    assert not verify(dataclasses.replace(statement, steps=50)).holds
    assert not verify(dataclasses.replace(statement, epsilon=statement.epsilon / 2)).holds
    with pytest.raises(ValueError, match="price list"):
        plain = statement.to_dict()
        plain["queries"][1]["groups"] = 0
        PrivacyStatement.from_dict(plain)


def test_a_statement_of_one_line_says_whose_turn_it_is():
    charge = Charge((Touch("gradient", FixedOrder(20), Gaussian((5.0,)), 60),))
    statement = PrivacyStatement.from_charge(charge, DELTA, mechanism="DP-FTRL", n=1000)
    text = " ".join(statement.text.split())
    assert "0.05 (fixed order: every row once in 20 queries)" in text and "correlated over the steps" in text
    assert statement.epsilon == pytest.approx(get_epsilon_gaussian(5 / math.sqrt(3), DELTA), rel=1e-6)
    assert verify(statement)


def test_what_takes_turns_cannot_be_resumed():
    assert Touch("a", Poisson(0.1), Gaussian((1.0,)), 3).resumable
    assert not Touch("a", FixedOrder(2), Gaussian((1.0,)), 3).resumable
    assert not Touch("a", CyclicPoisson(0.1, 2), None, 3).resumable
