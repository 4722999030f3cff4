"""DP-FTRL in the estimators: what it is equal to, what it refuses, and what its statements say."""

from __future__ import annotations

import math
import pickle
from unittest import mock

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from suite import answers_through

from skdp import DPClassifier
from skdp.accounting import PrivacyStatement, calibrate, epsilon, noise_multiplier, verify
from skdp.callbacks import FitCheckpoint
from skdp.cli import main
from skdp.contract import Charge, Correlated, FixedOrder, Gaussian, Poisson, Public, Touch
from skdp.exceptions import InterruptedFitWarning, PlanViolationError, UnsupportedModuleError
from skdp.mechanisms import DPFTRL, TrainingPlan
from skdp.mechanisms.base import steps_per_epoch
from skdp.mechanisms.factorisation import coefficients, noise_levels
from skdp.optimizers import DPAdam

N = 200
PUBLIC = Public(n=N, input_shape=(4,), n_outputs=1, task="binary")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(N, 4))
    return X, (X[:, 0] > 0).astype(int)


def classifier(mechanism="dp-ftrl", **options):
    """A logistic regression in five steps an epoch."""
    given = {"classes": [0, 1], "feature_bounds": (-1, 1), "batch_size": 40, "max_epochs": 3, "epsilon": 4.0}
    return DPClassifier("linear", mechanism=mechanism, **{**given, "random_state": 0, **options})


def touch_of(mechanism=None, rate=0.2, steps=15, scale=2.0, affordable=None, public=PUBLIC, clipping="flat"):
    training = TrainingPlan(rate, steps, 1.0, clipping, affordable)
    (touch,) = (mechanism or DPFTRL()).plan(public, training, scale).charge.touches
    return touch


# ------------------------------------------------------------------ what it is equal to
@pytest.mark.parametrize(
    ("mechanism", "batch"),
    [(DPFTRL(bands=1, sampling="cyclic-poisson"), 40), (DPFTRL(), N), (DPFTRL(sampling="cyclic-poisson"), N)],
    ids=["one group", "full batches", "full batches, cyclic"],
)
def test_without_correlation_it_is_dp_sgd(rows, mechanism, batch):
    ours, sgd = (classifier(kind, batch_size=batch, insecure_noise_seed=1).fit(*rows) for kind in (mechanism, "dp-sgd"))
    for name, weight in sgd.module_.state_dict().items():
        assert torch.equal(weight, ours.module_.state_dict()[name])
    assert ours.privacy_.event == sgd.privacy_.event and ours.privacy_.epsilon == sgd.privacy_.epsilon


def test_rates_map_to_batches():
    for rate, batches in ((0.2, 5), (0.19, 6), (1 / 3, 3), (0.34, 3), (0.5, 2), (0.7, 2), (1 / 49, 49)):
        assert touch_of(rate=rate, steps=60).sampler == FixedOrder(batches)
        assert DPFTRL().plan(PUBLIC, TrainingPlan(rate, 60, 1.0), 2.0).divisor == pytest.approx(N / batches)
    assert touch_of(rate=1.0).sampler == Poisson(1.0)
    independent = touch_of(DPFTRL(bands=1))
    assert independent.sampler == FixedOrder(5) and independent.noise == Gaussian((2.0,))
    assert touch_of(DPFTRL(bands=3)).noise == Correlated((2.0,), coefficients(3, 15))
    assert touch_of(DPFTRL(bands=3), steps=2).noise.coefficients == coefficients(3, 3)


@pytest.mark.parametrize("rows", [7, 49, 10**4, 10**7, 2**31])
def test_a_fixed_order_has_an_epoch_of_the_same_steps_as_everything_else(rows):
    for batch in {1, 2, rows // 4, rows // 2}:
        for rate in (batch / rows, math.nextafter(batch / rows, 0), math.nextafter(batch / rows, 1)):
            assert touch_of(DPFTRL(bands=1), rate, 2).sampler.groups == steps_per_epoch(rate) == -(-rows // batch)


def test_automatic_bands_in_a_fixed_order_are_as_many_as_help():
    assert len(touch_of(rate=0.05, steps=400).noise.coefficients) == 20
    assert len(touch_of(rate=0.001, steps=5000).noise.coefficients) == 64
    assert len(touch_of(rate=0.001, steps=40).noise.coefficients) < 40  # the last hardly help in 40 steps


def test_automatic_bands_of_cyclic_samples_follow_the_budget():
    def bands(budget):
        def affordable(rate, count):
            return noise_multiplier(budget, 1e-5, sampling_rate=rate, steps=count)

        found = touch_of(DPFTRL(sampling="cyclic-poisson"), rate=0.05, steps=200, affordable=affordable)
        return found.sampler.groups

    found = [bands(budget) for budget in (0.5, 8.0, 50.0)]
    assert found[0] == 1 < found[1] <= found[2]


def test_the_public_noise_level_is_that_of_the_step(rows):
    plan = DPFTRL(bands=4).plan(PUBLIC, TrainingPlan(0.2, 15, 0.5), 2.0)
    levels = noise_levels(coefficients(4, 15), 15)
    for t in (0, 7):
        step = plan.step(None, {"step": t})
        next(step)
        with pytest.raises(StopIteration) as end:
            step.send(([torch.zeros(3)],))
        assert end.value.value.noise_std == pytest.approx(2.0 * 0.5 * levels[t] / 40)
    assert np.isfinite(classifier(optimizer=DPAdam(), lr=0.01).fit(*rows).predict_proba(rows[0])).all()


# ------------------------------------------------------------------ what it refuses
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adjacency": "add-remove", "n_public": 150}, "adjacency='add-remove'.*use adjacency='zero-out'"),
        ({"clipping": "adaptive"}, "clipping='adaptive'.*use clipping='flat'"),
        ({"mechanism": DPFTRL(bands=6)}, "bands=6, sampling='fixed-order'.* more than 5.*smaller batch_size"),
        ({"mechanism": DPFTRL(bands=6, sampling="cyclic-poisson")}, "bands=6.*more than 5"),
        ({"mechanism": DPFTRL(bands=0)}, r"DPFTRL\(bands=0\) must be 'auto' or a whole number"),
        ({"mechanism": DPFTRL(bands=2.0)}, "bands=2.0"),
        ({"mechanism": DPFTRL(bands=True)}, "bands=True"),
        ({"mechanism": DPFTRL(bands="all")}, "bands='all'"),
        ({"mechanism": DPFTRL(sampling="shuffle")}, "sampling='shuffle'.*'fixed-order', 'cyclic-poisson'"),
        (
            {"mechanism": DPFTRL(sampling="cyclic-poisson"), "epsilon": None, "noise_multiplier": 1.0},
            "pass epsilon= instead of noise_multiplier=, or bands= as a number",
        ),
    ],
)  # fmt: skip
def test_what_it_cannot_serve_is_refused_before_a_row_is_read(rows, options, message):
    model = classifier(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(*rows)
    assert not hasattr(model, "privacy_")


@pytest.mark.parametrize("budget", [0.5, 8.0, 50.0])
def test_the_charge_of_automatic_bands_falls_with_the_scale_and_is_that_of_a_fit(rows, budget):
    mechanism = DPFTRL(sampling="cyclic-poisson")
    model = classifier(mechanism, epsilon=budget, batch_size=10, max_epochs=10)
    charges = [model.privacy_charge(PUBLIC, scale) for scale in (0.5, 1.0, 2.0, 4.0)]
    assert len({charge.touches[0].sampler for charge in charges}) == 1
    costs = [epsilon(charge.event(), 1e-4) for charge in charges]
    assert costs == sorted(costs, reverse=True) and len(set(costs)) == 4
    fitted = model.fit(*rows).privacy_
    found = calibrate(lambda scale: model.privacy_charge(PUBLIC, scale), budget, fitted.delta)
    assert found.charge.event() == fitted.event and found.epsilon == fitted.epsilon


def test_checkpoints_are_refused_because_old_noise_is_secret(rows, tmp_path):
    path = tmp_path / "fit.ckpt"
    for mechanism in (DPFTRL(), DPFTRL(bands=1), DPFTRL(bands=2, sampling="cyclic-poisson")):
        model = classifier(mechanism, callbacks=[FitCheckpoint(path)])
        with pytest.raises(ValueError, match="FitCheckpoint cannot serve touch 'gradient'.*fit without FitCheckpoint"):
            model.fit(*rows)
        assert not hasattr(model, "privacy_") and not path.exists()
    classifier(DPFTRL(bands=1, sampling="cyclic-poisson"), callbacks=[FitCheckpoint(path)]).fit(*rows)  # is DP-SGD
    assert path.exists()


def test_absurd_memory_is_refused():
    net = torch.nn.Linear(2, 1)
    with mock.patch.object(torch.Tensor, "numel", lambda self: 10**8):
        for mechanism, bands in ((DPFTRL(), "'auto'"), (DPFTRL(bands=20), "20")):
            with pytest.raises(UnsupportedModuleError, match=f"bands={bands}.*4 GiB; use at most bands=6"):
                mechanism.prepare(net, PUBLIC)
        assert DPFTRL(bands=6).prepare(net, PUBLIC) is net


def test_layers_cannot_be_frozen_on_the_way(rows):
    class Freeze(Callback):
        def on_epoch_end(self, net, **kwargs):
            next(iter(net.module_.parameters())).requires_grad_(False)

    model = classifier(callbacks=[Freeze()])
    with pytest.raises(PlanViolationError, match="freeze layers before the fit"):
        model.fit(*rows)
    assert model.privacy_.event == Charge((touch_of(scale=model.privacy_.noise_multiplier),)).event({"gradient": 6})


# ------------------------------------------------------------------ fits and statements
@pytest.mark.parametrize("sampling", ["fixed-order", "cyclic-poisson"])
@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one"])
def test_statement_of_a_fit(rows, tmp_path, capsys, sampling, adjacency):
    X, y = rows
    model = classifier(DPFTRL(bands=4, sampling=sampling), adjacency=adjacency, class_weight="balanced")
    statement = model.fit(X, y, sample_weight=np.linspace(0, 2, N)).privacy_
    assert statement.epsilon <= 4 < statement.epsilon * 1.01 and statement.steps == 15
    assert PrivacyStatement.from_json(statement.to_json()) == statement and verify(statement)
    statement.save(tmp_path / "statement.json")
    assert main(["verify", str(tmp_path / "statement.json")]) == 0
    assert f"DP-FTRL ({sampling}), flat clipping" in statement.text
    counts, gradient = statement.queries
    assert counts.name == "class counts" and gradient.groups == (5 if sampling == "fixed-order" else 4)
    # The estimate takes its share of the squared signal, whatever the sampling.
    if sampling == "fixed-order":
        assert (gradient.noise_multiplier / counts.noise_multiplier) ** 2 / 3 == pytest.approx(0.02)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_ctrl_c_states_the_price_of_the_turns_that_were_taken(rows):
    class Stop(Callback):
        def on_batch_end(self, net, training, **kwargs):
            if net.state_["step"] == 7:
                raise KeyboardInterrupt

    model = classifier(callbacks=[Stop()])
    with pytest.warns(InterruptedFitWarning):
        statement = model.fit(*rows).privacy_
    assert statement.status == "interrupted" and statement.steps == 7
    done = Touch("gradient", FixedOrder(5), Gaussian((statement.noise_multiplier,)), 7).event()
    assert done.count == 2
    assert statement.executed_epsilon == pytest.approx(epsilon(done, statement.delta), rel=1e-9)
    assert statement.executed_epsilon < statement.epsilon <= 4 and verify(statement)


@pytest.mark.parametrize("clipping", ["flat", "automatic", "global", "per-layer"])
def test_clipping_of_all_fixed_kinds(rows, clipping):
    queries = []
    with answers_through(lambda executor, query, honest: queries.append(query) or honest()):
        classifier(clipping=clipping).fit(*rows)
    assert {query.values[0].clipping for query in queries} == {clipping} and len(queries) == 15


def test_warm_start_composes_and_starts_a_new_order(rows):
    model = classifier(warm_start=True, epsilon=2.0).fit(*rows)
    first = model.privacy_.epsilon
    both = model.fit(*rows).privacy_
    assert first < both.epsilon < 2 * first and both.steps == 30 and verify(both)


def test_no_noise_at_all(rows):
    for mechanism in (DPFTRL(), DPFTRL(sampling="cyclic-poisson"), DPFTRL(bands=3)):
        with pytest.warns(UserWarning, match="NOT PRIVATE"):
            model = classifier(mechanism, epsilon=math.inf, lr=0.5).fit(*rows)
        assert model.score(*rows) > 0.9 and math.isinf(model.privacy_.epsilon)


def test_inside_a_grid_search(rows):
    model = classifier(DPFTRL(sampling="cyclic-poisson"), batch_size=20)
    search = GridSearchCV(model, {"mechanism__bands": [1, 3]}, cv=2, n_jobs=2).fit(*rows)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    fresh = clone(search.best_estimator_)
    assert fresh.mechanism.get_params() == search.best_estimator_.mechanism.get_params()
    assert fresh.mechanism is not search.best_estimator_.mechanism


def test_a_charge_on_a_shared_budget():
    charges = [classifier(DPFTRL(bands=4)).privacy_charge(PUBLIC, scale) for scale in (1.0, 3.0)]
    assert charges[0].touches[0].sampler == charges[1].touches[0].sampler
    assert epsilon(charges[1].event(), 1e-5) < epsilon(charges[0].event(), 1e-5)
