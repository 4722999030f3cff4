"""Automatic numbers follow from public quantities and stay within stable limits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from skdp.contract import Public
from skdp.nets.step_length import step_length
from skdp.nets.tabular import TabularNet
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
