"""Module specifications: what they build, and how they are tuned."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skdp.contract import Public
from skdp.nets import MLP, Linear, Net, RandomProjection, TabularNet, TanhCNN, TextBag, resolve_module
from skdp.nets.building import build_module


def public(shape=(6,), outputs=3):
    return Public(n=100, input_shape=shape, n_outputs=outputs, task="multiclass")


class Own(nn.Module):
    """Takes its shapes by name."""

    def __init__(self, n_features, n_outputs, width=5):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, width), nn.Tanh(), nn.Linear(width, n_outputs))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("spec", [Linear(), Linear(bias=False), MLP(), MLP(hidden_units=7), MLP((4, 3), "relu", 0.2)])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 4, 4)])
def test_first_prediction_is_the_prior(spec, shape):
    """The last layer starts at zero, whatever the input's shape."""
    net = spec.build(public(shape))
    outputs = net(torch.randn(5, *shape))
    assert outputs.shape == (5, 3) and (outputs == 0).all()


def test_initialisation_follows_random_state_and_leaves_torch_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, two, other = (build_module(MLP(), public(), 1.0, seed)[1].weight for seed in (3, 3, 4))
    assert torch.rand(1) == expected
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_net_fills_in_shapes_and_lets_the_user_overrule():
    assert [p.shape[0] for p in Net(Own, width=9).build(public()).parameters()] == [9, 9, 3, 3]
    assert Net(Own, n_outputs=2).build(public())(torch.zeros(1, 6)).shape == (1, 2)
    with pytest.raises(ValueError, match=r"module Linear could not be built: .*pass its arguments with Net\(Linear"):
        Net(nn.Linear).build(public())


def test_net_is_tunable():
    spec = Net(Own, width=9)
    assert clone(spec).get_params() == {"module": Own, "width": 9}
    assert clone(spec).set_params(width=4).build(public()).layers[0].out_features == 4
    assert spec.get_params()["width"] == 9
    assert pickle.loads(pickle.dumps(Net(nn.Linear, in_features=2))).get_params()["in_features"] == 2
    assert "width=9" in repr(spec)


@pytest.mark.parametrize(
    ("given", "kind"),
    [(None, TabularNet), ("linear", Linear), ("mlp", MLP), (Own, Net), (MLP((3,)), MLP), (Net(Own), Net)],
)
def test_every_way_to_name_a_module(given, kind):
    assert type(resolve_module(given)) is kind


def test_numpy_integers_are_sizes():
    """A grid search over ``np.arange`` gives them."""
    four, shape = np.int64(4), (20, 20)
    for spec in (MLP(four), MLP((four, four)), MLP(np.array([4])), TanhCNN((four, four), four), TextBag(four, four)):
        given = shape if isinstance(spec, TanhCNN) else (4,)
        assert spec.build(public(given))[-1].in_features == 4
    assert RandomProjection(6, four).directions.shape == (6, 4)
    with pytest.raises(ValueError, match=r"width=2.5"):
        RandomProjection(6, 2.5)


@pytest.mark.parametrize(
    ("spec", "bounded"),
    [(MLP((8, 5)), True), (MLP((8, 5), dropout=0.75), True), (MLP(()), True), (Linear(), True), (Linear(False), True)]
    + [(MLP((8, 5), activation), False) for activation in ("relu", "gelu", "silu")],
)
def test_row_norm_bounds_what_the_last_layer_is_given(spec, bounded):
    """Whatever the weights before it have become."""
    torch.manual_seed(0)
    net, seen = spec.build(public()), []
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1000)
    net[-1].register_forward_pre_hook(lambda layer, args: seen.append(args[0].norm(dim=1).max()))
    for _ in range(30):
        net(torch.randn(500, 6).sign())
    longest = math.hypot(max(seen), float(net[-1].bias is not None))
    assert longest <= spec.row_norm(public()) * (1 + 1e-6)
    assert (spec.row_norm(public()) < 1.01 * longest) if bounded else longest > 10


def test_an_instance_is_copied():
    instance = Own(6, 3)
    built = resolve_module(instance).build(public())
    assert torch.equal(built.layers[0].weight, instance.layers[0].weight)
    assert built.layers[0].weight is not instance.layers[0].weight


@pytest.mark.parametrize("given", ["resnet", 3, MLP, {"width": 3}])
def test_unknown_modules_are_named(given):
    with pytest.raises(ValueError, match=r"module=.* must be None, 'linear', 'mlp'"):
        resolve_module(given)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (MLP(activation="softmax"), r"MLP\(activation='softmax'\) must be one of tanh, relu"),
        (MLP(hidden_units=(0,)), r"MLP\(hidden_units=\(0,\)\) must be positive whole numbers"),
        (MLP(hidden_units=(2.5,)), r"MLP\(hidden_units=\(2.5,\)\) must be positive whole numbers"),
        (MLP(hidden_units=True), r"MLP\(hidden_units=True\) must be positive whole numbers"),
        (MLP(hidden_units="wide"), r"MLP\(hidden_units='wide'\) must be positive whole numbers"),
        (MLP(dropout=1.5), r"dropout"),
    ],
)
def test_wrong_parameters_are_named(spec, message):
    with pytest.raises(ValueError, match=message):
        spec.build(public())
