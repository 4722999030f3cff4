"""Sums of gradients seen through carriers, against autograd record by record; and what never enters memory."""

from __future__ import annotations

import math

import pytest
import torch
from rule_cases import Attention, Crossed, Own, Reused, Tied, one_by_one, per_record
from suite import check_noise, flat
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skdp.contract import CarrierSum, ClippedSum, Gaussian, Poisson, Query, Touch
from skdp.training import NetModel, PerExample, PrivateRows, SecretRandomness, TorchExecutor

CPU, RANK, BATCH = torch.device("cpu"), 2, 5
CASES = {
    "linear": (lambda: nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 5, bias=False)), (7,)),
    "linear gram": (lambda: nn.Linear(24, 40), (3, 24)),
    "linear written": (lambda: nn.Linear(6, 5), (30, 6)),
    "linear twice": (lambda: Reused(nn.Linear(5, 5), nn.Linear(5, 6)), (7, 5)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, dilation=2, padding=1), (4, 12)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), bias=False), (4, 7, 6)),
    "conv2d gram": (lambda: nn.Conv2d(16, 24, 3, stride=2, padding=1), (16, 4, 5)),
    "conv2d channels": (lambda: nn.Conv2d(8, 6, 3), (8, 9, 9)),
    "conv2d reflect": (lambda: nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect"), (4, 6, 5)),
    "conv2d gaps": (lambda: nn.Conv2d(4, 6, 2, stride=3), (4, 9, 10)),
    "conv3d": (lambda: nn.Conv3d(2, 5, 2, padding=1), (2, 4, 3, 5)),
    "conv twice": (lambda: Reused(nn.Conv2d(5, 5, 3, padding=1)), (5, 5, 5)),
    "groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5)),
    "attention": (Attention, (5, 8)),
    "attention crossed": (Crossed, (4, 8)),
    "no rule": (lambda: nn.Sequential(nn.Linear(5, 5), Own()), (5,)),
}


def made(name, batch=BATCH):
    torch.manual_seed(0)
    build, shape = CASES[name]
    return build(), torch.randn(batch, *shape)


def carriers_of(module, both=True, rank=RANK):
    """Carriers for every matrix, not orthonormal: the sum does not rest on that."""
    own = torch.Generator().manual_seed(1)
    found = {}
    for name, p in module.named_parameters():
        if p.dim() > 1:
            left = torch.randn(len(p), rank, generator=own)
            found[name] = (left if both else None, torch.randn(rank, p[0].numel(), generator=own))
    assert found
    return found


def answer(module, x, value, weights=None, *, z=None, seed=0, piece=1000, shifting=False):
    per_example = PerExample(module)
    executor = TorchExecutor(
        NetModel(module, per_example.parameters, CPU, lambda outputs, targets: per_record(outputs)),
        PrivateRows(x, torch.zeros(len(x)), weights),
        forward=module,
        per_example=per_example,
        spend=lambda touch: 0,
        randomness=SecretRandomness(CPU, seed),
        piece=piece,
        shifting=shifting,
    )
    return executor.answer(Query(Touch("gradient", Poisson(), z and Gaussian((z,)), 1), (value,)))[0]


def wanted(module, x, carriers):
    """Of each record: the parts in the order of the answer, flattened and joined, and per parameter."""
    gradients, behind = {}, []
    for name, gradient in one_by_one(module, x).items():
        gradients[name] = gradient.flatten(1)
        if name in carriers:
            left, right = carriers[name]
            gradients[name] = (gradient.flatten(2) @ right.T).flatten(1)
            behind += [] if left is None else [(left.T @ gradient.flatten(2)).flatten(1)]
    return torch.cat([*gradients.values(), *behind], 1)


@pytest.mark.parametrize("both", [True, False], ids=["both", "left"])
@pytest.mark.parametrize("name", CASES)
def test_each_record_gives_its_gradient_times_the_carriers(name, both):
    module, x = made(name)
    carriers = carriers_of(module, both)
    truth = wanted(module, x, carriers)
    for i in range(BATCH):
        alone = torch.zeros(BATCH)
        alone[i] = 1
        total = answer(module, x, CarrierSum(math.inf, carriers=carriers), alone)
        torch.testing.assert_close(torch.cat([p.flatten() for p in total]), truth[i], rtol=2e-4, atol=2e-5)
    shapes = {n: p.shape for n, p in module.named_parameters()}
    first = [(s[0], RANK) if n in carriers else s for n, s in shapes.items()]
    assert [p.shape for p in total] == first + [(RANK, *shapes[n][1:]) for n in carriers if both]


@pytest.mark.parametrize("shifting", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_all_parts_of_a_record_are_clipped_together(name, shifting):
    module, x = made(name)
    carriers = carriers_of(module)
    truth = wanted(module, x, carriers)
    norms = truth.norm(dim=1)
    bound = float(norms.median())
    total = answer(module, x, CarrierSum(bound, carriers=carriers), piece=2, shifting=shifting)
    expected = ((bound / norms).clamp(max=1)[:, None] * truth).sum(0)
    torch.testing.assert_close(torch.cat([p.flatten() for p in total]), expected, rtol=1e-4, atol=1e-4 * bound)
    assert (norms > bound).any() and (norms < bound).any()


@pytest.mark.parametrize("clipping", ["flat", "automatic", "global", "per-layer"])
@pytest.mark.parametrize("name", ["linear", "linear gram", "linear written", "conv1d", "conv2d channels", "attention"])
def test_no_record_moves_the_sum_by_more_than_the_bound(name, clipping):
    module, x = made(name)
    carriers = carriers_of(module)
    value = CarrierSum(0.5, clipping, carriers)
    for size in (1.0, 1e-20, 1e15, 1e30, math.nan, math.inf):
        changed = x.clone()
        changed[1] *= size
        weights = torch.ones(BATCH)
        weights[1] = 0
        moved = flat(answer(module, changed, value)) - flat(answer(module, x, value, weights))
        assert (moved**2).sum() ** 0.5 <= 0.5 * (1 + 1e-5)
        if not math.isfinite(size):
            assert (moved == 0).all(), "a record that is not finite is the null row"


def test_a_gradient_that_cancels_over_positions_is_seen_as_the_sum_has_it():
    """Positions that undo each other leave rounding: it is clipped like everything else."""
    module = nn.Linear(3, 4)
    x = torch.randn(2, 40, 3)
    x[:, 20:] = -x[:, :20]
    module.weight.data.zero_()
    value = CarrierSum(1e-8, carriers=carriers_of(module))
    total = flat(answer(module, x * 1e6, value, torch.tensor([1.0, 0.0])))
    assert (total**2).sum() ** 0.5 <= 1e-8 * (1 + 1e-5)


def test_parameters_without_carriers_go_along():
    module, x = made("linear")
    some = {"2.weight": carriers_of(module)["2.weight"]}
    total = answer(module, x, CarrierSum(math.inf, carriers=some))
    plain = answer(module, x, ClippedSum(math.inf))
    assert torch.equal(total[0], plain[0]) and torch.equal(total[1], plain[1])
    assert [tuple(p.shape) for p in total] == [(6, 7), (6,), (5, RANK), (RANK, 6)]


def test_tied_weights_without_carriers_go_along():
    torch.manual_seed(0)
    module, x = Tied(), torch.randint(11, (4, 3))
    some = {"mix.weight": carriers_of(module)["mix.weight"]}
    total, plain = (answer(module, x, v) for v in (CarrierSum(math.inf, carriers=some), ClippedSum(math.inf)))
    torch.testing.assert_close(total[0], plain[0])
    torch.testing.assert_close(total[1], plain[1] @ some["mix.weight"][1].T)


def test_noise_is_added_to_the_thin_parts():
    """False alarm 1e-6; noise scaled by 2/3 is seen."""
    torch.manual_seed(0)
    module = nn.Linear(300, 400)
    value = CarrierSum(0.5, carriers=carriers_of(module))
    x = torch.zeros(1, 300)
    noise = flat(answer(module, x, value, torch.zeros(1), z=2.0, seed=None))
    assert len(noise) == 2 * 700 + 400
    check_noise(noise, 1.0)
    with pytest.raises(AssertionError, match="noise is 0.6"):
        check_noise(noise * 2 / 3, 1.0)


def test_fingerprints_see_the_carriers():
    module, _ = made("linear")
    touch = Touch("gradient", Poisson(), None, 1)

    def digest(carriers):
        return Query(touch, (CarrierSum(1.0, carriers=carriers),)).fingerprint()

    one, other, left = carriers_of(module), carriers_of(module), carriers_of(module, both=False)
    other["2.weight"][1][1, 3] += 1e-6
    assert digest(one) == digest(carriers_of(module))
    assert len({digest(one), digest(other), digest(left), digest({})}) == 4


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation returned."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        self.numbers = max([self.numbers, *sizes])
        return result


WIDE = {
    "linear": (lambda: nn.Linear(48, 64), (48,), False),
    "one position": (lambda: nn.Linear(48, 64), (1, 48), False),
    "few positions": (lambda: nn.Linear(48, 64), (3, 48), False),
    "many positions": (lambda: nn.Linear(48, 64), (40, 48), True),
    "conv1d": (lambda: nn.Conv1d(24, 48, 5), (24, 30), True),
    "conv2d": (lambda: nn.Conv2d(24, 48, 3, padding=1), (24, 7, 7), True),
    "conv2d few channels": (lambda: nn.Conv2d(5, 128, 5), (5, 10, 10), True),
}


@pytest.mark.parametrize("both", [True, False], ids=["both", "left"])
@pytest.mark.parametrize("name", WIDE)
def test_no_gradient_per_record_is_ever_written_out(name, both):
    """Nothing as large as (batch, out, in); where DP-SGD has such a tensor, the test sees it."""
    build, shape, written = WIDE[name]
    torch.manual_seed(0)
    module, x = build(), torch.randn(32, *shape)
    whole = 32 * module.weight.numel()
    with Largest() as thin:
        answer(module, x, CarrierSum(1.0, carriers=carriers_of(module, both)), z=1.0)
    assert 0 < thin.numbers < whole
    with Largest() as full:
        answer(module, x, ClippedSum(1.0), z=1.0)
    assert (full.numbers >= whole) == written
