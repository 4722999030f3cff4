"""The executor: bounded answers whatever the rows are, noise once, spending first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from suite import check_noise, flat
from torch import nn

from skdp.contract import ClippedSum, Gaussian, NormBelow, Poisson, Query, Touch
from skdp.exceptions import PlanViolationError, UnsupportedModuleError
from skdp.neural_network.losses import ClassLoss, SquaredLoss
from skdp.training import NetModel, PerExample, PrivateRows, SecretRandomness, TorchExecutor

CLIPPINGS = ["flat", "automatic", "global", "per-layer"]


def make(net, X, y, weights=None, *, piece=1000, spend=lambda touch: 0, seed=0, loss=None):
    per_example = PerExample(net)
    rows = PrivateRows(X, y, weights)
    device, loss = torch.device("cpu"), loss or (SquaredLoss() if y.is_floating_point() else ClassLoss())
    return TorchExecutor(
        NetModel(net, per_example.parameters, device, loss),
        rows,
        forward=net,
        per_example=per_example,
        spend=spend,
        randomness=SecretRandomness(device, seed),
        piece=piece,
    )


def query(*values, rate=1.0, z=None):
    noise = z and Gaussian((z,) * len(values))
    return Query(Touch("gradient", Poisson(rate), noise, 1000), values)


def net(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return {
        "linear": lambda: nn.Linear(8, 2),
        "relu": lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)),
        "norm": lambda: nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 2)),
        "conv": lambda: nn.Sequential(
            nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 3, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)
        ),
        "recurrent": Recurrent,
    }[kind]()


class Recurrent(nn.Module):
    """Goes through the record-by-record fallback."""

    def __init__(self):
        super().__init__()
        self.cell = nn.RNN(4, 5, batch_first=True)
        self.last = nn.Linear(5, 2)

    def forward(self, x):
        return self.last(self.cell(x.reshape(len(x), 2, 4))[0][:, -1])


def rows(n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 8, generator=generator), torch.randint(0, 2, (n,), generator=generator)


ADVERSARIAL = {
    "huge": 1e30,
    "largest": 3.4e38,
    "infinite": float("inf"),
    "nan": float("nan"),
    "denormal": 1e-45,
    "square root of the largest": 1.8e19,
    "mixed": [3.4e38, -3.4e38, 1e-45, 0.0, float("-inf"), 1.0, 1e19, -1e-19],
}


@pytest.mark.parametrize("row", ADVERSARIAL)
@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("kind", ["linear", "relu", "norm", "conv", "recurrent"])
def test_no_row_moves_an_answer_by_more_than_its_sensitivity(kind, clipping, row):
    X, y = rows()
    null = torch.ones(len(X))
    null[3] = 0
    bad = X.clone()
    bad[3] = torch.tensor(ADVERSARIAL[row])
    module = net(kind)
    asked = query(ClippedSum(0.7, clipping), NormBelow(0.7))
    without = make(module, X, y, null).answer(asked)
    for label in (0, 1):
        targets = y.clone()
        targets[3] = label
        answer = make(module, bad, targets).answer(asked)
        for value, a, b in zip(asked.values, answer, without, strict=True):
            assert np.isfinite(flat(a)).all()
            assert np.linalg.norm(flat(a) - flat(b)) <= value.sensitivity * (1 + 1e-5)


@pytest.mark.parametrize("target", [1e19, 3e38, float("inf"), float("nan")])
@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_no_target_or_weight_moves_an_answer_by_more_than_its_sensitivity(clipping, target):
    X, _ = rows()
    y = X[:, :2].clone()
    null, heavy = torch.ones(len(X)), torch.ones(len(X))
    null[3], heavy[3] = 0, min(target, 3e38)
    bad = y.clone()
    bad[3] = target
    asked = query(ClippedSum(0.7, clipping))
    without = flat(make(net("relu"), X, y, null).answer(asked)[0])
    for targets, weights in ((bad, None), (bad, heavy), (y, heavy)):
        answer = flat(make(net("relu"), X, targets, weights).answer(asked)[0])
        assert np.linalg.norm(answer - without) <= 0.7 * (1 + 1e-5)


def test_a_long_gradient_moves_the_answer_by_nearly_the_sensitivity():
    """Or the tests above could not fail."""
    X, y = rows()
    null = torch.ones(len(X))
    null[3] = 0
    X[3] *= 1000
    y[3] = net("linear")(X[3:4]).argmin()  # far on the wrong side
    for clipping in ("flat", "automatic"):
        asked = query(ClippedSum(0.7, clipping))
        with_row, without = (flat(make(net("linear"), X, y, w).answer(asked)[0]) for w in (None, null))
        assert np.linalg.norm(with_row - without) > 0.69


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_the_null_row_is_the_missing_row(clipping):
    """Weight 0 gives what leaving the row out gives, and neither is a row of zeros."""
    X, y = rows()
    weights = torch.ones(len(X))
    weights[3] = 0
    keep = torch.arange(len(X)) != 3
    module = net("relu")
    zeros = X.clone()
    zeros[3] = 0
    asked = query(ClippedSum(0.7, clipping), NormBelow(0.7))
    null = make(module, X, y, weights).answer(asked)
    missing = make(module, X[keep], y[keep]).answer(asked)
    zero = make(module, zeros, y).answer(asked)
    np.testing.assert_allclose(flat(null[0]), flat(missing[0]), atol=1e-6)
    assert float(null[1]) == float(missing[1]) != float(zero[1])


def test_weights_multiply_before_clipping():
    X, y = rows()
    X = X * 0.01  # short gradients, below the clip norm
    once = flat(make(net("linear"), X, y, torch.full((12,), 1.0)).answer(query(ClippedSum(50.0)))[0])
    twice = flat(make(net("linear"), X, y, torch.full((12,), 2.0)).answer(query(ClippedSum(50.0)))[0])
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


@pytest.mark.parametrize("piece", [1, 5, 12])
@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_pieces_change_nothing(piece, clipping):
    X, y = rows()
    asked = query(ClippedSum(0.7, clipping), NormBelow(0.7))
    whole = make(net("relu"), X, y).answer(asked)
    pieces = make(net("relu"), X, y, piece=piece).answer(asked)
    np.testing.assert_allclose(flat(pieces[0]), flat(whole[0]), rtol=1e-5, atol=1e-6)
    assert float(pieces[1]) == float(whole[1])


def test_samples_larger_than_a_piece_are_not_truncated():
    X, y = rows(300)
    seen = []
    executor = make(net("linear"), X, y, piece=7)
    executor._forward = lambda x, honest=executor._forward: seen.append(len(x)) or honest(x)
    executor.answer(query(ClippedSum(1.0), rate=0.5, z=1.0))
    drawn = SecretRandomness(torch.device("cpu"), 0).draw_rows(300, 0.5)
    assert sum(seen) == len(drawn) > 100 and max(seen) == 7


def test_norm_below_counts():
    X, y = rows()
    captured = []
    module = net("linear")
    for i in range(len(X)):
        module.zero_grad()
        ClassLoss()(module(X[i : i + 1]), y[i : i + 1]).sum().backward()
        captured.append(torch.cat([p.grad.ravel() for p in module.parameters()]).norm().item())
    bound = float(np.median(captured))
    expected = sum(0.5 if norm <= bound else -0.5 for norm in captured)
    assert float(make(module, X, y).answer(query(NormBelow(bound)))[0]) == pytest.approx(expected, abs=0.01)


def test_spending_comes_first():
    """A refused query reads no row; an accepted one is ticked before the first."""
    X, y = rows()
    order = []

    def refuse(touch):
        raise PlanViolationError("used up")

    for spend in (refuse, lambda touch: order.append("spend")):
        executor = make(net("linear"), X, y, spend=spend)
        executor._forward = lambda x, honest=executor._forward: order.append("read") or honest(x)
        if spend is refuse:
            with pytest.raises(PlanViolationError):
                executor.answer(query(ClippedSum(1.0)))
            assert order == []
        else:
            executor.answer(query(ClippedSum(1.0)))
            assert order == ["spend", "read"]


@pytest.mark.parametrize("bound", [0.7, torch.tensor(0.7)])
@pytest.mark.parametrize("rate", [1.0, 0.3, 1e-9])
def test_noise_is_multiplier_times_sensitivity(bound, rate):
    """False alarm 1e-6; scaled by 2/3 it is certain to be seen. At rate 1e-9 every sample is empty."""
    X, y = rows()
    executor = make(net("relu"), X, y, seed=None)
    asked = query(ClippedSum(bound), NormBelow(bound), rate=rate, z=40.0)  # so that the rows hardly matter
    sums, counts = zip(*((flat(a), flat(b)) for a, b in (executor.answer(asked) for _ in range(800))), strict=True)
    for samples, std in ((np.concatenate(sums), 40 * 0.7), (np.concatenate(counts), 40 * 0.5)):
        exact = 0 if rate < 1 else samples.mean() if len(samples) == 800 else np.tile(
            flat(make(net("relu"), X, y).answer(query(ClippedSum(bound)))[0]), 800)  # fmt: skip
        check_noise(samples - exact, std)
        with pytest.raises(AssertionError, match=r"noise is 0\.[67]"):
            check_noise((samples - exact) * 2 / 3, std)


def test_empty_samples_are_answered_with_noise_alone():
    X, y = rows()
    ticks = []
    executor = make(net("relu"), X, y, spend=ticks.append)
    total, below = executor.answer(query(ClippedSum(1.0), NormBelow(1.0), rate=1e-12, z=1.0))
    assert len(ticks) == 1 and (flat(total) != 0).all() and float(below) != 0
    total, below = executor.answer(query(ClippedSum(1.0), NormBelow(1.0), rate=1e-12))
    assert (flat(total) == 0).all() and float(below) == 0


def test_hooks_are_gone_after_an_error():
    X, y = rows()
    module = net("relu")

    def broken(outputs, targets):
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        make(module, X, y, loss=broken).answer(query(ClippedSum(1.0)))
    assert not module[0]._forward_hooks
    assert len(make(module, X, y).answer(query(ClippedSum(1.0)))[0]) == 4


def test_unknown_values_are_refused():
    X, y = rows()
    with pytest.raises(TypeError, match="no rule for str"):
        make(net("linear"), X, y).answer(query("median"))


def test_it_follows_frozen_parameters():
    X, y = rows()
    module = net("relu")
    executor = make(module, X, y)
    assert len(executor.answer(query(ClippedSum(1.0)))[0]) == 4
    module[0].requires_grad_(False)
    executor.follow_frozen_parameters()
    assert list(executor.model.parameters) == ["2.weight", "2.bias"]
    assert len(executor.answer(query(ClippedSum(1.0)))[0]) == 2


class InPlace(nn.Module):
    """Writes into the rows it is given."""

    def __init__(self, write):
        super().__init__()
        self.layer, self.write = nn.Linear(8, 2), write

    def forward(self, x):
        self.write(x)
        return self.layer(x)


@pytest.mark.parametrize("rate", [1.0, 0.999])
@pytest.mark.parametrize("write", [lambda x: x.mul_(10), lambda x: x[:, :2].zero_(), torch.relu_])
def test_a_module_that_overwrites_the_rows_is_refused(write, rate):
    X, y = rows()
    with pytest.raises(UnsupportedModuleError, match="in place.*returns a new tensor"):
        make(InPlace(write), X, y).answer(query(ClippedSum(1.0), rate=rate))


def test_known_squares_are_not_those_of_a_changed_input():
    """The executor refuses it; the norms must be right all the same."""
    X, _ = rows()
    module = InPlace(lambda x: x.mul_(10))
    per_example = PerExample(module)
    per_example.input_squares = X.square().sum(1)
    with per_example:
        (squares,) = per_example.backward(module(X).sum(1)).squared_norms()
    torch.testing.assert_close(squares, 2 * X.square().sum(1) + 2)  # X is ten times what it was


class Keeper(nn.Module):
    """Tries every way of leaving something in a buffer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 2)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("last", torch.zeros(0))
        self.register_buffer("empty", None)

    def forward(self, x):
        self.mean.data.lerp_(x.mean(0), 5e-4)
        self.calls += 1
        self.last = x.clone()
        self.empty = x.sum()
        self.layer.register_buffer("fresh", x.clone())
        return self.layer(x)


def test_buffers_come_out_as_they_went_in():
    X, y = rows()
    module = Keeper()
    before, objects = {n: b.clone() for n, b in module.named_buffers()}, dict(module.named_buffers())
    for piece in (3, 100):
        make(module, X, y, piece=piece).answer(query(ClippedSum(1.0)))
        after = dict(module.named_buffers())
        assert after.keys() == before.keys() and module.empty is None
        assert all(torch.equal(after[n], b) and after[n] is objects[n] for n, b in before.items())

    def broken(outputs, targets):
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        make(module, X, y, loss=broken).answer(query(ClippedSum(1.0)))
    assert module.calls == 0 and module.empty is None


@pytest.mark.parametrize("piece", [2, 100])
def test_spectral_norm_iterates_once_an_answer_however_many_pieces(piece):
    X, y = rows()
    torch.manual_seed(0)
    module = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 2))
    inner = module.parametrizations.weight[0]
    start = nn.functional.normalize(torch.ones(8), dim=0)  # far from the fixed point
    inner._v.copy_(start)
    make(module, X, y, piece=piece).answer(query(ClippedSum(1.0)))
    once = inner._v.clone()
    inner._v.copy_(start)
    with torch.no_grad():
        module.weight  # noqa: B018 -- reading it is one iteration
    assert torch.equal(once, inner._v) and not torch.equal(once, start)


@pytest.mark.parametrize("weights", [None, torch.ones(12)])
@pytest.mark.parametrize("kind", ["linear", "norm", "conv", "recurrent"])
def test_a_rehearsal_spends_nothing_and_changes_nothing(kind, weights):
    spent = []
    X, y = rows()
    module = net(kind)
    executor = make(module, torch.full_like(X, float("nan")), y, weights, spend=spent.append)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    executor.rehearse(7)
    assert not spent and all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
