"""The check that a module treats its records independently."""

from __future__ import annotations

import pytest
import torch
from rule_cases import CASES, Frozen, Positions, Tied, per_record
from small_net import MSE, data, net
from torch import nn

from skdp.contract import Public
from skdp.exceptions import UnsupportedModuleError
from skdp.nets import MLP, Linear, Net, ScatterLinear, TabularNet, TanhCNN, TextBag
from skdp.nets.building import build_module
from skdp.training import check_rows_independent
from skdp.training.pieces import made_up_records


def test_three_rows_are_needed():
    module, (x, y) = net(), data()
    with pytest.raises(ValueError, match="three"):
        check_rows_independent(module, MSE, x[:2], y[:2])


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


def drawn(x):
    """Random numbers that no layer knows of must not hide what else happens."""
    return nn.functional.dropout(x, 0.1)


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
    "largest": (lambda: Wrapped(lambda x: x / x.max()), "mixes rows"),
    "largest magnitude": (lambda: Wrapped(lambda x: x / x.abs().max()), "mixes rows"),
    "largest above one": (lambda: Wrapped(lambda x: x / x.abs().max().clamp(min=1)), "mixes rows"),
    "largest above ten": (lambda: Wrapped(lambda x: x / x.abs().max().clamp(min=10)), "mixes rows"),
    "number of records": (lambda: Wrapped(after=lambda x: x / len(x)), "mixes rows"),
    "a little of the mean": (lambda: Wrapped(lambda x: x + 1e-4 * x.mean(0)), "mixes rows"),
    "median": (lambda: Wrapped(lambda x: x - x.median(0).values), "mixes rows"),
    "only with dropout": (lambda: Wrapped(lambda x: nn.functional.dropout(x / x.abs().max(), 0.1)), "mixes rows"),
    "next row": (lambda: Wrapped(lambda x: drawn(x + nn.functional.pad(x[1:], (0, 0, 0, 1)))), "mixes rows"),
    "differences": (lambda: Wrapped(lambda x: drawn(torch.diff(x, dim=0, append=x[-1:]))), "mixes rows"),
    "sum from behind": (lambda: Wrapped(lambda x: drawn(x.flip(0).cumsum(0).flip(0))), "mixes rows"),
    "maximum from behind": (lambda: Wrapped(lambda x: drawn(x.flip(0).cummax(0).values.flip(0))), "mixes rows"),
    "last row, if large": (lambda: Wrapped(lambda x: drawn(x * (1 + (x[-1].max() > 100)))), "mixes rows"),
    "only in large batches": (lambda: Wrapped(lambda x: x - x.mean(0) * (len(x) > 8)), "mix"),
    "one record": (lambda: Wrapped(lambda x: x.squeeze(0)), "cannot take a single record"),
}


@pytest.mark.parametrize("features", range(1, 12))
@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_a_maximum_over_the_batch_is_found_on_rows_like_those_of_a_fit(features, floor):
    module = nn.Linear(features, 1)
    module.register_forward_pre_hook(lambda module, args: (args[0] / args[0].abs().max().clamp(min=floor),))
    x = torch.rand(4, features, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UnsupportedModuleError, match="mixes rows"):
        check_rows_independent(module, MSE, x, torch.arange(4.0)[:, None])


class Coarse(Wrapped):
    """Computes in bfloat16."""

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x).float()


@pytest.mark.parametrize("seed", range(20))
def test_coarse_arithmetic_is_no_mixing(seed):
    torch.manual_seed(seed)
    x, y = torch.randn(6, 4), torch.randn(6, 2)
    check_rows_independent(Coarse(torch.tanh, torch.sin), MSE, x, y)
    with pytest.raises(UnsupportedModuleError, match="mixes rows"):
        check_rows_independent(Coarse(lambda x: x / x.abs().max()), MSE, x, y)


class Codes(nn.Module):
    """Looks up numbers that are codes: a thousand times a code is none."""

    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(5, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.table((x[:, 0] * 4).round().long().clamp(0)))


class Inverse(nn.Module):
    """Cannot take a record of zeros."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.linalg.inv(x.view(-1, 2, 2)).flatten(1))


@pytest.mark.parametrize("module", [Codes, Inverse])
def test_rows_that_a_module_cannot_take_say_nothing(module):
    torch.manual_seed(0)
    check_rows_independent(module(), MSE, torch.rand(4, 4), torch.randn(4, 2))


def test_dropout_is_as_it_was():
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3), nn.Unflatten(1, (2, 2)), nn.Flatten(), nn.Linear(4, 2))
    check_rows_independent(module, MSE, *data())
    assert module[1].p == 0.3 and module.training


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
    torch.manual_seed(0)
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


class Remembering(nn.Module):
    """Keeps what it was given last, in an attribute that no state dict knows."""

    def __init__(self, shows):
        super().__init__()
        self.layer, self.shows, self.last = nn.Linear(4, 2), shows, None

    def forward(self, x):
        before, self.last = self.last, x.detach()
        return self.layer(x if before is None else x + self.shows(before))


MEMORIES = {
    "mean": lambda before: before.mean(),
    "last row": lambda before: before[-1:],
    "a little": lambda before: 1e-2 * before[-1:].tanh(),
    "above a hundred": lambda before: before.max() > 100,
    "above a hundred thousand": lambda before: before.max() > 1e5,
    "below": lambda before: before.min() < -1e5,
    "zeros": lambda before: (before[-1] == 0).all(),
    "one number": lambda before: (before == before[:, :1]).all(),
    "copies": lambda before: (before == before[:1]).all(),
}


@pytest.mark.parametrize("zero_head", [True, False])
@pytest.mark.parametrize("name", MEMORIES)
def test_modules_that_remember_rows_are_found(name, zero_head):
    torch.manual_seed(0)
    module = nn.Sequential(Remembering(MEMORIES[name]), nn.Linear(2, 2))
    if zero_head:
        nn.init.zeros_(module[1].weight)
    with pytest.raises(UnsupportedModuleError, match="keeps something of them|mixes rows|changes with another record"):
        check_rows_independent(module, MSE, torch.rand(4, 4), torch.randn(4, 2))


EXTREME_MIXERS = {
    "huge": lambda x: x.max() > 1e5,
    "hugely negative": lambda x: x.min() < -1e5,
    "nearly infinite": lambda x: x.abs().max() > 1e20,
    "zeros": lambda x: (x == 0).all(1).any(),
    "one number": lambda x: (x == x[:, :1]).all(1).any(),
    "copies": lambda x: len(torch.unique(x, dim=0)) < len(x),
    "sign": lambda x: x.min() < 0,
}


@pytest.mark.parametrize("name", EXTREME_MIXERS)
def test_modules_that_mix_rows_in_odd_cases_only_are_found(name):
    torch.manual_seed(0)
    module = Wrapped(lambda x: x * (1.0 + EXTREME_MIXERS[name](x)))
    with pytest.raises(UnsupportedModuleError, match="mixes rows"):
        check_rows_independent(module, MSE, torch.rand(4, 4), torch.randn(4, 2))


class Attention(nn.Module):
    """A transformer layer over the positions of one record."""

    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.block(x).mean(1))


class Recurrent(nn.Module):
    """The last state of an LSTM."""

    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class Lazy(nn.Module):
    """Makes a table of positions when it first runs: a cache of what is public."""

    def __init__(self):
        super().__init__()
        self.out, self.places = nn.Linear(4, 2), None

    def forward(self, x):
        if self.places is None:
            self.places = torch.arange(x.shape[1]) / x.shape[1]
        return self.out(x + self.places)


HONEST = {
    "attention": (Attention, (3, 4)),
    "LSTM": (Recurrent, (3, 4)),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2)), (4,)),
    "group norm": (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(36, 2)), (4, 3, 3)),
    "lazy cache": (Lazy, (4,)),
    "softmax": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Softmax(1), nn.Linear(3, 2)), (4,)),
    "exponential": (lambda: Wrapped(torch.exp), (4,)),
    "logarithm": (lambda: Wrapped(torch.log), (4,)),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", HONEST)
def test_honest_modules_pass_with_extreme_rows(name, seed):
    torch.manual_seed(seed)
    factory, shape = HONEST[name]
    check_rows_independent(factory(), MSE, made_up_records(shape), torch.randn(4, 2))


@pytest.mark.parametrize(
    ("spec", "shape", "vocabulary"),
    [
        (Linear(), (6,), None),
        (MLP(dropout=0.2), (6,), None),
        (MLP(activation="relu"), (6,), None),
        (TabularNet(), (6,), None),
        (TabularNet(categorical=[True, False] * 3), (6,), None),
        (ScatterLinear(), (1, 14, 14), None),
        (TanhCNN(), (1, 14, 14), None),
        (TextBag(50), (8,), 50),
        (TextBag(50, embedding=4, hidden_units=3), (8,), 50),
        (Net(nn.Linear, in_features=6, out_features=1), (6,), None),
    ],
    ids=repr,
)
def test_every_net_of_the_package_passes(spec, shape, vocabulary):
    net = build_module(spec, Public(20000, shape, 1, "binary", vocabulary=vocabulary), 5000.0, 0)
    check_rows_independent(net.train(), MSE, made_up_records(shape, vocabulary), torch.arange(4.0)[:, None])
