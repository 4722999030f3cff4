"""The public entry to the engine."""

from __future__ import annotations

import pytest
import torch
from rule_cases import one_by_one
from small_net import MSE, data, net
from torch import nn

from skdp.training import check_rows_independent, clipped_gradient


@pytest.mark.parametrize("batch", [0, 1, 6])
@pytest.mark.parametrize("clipping", ["flat", "automatic", "global", "per-layer"])
def test_equals_clipping_one_by_one(clipping, batch):
    module, (x, y) = net(), data(batch)
    rows = [one_by_one(module, x[i : i + 1], lambda out, i=i: MSE(out, y[i : i + 1]).sum(1)) for i in range(batch)]
    result = clipped_gradient(module, MSE, x, y, max_grad_norm=1.5, clipping=clipping)
    expected = {n: torch.zeros_like(p) for n, p in module.named_parameters()}
    for i, row in enumerate(rows):
        norm = torch.stack([g.square().sum() for g in row.values()]).sum().sqrt()
        torch.testing.assert_close(result.norms[i], norm, rtol=1e-5, atol=1e-6)
        for name, grad in row.items():
            layer = [row[n] for n in row if n[0] == name[0]]
            own = torch.stack([g.square().sum() for g in layer]).sum().sqrt()
            factor = {
                "flat": min(1, 1.5 / norm),
                "automatic": 1.5 / (norm + 1.5),
                "global": float(norm <= 1.5),
                "per-layer": min(1, 1.5 / 2**0.5 / own),
            }[clipping]
            expected[name] += factor * grad[0]
    assert list(result.sums) == list(expected) and result.norms.shape == (batch,)
    for name, total in result.sums.items():
        torch.testing.assert_close(total, expected[name], rtol=1e-4, atol=1e-5)


def test_infinite_bound_is_the_ordinary_gradient():
    module, (x, y) = net(), data()
    result = clipped_gradient(module, MSE, x, y, max_grad_norm=float("inf"))
    usual = torch.autograd.grad(MSE(module(x), y).sum(), list(module.parameters()))
    for total, expected in zip(result.sums.values(), usual, strict=True):
        torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-5)


def test_weight_zero_and_not_finite_are_null_rows():
    module, (x, y) = net(), data()
    bad, weight = x.clone(), torch.ones(6)
    bad[1], bad[2], weight[3] = float("nan"), 3e38, 0
    bad[3] = float("inf")
    result = clipped_gradient(module, MSE, bad, y, sample_weight=weight)
    keep = [0, 4, 5]
    expected = clipped_gradient(module, MSE, x[keep], y[keep])
    for name, total in result.sums.items():
        torch.testing.assert_close(total, expected.sums[name])
    assert torch.isfinite(result.norms).tolist() == [True, False, False, False, True, True]


def test_weights_multiply_before_clipping():
    module, (x, y) = net(), data()
    heavy = clipped_gradient(module, MSE, x, y, 0.1, sample_weight=torch.full((6,), 1e4))
    assert torch.stack([t.square().sum() for t in heavy.sums.values()]).sum().sqrt() <= 0.6 * (1 + 1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_scalar_loss_names_the_remedy(reduction):
    module, (x, y) = net(), data()
    for call in (clipped_gradient, check_rows_independent):
        with pytest.raises(ValueError, match='reduction="none"'):
            call(module, nn.MSELoss(reduction=reduction), x, y)


def test_bad_arguments():
    module, (x, y) = net(), data()
    for bound in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="max_grad_norm"):
            clipped_gradient(module, MSE, x, y, bound)
    with pytest.raises(ValueError, match="clipping"):
        clipped_gradient(module, MSE, x, y, clipping="none")
