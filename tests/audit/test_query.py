"""One query replayed: honest code passes at any weights, half the noise is noticed, and what cannot be audited says so.

An honest query fails with probability 1e-3 in each test; seeds are fixed, so a pass stays one.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import pytest
import torch
from dp_accounting import dp_event
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from skdp import DPClassifier, DPRegressor
from skdp.audit import QueryAudit, audit_query
from skdp.contract import Charge, ClippedSum, Gaussian
from skdp.mechanisms import DPFTRL, DPSGD, MECHANISMS, RGP, resolve_mechanism
from skdp.neural_network.rehearsal import Rehearsal
from skdp.training import SecretRandomness, TorchExecutor

pytestmark = pytest.mark.filterwarnings("ignore:.*noise lets the range", "ignore:.*noise hides the range")

# Ways to train, by estimator parameters. A new mechanism adds its line and is audited; where its noise is correlated
# between queries it is listed in NO_SINGLE_QUERY as well, and the audit has to refuse it.
CASES = {
    "dp-sgd": {"mechanism": "dp-sgd"},
    "automatic": {"clipping": "automatic"},
    "per-layer": {"clipping": "per-layer"},
    "adaptive": {"clipping": "adaptive"},
    "dpis": {"mechanism": "dpis"},
    "neuraldp": {"mechanism": "neuraldp"},
    "dp-ftrl": {"mechanism": "dp-ftrl"},
    "rgp": {"mechanism": RGP(rank=1), "module": "mlp"},
}
NO_SINGLE_QUERY = {"dp-ftrl"}


def classifier(**params):
    fast = {"module": "linear", "classes": [0, 1], "epsilon": None, "noise_multiplier": 0.5, "batch_size": 100}
    return DPClassifier(**{**fast, "max_grad_norm": 0.1, "insecure_noise_seed": 1, "random_state": 0, **params})


def audit(model, data, **options):
    return audit_query(model, *data, **{"rows": 4, "draws": 400, "random_state": 0, **options})


def scaled_noise(factor):
    """An executor whose noise is not what its price list says."""
    normal, array_normal = SecretRandomness.normal, SecretRandomness.array_normal
    stack = ExitStack()
    for name, honest in (("normal", normal), ("array_normal", array_normal)):
        scaled = lambda self, size, honest=honest: honest(self, size) * factor  # noqa: E731
        stack.enter_context(mock.patch.object(SecretRandomness, name, scaled))
    return stack


def test_every_mechanism_has_a_case():
    named = {type(resolve_mechanism(params.get("mechanism", "dp-sgd"))) for params in CASES.values()}
    assert not set(MECHANISMS.values()) - named, "add a line to CASES"


@pytest.mark.parametrize("case", [name for name in CASES if name not in NO_SINGLE_QUERY])
def test_honest_code_passes_and_half_the_noise_does_not(case, blobs):
    model = classifier(**CASES[case])
    found = audit(model, blobs)
    assert found.consistent and found.notices_halved_noise, found.text
    assert found.mu_lower > 0.4 * found.mu_claimed and found.reach > 0.6  # the audit has something to look at
    with scaled_noise(1 / 2):
        broken = audit(model, blobs)
    assert not broken.consistent and broken.mu_lower > 1.05 * broken.mu_claimed, broken.text


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in CASES if name not in NO_SINGLE_QUERY])
def test_noise_that_is_a_third_too_small_is_noticed(case, blobs):
    """The clip norm is so small that every group of parameters is clipped, and the row moves all that it may."""
    model = classifier(**CASES[case], max_grad_norm=0.1)
    assert audit(model, blobs, draws=2000).consistent
    with scaled_noise(2 / 3):
        assert not audit(model, blobs, draws=2000).consistent


@pytest.mark.parametrize("case", sorted(NO_SINGLE_QUERY))
def test_correlated_noise_is_refused(case, blobs):
    with pytest.raises(ValueError, match="audit_one_run"):
        audit(classifier(**CASES[case]), blobs)


def test_the_query_is_the_one_that_a_fit_asks(blobs):
    """Touch, values and weights agree to the last bit, private bounds and class weights included."""
    model = classifier(class_weight="balanced", clipping="adaptive", module="mlp")
    asked = []
    honest = TorchExecutor.answer

    def answer(executor, query):
        asked.append(query.fingerprint(executor.model.parameters))
        return honest(executor, query)

    with mock.patch.object(TorchExecutor, "answer", answer):
        fitted = model.fit(*blobs)
    rehearsal = Rehearsal(model, *blobs)
    query = rehearsal.query("gradient")
    assert query.fingerprint(dict(rehearsal.module.named_parameters())) == asked[0]
    np.testing.assert_array_equal(rehearsal.estimates.feature_bounds, fitted.feature_bounds_)
    assert not hasattr(rehearsal.estimator, "_weights")


@pytest.mark.parametrize("touch", ["class counts", "feature bounds magnitude", "feature bounds range"])
def test_estimates_before_training_are_audited_too(touch, blobs):
    model = classifier(class_weight="balanced")
    found = audit(model, blobs, touch=touch, row=3, rows=2)
    assert found.consistent and found.touch == touch and found.reach == pytest.approx(1)
    with scaled_noise(1 / 4):
        assert not audit(model, blobs, touch=touch, row=3, rows=2, draws=2000).consistent


def test_regressors_are_audited(slope):
    model = DPRegressor("linear", epsilon=None, noise_multiplier=0.5, y_bounds=(-4, 4), insecure_noise_seed=1)
    assert audit(model, slope).consistent


def test_own_modules_with_dropout_are_audited(blobs):
    """The masks of the two exact answers agree, so the row alone moves them."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
    found = audit(classifier(module=net), blobs)
    assert found.consistent and 0.5 < found.reach <= 1.001


def test_a_bound_that_the_rows_exceed_is_noticed(blobs):
    """A value that declares half of its sensitivity: noise and price follow the declaration."""

    @dataclass(frozen=True, eq=False)
    class Understated(ClippedSum):
        sensitivity = property(lambda self: self.bound / 2)

    class Careless(DPSGD):
        def plan(self, public, training, scale):
            honest = super().plan(public, training, scale)
            return CarelessPlan(**vars(honest))

    class CarelessPlan(type(DPSGD().plan(*_facts(), 1.0))):
        def step(self, model, state):
            steps = super().step(model, state)
            query = next(steps)
            yield replace(query, values=(Understated(self.bound, self.clipping),))

    from skdp.training.executor import start

    start.register(Understated)(start.dispatch(ClippedSum))
    found = audit(classifier(mechanism=Careless()), blobs)
    assert not found.consistent and found.reach == pytest.approx(2, abs=0.1) and found.mu_lower > 2


def _facts():
    from skdp.contract import Public
    from skdp.mechanisms import TrainingPlan

    return Public(n=100, input_shape=(2,), n_outputs=1, task="binary"), TrainingPlan(0.1, 5, 1.0)


def test_an_ignored_clip_is_noticed(blobs):
    def unclipped(squared_norms, bound, clipping="flat"):
        return torch.ones_like(squared_norms[0])

    with mock.patch("skdp.training.executor.clip_factors", unclipped):
        assert not audit(classifier(max_grad_norm=0.05), blobs).consistent


def test_the_sampling_is_audited_at_its_own_rate(blobs):
    """Rows drawn twice as often as the price list says; the row alone takes part."""
    model = classifier(noise_multiplier=0.3)
    options = {"sampled": True, "rows": 1, "draws": 600}
    found = audit(model, blobs, **options)
    assert found.rate == 0.25 and found.consistent and found.mu_lower > 1.5, found.text
    draw = SecretRandomness.draw_rows
    with mock.patch.object(SecretRandomness, "draw_rows", lambda self, n, rate: draw(self, n, 2 * rate)):
        assert not audit(model, blobs, **options).consistent


def test_seeded_audits_are_reproducible(blobs):
    first = audit(classifier(), blobs, draws=200)
    assert first.mu_lower > 0 and first == audit(classifier(), blobs, draws=200)
    assert first != audit(classifier(insecure_noise_seed=2), blobs, draws=200)


def test_the_estimator_and_torch_are_left_alone(blobs):
    model, state = classifier(insecure_noise_seed=None), torch.get_rng_state()
    audit(model, blobs, draws=100)
    assert not hasattr(model, "n_features_in_") and torch.equal(state, torch.get_rng_state())


# ------------------------------------------------------------------ what is refused
@dataclass(frozen=True)
class Remembering(Gaussian):
    """Stands for noise that is correlated between queries."""

    def event(self, sampler, count):
        return dp_event.GaussianDpEvent(self.combined)


class Correlated(DPSGD):
    """DP-SGD's plan with such noise."""

    def plan(self, public, training, scale):
        plan = super().plan(public, training, scale)
        (touch,) = plan.charge.touches
        return replace(plan, charge=Charge((replace(touch, noise=Remembering(touch.noise.multipliers)),)))


@pytest.mark.filterwarnings("ignore:.*NOT PRIVATE")
@pytest.mark.parametrize(
    ("params", "options", "message"),
    [
        ({"mechanism": Correlated()}, {}, "Remembering noise.*use audit_one_run"),
        ({"epsilon": math.inf, "noise_multiplier": None}, {}, "has no noise"),
        ({}, {"touch": "norms"}, "touch='norms' is not asked.*'gradient'"),
        ({}, {"row": 400}, "row=400 must be the index"),
        ({}, {"draws": 10}, "draws=10 must be a whole number of at least 100"),
        ({}, {"rows": 0}, "rows=0"),
        ({}, {"confidence": 1.0}, "confidence=1.0"),
    ],
)
def test_refusals_name_parameter_and_remedy(params, options, message, blobs):
    with pytest.raises(ValueError, match=message):
        audit(classifier(**params), blobs, **options)


def test_null_rows_and_rows_that_do_nothing_are_refused(blobs):
    X, y = blobs
    weights = np.ones(len(X))
    weights[5] = 0
    with pytest.raises(ValueError, match="row=5 must be the index of a row that is not null"):
        audit(classifier(), blobs, row=5, sample_weight=weights)
    with pytest.raises(ValueError, match="does not move the answer"):
        audit(classifier(clipping="global", max_grad_norm=1e-6), blobs)


def test_a_pipeline_is_refused_with_the_remedy(blobs):
    with pytest.raises(ValueError, match="of a pipeline pass the last step"):
        audit(make_pipeline(FunctionTransformer(), classifier()), blobs)


def test_too_few_draws_say_so():
    few = QueryAudit("gradient", 0, mu_lower=0.0, mu_claimed=0.1, reach=1.0, draws=400, confidence=0.999)
    assert few.consistent and not few.notices_halved_noise
    assert "would not even notice half the noise" in str(few) and "not bounded by these answers" in str(few)


def test_a_sample_of_groups_that_take_turns_is_refused(blobs):
    """One query sees the row or does not; asked again it would see the same group."""
    model = classifier(mechanism=DPFTRL(bands=1), batch_size=10)
    assert audit(model, blobs, draws=100).rate == 1
    with pytest.raises(ValueError, match="sampled=True.*take turns.*audit_one_run"):
        audit(model, blobs, sampled=True)
