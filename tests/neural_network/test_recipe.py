"""Automatic numbers follow from public quantities and stay within stable limits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from linear_fits import SEEDED
from sklearn.metrics import log_loss
from suite import answers_through
from torch import nn

from skdp import DPClassifier
from skdp.contract import Public
from skdp.nets.specs import MLP, Linear
from skdp.nets.step_length import step_length
from skdp.nets.tabular import TabularNet
from skdp.neural_network.programme import draw_up
from skdp.neural_network.recipe import auto_recipe
from skdp.neural_network.settings import resolve_settings

CASES = [
    (task, n, columns, mu)
    for task in ("binary", "multiclass", "regression")
    for n in (10, 300, 5000, 50000, 10**6)
    for columns in (1, 10, 500)
    for mu in (1e-3, 0.05, 0.4, 2.0, 50.0)
]


def public(task, n, columns):
    return Public(n=n, input_shape=(columns,), n_outputs=5 if task == "multiclass" else 1, task=task)


@pytest.mark.parametrize("case", CASES)
def test_values_are_finite_and_stable(case):
    task, n, columns, mu = case
    recipe = auto_recipe(public(task, n, columns), mu * n)
    assert 60 <= recipe.steps <= 120
    assert 0 < recipe.sampling_rate <= 1 and recipe.sampling_rate * n <= 65536 + 1
    assert 0.2 <= recipe.max_grad_norm <= 1
    curvature = {"binary": 0.25, "multiclass": 0.5, "regression": 1.0}[task] * 1.25
    assert 0 < recipe.lr < 2 * (1 + recipe.momentum) / curvature, "heavy ball would diverge"


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_total_length_is_kept_whatever_the_steps(task):
    data = public(task, 2000, 20)
    recipe = auto_recipe(data, 500.0)
    length = recipe.lr * recipe.steps / (1 - recipe.momentum)
    assert length == pytest.approx(step_length(data, 500.0).length, rel=1e-6)


def test_noise_in_an_unlearnt_weight_is_as_declared():
    """Full-batch descent on zero gradients: the deviation is measured, to 5 % (4 sd)."""
    n, mu = 2000, 0.25
    data = public("regression", n, 20)
    recipe, go = auto_recipe(data, mu * n), step_length(data, mu * n)
    draw = torch.Generator().manual_seed(0)
    weight = torch.zeros(3000, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=recipe.lr, momentum=recipe.momentum)
    for _ in range(recipe.steps):
        scale = recipe.max_grad_norm * math.sqrt(recipe.steps) / mu / n
        weight.grad = scale * torch.randn(3000, generator=draw)
        optimizer.step()
    sampled = float(weight.detach().std())
    # Momentum has not paid out the last steps yet: the finite sum of its weights says how much.
    reach = [(1 - recipe.momentum**k) for k in range(1, recipe.steps + 1)]
    share = math.sqrt(sum(r * r for r in reach) / recipe.steps)
    expected = recipe.lr * recipe.steps / (1 - recipe.momentum) * recipe.max_grad_norm / (mu * n) * share
    assert sampled == pytest.approx(expected, rel=0.05)
    assert not math.isclose(sampled, 2 / 3 * expected, rel_tol=0.05)
    assert go.noise * share * (1 + mu**2) ** -0.5 == pytest.approx(expected, rel=1e-6)


def test_infinite_signal_equals_a_large_one():
    data = public("binary", 1000, 5)
    assert auto_recipe(data, math.inf) == auto_recipe(data, 10.0 * 1000)
    assert math.isfinite(float(TabularNet().build(data).threshold))


@pytest.mark.parametrize("signal", [0.0, -1.0, math.nan])
def test_nonsense_signal_is_named(signal):
    with pytest.raises(ValueError, match="signal"):
        auto_recipe(public("binary", 100, 3), signal)


def test_columns_named_as_indicators_count_as_public_ones():
    data = public("multiclass", 5000, 40)
    known = replace(data, indicators=tuple(range(4, 40)))
    named = TabularNet(categorical=np.arange(40) >= 4)
    settings = [
        resolve_settings(*given, {}, None)
        for given in ((data, 0.5, named), (known, 0.5, TabularNet()), (data, 0.5, TabularNet()))
    ]
    assert settings[0] == settings[1] != settings[2]


def test_depends_on_public_numbers_only():
    assert auto_recipe(public("binary", 100, 3), 20.0) == auto_recipe(public("binary", 100, 3), 20.0)


# ------------------------------------------------------------------ clippings
NETS = [Linear(), Linear(bias=False), MLP((16,)), TabularNet()]


@pytest.mark.parametrize("net", NETS, ids=repr)
def test_a_net_bounds_what_its_last_layer_is_given(net):
    data = Public(n=5000, input_shape=(12,), n_outputs=1, task="binary")
    module = net.build(data, 2000.0)
    last = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1]
    squares = []
    last.register_forward_pre_hook(lambda layer, given: squares.append(given[0].square().sum(1)))
    module(torch.randint(0, 2, (1000, 12), generator=torch.Generator().manual_seed(0)) * 2.0 - 1)
    assert (squares[0] + (last.bias is not None)).sqrt().max() <= net.row_norm(data) * (1 + 1e-6)


@pytest.mark.parametrize("net", NETS, ids=repr)
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_global_clipping_keeps_every_record_and_adds_no_more_noise(net, task):
    data = public(task, 20000, 12)
    flat = resolve_settings(data, 0.25, net, {}, None)
    kept = resolve_settings(data, 0.25, net, {}, None, "global")
    assert kept.max_grad_norm >= net.row_norm(data)
    assert kept.lr * kept.max_grad_norm == pytest.approx(flat.lr * flat.max_grad_norm)


def test_classifiers_clip_at_the_first_norms_where_the_signal_allows_it():
    def clip(net, signal, task="binary"):
        return resolve_settings(public(task, 20000, 24), signal / 20000, net, {}, None).max_grad_norm

    for net in (Linear(), MLP((64,)), MLP((64,), "relu")):
        clips = [clip(net, signal) for signal in (50.0, 600.0, 5000.0)]
        assert clips[0] == 1 < clips[1] < clips[2] == net.usual_norm(public("binary", 20000, 24)) / 2
        assert clip(net, 5000.0, "regression") == 1


@pytest.mark.parametrize("clipping", ["automatic", "global", "per-layer", "adaptive"])
@pytest.mark.parametrize("module", ["linear", "mlp", None])
def test_every_clipping_gives_probabilities_nearly_as_good_as_flat(module, clipping):
    """A rare class and noisy labels: gradients of one length would drive probabilities to 0 (log loss 1)."""
    X = np.random.default_rng(0).uniform(-1, 1, size=(2900, 12))
    chance = 1 / (1 + np.exp(1.8 - 1.5 * X[:, 0] - X[:, 1]))
    y = (np.random.default_rng(1).uniform(size=2900) < chance).astype(int)

    def loss(clipping):
        model = DPClassifier(module, clipping=clipping, classes=[0, 1], feature_bounds=(-1, 1), **SEEDED).fit(X, y)
        return log_loss(y, model.predict_proba(X))

    assert loss(clipping) < min(loss("flat") + 0.04, log_loss(y, np.full(len(y), y.mean())))


def test_global_clipping_asks_for_a_norm_where_nobody_knows_one(blobs):
    """Otherwise every record might be dropped, and the whole budget buy noise."""
    model = DPClassifier(module=nn.Sequential(nn.Linear(4, 1)), clipping="global", classes=[0, 1])
    with pytest.raises(ValueError, match="clipping='global'.*Prebuilt.*pass max_grad_norm"):
        model.fit(*blobs)
    with pytest.raises(ValueError, match="clipping='global'.*MLP.*pass max_grad_norm"):
        model.set_params(module=MLP(activation="relu")).fit(*blobs)
    rows = DPClassifier(module="text", clipping="global", classes=[0, 1], epsilon=3.0)
    tokens = np.random.default_rng(0).integers(1, 50, size=(300, 6))
    found = []
    with answers_through(lambda executor, query, honest: found.append(query) or honest()):
        rows.fit(tokens, np.arange(300) % 2)
    assert min(float(query.values[0].bound) for query in found) >= math.hypot(1.0, 0.5)


@pytest.mark.parametrize("module", ["linear", None, MLP(hidden_units=(16,))])
@pytest.mark.parametrize("n", [500, 20000])
def test_noise_in_place_of_a_budget_gives_the_numbers_of_the_budget(module, n):
    """Samples of the rows are worth less than full batches, and so is the learning rate."""
    model = DPClassifier(module, epsilon=1.0, classes=[0, 1])
    own = draw_up(model, public("binary", n, 12), 1e-6, ())
    model.set_params(epsilon=None, noise_multiplier=own.scale)
    noisy = draw_up(model, public("binary", n, 12), 1e-6, ())
    assert noisy.signal == pytest.approx(own.signal, rel=0.03)
    assert noisy.settings.lr == pytest.approx(own.settings.lr, rel=0.03)
    assert noisy.charge == own.charge
