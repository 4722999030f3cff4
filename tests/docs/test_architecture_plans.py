"""The plans sketched in the architecture page keep the contract: driven to their end, within their price lists."""

from __future__ import annotations

import math
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from snippets import run_page
from torch import nn

from skdp.accounting import FitBook, epsilon
from skdp.contract import Update, drive
from skdp.exceptions import PlanViolationError
from skdp.training import clipped_gradient

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
PLANS = ("by_person", "agent")


@pytest.fixture(scope="module")
def page():
    return run_page(PAGE)


def net_of_matrices() -> types.SimpleNamespace:
    """A public view of a small net."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 2, bias=False))
    return types.SimpleNamespace(module=module, parameters=dict(module.named_parameters()), device="cpu")


class RowlessExecutor:
    """Spends from a real book and answers with noise in the right shapes: a plan may depend on nothing else."""

    def __init__(self, model, charge):
        self.model, self.charge, self.book, self.asked = model, charge, FitBook(), []
        self.reservation = self.book.reserve(charge)

    def answer(self, query):
        self.book.spend(self.reservation, query.touch)
        assert len(query.values) == len(query.touch.noise.multipliers)
        assert all(0 < float(value.sensitivity) < math.inf for value in query.values)
        self.asked.append(query)
        return tuple([torch.randn_like(p) for p in self.model.parameters.values()] for _ in query.values)


@pytest.mark.parametrize("name", PLANS)
def test_plan_runs_to_its_end_and_spends_exactly_its_price_list(page, name):
    plan, model = page[name], net_of_matrices()
    executor = RowlessExecutor(model, plan.charge)
    state = {"step": 0, "rng": np.random.default_rng(0)}
    drive(plan.begin(model, state), executor.answer)
    for _ in range(plan.steps):
        state["consensus"] = [torch.zeros_like(p) for p in model.parameters.values()]
        update = drive(plan.step(model, state), executor.answer)
        assert update is None or isinstance(update, Update)
        for parameter, gradient in zip(model.parameters.values(), update.gradients if update else (), strict=False):
            assert gradient.shape == parameter.shape
            parameter.data -= 0.01 * gradient
        state["step"] += 1
    executed = executor.book.settle(executor.reservation)
    assert executed == {touch.name: touch.count for touch in plan.charge.touches}
    assert all(torch.isfinite(p).all() for p in model.parameters.values())
    with pytest.raises(PlanViolationError):
        executor.book.spend(executor.reservation, plan.charge.touches[-1])


@pytest.mark.parametrize("name", PLANS)
def test_plan_has_a_price_that_grows_with_what_is_executed(page, name):
    charge = page[name].charge
    halves = [charge.event({t.name: round(part * t.count) for t in charge.touches}) for part in (0.5, 1.0)]
    some, all_of_it = (epsilon(event, 1e-5) for event in halves)
    assert 0 <= some <= all_of_it < math.inf
    assert all_of_it > 0
    assert all(touch.noise.combined > 0 for touch in charge.touches)  # statements quote it


def test_a_person_is_clipped_as_a_whole_and_padding_counts_for_nothing(page):
    torch.manual_seed(0)
    net, loss = page["PerPerson"](nn.Linear(4, 1)), page["person_loss"]
    x, y = torch.randn(6, 5, 5), torch.ones(6, 5)
    x[..., -1] = (torch.arange(5) < torch.arange(1, 7)[:, None].clamp(max=5)).float()
    found = clipped_gradient(net, loss, x, y, max_grad_norm=math.inf).norms
    for person in range(6):
        real = x[person : person + 1, x[person, :, -1] == 1]
        net.zero_grad()
        loss(net(real), y[person : person + 1, : real.shape[1]]).sum().backward()
        alone = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()
        assert found[person] == pytest.approx(float(alone), rel=1e-4)


def test_a_plan_that_asks_too_often_is_refused(page):
    plan, model = page["by_person"], net_of_matrices()
    executor = RowlessExecutor(model, plan.charge)
    with pytest.raises(PlanViolationError):
        for _ in range(plan.steps + 1):
            drive(plan.step(model, {}), executor.answer)
