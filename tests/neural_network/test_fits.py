"""Budgets, repeated fits, starts and schedules of whole fits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dp_accounting import dp_event
from linear_fits import SEEDED, classifier, weights
from scipy import stats
from suite import answers_through
from torch import nn

from skdp import DPClassifier, DPRegressor
from skdp.accounting import compose, epsilon
from skdp.contract import Poisson, Public
from skdp.exceptions import UnsupportedModuleError
from skdp.mechanisms import DPSGD
from skdp.nets import MLP
from skdp.optimizers import SGD, AdamBC, DPAdam, Optimizer
from skdp.training import SecretRandomness


# ------------------------------------------------------------------ budget
@pytest.mark.filterwarnings("ignore:.*noise hides the range")
@pytest.mark.parametrize("target", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("batch_size", [40, 400])
def test_the_budget_is_used_and_kept(blobs, target, batch_size):
    model = classifier(epsilon=target, batch_size=batch_size, max_epochs=2, feature_bounds="private")
    statement = model.fit(*blobs).privacy_
    assert 0.97 * target < statement.epsilon <= target and statement.target_epsilon == target
    recomputed = epsilon(statement.event, statement.delta)
    # The certificate comes from a finer grid than that of `epsilon`, which ends a little above.
    assert recomputed <= target * (1 + 1e-3)
    assert statement.delta == 1e-4 and statement.n == 400
    assert statement.sampling_rate == batch_size / 400


def test_noise_multiplier_without_epsilon(blobs):
    model = classifier(epsilon=None, noise_multiplier=3.0).fit(*blobs)
    assert model.privacy_.noise_multiplier == pytest.approx(3.0)
    assert model.privacy_.epsilon == pytest.approx(epsilon(model.privacy_.event, 1e-4))
    assert model.privacy_.target_epsilon is None


def test_adjacencies_cost_what_they_should(blobs):
    costs = {}
    for adjacency, n_public in (("zero-out", None), ("add-remove", 400), ("replace-one", None)):
        model = classifier(epsilon=None, noise_multiplier=2.0, adjacency=adjacency, n_public=n_public, batch_size=40)
        costs[adjacency] = model.fit(*blobs).privacy_.epsilon
        assert model.privacy_.adjacency == adjacency
    assert costs["zero-out"] == pytest.approx(costs["add-remove"], rel=1e-3)
    assert 1.2 < costs["replace-one"] / costs["zero-out"] < 2.6


def test_declared_size_rules_rate_divisor_steps_and_delta(blobs):
    X, y = blobs
    models = [
        classifier(adjacency="add-remove", n_public=5000, batch_size=250).fit(X[:n], y[:n]) for n in (400, 399, 20)
    ]
    assert len({(m.privacy_.to_json(), m.n_iter_) for m in models}) == 1
    assert models[0].privacy_.sampling_rate == 0.05 and models[0].privacy_.delta == 1e-5
    assert models[0].privacy_.steps == 20 * 20


@pytest.mark.filterwarnings("ignore:.*noise hides the range")
def test_privacy_charge_needs_no_data_and_falls_with_scale(blobs):
    model = classifier(feature_bounds="private", class_weight="balanced")
    public = Public(n=400, input_shape=(4,), n_outputs=1, task="binary")
    costs = [epsilon(model.privacy_charge(public, scale).event(), 1e-4) for scale in (1.0, 2.0, 4.0)]
    assert costs == sorted(costs, reverse=True)
    scale = 4.0
    noisy = {"epsilon": None, "noise_multiplier": scale}
    fitted = classifier(feature_bounds="private", class_weight="balanced", **noisy).fit(*blobs)
    assert epsilon(fitted.privacy_.event, 1e-4) == pytest.approx(costs[-1])
    names = [touch.name for touch in model.privacy_charge(public, 1.0).touches]
    assert names == ["feature bounds magnitude", "feature bounds range", "class counts", "gradient"]
    regressor = DPRegressor("linear").privacy_charge(Public(400, (4,), 2, "regression"), 1.0)
    assert [t.name for t in regressor.touches][2:] == ["target bounds magnitude", "target bounds range", "gradient"]


def test_participation_is_binomial(blobs):
    """Rows take part in whole fits as the event says; false alarm 1e-6, and a rate 10 % off is seen."""
    taken = np.zeros(400)
    sizes = []
    draw = SecretRandomness.draw_rows

    def spy(self, n, rate):
        rows = draw(self, n, rate)
        taken[rows] += 1
        sizes.append(len(rows))
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SecretRandomness, "draw_rows", spy)
        model = classifier(batch_size=40, max_epochs=60).fit(*blobs)
    steps, rate = model.privacy_.steps, model.privacy_.sampling_rate
    assert steps == len(sizes) == 600 and rate == 0.1
    spread = steps * rate * (1 - rate)
    low, high = stats.chi2.interval(1 - 1e-6, 400)
    assert low < np.square(taken - steps * rate).sum() / spread < high
    assert abs(taken.sum() - 400 * steps * rate) < 5 * np.sqrt(400 * spread)
    assert abs(taken.sum() - 400 * steps * rate * 1.1) > 5 * np.sqrt(400 * spread)
    low, high = stats.chi2.interval(1 - 1e-6, len(sizes))
    assert low < np.square(np.array(sizes) - 40).sum() / 36 < high
    assert model.privacy_.event.events[0].event.sampling_probability == Poisson(0.1).rate


# ------------------------------------------------------------------ fits after fits
def test_warm_start_goes_on_and_composes(blobs):
    model = classifier(warm_start=True, epsilon=2.0, average=0.0)
    first = model.fit(*blobs).privacy_
    before = weights(model)
    starts = []

    def wrapper(executor, query, honest):
        starts.append(torch.cat([p.detach().ravel() for p in executor.model.parameters.values()]).clone())
        return honest()

    with answers_through(wrapper):
        second = model.fit(*blobs).privacy_
    assert torch.equal(starts[0], before)
    assert 2.0 < second.epsilon < 4.0
    assert second.epsilon == pytest.approx(compose([first, first]).epsilon, rel=1e-2)
    third = model.fit(*blobs).privacy_
    assert third.epsilon > second.epsilon
    assert model.set_params(warm_start=False).fit(*blobs).privacy_.epsilon <= 2.0


def test_warm_start_of_another_net_is_refused_before_anything_is_spent(blobs):
    model = classifier(warm_start=True).fit(*blobs)
    asked = []
    with answers_through(lambda *query: asked.append(query)), pytest.raises(UnsupportedModuleError, match="warm_start"):
        model.set_params(module="mlp").fit(*blobs)
    assert asked == []


def test_a_refit_replaces_the_model(blobs):
    model = classifier().fit(*blobs)
    model.fit(blobs[0][:, :2], blobs[1])
    assert model.n_features_in_ == 2 and model.predict(blobs[0][:, :2]).shape == (400,)


@pytest.mark.parametrize("form", ["dict", "module", "arrays"])
def test_initial_weights(blobs, form):
    source = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    state = source.state_dict()
    given = {"dict": state, "module": source, "arrays": {k: v.numpy() for k, v in state.items()}}[form]
    model = classifier(init_params=given, lr=1e-9).fit(*blobs)
    torch.testing.assert_close(weights(model), weights_of(source))
    assert any("init_params" in line for line in model.privacy_.assumptions)


def weights_of(module):
    return torch.cat([p.detach().ravel() for p in module.parameters()])


# ------------------------------------------------------------------ numbers of a fit
@pytest.mark.parametrize(
    "optimizer", ["sgd", "adam", "dp-adam", SGD(0.5), DPAdam(eps_root=1e-4), torch.optim.RMSprop,
                  Optimizer(torch.optim.AdamW, weight_decay=0.01)],
)  # fmt: skip
def test_optimizers_learn(blobs, optimizer):
    model = classifier(optimizer=optimizer, lr=0.1, max_epochs=40).fit(*blobs)
    assert model.score(*blobs) > 0.85


def test_the_corrected_adam_learns_the_noise_level_of_the_fit(blobs):
    seen = []
    honest = AdamBC.step

    def spy(self, closure=None):
        seen.append(float(self.param_groups[0]["noise_std"]))
        honest(self, closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdamBC, "step", spy)
        model = classifier(optimizer="dp-adam", lr=0.1, max_grad_norm=2.0).fit(*blobs)
    assert seen == pytest.approx([model.privacy_.noise_multiplier * 2.0 / 400] * 20)


@pytest.mark.parametrize("clipping", ["flat", "automatic", "global", "per-layer", "adaptive"])
def test_clippings_learn(blobs, clipping):
    model = classifier(clipping=clipping, module=MLP((8,)), max_epochs=40, max_grad_norm=2.0).fit(*blobs)
    assert model.score(*blobs) > 0.85


def test_the_clip_norm_scales_the_step(blobs):
    """A tenth of the clip norm at ten times the learning rate is the same fit, once all gradients are clipped."""
    one = classifier(max_grad_norm=1e-2, lr=10.0, optimizer=SGD(0.0), **SEEDED).fit(*blobs)
    two = classifier(max_grad_norm=1e-3, lr=100.0, optimizer=SGD(0.0), **SEEDED).fit(*blobs)
    torch.testing.assert_close(weights(one), weights(two), rtol=1e-3, atol=1e-4)


def test_adaptive_clipping_pays_for_its_count(blobs):
    model = classifier(clipping="adaptive", mechanism=DPSGD(count_share=0.04), epsilon=None, noise_multiplier=2.0)
    statement = model.fit(*blobs).privacy_
    assert statement.noise_multiplier == pytest.approx(2.0)
    leaf = statement.event.events[0].event
    assert isinstance(leaf, dp_event.GaussianDpEvent) and leaf.noise_multiplier == pytest.approx(2.0)


def test_the_step_of_adaptive_clipping_does_not_depend_on_its_first_clip_norm(blobs):
    """The learning rate is in units of the clip norm, so a start that is far off is made good within a few steps."""
    fits = [
        weights(classifier(clipping="adaptive", max_grad_norm=norm, lr=0.2 / norm, max_epochs=60, **SEEDED).fit(*blobs))
        for norm in (0.1, 1.0)
    ]
    torch.testing.assert_close(fits[0], fits[1], rtol=0.2, atol=0.2)


@pytest.mark.filterwarnings("ignore::skdp.exceptions.NotPrivateWarning")
def test_schedules(blobs):
    fits = {
        name: weights(
            classifier(lr_schedule=name, epsilon=math.inf, average=0.0, optimizer=SGD(0.0)).fit(*blobs)
        ).norm()
        for name in ("cosine", "linear", None)
    }
    half = weights(
        classifier(lr_schedule=lambda share: 0.5, epsilon=math.inf, average=0.0, optimizer=SGD(0.0)).fit(*blobs)
    ).norm()
    assert fits["cosine"] < fits[None] and fits["linear"] < fits[None] and half < fits[None]


@pytest.mark.slow
def test_averaging_lowers_the_variance_of_noise(blobs):
    def spread(average):
        settings = {"average": average, "epsilon": 0.5, "max_epochs": 60}
        fits = [weights(classifier(**settings, insecure_noise_seed=seed).fit(*blobs)) for seed in range(12)]
        return torch.stack(fits).std(0).mean()

    assert spread(0.8) < 0.9 * spread(0.0)


def test_physical_batches_change_nothing(blobs):
    small, large = (classifier(max_physical_batch_size=size, **SEEDED).fit(*blobs) for size in (7, 4000))
    torch.testing.assert_close(weights(small), weights(large), rtol=1e-4, atol=1e-5)


def test_defaults_train_without_any_parameter(blobs, slope):
    with pytest.warns(UserWarning):
        assert DPClassifier(epsilon=8.0).fit(*blobs).score(*blobs) > 0.6
        assert np.isfinite(DPRegressor(epsilon=8.0).fit(*slope).score(*slope))


def test_the_module_is_an_ordinary_net_on_the_processor(blobs):
    model = classifier().fit(*blobs)
    assert isinstance(model.module_, nn.Module) and not model.module_.training
    assert all(p.device.type == "cpu" and p.grad is None for p in model.module_.parameters())
