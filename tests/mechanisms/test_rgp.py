"""RGP: carriers from released weights, the projection that its steps are, and what is refused."""

from __future__ import annotations

import math
import types
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from skdp import DPClassifier
from skdp.contract import Public
from skdp.exceptions import UnsupportedModuleError
from skdp.mechanisms import RGP, TrainingPlan, rgp
from skdp.mechanisms.rgp import NoiseLevels, power_iteration, reconstruct
from skdp.nets import MLP

PUBLIC = Public(n=200, input_shape=(8,), n_outputs=1, task="binary")


def rng(seed=0):
    return np.random.default_rng(seed)


def plan(clipping="flat", scale=1.5, **params):
    return RGP(**{"rank": 2, **params}).plan(PUBLIC, TrainingPlan(0.1, 20, 1.0, clipping), scale)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(3, 7, 3), nn.Flatten(), nn.Linear(14, 6), nn.Tanh(), nn.Linear(6, 2))


def model_of(module):
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    return types.SimpleNamespace(module=module, parameters=trained, device="cpu")


# ------------------------------------------------------------------ carriers
DIRECTIONS = {
    "ordinary": lambda: torch.randn(20, 30),
    "rank one": lambda: torch.outer(torch.randn(20), torch.randn(30)),
    "zero": lambda: torch.zeros(20, 30),
    "one number": lambda: torch.zeros(20, 30).index_put((torch.tensor(3), torch.tensor(4)), torch.tensor(2.0)),
    "NaN": lambda: torch.full((20, 30), math.nan),
    "tiny": lambda: torch.randn(20, 30) * 1e-30,
    "huge": lambda: torch.randn(20, 30) * 1e30,
}


@pytest.mark.parametrize("rank", [1, 5, 20])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_carriers_are_orthonormal_whatever_the_history(name, rank):
    torch.manual_seed(0)
    left, right = power_iteration(DIRECTIONS[name](), rank, rng())
    assert left.shape == (20, rank) and right.shape == (rank, 30)
    torch.testing.assert_close(left.T @ left, torch.eye(rank), rtol=0, atol=1e-5)
    torch.testing.assert_close(right @ right.T, torch.eye(rank), rtol=0, atol=1e-5)


def test_where_there_is_no_history_carriers_are_random():
    draws = [power_iteration(torch.zeros(20, 30), 2, generator)[0] for generator in (rng(0), rng(0), rng(1))]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert (draws[0].abs() > 1e-4).all(), "not the first unit vectors"


def test_carriers_span_a_history_of_low_rank():
    torch.manual_seed(0)
    direction = torch.randn(20, 3) @ torch.randn(3, 30)
    left, right = power_iteration(direction, 5, rng())
    torch.testing.assert_close(left @ left.T @ direction, direction, rtol=0, atol=1e-4)
    torch.testing.assert_close(direction @ right.T @ right, direction, rtol=0, atol=1e-4)


# ------------------------------------------------------------------ reconstruction
@pytest.mark.parametrize("rank", [1, 4, 9])
def test_what_is_put_together_is_the_projection(rank):
    torch.manual_seed(0)
    gradient = torch.randn(9, 12)
    left, right = power_iteration(torch.randn(9, 12), rank, rng())
    onto_left, onto_right = left @ left.T, right.T @ right
    projected = reconstruct(gradient @ right.T, left.T @ gradient, left, right)
    whole = onto_left @ gradient + gradient @ onto_right - onto_left @ gradient @ onto_right
    torch.testing.assert_close(projected, whole, rtol=1e-4, atol=1e-5)
    rest = gradient - projected
    torch.testing.assert_close(left.T @ rest, torch.zeros(rank, 12), rtol=0, atol=1e-5)
    torch.testing.assert_close(rest @ right.T, torch.zeros(9, rank), rtol=0, atol=1e-5)
    if rank == 9:
        torch.testing.assert_close(projected, gradient, rtol=1e-4, atol=1e-5)
    half = reconstruct(gradient @ right.T, None, None, right)
    torch.testing.assert_close(half, gradient @ onto_right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("both", [True, False])
def test_noise_levels_are_those_of_what_is_put_together(both):
    """Exactly: the variance of a linear map of standard normals is the sum of its squared coefficients."""
    left, right = power_iteration(torch.randn(6, 8), 2, rng())
    parts = torch.eye(6 * 2 + both * 2 * 8)
    variance = torch.zeros(6, 8)
    for unit in parts:
        dl, dr = unit[:12].view(6, 2), unit[12:].view(2, 8) if both else None
        variance += reconstruct(dl, dr, left if both else None, right).square()
    shapes = {"bias": torch.Size([3]), "weight": torch.Size([6, 4, 2])}
    levels = NoiseLevels(0.5, shapes, {"weight": (left if both else None, right)})
    assert len(levels) == 2 and levels[0] == 0.5 and len(list(levels)) == 2
    torch.testing.assert_close(levels[1], 0.5 * variance.sqrt().view(6, 4, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("carriers", ["both", "left"])
def test_a_step_is_the_projected_mean_gradient(carriers):
    own, model = plan(carriers=carriers), model_of(net())
    true = {name: torch.randn_like(p) for name, p in model.parameters.items()}
    state = {"step": 0, "rng": rng()}
    own.begin(model, state)
    step = own.step(model, state)
    (value,) = next(step).values
    assert set(value.carriers) == {"0.weight", "2.weight"}, "the last weight is too small for rank 2"
    assert value.sensitivity == 1.0
    first, behind = [], []
    for name, gradient in true.items():
        if name in value.carriers:
            left, right = value.carriers[name]
            first.append(gradient.flatten(1) @ right.T)
            behind += [] if left is None else [(left.T @ gradient.flatten(1)).view(-1, *gradient.shape[1:])]
        else:
            first.append(gradient.clone())
    with pytest.raises(StopIteration) as end:
        step.send(([*first, *behind],))
    update = end.value.value
    for (name, gradient), found in zip(true.items(), update.gradients, strict=True):
        if name in value.carriers:
            left, right = value.carriers[name]
            matrix = gradient.flatten(1)
            onto_right = matrix @ right.T @ right
            onto_left = 0 if left is None else left @ left.T @ (matrix - onto_right)
            gradient = (onto_right + onto_left).view(gradient.shape)
        torch.testing.assert_close(found * 20, gradient, rtol=1e-4, atol=1e-5)
    assert update.noise_std[1] == pytest.approx(1.5 / 20)
    assert update.noise_std[0].shape == (7, 3, 3) and (update.noise_std[0] < 1.5 / 20).all()


def test_carriers_come_from_the_weight_until_there_is_history():
    own, model, seen = plan(warm_up=0.25), model_of(net()), []
    state = {"step": 0, "rng": rng()}

    def spy(direction, rank, generator):
        seen.append(direction.clone())
        return power_iteration(direction, rank, generator)

    own.begin(model, state)
    start = model.parameters["2.weight"].detach().clone()
    assert set(state["initial"]) == {"0.weight", "2.weight"}
    with torch.no_grad():
        model.parameters["2.weight"].add_(1.0)
    with mock.patch.object(rgp, "power_iteration", spy):
        for state["step"] in (4, 5):
            next(own.step(model, state))
    torch.testing.assert_close(seen[1], start + 1)
    torch.testing.assert_close(seen[3], torch.ones(6, 14))
    plan(warm_up=1.0).begin(model, state)
    assert state["initial"] == {}, "a history that is never looked at is not kept"


def test_weights_that_are_frozen_or_thawed_on_the_way():
    own, module = plan(warm_up=0.0), net()
    module[0].requires_grad_(False)
    state = {"step": 3, "rng": rng()}
    own.begin(model_of(module), state)
    assert set(state["initial"]) == {"2.weight"}
    module[0].requires_grad_(True)
    assert set(next(own.step(model_of(module), state)).values[0].carriers) == {"0.weight", "2.weight"}
    assert set(state["initial"]) == {"0.weight", "2.weight"}


class Several(nn.Module):
    """What has carriers and what has none."""

    def __init__(self):
        super().__init__()
        self.a, self.tied, self.small = nn.Linear(9, 9), nn.Linear(9, 9), nn.Linear(9, 4)
        self.tied.weight = nn.Embedding(9, 9).weight
        self.table = nn.Embedding(9, 9)
        self.table.weight = self.tied.weight
        self.words, self.norm = nn.Embedding(9, 9), nn.LayerNorm(9)
        self.groups, self.conv = nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(5, 8, 3)
        self.scaled = nn.utils.parametrizations.weight_norm(nn.Linear(9, 9))
        self.attend, self.cell = nn.MultiheadAttention(8, 2), nn.LSTM(9, 9)
        self.twice = self.a
        self.frozen = nn.Linear(9, 9).requires_grad_(False)


def test_which_weights_have_carriers():
    found = {name for name, _ in plan()._served(model_of(Several()))}
    assert found == {"a.weight", "conv.weight", "attend.in_proj_weight", "attend.out_proj.weight"}


# ------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rank": 0}, "RGP.rank=0. must be a whole number of at least 1"),
        ({"rank": 2.5}, "RGP.rank=2.5. must"),
        ({"rank": True}, "RGP.rank=True. must"),
        ({"carriers": "right"}, "RGP.carriers='right'. must be one of 'both', 'left'"),
        ({"warm_up": 1.5}, "RGP.warm_up=1.5. must be a share"),
        ({"warm_up": math.nan}, "RGP.warm_up=nan. must be a share"),
        ({"clipping": "adaptive"}, "clipping='adaptive' does not go with RGP, which knows 'flat'"),
    ],
)
@pytest.mark.parametrize("scale", [1.5, None])
def test_bad_parameters_are_refused(params, message, scale):
    with pytest.raises(ValueError, match=message):
        plan(scale=scale, **params)


def test_a_rank_that_leaves_nothing_to_serve_is_refused_before_a_charge(blobs):
    model = DPClassifier(MLP((30,)), mechanism="rgp", classes=[0, 1])
    with pytest.raises(UnsupportedModuleError, match=r"RGP\(rank=8\).*'1.weight' \(Linear, 30 x 4\).*rank=1\) or less"):
        model.fit(*blobs)
    assert not hasattr(model, "privacy_")
    with pytest.raises(UnsupportedModuleError, match=r"1 x 4\); use mechanism='dp-sgd'"):
        DPClassifier("linear", mechanism=RGP(rank=1), classes=[0, 1]).fit(*blobs)
    with pytest.raises(UnsupportedModuleError, match="longer than 4; use"):
        RGP(rank=2).prepare(nn.Sequential(nn.LSTM(9, 9)), PUBLIC)
