"""Nets split at a layer: what is released, what trains on it, and which splits are refused."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from skdp.exceptions import UnsupportedModuleError
from skdp.nets import RandomProjection
from skdp.nets.scatter import ScatterFeatures
from skdp.nets.tabular import TabularFeatures
from skdp.training import SplitNet, clip_rows

OUTSIDE = [1e30, 3.4e38, float("inf"), -float("inf"), float("nan"), 1e-45, 0.0]


class General(nn.Module):
    """No Sequential: a front, a named layer inside, and a head with dropout; optionally a way around."""

    def __init__(self, around=False, trains=False, twice=False, mixes=False, runs=True):
        super().__init__()
        self.front = nn.Linear(4, 6).requires_grad_(trains)
        self.block = nn.ModuleDict({"act": nn.Tanh()})
        self.head = nn.Linear(6 + 4 * around, 1)
        nn.init.zeros_(self.head.weight)  # a zero layer must not hide the way around
        self.around, self.twice, self.mixes, self.runs = around, twice, mixes, runs

    def forward(self, x):
        a = self.front(x)
        a = a - a.mean(0) if self.mixes else a
        a = self.block["act"](a) if self.runs else a.tanh()
        a = self.block["act"](a) if self.twice else a
        return self.head(torch.cat([a, x], 1) if self.around else a)


@pytest.mark.parametrize("value", OUTSIDE)
@pytest.mark.parametrize("bound", [0.3, 2.0])
def test_clipped_rows_stay_within_the_bound(value, bound):
    rows = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * torch.logspace(-30, 30, 50)[:, None]
    rows[3] = value
    rows[4, 2] = value
    clipped = clip_rows(rows, bound)
    assert torch.isfinite(clipped).all()
    assert clipped.double().norm(dim=1).max() <= bound * (1 + 1e-6)
    if not math.isfinite(value):
        assert (clipped[3:5] == 0).all()
    short = rows.double().norm(dim=1) <= bound
    assert torch.equal(clipped[short], rows[short]) and short.any()


def test_bound_is_reached_and_replaced_rows_move_by_up_to_twice_of_it():
    far = clip_rows(torch.tensor([[1e3, 0.0], [-1e3, 0.0]]), 1.5)
    assert float((far[0] - far[1]).norm()) == pytest.approx(3.0)


@pytest.mark.parametrize("layer", ["block.act", "front"])
def test_general_module_equals_its_parts(layer):
    net = General()
    nn.init.normal_(net.head.weight)
    split, x = SplitNet(net, layer, (4,), bound=0.8).eval(), torch.randn(9, 4)
    activations = split.activations(x)
    expected = net.front(x) if layer == "front" else net.front(x).tanh()
    torch.testing.assert_close(activations, expected)
    torch.testing.assert_close(split(x), split.rest(clip_rows(activations, 0.8)))
    torch.testing.assert_close(net(x), split.rest(activations))  # by itself the net is what it was
    torch.testing.assert_close(copy.deepcopy(split)(x), split(x))


def test_no_gradient_reaches_the_front_and_no_row_reaches_the_rest():
    net = General()
    split = SplitNet(net, "block.act", (4,))
    seen = []
    net.front.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    released = torch.randn(9, 6)
    split.rest(released).sum().backward()
    assert all((rows == 0).all() for rows in seen) and seen, "the rest is run on made-up zeros"
    assert net.front.weight.grad is None and net.head.weight.grad is not None
    assert split.activations(torch.randn(3, 4)).grad_fn is None


def test_the_front_of_a_sequential_is_not_run_in_training():
    net = nn.Sequential(nn.Linear(4, 3).requires_grad_(False), nn.Tanh(), nn.Linear(3, 1))
    split = SplitNet(net, "1", (4,), bound=1.0)
    net[0].register_forward_pre_hook(lambda *_: pytest.fail("the front ran"))
    assert split.rest(torch.randn(5, 3)).shape == (5, 1)


def test_images_and_tokens():
    conv = nn.Sequential(nn.Conv2d(1, 2, 3).requires_grad_(False), nn.Flatten(), nn.Linear(2 * 36, 3))
    split, x = SplitNet(conv, "0", (1, 8, 8), bound=2.0), torch.randn(5, 1, 8, 8)
    assert split.width == 72 and split.activations(x).shape == (5, 72)
    torch.testing.assert_close(split(x), split.rest(clip_rows(split.activations(x), 2.0)))
    words = nn.Sequential(nn.Embedding(10, 3).requires_grad_(False), nn.Flatten(), nn.Linear(12, 1))
    tokens = torch.arange(8).reshape(2, 4)
    assert SplitNet(words, "0", (4,), vocabulary=10).activations(tokens).shape == (2, 12)
    with pytest.raises(UnsupportedModuleError, match="tokens.*embedding"):
        SplitNet(words, None, (4,), vocabulary=10)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_other_number_types_are_clipped_in_float32(kind):
    """A product rounded to bfloat16 may be longer than its bound by half a percent."""

    class Cast(nn.Module):
        def forward(self, x):
            return x.to(kind)

    net = nn.Sequential(Cast(), nn.Linear(4, 1).to(kind))
    split, x = SplitNet(net, "0", (4,), bound=0.3).eval(), torch.randn(500, 4) * 10
    assert split.activations(x).dtype == torch.float32 and split(x).dtype == kind
    assert clip_rows(split.activations(x), 0.3).norm(dim=1).max() <= 0.3 * (1 + 1e-6)


def test_one_number_per_row_without_a_dimension():
    class Sum(nn.Module):
        def forward(self, x):
            return x.sum(1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.sum, self.head = Sum(), nn.Linear(1, 1)

        def forward(self, x):
            return self.head(self.sum(x)[:, None])

    split, x = SplitNet(Net(), "sum", (4,), bound=0.5), torch.randn(5, 4)
    assert split.activations(x).shape == (5, 1)
    torch.testing.assert_close(split(x), split.rest(clip_rows(split.activations(x), 0.5)))


def test_nothing_is_dropped_from_a_release():
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(4, 1))
    split, x = SplitNet(net, "0", (4,), bound=9.0).train(), torch.ones(20, 4)
    assert torch.equal(split.activations(x), x) and net[0].training


@pytest.mark.parametrize(
    ("net", "layer", "words"),
    [
        (General(trains=True), "block.act", "'front.weight', 'front.bias'.*raw rows.*requires_grad_.*dp-sgd"),
        (General(), "head", "'head.weight'"),
        (General(around=True), "block.act", "skip connection"),
        (General(twice=True), "block.act", "runs 2 times"),
        (General(runs=False), "block.act", "runs 0 times"),
        (General(mixes=True), "block.act", "changes with the other records"),
        (nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)), "0", "BatchNorm1d.*public data"),
        (nn.Sequential(nn.LSTM(4, 3, batch_first=True).requires_grad_(False)), "0", "gives a tuple"),
    ],
)
def test_refused_with_layer_and_remedy(net, layer, words):
    shape = (2, 4) if isinstance(net, nn.Sequential) and isinstance(net[0], nn.LSTM) else (4,)
    with pytest.raises(UnsupportedModuleError, match=f"(?s){words}"):
        SplitNet(net, layer, shape)


def test_layers_that_write_into_what_they_get():
    net = nn.Sequential(nn.Linear(4, 3).requires_grad_(False), nn.ReLU(inplace=True), nn.Linear(3, 1))
    split, x = SplitNet(net, "0", (4,), bound=0.5), torch.randn(5, 4)
    torch.testing.assert_close(split(x), split.rest(clip_rows(split.activations(x), 0.5)))
    wrapped = nn.Sequential(net)
    split = SplitNet(wrapped, "0.0", (4,), bound=0.5)
    released = torch.randn(5, 3)
    kept = released.clone()
    split.rest(released)
    assert torch.equal(released, kept)


def test_a_net_can_be_split_again_elsewhere():
    net = nn.Sequential(nn.Sequential(nn.Linear(4, 3).requires_grad_(False), nn.Tanh()), nn.Linear(3, 1))
    first = SplitNet(net, "0.0", (4,), bound=0.1)
    second, x = SplitNet(copy.deepcopy(first.net), "0", (4,), bound=0.5), torch.randn(5, 4)
    assert torch.equal(second.activations(x), net[0](x))
    torch.testing.assert_close(second(x), second.rest(clip_rows(net[0](x), 0.5)))


def test_a_layer_that_is_not_there():
    with pytest.raises(ValueError, match="layer='heads' is not in module=General; it has 'front', 'block'"):
        SplitNet(General(), "heads", (4,))
    with pytest.raises(ValueError, match=r"cannot take rows of shape \(5,\)"):
        SplitNet(General(), "front", (5,))


def test_a_tied_weight_of_the_front_counts_as_front():
    front = nn.Linear(4, 4)
    net = nn.Sequential(front, nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 1))
    net[2].weight = front.weight
    with pytest.raises(UnsupportedModuleError, match="'0.weight', '0.bias'"):
        SplitNet(net, "1", (4,))


def test_threads_do_not_see_each_other():
    """Predictions of one fitted net may run in several threads."""
    from concurrent.futures import ThreadPoolExecutor

    net = General()
    nn.init.normal_(net.head.weight)
    split, x = SplitNet(net, "block.act", (4,), bound=0.5).eval(), torch.randn(200, 4)
    tasks = [lambda: split(x), lambda: split.rest(split.activations(x))] * 40
    expected = [split(x).detach(), split.rest(split.activations(x)).detach()] * 40
    with ThreadPoolExecutor(4) as pool:
        for one, two in zip(pool.map(lambda task: task(), tasks), expected, strict=True):
            torch.testing.assert_close(one, two)


@pytest.mark.parametrize("std", [0.5, 3.0])
def test_stretching_undoes_what_noise_flattens(std):
    """Against the closed form: least squares on noisy inputs, then the true slope (four standard errors)."""
    rng, n = np.random.default_rng(0), 200_000
    clean = rng.standard_normal((n, 3)) * [1.0, 0.5, 2.0] + [0.0, 3.0, 0.0]
    slope = np.array([1.0, -2.0, 0.5])
    noisy = clean + std * rng.standard_normal(clean.shape)
    split = SplitNet(nn.Identity(), None, (3,), bound=1e6)
    split.follow_noise(torch.tensor(noisy, dtype=torch.float32), std)
    assert float(split.scale) == max(1.0, std)
    seen = np.column_stack([noisy / float(split.scale), np.ones(n)])
    learned = np.linalg.lstsq(seen, clean @ slope, rcond=None)[0]
    flat = learned[:3] / float(split.scale)
    new = rng.standard_normal((500, 3)) + [0.0, 3.0, 0.0]
    stretched = split(torch.tensor(new, dtype=torch.float32)).double().numpy() @ learned[:3] + learned[3]
    truth = new @ slope
    error, without = np.std(stretched - truth), np.std(new @ flat - truth)
    assert error < 0.25 * without


def test_no_noise_stretches_nothing_and_hidden_signal_not_much():
    split = SplitNet(nn.Identity(), None, (3,))
    split.follow_noise(torch.randn(50, 3), 0.0)
    assert torch.equal(split.gain, torch.eye(3)) and float(split.scale) == 1
    split.follow_noise(5 * torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)), 5.0)
    assert torch.linalg.matrix_norm(split.gain, 2) <= 1 + 0.5 * math.sqrt(2000 / 3)
    wide = SplitNet(nn.Identity(), None, (600,))
    wide.follow_noise(torch.randn(100, 600), 0.5)
    assert wide.gain.ndim == 0 and 1 < float(wide.gain) < 2


def test_random_projection_is_public_and_keeps_norms():
    one, two = RandomProjection(500, 40, seed=3), RandomProjection(500, 40, seed=3)
    assert torch.equal(one.directions, two.directions) and not list(one.parameters())
    assert not torch.equal(one.directions, RandomProjection(500, 40).directions)
    x = torch.randn(200, 5, 100)
    ratio = one(x).square().sum(1) / x.flatten(1).square().sum(1)
    assert abs(float(ratio.mean()) - 1) < 0.2
    with pytest.raises(ValueError, match="width=0"):
        RandomProjection(4, 0)


@pytest.mark.parametrize("bound", [1e-3, 1e-5, 2.5e-7])
@pytest.mark.parametrize("size", [3.4e38, 1e30, 1.0])
def test_a_small_bound_holds_for_the_largest_rows(bound, size):
    """The factor is then smaller than what float32 can tell apart."""
    rows = torch.tensor([[size, -size, size / 3]])
    assert clip_rows(rows, bound).double().norm() <= bound * (1 + 1e-6)


class Reacting(nn.Module):
    """Doubles all rows where something is odd about some of them, or about those of the last piece."""

    def __init__(self, odd, remembers):
        super().__init__()
        self.odd, self.remembers, self.last = odd, remembers, None

    def forward(self, x):
        before, self.last = self.last, x
        seen = before if self.remembers else x
        return x if seen is None else x * (1.0 + self.odd(seen))


ODD = {
    "large": lambda x: x.max() > 100,
    "huge": lambda x: x.max() > 1e5,
    "hugely negative": lambda x: x.min() < -1e5,
    "zeros": lambda x: (x == 0).all(1).any(),
    "one number": lambda x: (x == x[:, :1]).all(1).any(),
    "mean": lambda x: x.mean(),
    "last row": lambda x: x[-1, 0],
}


@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_fronts_that_react_to_other_rows_are_found(name, remembers):
    net = nn.Sequential(Reacting(ODD[name], remembers), nn.Linear(4, 1))
    with pytest.raises(UnsupportedModuleError, match="keeps something of them|changes with the other records"):
        SplitNet(net, "0", (4,))


HONEST = {
    "layer norm": (lambda: nn.LayerNorm(4), (4,)),
    "exponential": (lambda: nn.Softplus(), (4,)),
    "attention": (lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (3, 4)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), (1, 8, 8)),
    "scattering": (lambda: ScatterFeatures(14, 14), (1, 14, 14)),
    "features of tables": (lambda: TabularFeatures(np.array([True, False] * 2), 0.5, 8, 32, 64, 1000), (4,)),
    "projection": (lambda: RandomProjection(4, 3), (4,)),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_fronts_pass(name):
    front, shape = HONEST[name]
    width = front()(torch.rand(1, *shape)).numel()
    assert SplitNet(nn.Sequential(front().requires_grad_(False), nn.Flatten(), nn.Linear(width, 1)), "0", shape).width


def test_embeddings_pass_and_tokens_that_mix_are_found():
    words = nn.Sequential(nn.Embedding(10, 3).requires_grad_(False), nn.Flatten(), nn.Linear(12, 1))
    assert SplitNet(words, "0", (4,), vocabulary=10).width == 12
    mixing = nn.Sequential(nn.Sequential(words[0], Reacting(lambda x: x.mean(), True)), nn.Flatten(), nn.Linear(12, 1))
    with pytest.raises(UnsupportedModuleError, match="keeps something of them|changes with the other records"):
        SplitNet(mixing, "0", (4,), vocabulary=10)
