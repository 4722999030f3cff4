"""Steps of a classifier follow the deviance that its released gradients show."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from skdp.contract import Public
from skdp.nets.pace import PaceKeeper
from skdp.nets.step_length import step_length
from skdp.nets.tabular import TabularNet

PUBLIC = Public(n=8000, input_shape=(4,), n_outputs=1, task="binary")
SIGNAL = 8000.0


def descend(flips, steps=110, seed=0, keep_gradient=True, switch=None):
    """Noisy full-batch descent on labels of which a share is flipped; 60 % of the labels are positive."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(PUBLIC.n, 4, generator=draw) * 2 - 1
    score = x[:, 0] + x[:, 1]
    y = (score > score.quantile(0.4)).float()
    random = (torch.rand(PUBLIC.n, generator=draw) < 0.6).float()
    y = torch.where(torch.rand(PUBLIC.n, generator=draw) < flips, random, y)[:, None]
    net, go = TabularNet().build(PUBLIC, SIGNAL), step_length(PUBLIC, SIGNAL)
    features, weight = net.features(x), net.head.weight
    optimizer = torch.optim.SGD([weight], lr=go.lr, momentum=go.momentum)
    for step in range(steps):
        if step == switch:
            other = TabularNet().build(PUBLIC, SIGNAL)
            other.load_state_dict(net.state_dict())
            net.pace = other.pace
        with torch.no_grad():
            residual = torch.sigmoid(features @ weight.T) - y
            noise = go.clip * math.sqrt(go.steps) / SIGNAL * torch.randn(weight.shape, generator=draw)
            weight.grad = (residual.T @ features) / PUBLIC.n + noise
        optimizer.step()
        if not keep_gradient:
            weight.grad = None
        net.post_step()
    return net


def test_clear_labels_go_far_and_random_ones_stop_early():
    clear, mixed, random = (descend(flips).pace for flips in (0.0, 0.7, 1.0))
    # 30 % of the steps are taken at the first pace of 0.4 whatever the labels are.
    slowest = (0.4 - 0.4 * 0.3) / 0.7
    assert float(clear.factor) == 1 and float(random.factor) == pytest.approx(slowest, abs=0.01)
    assert clear.deviance_explained() > mixed.deviance_explained() > random.deviance_explained()
    assert abs(random.deviance_explained()) < 0.06, "labels that are noise explain nothing"


def test_steps_that_stability_holds_back_are_not_slowed_twice():
    """Where the whole length is out of reach, a part of it may be the whole pace."""
    held = replace(PUBLIC, n=20 * PUBLIC.n)
    near, far = (TabularNet().build(public, 0.5 * public.n).pace.reserve for public in (PUBLIC, held))
    go = step_length(held, 0.5 * held.n)
    assert far == pytest.approx(go.length * (1 - go.momentum) / (go.steps * go.lr)) and far > 3 * near >= 3
    for reserve, factor in ((1.0, 0.4), (2.0, 0.97)):
        pace = PaceKeeper(torch.zeros(1, 5), 0.0, reserve)
        weight = torch.zeros(1, 5)
        for _ in range(pace.first + 1):
            weight.grad = torch.zeros(1, 5)
            pace.shorten(weight)
            pace.remember(weight)
        assert float(pace.factor) == pytest.approx(factor, abs=0.01)


def test_base_rates_are_read_from_the_first_gradient():
    rates = descend(1.0, steps=1).pace.base_rates
    assert float(rates[0]) == pytest.approx(0.6, abs=0.03)


def test_without_gradients_half_the_pace_is_kept():
    net, go = descend(0.0, steps=1, keep_gradient=False), step_length(PUBLIC, SIGNAL)
    full = TabularNet(adaptive=False).build(PUBLIC, SIGNAL)
    assert full.pace is None and int(net.pace.steps) == 0
    assert go.steps == 110 and net.head.weight.abs().max() > 0


def test_a_resumed_fit_keeps_its_pace():
    whole, resumed = descend(0.5, steps=60), descend(0.5, steps=60, switch=20)
    assert torch.equal(whole.head.weight, resumed.head.weight)


@pytest.mark.parametrize(("task", "signal"), [("regression", 8000.0), ("binary", 500.0)])
def test_regressions_and_small_tables_keep_one_pace(task, signal):
    assert TabularNet().build(Public(8000, (4,), 1, task), signal).pace is None
