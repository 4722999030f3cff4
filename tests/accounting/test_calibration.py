"""Calibrated noise: certified, tight, remembered, and refused with a reason."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
from dp_accounting import LaplaceDpEvent, NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from skdp.accounting import calibration, calibration_certificate
from skdp.accounting.calibration import Calibration, calibrate, delta_of, epsilon_of, noise_multiplier
from skdp.accounting.calibration_certificate import Verdict, certify
from skdp.accounting.calibration_search import LEAST_MULTIPLIER, Family, smallest_scale
from skdp.accounting.curve_step import Phase
from skdp.contract import Charge, Gaussian, Poisson, Touch
from skdp.exceptions import CalibrationError

RELATIONS = {
    "zero-out": NeighboringRelation.REPLACE_SPECIAL,
    "replace-one": NeighboringRelation.REPLACE_ONE,
    "add-remove": NeighboringRelation.ADD_OR_REMOVE_ONE,
}


@pytest.fixture(autouse=True)
def cold():
    calibration._normalised.cache_clear()


def charges(*touches, adjacency="zero-out", delta_fail=0.0):
    """From a scale to a charge; a touch is (rate, multiplier, count) or (rate, multiplier, count, "fixed")."""

    def at(scale):
        return Charge(
            tuple(
                Touch(f"touch {i}", Poisson(rate), Gaussian((sigma if how else sigma * scale,)), count)
                for i, (rate, sigma, count, *how) in enumerate(touches)
            ),
            adjacency,
            delta_fail=delta_fail,
        )

    return at


def reference_delta(charge, epsilon, interval):
    """Delta by dp_accounting's PLD on a grid of `interval`."""
    whole = None
    for touch in charge.touches:
        one = pld.from_gaussian_mechanism(
            touch.noise.combined,
            sampling_prob=touch.sampler.rate,
            value_discretization_interval=interval,
            neighboring_relation=RELATIONS[charge.adjacency],
        )
        one = one.self_compose(touch.count)
        whole = one if whole is None else whole.compose(one)
    return float(whole.get_delta_for_epsilon(epsilon))


# ------------------------------------------------------------------ full batches
@pytest.mark.parametrize("steps", [1, 7, 10_000, 10**9])
@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 1e-5), (0.01, 1e-3), (100.0, 1e-12), (1e-6, 1e-9), (8.0, 1e-100)])
def test_full_batches_are_the_analytic_gaussian(steps, epsilon, delta):
    sigma = noise_multiplier(epsilon, delta, steps=steps)
    with mpmath.workdps(60):
        for more, holds in ((1, True), (1 + 1e-5, False)):
            mu = mpmath.sqrt(steps) / mpmath.mpf(sigma) * more
            a = mu / 2 - mpmath.mpf(epsilon) / mu
            assert (mpmath.ncdf(a) - mpmath.exp(epsilon) * mpmath.ncdf(a - mu) <= delta) is holds
    assert noise_multiplier(epsilon, delta, steps=steps, adjacency="replace-one") == pytest.approx(2 * sigma, rel=1e-9)
    assert noise_multiplier(epsilon, delta, steps=steps, adjacency="add-remove") == sigma


def test_full_batch_charges_of_several_touches_are_one_gaussian():
    found = calibrate(charges((1.0, 1.0, 300), (1.0, 5.0, 2)), 1.0, 1e-6)
    assert found.accountant == "analytic"
    assert found.scale == pytest.approx(math.sqrt(300 + 2 / 25) * noise_multiplier(1.0, 1e-6), rel=1e-9)
    assert found.epsilon <= 1.0
    assert found.epsilon == pytest.approx(1.0, rel=1e-9)


# ------------------------------------------------------------------ sampled
@pytest.mark.parametrize("adjacency", list(RELATIONS))
@pytest.mark.parametrize(
    ("q", "steps", "epsilon", "delta", "interval"),
    [
        (0.01, 1000, 1.0, 1e-5, 2e-4),
        (0.1, 100, 0.3, 1e-6, 1e-4),
        (0.001, 500, 1.0, 1e-6, 4e-4),
        (0.5, 20, 10.0, 1e-5, 5e-3),
        (0.99, 10, 1.0, 1e-3, 2e-3),
        (0.05, 1, 2.0, 1e-5, 2e-3),
    ],
)
def test_noise_is_certified_and_tight(q, steps, epsilon, delta, interval, adjacency):
    at = charges((q, 1.0, steps), adjacency=adjacency)
    found = calibrate(at, epsilon, delta)
    assert isinstance(found, Calibration)
    assert found.accountant == "pld"
    assert found.epsilon <= epsilon
    assert found.epsilon == pytest.approx(epsilon, rel=5e-3)
    # finer than the grid of the certificate, so below; and a hair less noise is too little
    assert reference_delta(at(found.scale), epsilon, interval) <= delta
    assert delta_of([(q, found.scale * 0.998, steps)], epsilon, adjacency) > delta


@pytest.mark.parametrize(
    ("q", "steps", "epsilon", "delta", "sigma"),
    [
        (0.04, 2250, 6.768787, 1e-5, 1.5),
        (0.01, 1000, 1.828244, 1e-5, 1.0),
        (0.1, 512, 3.769687, 1e-6, 3.0),
        (0.005, 4000, 6.993005, 1e-5, 0.6),
        (0.1, 10, 2.854519, 1e-5, 1.0),
    ],
)
def test_golden_multipliers(q, steps, epsilon, delta, sigma):
    assert noise_multiplier(epsilon, delta, sampling_rate=q, steps=steps) == pytest.approx(sigma, rel=5e-4)


@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one"])
def test_mixed_events_are_certified_as_a_whole(adjacency):
    at = charges((0.01, 1.0, 500), (0.05, 2.0, 100), (1.0, 10.0, 1), (1.0, 20.0, 4), adjacency=adjacency)
    found = calibrate(at, 1.5, 1e-5)
    assert found.accountant == "pld"
    reference = reference_delta(at(found.scale), 1.5, 3e-4)
    assert 0.95e-5 < reference <= 1e-5
    order = charges((1.0, 20.0, 4), (0.05, 2.0, 100), (1.0, 10.0, 1), (0.01, 1.0, 500), adjacency=adjacency)
    assert calibrate(order, 1.5, 1e-5).scale == pytest.approx(found.scale, rel=1e-6)


def test_touches_with_fixed_noise_are_paid_first():
    at = charges((0.02, 1.0, 500), (1.0, 8.0, 1, "fixed"))
    found = calibrate(at, 1.0, 1e-5)
    assert reference_delta(at(found.scale), 1.0, 3e-4) <= 1e-5
    assert found.scale > calibrate(charges((0.02, 1.0, 500)), 1.0, 1e-5).scale
    with pytest.raises(CalibrationError, match="noise is fixed cost"):
        calibrate(charges((0.02, 1.0, 500), (1.0, 1.0, 1, "fixed")), 1.0, 1e-5)
    with pytest.raises(CalibrationError, match="noise is fixed cost"):
        calibrate(charges((1.0, 1.0, 500), (1.0, 1.0, 1, "fixed")), 1.0, 1e-5)
    only = calibrate(charges((1.0, 8.0, 1, "fixed")), 1.0, 1e-5)
    assert only.epsilon == pytest.approx(epsilon_of([(1.0, 8.0, 1)], 1e-5))
    with pytest.raises(CalibrationError, match="depends on the scale"):
        calibrate(charges((1.0, 1.0, 1, "fixed")), 1.0, 1e-5)


def test_failure_probability_is_taken_off_delta():
    found = calibrate(charges((0.1, 1.0, 100), delta_fail=4e-6), 1.0, 1e-5)
    assert found.delta == 1e-5
    assert found.scale == pytest.approx(noise_multiplier(1.0, 6e-6, sampling_rate=0.1, steps=100), rel=1e-6)


def test_values_answered_together_count_as_one():
    def at(scale):
        return Charge((Touch("two", Poisson(0.1), Gaussian((scale, 3 * scale)), 50),))

    found = calibrate(at, 1.0, 1e-5)
    single = noise_multiplier(1.0, 1e-5, sampling_rate=0.1, steps=50)
    assert at(found.scale).touches[0].noise.combined == pytest.approx(single, rel=1e-5)


# ------------------------------------------------------------------ what the certificate rests on
def test_small_delta_over_many_steps_rests_on_our_own_bound_and_says_so():
    found = calibrate(charges((0.01, 1.0, 20_000)), 1.0, 1e-12)
    assert found.accountant == "tilted-pld"
    assert found.epsilon <= 1.0
    renyi = RdpAccountant(neighboring_relation=RELATIONS["zero-out"])
    renyi.compose(charges((0.01, 1.0, 20_000))(found.scale).event())
    assert 1.0 <= renyi.get_epsilon(1e-12) <= 1.3, "looser than ours, but not by much"


def test_two_bounds_that_disagree_are_not_believed(monkeypatch):
    monkeypatch.setattr(calibration_certificate, "agrees", lambda *_: False)
    found = calibrate(charges((0.01, 1.0, 20_000)), 1.0, 1e-12)
    assert found.accountant == "rdp"
    assert found.epsilon <= 1.0
    with pytest.raises(CalibrationError, match="no accountant resolves"):
        calibrate(charges((0.01, 1.0, 20_000), adjacency="replace-one"), 1.0, 1e-12)


def test_our_bound_is_not_believed_when_it_is_too_low(monkeypatch):
    family = Family((Phase(0.1, 1.0, 10_000),))
    found = smallest_scale(family, "zero-out", 0.1, 1e-12)
    phases = family.at(found.scale)
    assert not calibration_certificate.resolves(phases, 1e-12)
    assert calibration_certificate.agrees(phases, "zero-out", found.plan)
    true = calibration_certificate.bound_like
    monkeypatch.setattr(calibration_certificate, "bound_like", lambda *args: 0.98 * true(*args))
    assert not calibration_certificate.agrees(phases, "zero-out", found.plan)


def test_a_failed_certificate_raises_the_noise(monkeypatch):
    before = noise_multiplier(1.0, 1e-5, sampling_rate=0.1, steps=100)
    calibration._normalised.cache_clear()
    true, calls = calibration.certify, []

    def failing(*args):
        calls.append(args)
        return Verdict(math.inf, "pld", 1.001) if len(calls) < 3 else true(*args)

    monkeypatch.setattr(calibration, "certify", failing)
    assert noise_multiplier(1.0, 1e-5, sampling_rate=0.1, steps=100) / before == pytest.approx(1.0005**2, rel=1e-9)


def test_certificate_refuses_too_little_noise():
    phases = (Phase(0.1, 1.0, 10),)
    plan = smallest_scale(Family(phases), "zero-out", 2.8, 1e-5).plan
    enough = certify(phases, "zero-out", 2.86, 1e-5, plan)
    assert enough.accountant == "pld"
    assert 2.8545 <= enough.epsilon <= 2.86
    assert math.isinf(certify(phases, "zero-out", 2.85, 1e-5, plan).epsilon)
    assert math.isinf(certify((Phase(1.0, 3.0, 1),), "zero-out", 1.0, 1e-5, None).epsilon)


def test_rows_rarer_than_delta_need_no_noise_but_get_some():
    found = calibrate(charges((1e-6, 1.0, 5)), 1.0, 1e-5)
    assert found.scale == pytest.approx(LEAST_MULTIPLIER)
    assert found.epsilon == 0.0


@dataclass(frozen=True)
class LaplaceNoise:
    """A noise that the Gaussian search knows nothing of."""

    multiplier: float

    def event(self, sampler, count):
        return sampler.event(LaplaceDpEvent(self.multiplier), count)


def test_other_mechanisms_go_through_the_accountants():
    def at(scale):
        return Charge((Touch("laplace", Poisson(), LaplaceNoise(scale), 3),))

    found = calibrate(at, 1.0, 1e-6)
    assert found.epsilon <= 1.0
    assert found.epsilon == pytest.approx(1.0, rel=0.02)
    assert 2.5 < found.scale <= 3.01, "pure differential privacy needs 3, a little delta helps"


# ------------------------------------------------------------------ cache
def test_answers_are_remembered_whatever_the_unit(monkeypatch):
    searched = []
    true = calibration.smallest_scale
    monkeypatch.setattr(calibration, "smallest_scale", lambda *args: searched.append(args) or true(*args))
    first = calibrate(charges((0.1, 1.0, 50), (1.0, 4.0, 1)), 1.0, 1e-5)
    again = calibrate(charges((0.1, 1.0, 50), (1.0, 4.0, 1)), 1.0, 1e-5)
    doubled = calibrate(charges((0.1, 2.0, 50), (1.0, 8.0, 1)), 1.0, 1e-5)
    assert len(searched) == 1
    assert again.scale == first.scale
    assert doubled.scale == pytest.approx(first.scale / 2)
    calibrate(charges((0.1, 1.0, 50), (1.0, 4.0, 1)), 1.0, 1.1e-5)
    calibrate(charges((0.1, 1.0, 50), (1.0, 4.0, 1), adjacency="replace-one"), 1.0, 1e-5)
    assert len(searched) == 3


def test_threads_get_one_answer():
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(noise_multiplier(1.0, 1e-5, sampling_rate=0.2, steps=30)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


# ------------------------------------------------------------------ shape
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    q=st.floats(1e-3, 0.9),
    steps=st.integers(1, 2000),
    epsilon=st.floats(0.05, 20),
    log_delta=st.floats(-8, -3),
)
def test_noise_is_monotone(q, steps, epsilon, log_delta):
    def noise(q=q, steps=steps, epsilon=epsilon, log_delta=log_delta):
        return noise_multiplier(epsilon, 10**log_delta, sampling_rate=q, steps=steps)

    here = noise()
    assert noise(q=min(1.0, 1.1 * q)) >= here * (1 - 1e-9)
    assert noise(steps=steps + 1 + steps // 10) >= here * (1 - 1e-9)
    assert noise(epsilon=1.05 * epsilon) <= here * (1 + 1e-9)
    assert noise(log_delta=log_delta + 0.1) <= here * (1 + 1e-9)
    assert noise_multiplier(epsilon, 10**log_delta, sampling_rate=q, steps=steps, adjacency="replace-one") >= here
    if here > LEAST_MULTIPLIER * 1.001:
        assert epsilon_of([(q, here, steps)], 10**log_delta) <= epsilon * (1 + 1e-9)


def test_delta_and_epsilon_are_inverse_and_numbers_may_be_of_any_kind():
    phases = [(0.02, 1.1, 400), (1.0, 9.0, 2)]
    epsilon = epsilon_of(phases, 1e-6)
    assert delta_of(phases, epsilon) == pytest.approx(1e-6, rel=2e-3)
    assert delta_of(phases, math.inf) == 0.0
    assert delta_of([], 0.0) == 0.0
    assert epsilon_of([(0.1, 1.0, 0)], 1e-6) == 0.0
    plain = noise_multiplier(1.0, 1e-5, sampling_rate=0.5, steps=10)
    assert noise_multiplier(np.float32(1), np.float64(1e-5), sampling_rate=np.float32(0.5), steps=np.int64(10)) == plain
    assert noise_multiplier(1, 1e-5, sampling_rate=1, steps=10.0) == noise_multiplier(1.0, 1e-5, steps=10)
    assert calibrate(charges(), 1.0, 1e-5).epsilon == 0.0
    assert calibrate(charges((0.1, 1.0, 0)), 1.0, 1e-5).epsilon == 0.0


# ------------------------------------------------------------------ errors
@pytest.mark.parametrize("epsilon", [0, -1.0, math.nan, math.inf, "1", None, True])
def test_epsilon_must_be_positive_and_finite(epsilon):
    with pytest.raises(CalibrationError, match="epsilon="):
        noise_multiplier(epsilon, 1e-5)


@pytest.mark.parametrize("delta", [0, 1, -1e-5, math.nan, 2, "auto", None])
def test_delta_must_lie_in_the_unit_interval(delta):
    with pytest.raises(CalibrationError, match="delta="):
        calibrate(charges((0.1, 1.0, 10)), 1.0, delta)
    with pytest.raises(CalibrationError, match="delta="):
        epsilon_of([(0.1, 1.0, 10)], delta)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"sampling_rate": 0.0}, "sampling_rate="),
        ({"sampling_rate": 1.1}, "sampling_rate="),
        ({"sampling_rate": math.nan}, "sampling_rate="),
        ({"steps": 0}, "steps="),
        ({"steps": 1.5}, "steps="),
        ({"steps": math.inf}, "steps="),
        ({"adjacency": "swap"}, "adjacency="),
    ],
)
def test_parameters_are_named(changed, name):
    with pytest.raises(CalibrationError, match=name):
        noise_multiplier(1.0, 1e-5, **changed)


def test_requests_that_no_noise_meets():
    with pytest.raises(CalibrationError, match="failure probabilities"):
        calibrate(charges((0.1, 1.0, 10), delta_fail=1e-5), 1.0, 1e-5)
    with pytest.raises(CalibrationError, match="'gradient' adds no noise"):
        calibrate(lambda scale: Charge((Touch("gradient", Poisson(0.1), None, 10),)), 1.0, 1e-5)
    with pytest.raises(CalibrationError, match="proportional"):
        calibrate(lambda s: Charge((Touch("a", Poisson(0.1), Gaussian((1 + s,)), 10),)), 1.0, 1e-5)
    with pytest.raises(CalibrationError, match="nothing else may change"):
        calibrate(lambda s: Charge((Touch("a", Poisson(0.1), Gaussian((s,)), int(10 * s)),)), 1.0, 1e-5)
    with pytest.raises(CalibrationError, match="must not depend on its scale"):
        calibrate(lambda s: Charge((Touch(f"a{s}", Poisson(0.1), Gaussian((s,)), 10),)), 1.0, 1e-5)
    with pytest.raises(CalibrationError, match="stay proportional"):
        calibrate(lambda s: Charge((Touch("a", Poisson(1.0), Gaussian((s if s <= 2 else 2.5,)), 10),)), 1.0, 1e-5)


@pytest.mark.parametrize("phase", [(0.0, 1.0, 1), (1.2, 1.0, 1), (0.1, 0.0, 1), (0.1, math.inf, 1), (0.1, 1.0, -1)])
def test_phases_are_checked(phase):
    with pytest.raises(CalibrationError, match="needs a rate"):
        delta_of([phase], 1.0)


def test_other_arguments_of_the_curves_are_checked():
    with pytest.raises(CalibrationError, match="adjacency="):
        delta_of([(0.1, 1.0, 1)], 1.0, "swap")
    with pytest.raises(CalibrationError, match="epsilon="):
        delta_of([(0.1, 1.0, 1)], -0.1)
