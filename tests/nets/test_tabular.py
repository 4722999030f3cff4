"""The default net: frozen record-wise features of bounded norm, and one linear layer."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skdp.contract import Public
from skdp.nets.step_length import nonlinear_share, step_length
from skdp.nets.tabular import TabularNet

SHAPES = [
    # rows, columns, indicators, outputs, task, signal
    (39073, 103, 98, 1, "binary", 10400.0),
    (455, 30, 0, 1, "binary", 180.0),
    (16346, 13, 5, 1, "regression", 4620.0),
    (1437, 64, 0, 10, "multiclass", 500.0),
    (100, 1, 0, 1, "regression", 1e5),
    (5000, 40, 40, 3, "multiclass", 5000.0),
    (50000, 300, 0, 100, "multiclass", 2e5),
]


def build(n, columns, indicators, outputs, task, signal, **parameters):
    mask = np.arange(columns) >= columns - indicators
    spec = TabularNet(categorical=mask, **parameters)
    return spec.build(Public(n=n, input_shape=(columns,), n_outputs=outputs, task=task), signal), mask


def rows(mask, n=64, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.uniform(-1, 1, (n, len(mask)))
    x[:, mask] = draw.random((n, mask.sum())) < 0.1
    return torch.as_tensor(x, dtype=torch.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_starts_at_zero_with_the_declared_shape(shape):
    net, mask = build(*shape)
    out = net(rows(mask))
    assert out.shape == (64, shape[3]) and out.abs().max() == 0
    assert net.precompute_features and [n for n, _ in net.named_parameters()] == ["head.weight"]
    assert torch.equal(net(rows(mask)), net.head(net.features(rows(mask))))


@pytest.mark.parametrize("shape", SHAPES)
def test_row_norms_stay_near_one_even_for_wild_inputs(shape):
    net, mask = build(*shape)
    wild = rows(mask) * 1e6
    for x in (
        rows(mask),
        wild,
        torch.ones(4, len(mask)),
        -torch.ones(4, len(mask)),
        torch.zeros(4, len(mask)),
    ):
        norms = net.features(x).norm(dim=1)
        assert norms.max() < 2.3 and norms.min() >= 0.5
    typical = net.features(rows(mask)).norm(dim=1)
    assert 0.8 < typical.mean() < 1.4


def test_features_of_a_record_do_not_depend_on_the_others():
    net, mask = build(*SHAPES[0])
    x = rows(mask)
    alone = torch.cat([net.features(row[None]) for row in x])
    assert torch.allclose(net.features(x), alone, atol=1e-6)


def test_features_depend_on_no_seed():
    torch.manual_seed(1)
    one, mask = build(*SHAPES[0])
    torch.manual_seed(2)
    two, _ = build(*SHAPES[0])
    assert torch.equal(one.features(rows(mask)), two.features(rows(mask)))


def test_indicators_weigh_as_many_variables_as_a_record_has():
    mask = np.array([False, True, True, True, True])
    net = TabularNet(nonlinear=0.0, categorical=mask).build(Public(1000, (5,), 1, "binary"), 1000.0)
    one = net.features(torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0]]))[0, 1:5]
    two = net.features(torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0]]))[0, 1:5]
    assert one.square().sum() == pytest.approx(3 / 4, abs=1e-6)
    assert two.square().sum() == pytest.approx(6 / 7, abs=1e-6)


def test_little_signal_gives_a_linear_model():
    net, mask = build(455, 30, 0, 1, "binary", 100.0)
    assert net.features(rows(mask)).shape[1] == 31
    net, mask = build(20000, 30, 0, 1, "binary", 10000.0)
    assert net.features(rows(mask)).shape[1] > 1000


def test_nonlinear_share_grows_with_signal_and_is_limited_by_rows():
    public = Public(1000, (10,), 1, "binary")
    shares = [nonlinear_share(public, s) for s in (10.0, 100.0, 1000.0, 1e5, 1e9)]
    assert shares == sorted(shares) and shares[0] < 0.01
    assert shares[-1] == pytest.approx(100**2 / (100**2 + 40**2), rel=1e-3)
    coded = replace(public, indicators=tuple(range(math.prod(public.input_shape))))
    assert nonlinear_share(coded, 100.0) > nonlinear_share(public, 100.0)


def test_width_is_bounded_for_wide_tables():
    net, mask = build(50000, 2000, 0, 1, "binary", 1e6)
    assert net.features(rows(mask, 2)).shape[1] <= 6145


def test_fine_bins_are_left_out_of_large_tables():
    assert build(*SHAPES[2])[0].features.levels == (32, 128)
    assert build(200000, 20, 0, 1, "binary", 1e5)[0].features.levels == (32,)


def test_mostly_categorical_tables_get_no_interactions():
    net, mask = build(20000, 30, 27, 1, "binary", 20000.0)
    x = rows(mask)
    x[:, mask] = 0.0
    x[:, 3:9] = 1.0
    assert net.features(x)[:, -257:-1].abs().max() == 0
    x[:, mask] = 0.0
    assert net.features(x)[:, -257:-1].abs().max() > 0


def test_post_step_shrinks_the_bins_only():
    net, mask = build(*SHAPES[2])
    start, stop = net.features.shrinkable
    binned = net.features(rows(mask))[:, start:stop]
    assert stop - start == 8 * sum(net.features.levels) == 8 * (32 + 128)
    assert ((binned > 0).sum(1) == 16).all(), "one bin of each numeric column and level is on"
    assert float(net.threshold) > 0
    net.head.weight.data.fill_(2 * float(net.threshold))
    net.post_step()
    shrunk = net.head.weight.detach()[0]
    assert torch.allclose(shrunk[start:stop], net.threshold.expand(stop - start))
    outside = torch.cat([shrunk[:start], shrunk[stop:]])
    assert torch.equal(outside, (2 * net.threshold).expand(len(outside)))
    net.head.weight.data.fill_(0.5 * float(net.threshold))
    net.post_step()
    assert net.head.weight[:, start:stop].abs().max() == 0


def test_the_whole_threshold_is_a_fixed_part_of_the_step_length():
    """A bin needs a mean gradient of 1.5 noise standard deviations to grow at all."""
    public = Public(16346, (13,), 1, "regression")
    net = TabularNet(categorical=np.arange(13) >= 8).build(public, 4620.0)
    go = step_length(replace(public, indicators=tuple(range(8, 13))), 4620.0)
    assert float(net.threshold) * go.steps == pytest.approx(1.5 * go.clip / 4620.0 * go.length, rel=1e-4)


def test_state_dict_carries_the_net():
    net, mask = build(*SHAPES[2])
    net.head.weight.data.normal_()
    other, _ = build(*SHAPES[2])
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(rows(mask)), other(rows(mask)))


def test_is_a_specification():
    spec = TabularNet(nonlinear=0.5, bins=16)
    assert clone(spec).get_params() == spec.get_params()
    public = Public(1000, (3,), 1, "binary")
    mask = [True, False, False]
    coded = replace(public, indicators=tuple(np.flatnonzero(mask).tolist()))
    assert len(TabularNet().build(coded, 500.0).features.indicator) == 1
    assert len(TabularNet(categorical=~np.array(mask)).build(coded, 500.0).features.indicator) == 2


def test_indicators_that_a_specification_names_count_as_those_that_are_public():
    public, mask = Public(20000, (30,), 1, "binary"), np.arange(30) >= 5
    named, known = TabularNet(categorical=mask), replace(public, indicators=tuple(range(5, 30)))
    assert named.informed(public) == known == TabularNet().informed(known) == named.informed(known)
    one, two = named.build(public, 3000.0), TabularNet().build(known, 3000.0)
    assert one.features.share == two.features.share and torch.equal(one.threshold, two.threshold)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [({"nonlinear": 1.5}, "nonlinear"), ({"nonlinear": "some"}, "nonlinear"), ({"bins": -1}, "bins"),
     ({"frequencies": 2.5}, "frequencies"), ({"categorical": [True]}, "categorical")],
)  # fmt: skip
def test_errors_name_the_parameter(parameters, name):
    with pytest.raises(ValueError, match=name):
        TabularNet(**parameters).build(Public(1000, (3,), 1, "binary"), 500.0)


@pytest.mark.parametrize("switched_off", ["frequencies", "bins", "interactions"])
def test_blocks_can_be_switched_off(switched_off):
    net, mask = build(*SHAPES[2], **{switched_off: 0})
    assert 0.7 < net.features(rows(mask)).norm(dim=1).mean() < 1.4
