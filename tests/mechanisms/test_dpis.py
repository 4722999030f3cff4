"""DPIS beyond the contract: what it charges, how the clip norm follows, what it refuses, and where it travels."""

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

from skdp import DPClassifier, DPRegressor
from skdp.accounting import PrivacyStatement, epsilon
from skdp.callbacks import FitCheckpoint
from skdp.cli import main
from skdp.contract import NormSum, Public, ThinnedSum, drive
from skdp.mechanisms import DPIS, DPSGD, TrainingPlan

PUBLIC = Public(n=1000, input_shape=(4,), n_outputs=1, task="binary")
TRAINING = TrainingPlan(sampling_rate=0.1, steps=50, max_grad_norm=2.0)
ADAPTIVE = DPIS(adaptive_clip=True)


def classifier(mechanism="dpis", **options):
    fast = {"module": "linear", "classes": [0, 1], "feature_bounds": (-1, 1), "epsilon": 8.0, "lr": 0.3}
    return DPClassifier(mechanism=mechanism, **{**fast, "batch_size": 40, "max_epochs": 6, **options})


def asked(fit):
    """Values of all queries of a fit, in order."""
    values = []
    with answers_through(lambda executor, query, honest: values.extend(query.values) or honest()):
        model = fit()
    return model, values


# ------------------------------------------------------------------ the price
def test_the_rate_of_the_candidates_is_charged():
    """At a fixed clip norm a step costs what DP-SGD's costs at the same rate, and no less for what it turns away."""
    plan, plain = (m.plan(PUBLIC, TRAINING, 1.5) for m in (DPIS(), DPSGD()))
    assert plan.charge == plain.charge
    assert plan.charge.touches[0].sampler.rate == 0.1 and plan.divisor == 100


@pytest.mark.parametrize("share", [0.01, 0.3])
@pytest.mark.parametrize("refresh", [0.5, 1, 3])
def test_releases_of_the_norms_are_charged(share, refresh):
    plan = DPIS(adaptive_clip=True, norm_share=share, refresh=refresh).plan(PUBLIC, TRAINING, 1.5)
    norms, gradient = plan.charge.touches
    assert norms.count == math.ceil(50 / (10 * refresh)) and gradient.count == 50
    inverse = [touch.count / touch.noise.combined**2 for touch in (norms, gradient)]
    assert sum(inverse) == pytest.approx(50 / 1.5**2)
    assert inverse[0] == pytest.approx(share * sum(inverse))
    alone = epsilon(gradient.event(), 1e-5)
    assert epsilon(plan.charge.event(), 1e-5) > alone
    doubled = DPIS(adaptive_clip=True, norm_share=share, refresh=refresh).plan(PUBLIC, TRAINING, 3.0)
    for one, two in zip(plan.charge.touches, doubled.charge.touches, strict=True):
        assert two.noise.combined == pytest.approx(2 * one.noise.combined)


def test_a_fit_asks_what_it_declared(blobs):
    model, values = asked(lambda: classifier(ADAPTIVE, class_weight="balanced").fit(*blobs))
    kinds = [type(value).__name__ for value in values]
    assert kinds == ["Counts", *(["NormSum", *["ThinnedSum"] * 10] * 6)]
    model, values = asked(lambda: classifier(DPIS(adaptive_clip=True, refresh=2.5)).fit(*blobs))
    assert [k for k, v in enumerate(values) if isinstance(v, NormSum)] == [0, 26, 52]
    model, values = asked(lambda: classifier().fit(*blobs))
    assert len(values) == 60 and all(isinstance(value, ThinnedSum) for value in values)


# ------------------------------------------------------------------ the clip norm
def model_of_nothing():
    weight = torch.nn.Parameter(torch.zeros(3))
    return mock.Mock(parameters={"weight": weight}, device="cpu")


def clip_norms(mechanism, answers, steps=30):
    """Clip norms of the steps where the noisy sums of norms are `answers`."""
    plan, state, answers = mechanism.plan(PUBLIC, TRAINING, 1.5), {}, iter(answers)
    plan.begin(model_of_nothing(), state)
    seen = []

    def answer(query):
        (value,) = query.values
        if isinstance(value, NormSum):
            assert value.bound == 2.0, "norms are capped at the reference, or they pull the clip norm down"
            return (torch.tensor(next(answers), dtype=torch.float64),)
        seen.append(value.bound)
        return ([torch.ones(3)],)

    for step in range(steps):
        state["step"] = step
        update = drive(plan.step(model_of_nothing(), state), answer)
        assert update.noise_std == pytest.approx(plan.charge.touches[-1].noise.combined * seen[-1] / plan.divisor)
        torch.testing.assert_close(update.gradients[0], torch.full((3,), 1 / plan.divisor))
    return seen


def test_the_clip_norm_lets_the_wanted_share_in():
    """Norms of 0.25 on average, half of the candidates: twice that."""
    mechanism = DPIS(adaptive_clip=True, kept_fraction=0.5)
    assert clip_norms(mechanism, [25.0, 50.0, 40.0]) == [0.5] * 10 + [1.0] * 10 + [0.8] * 10


@pytest.mark.parametrize("total", [-1e9, -1.0, 0.0, 1e-300])
def test_a_sum_that_noise_made_tiny_or_negative_gives_the_floor(total):
    mechanism = DPIS(adaptive_clip=True, floor=0.2)
    assert clip_norms(mechanism, [total] * 3) == pytest.approx([0.4] * 30)


def test_a_sum_that_noise_made_huge_gives_the_first_clip_norm():
    assert clip_norms(ADAPTIVE, [1e30] * 3) == [2.0] * 30


def test_on_real_gradients_the_wanted_share_is_kept(blobs):
    """Full batches of 400 and little noise: 40 % of the candidates, as long as none is clipped."""
    kept, sizes = [], []
    from skdp.training import thinning

    def spy(norms, bound, coins, honest=thinning.thinning_factors):
        factors = honest(norms, bound, coins)
        kept.append(int((factors > 0).sum()))
        sizes.append(len(norms))
        return factors

    mechanism = DPIS(adaptive_clip=True, kept_fraction=0.4, norm_share=0.3)
    with mock.patch.object(thinning, "thinning_factors", spy):
        classifier(mechanism, epsilon=200.0, batch_size=400, max_epochs=40, max_grad_norm=3.0, lr=0.1).fit(*blobs)
    assert sum(kept) / sum(sizes) == pytest.approx(0.4, abs=0.05)


# ------------------------------------------------------------------ refusals
@pytest.mark.parametrize("clipping", ["automatic", "global", "per-layer", "adaptive"])
@pytest.mark.parametrize("budget", [1.0, math.inf])
def test_other_clippings_are_refused_with_a_remedy(blobs, clipping, budget):
    model = classifier(clipping=clipping, epsilon=budget)
    with pytest.raises(ValueError, match=f"clipping='{clipping}' does not go with .*use clipping='flat'") as refused:
        model.fit(*blobs)
    assert ("adaptive_clip=True" in str(refused.value)) == (clipping == "adaptive")
    assert not hasattr(model, "privacy_")


@pytest.mark.parametrize(
    "wrong",
    [{name: v} for name in ("norm_share", "kept_fraction", "floor") for v in (0, 1, -0.5, math.nan)]
    + [{"refresh": v} for v in (0, -1, math.inf, math.nan)],
)
def test_parameters_out_of_range_are_refused(blobs, wrong):
    ((name, value),) = wrong.items()
    model = classifier(DPIS(adaptive_clip=True, **wrong))
    with pytest.raises(ValueError, match=rf"DPIS\({name}={value!r}\) must"):
        model.fit(*blobs)
    assert not hasattr(model, "privacy_")


# ------------------------------------------------------------------ with the rest of the library
@pytest.mark.parametrize("mechanism", [DPIS(), ADAPTIVE], ids=["fixed", "adaptive"])
def test_it_learns_and_its_statement_verifies(blobs, tmp_path, capsys, mechanism):
    X, y = blobs
    model = classifier(mechanism, max_epochs=20).fit(X, y, sample_weight=np.linspace(0.5, 1, len(X)))
    assert model.score(X, y) > 0.85
    statement = model.privacy_
    assert statement.mechanism.startswith("DPIS") and statement.epsilon <= 8.0
    assert PrivacyStatement.from_dict(statement.to_dict()) == statement
    statement.save(tmp_path / "statement.json")
    assert main(["verify", str(tmp_path / "statement.json")]) == 0
    assert capsys.readouterr().out.startswith("HOLDS")
    assert pickle.loads(pickle.dumps(model)).privacy_ == statement
    assert clone(model).mechanism.get_params() == mechanism.get_params()


def test_regression_and_warm_start(slope):
    model = DPRegressor(
        "linear", mechanism=ADAPTIVE, epsilon=20.0, feature_bounds=(-1, 1), y_bounds=(-4, 4), batch_size=400,
        max_epochs=30, lr=0.5, warm_start=True,
    ).fit(*slope)  # fmt: skip
    assert model.score(*slope) > 0.7
    first = model.privacy_.epsilon
    assert model.fit(*slope).privacy_.epsilon > first


def test_grid_search_over_its_parameters_in_two_processes(blobs):
    grid = {"mechanism__kept_fraction": [0.3, 0.7], "mechanism__adaptive_clip": [True]}
    search = GridSearchCV(classifier(DPIS()), grid, cv=2, n_jobs=2, error_score="raise").fit(*blobs)
    assert search.best_estimator_.mechanism.adaptive_clip and search.best_score_ > 0.7


def test_without_noise_it_is_plain_gradient_descent(blobs):
    with pytest.warns(UserWarning, match="NOT PRIVATE"):
        fits = [classifier(m, epsilon=math.inf, insecure_noise_seed=1) for m in ("dpis", ADAPTIVE, "dp-sgd")]
        outputs = [fit.fit(*blobs).predict_proba(blobs[0]) for fit in fits]
    np.testing.assert_array_equal(outputs[0], outputs[2])
    np.testing.assert_array_equal(outputs[1], outputs[2])


# ------------------------------------------------------------------ interruption
class Killed(Exception):
    """Stands for a crash."""


class At(Callback):
    def __init__(self, step, error):
        self.step, self.error = step, error

    def on_batch_end(self, net, training, **kwargs):
        if net.state_["step"] == self.step:
            self.step = None
            raise self.error


@pytest.mark.parametrize("every", [4, 1000])
def test_a_crash_forfeits_norms_and_goes_on(tmp_path, blobs, every):
    """Leases count both touches; what is forfeited is not asked for again, and the clip norm stays where it was."""
    path = tmp_path / "fit.ckpt"
    options = {"max_epochs": 12, "callbacks": [FitCheckpoint(path, every=every), At(26, Killed)]}
    with pytest.raises(Killed):
        classifier(ADAPTIVE, **options).fit(*blobs)
    resumed, values = asked(lambda: DPClassifier.resume(path, *blobs))
    norms = [v for v in values if isinstance(v, NormSum)]
    gradients = [v for v in values if isinstance(v, ThinnedSum)]
    # Every 4: 24 steps and 3 sums were on disk, 28 and 7 leased; 5 of the 12 sums are left for 9 epochs.
    assert (len(norms), len(gradients)) == ((5, 92) if every == 4 else (0, 0))
    assert resumed.privacy_.epsilon <= 8.0 and resumed.privacy_.status == "resumed"


def test_ctrl_c_loses_no_norm(tmp_path, blobs):
    path = tmp_path / "fit.ckpt"
    options = {"max_epochs": 12, "callbacks": [FitCheckpoint(path, every=1000), At(26, KeyboardInterrupt())]}
    with pytest.warns(UserWarning, match="interrupted"):
        stopped = classifier(ADAPTIVE, **options).fit(*blobs)
    assert stopped.privacy_.status == "interrupted" and stopped.privacy_.steps == 26
    assert stopped.privacy_.executed_epsilon < stopped.privacy_.epsilon <= 8.0
    _, values = asked(lambda: DPClassifier.resume(path, *blobs))
    assert sum(isinstance(v, NormSum) for v in values) == 9 and len(values) == 9 + 94
