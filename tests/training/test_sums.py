"""Sums of many records: right to float64, and no record decides what is kept of the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from skdp.contract import ClippedSum, Poisson, Query, Touch
from skdp.training import NetModel, PerExample, PrivateRows, SecretRandomness, TorchExecutor
from skdp.training.rules.sums import RUN, SUM_SLACK, accumulator, add_products

CPU = torch.device("cpu")


@pytest.mark.parametrize("positions", [1, 16])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 5), (7, 3), (300, 200)])
@pytest.mark.parametrize("rows", [0, 1, RUN - 1, RUN, RUN + 1, 9 * RUN + 5, 40 * RUN])
def test_the_sum_is_the_product(rows, outputs, inputs, positions):
    torch.manual_seed(0)
    left, right = torch.randn(rows, outputs), torch.randn(rows, inputs)
    out = torch.ones(outputs, inputs, dtype=torch.float64)
    add_products(left, right, out, positions)
    torch.testing.assert_close(out, 1 + left.double().t() @ right.double(), rtol=0, atol=2e-5 * max(1, rows) ** 0.5)


def teetering(n: int) -> torch.Tensor:
    """Numbers whose float32 sum, added up in order, keeps the small ones only if the first is there."""
    half = 2 ** int(np.log2(n // 2))
    values = torch.ones(n)
    values[half + 1 :] = -half * 2.0**-23 * 0.49
    return values


NETS = {
    "linear": (lambda: nn.Linear(1, 1, bias=False), lambda n: torch.ones(n, 1)),
    "wide": (lambda: nn.Linear(8, 4), lambda n: torch.eye(8)[:1].expand(n, 8).contiguous()),
    "positions": (lambda: nn.Sequential(nn.Linear(1, 1), nn.Flatten(), Mean()), lambda n: torch.ones(n, 4, 1)),
    "embedding": (lambda: nn.Sequential(nn.Embedding(2, 1), nn.Flatten()), lambda n: torch.zeros(n, 1).long()),
    "norm": (lambda: nn.Sequential(nn.LayerNorm(2), Mean()), lambda n: torch.tensor([[1.0, -1.0]]).repeat(n, 1)),
    "convolution": (lambda: nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten()), lambda n: torch.ones(n, 1, 1)),
}


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1, keepdim=True)


def answer(module, x, y, weights, piece, shifting=False):
    per_example = PerExample(module)
    executor = TorchExecutor(
        NetModel(module, per_example.parameters, CPU, lambda outputs, targets: outputs[:, 0] * targets),
        PrivateRows(x, y, weights),
        forward=module,
        per_example=per_example,
        spend=lambda touch: 0,
        randomness=SecretRandomness(CPU, 0),
        piece=piece,
        shifting=shifting,
    )
    (total,) = executor.answer(Query(Touch("gradient", Poisson(), None, 1), (ClippedSum(1.0),)))
    return torch.cat([part.flatten() for part in total]).double()


@pytest.mark.parametrize("piece", [10**9, 3000])
@pytest.mark.parametrize("n", [4096, 65536])
@pytest.mark.parametrize("name", NETS)
def test_no_record_decides_over_the_others(name, n, piece):
    """One record out: the sum moves by its clip norm of 1, where a running float32 sum moves by 65."""
    factory, inputs = NETS[name]
    torch.manual_seed(0)
    module, x, y = factory(), inputs(n), teetering(n)
    weights = torch.ones(n)
    whole = answer(module, x, y, weights, piece)
    weights[0] = 0
    moved = float((answer(module, x, y, weights, piece) - whole).norm())
    # The released float32 numbers themselves are rounded at the size of the sum.
    assert moved <= 1 + SUM_SLACK + float(whole.abs().max()) * 2.0**-22


@pytest.mark.parametrize("name", ["linear", "wide", "embedding", "norm", "convolution"])
def test_a_record_less_shifts_the_others_into_other_runs(name):
    """Under add-remove all runs round anew, by more than one record together; in float64 they do not."""
    n, share = 65536, torch.full((RUN,), 64 * 0.55 * 2.0**-23)
    share[:64] = 1
    factory, inputs = NETS[name]
    torch.manual_seed(0)
    module, x, y = factory(), inputs(n), share.repeat(n // RUN)
    moved = []
    for shifting in (True, False):
        whole, less = (answer(module, x[k:], y[k:], None, 10**9, shifting) for k in (0, 1))
        moved.append(float((whole - less).norm()))
    assert moved[0] <= 1 + SUM_SLACK + float(whole.abs().max()) * 2.0**-22
    if name == "linear":
        assert moved[1] > 1.05, "the data would show it"


CANCELLING = {
    "one": (lambda: nn.Conv2d(8, 4, 1), (8, 16, 16)),
    "three": (lambda: nn.Conv2d(8, 4, 3), (8, 16, 16)),
    "few channels": (lambda: nn.Conv2d(1, 4, 3), (1, 16, 16)),
    "groups": (lambda: nn.Conv2d(8, 8, 3, groups=8), (8, 12, 12)),
    "line": (lambda: nn.Conv1d(8, 4, 3), (8, 200)),
    "gram": (lambda: nn.Conv2d(32, 64, 3), (32, 4, 4)),
    "linear": (lambda: nn.Linear(8, 4), (40, 8)),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CANCELLING)
def test_positions_that_cancel_do_not_hide_a_gradient(name, seed):
    """The norm is that of what is added up: another way to compute it may round a residue to nothing."""
    factory, shape = CANCELLING[name]
    torch.manual_seed(seed)
    layer = factory()
    x = torch.randn(40, *shape)
    big = x.clone()
    positions = big[0] if name == "linear" else big[0].flatten(1).T  # a view
    i, j, k = torch.randperm(len(positions))[:3].tolist()
    positions[:] = 0
    positions[i], positions[j], positions[k] = 1e9, -1e9, 1e9 * 2.0**-25
    for scale in (1.0, 1e6):
        big[0] *= scale
        per_example = PerExample(layer)
        with per_example:
            captured = per_example.backward(layer(big).flatten(1).sum(1))
            norms = captured.squared_norms()
        factors = torch.zeros(40)
        factors[0] = (1 / sum(norms)[0].sqrt()).clamp(max=100)
        out = [torch.zeros(p.shape, dtype=torch.float64) for p in layer.parameters()]
        captured.add_weighted_sums(factors, out)
        assert torch.cat([part.flatten() for part in out]).norm() <= 1 + 1e-5


def test_the_data_would_show_a_running_sum():
    """Power: what the test above rules out does happen to sums in one float32 run."""
    for n in (4096, 65536):
        values = teetering(n).numpy()
        runs = [np.cumsum(part, dtype=np.float32)[-1] for part in (values, np.where(np.arange(n) == 0, 0, values))]
        assert abs(float(runs[0]) - float(runs[1])) > 1.2


def test_where_there_is_no_float64():
    assert accumulator(torch.device("mps")) == torch.float32
    assert accumulator(CPU) == torch.float64
