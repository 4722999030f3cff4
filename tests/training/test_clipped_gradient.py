"""The public entry to the engine, and the check that rows are independent."""

from __future__ import annotations

import pytest
import torch
from rule_cases import CASES, Frozen, Positions, Tied, one_by_one, per_record
from torch import nn

from skdp.exceptions import UnsupportedModuleError
from skdp.training.clipped_gradient import check_rows_independent, clipped_gradient

MSE = nn.MSELoss(reduction="none")


def data(batch=6, inputs=4, outputs=2):
    torch.manual_seed(0)
    return torch.randn(batch, inputs), torch.randn(batch, outputs)


def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


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
                "automatic": 1.5 / (norm + 0.01),
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
    with pytest.raises(ValueError, match="three"):
        check_rows_independent(module, MSE, x[:2], y[:2])


# ------------------------------------------------------------------ independence of rows
def loss_of(output, y):
    return per_record(output)


@pytest.mark.parametrize("name", [n for n in CASES if n not in {"branching", "embedding one"}])
def test_supported_modules_pass_and_are_left_alone(name):
    torch.manual_seed(0)
    factory, inputs = CASES[name]
    module, x = factory(), inputs(5)
    before = {n: t.clone() for n, t in module.state_dict().items()}
    state = torch.get_rng_state()
    check_rows_independent(module, loss_of, x, torch.zeros(5))
    assert torch.equal(torch.get_rng_state(), state)
    for n, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[n])


def test_dropout_passes():
    x, y = data()
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.PReLU(), nn.Linear(8, 2))
    check_rows_independent(module, MSE, x, y)
    check_rows_independent(module, nn.CrossEntropyLoss(reduction="none"), x, torch.randint(2, (6,)))


class Wrapped(nn.Module):
    """A linear layer between two functions."""

    def __init__(self, before=lambda x: x, after=lambda x: x):
        super().__init__()
        self.layer, self.before, self.after = nn.Linear(4, 2), before, after

    def forward(self, x):
        return self.after(self.layer(self.before(x)))


class MixedOwn(Wrapped):
    """Mixes records in a module that the fallback serves."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.layer(x - x.mean(0)) * self.scale


class Borrowed(Wrapped):
    """Uses a child's parameter without calling the child."""

    def forward(self, x):
        return super().forward(x) @ self.layer.weight[:, :2]


class Statistics(Wrapped):
    """Keeps a running mean of what it sees."""

    def __init__(self, rate=0.1, start=0.0):
        super().__init__()
        self.rate = rate
        self.register_buffer("mean", torch.full((4,), start))

    def forward(self, x):
        self.mean.lerp_(x.detach().mean(0), self.rate)
        return super().forward(x)


class Places(nn.Module):
    """Position embeddings without a batch dimension; four positions."""

    def __init__(self):
        super().__init__()
        self.place, self.out = nn.Embedding(4, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.out(x[..., None] * self.place(torch.arange(4))).mean(1)


MIXERS = {
    "centred": (lambda: Wrapped(lambda x: x - x.mean(0)), "mixes rows"),
    "softmax over the batch": (lambda: Wrapped(after=lambda x: x.softmax(0)), "mixes rows"),
    "shifted": (lambda: Wrapped(lambda x: x.roll(1, 0)), "mixes rows"),
    "shifted and back": (lambda: Wrapped(lambda x: x.roll(1, 0), lambda x: x.roll(-1, 0)), "'layer'"),
    "mixed where the fallback serves": (MixedOwn, "mixes rows"),
    "borrowed parameter": (Borrowed, "'layer.weight' takes part outside"),
    "statistics": (Statistics, "buffer 'mean'"),
    "slow statistics": (lambda: Statistics(1e-5, 1.0), "buffer 'mean'"),
    "in place": (lambda: Wrapped(lambda x: x.mul_(10)), "in place"),
    "in place, unseen by torch": (lambda: Wrapped(lambda x: x.data.mul_(10)), "in place"),
    "positions": (Places, "'place'"),
}


@pytest.mark.parametrize("batch", [4, 5, 6])
@pytest.mark.parametrize("name", MIXERS)
def test_modules_that_mix_are_found(name, batch):
    torch.manual_seed(0)
    factory, text = MIXERS[name]
    x, y = data(batch)
    with pytest.raises(UnsupportedModuleError, match=text):
        check_rows_independent(factory(), MSE, x, y)


def test_losses_that_mix_are_found():
    module, (x, y) = net(), data()
    losses = {
        "centred": lambda out, y: MSE(out - out.mean(0), y),
        "targets": lambda out, y: MSE(out, y - y.mean(0)),
        "standardised": lambda out, y: MSE(out, y) / MSE(out, y).max(),
        "shifted": lambda out, y: MSE(out, y).roll(1, 0),
    }
    for loss in losses.values():
        with pytest.raises(UnsupportedModuleError, match="the module or the loss mixes rows"):
            check_rows_independent(module, loss, x, y)


def test_tied_frozen_and_shared_positions_pass():
    check_rows_independent(Tied(), loss_of, torch.randint(11, (5, 4)), torch.zeros(5))
    check_rows_independent(Frozen(), loss_of, torch.randn(5, 5), torch.zeros(5))
    check_rows_independent(Positions(), loss_of, torch.randint(9, (5, 7)), torch.zeros(5))


class TokensMixed(nn.Module):
    """Batch statistics in a function, over the mean of token vectors."""

    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(10, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(nn.functional.batch_norm(self.table(x).mean(1), None, None, training=True))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("vocabulary", [2, 10])
def test_modules_that_mix_tokens_are_found(seed, vocabulary):
    torch.manual_seed(seed)
    x = torch.randint(vocabulary, (4, 5))
    x[-1] = x[0]  # one equal row must not blind the check
    with pytest.raises(UnsupportedModuleError, match="mix"):
        check_rows_independent(TokensMixed(), MSE, x, torch.randn(4, 2))


def test_changed_tokens_are_valid_where_they_stand():
    """Each column has a vocabulary of its own."""
    seen = []
    table = nn.EmbeddingBag(30, 2)
    table.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    x = torch.stack([torch.randint(10 * i, 10 * i + 3, (8,)) for i in range(3)], dim=1)
    x[:, 2] = 25
    check_rows_independent(table, MSE, x, torch.randn(8, 2))
    assert all(set(batch[:, i].tolist()) <= set(x[:, i].tolist()) for batch in seen for i in range(3))
    assert any((batch[0, :2] != x[0, :2]).all() for batch in seen)


@pytest.mark.parametrize("which", ["x", "y"])
def test_what_would_check_nothing_is_an_error(which):
    tokens, classes = torch.arange(12).reshape(4, 3) % 10, torch.tensor([0, 1, 1, 0])
    loss = nn.CrossEntropyLoss(reduction="none")
    check_rows_independent(nn.EmbeddingBag(10, 2), loss, tokens, classes)
    given = {"x": tokens, "y": classes}
    given[which] = torch.zeros_like(given[which])
    with pytest.raises(ValueError, match=f"{which} does not vary"):
        check_rows_independent(nn.EmbeddingBag(10, 2), loss, given["x"], given["y"])
