"""Fits with RGP: their price, their noise levels, and everything that they go together with."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from suite import answers_through, no_noise
from torch import nn

from skdp import DPClassifier
from skdp.accounting import PrivacyStatement, verify
from skdp.callbacks import FitCheckpoint
from skdp.contract import Public
from skdp.exceptions import UnsupportedModuleError
from skdp.mechanisms import RGP
from skdp.nets import MLP


class Levels(Callback):
    """What the optimizer is told of the noise."""

    def on_grad_computed(self, net, named_parameters, training=None, **kwargs):
        (group,) = net.optimizer_.param_groups
        self.levels, self.shapes = group["noise_std"], [p.shape for p in group["params"]]


def test_dp_adam_is_told_the_level_of_each_coordinate(blobs):
    module, listener = MLP((30, 20)).build(Public(400, (4,), 1, "binary")), Levels()
    module[1].requires_grad_(False)
    model = classifier(module=module, mechanism=RGP(rank=3), optimizer="dp-adam", lr=0.01, callbacks=[listener])
    model.fit(*blobs)
    assert [float(level) for level in listener.levels[:2]] == [0, 0], "frozen"
    level, std = listener.levels[2], listener.levels[3]
    assert level.shape == listener.shapes[2] == (20, 30)
    # The noise lives in 3 * (20 + 30) - 3 * 3 dimensions.
    assert float(level.square().sum()) == pytest.approx(std**2 * 141, rel=1e-4)
    assert model.score(*blobs) > 0.3


# ------------------------------------------------------------------ fits
def classifier(**params):
    fast = {"module": MLP((24, 12)), "mechanism": RGP(rank=2, warm_up=0.3), "classes": [0, 1], "epsilon": 3.0}
    return DPClassifier(**{**fast, "max_epochs": 6, "batch_size": 400, "feature_bounds": (-1, 1), **params})


@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one", "add-remove"])
def test_it_costs_what_dp_sgd_costs(blobs, adjacency):
    given = {"adjacency": adjacency, "n_public": 400 if adjacency == "add-remove" else None, "batch_size": 50}
    mine, theirs = (classifier(**given, **other).fit(*blobs).privacy_ for other in ({}, {"mechanism": "dp-sgd"}))
    assert mine.event == theirs.event and mine.epsilon == theirs.epsilon
    assert mine.mechanism == "RGP of rank 2, carriers: both, flat clipping"
    assert verify(PrivacyStatement.from_json(mine.to_json()))


def test_without_noise_it_is_the_plain_fit(blobs):
    given = {"epsilon": math.inf, "random_state": 0}
    with pytest.warns(UserWarning, match="NOT PRIVATE"):
        one, two = classifier(**given).fit(*blobs), classifier(mechanism="dp-sgd", **given).fit(*blobs)
    np.testing.assert_array_equal(one.predict_proba(blobs[0]), two.predict_proba(blobs[0]))


def test_it_learns(blobs):
    model = classifier(mechanism=RGP(rank=4), module=MLP((24, 12)), epsilon=8.0, max_epochs=80, lr=0.5)
    with pytest.raises(UnsupportedModuleError):
        clone(model).set_params(mechanism__rank=6).fit(*blobs)
    assert model.fit(*blobs).score(*blobs) > 0.85


@pytest.mark.parametrize(
    "params",
    [
        {"clipping": "automatic"},
        {"clipping": "per-layer", "class_weight": "balanced"},
        {"clipping": "global", "max_grad_norm": 8.0, "mechanism": RGP(rank=1, carriers="left", warm_up=0.0)},
    ],
    ids=str,
)
def test_it_goes_with_everything_else(blobs, params):
    X, y = blobs
    model = classifier(warm_start=True, epsilon=1.0, **params).fit(X, y, np.linspace(0, 2, len(y)))
    assert "RGP" in model.privacy_.mechanism
    assert 1.0 < model.fit(X, y).privacy_.epsilon < 2.0
    assert np.isfinite(model.predict_proba(X)).all()


def test_a_grid_search_tunes_it(blobs):
    search = GridSearchCV(classifier(), {"mechanism__carriers": ["both", "left"]}, cv=2, n_jobs=2, error_score="raise")
    assert set(search.fit(*blobs).best_params_) == {"mechanism__carriers"}


def test_layers_that_learn_their_shape_from_data(blobs):
    module = nn.Sequential(nn.LazyLinear(20), nn.Tanh(), nn.LazyLinear(1))
    assert classifier(module=module, mechanism=RGP(rank=1)).fit(*blobs).module_[0].weight.shape == (20, 4)


class Interrupt(Callback):
    def on_batch_end(self, net, training, **kwargs):
        if net.state_["step"] == 12:
            raise KeyboardInterrupt


def test_an_interrupted_fit_goes_on_bit_by_bit(tmp_path, blobs):
    """Without noise in the answers: weights, the history's start and the public generator are all in the file."""
    given = {"epsilon": 3.0, "max_epochs": 20, "random_state": 0, "optimizer": "dp-adam", "lr": 0.01}
    files = [FitCheckpoint(tmp_path / name, every=7) for name in ("a", "b")]
    with no_noise():
        stopped = classifier(callbacks=[files[0], Interrupt()], **given).fit(*blobs)
        assert stopped.privacy_.status == "interrupted" and stopped.privacy_.steps == 12
        with mock.patch.object(Interrupt, "on_batch_end", lambda *args, **kwargs: None):
            resumed = DPClassifier.resume(tmp_path / "a", *blobs)
        whole = classifier(callbacks=[files[1]], **given).fit(*blobs)
    for name, weight in whole.module_.state_dict().items():
        assert torch.equal(resumed.module_.state_dict()[name], weight)
    assert resumed.privacy_.epsilon <= 3.0


def test_carriers_know_nothing_of_the_rows(blobs):
    """Other rows, the same answers: the same carriers in every step."""

    def carriers(X, y):
        given = torch.Generator().manual_seed(0)
        found = []

        def wrapper(executor, query, honest):
            found.extend(t for pair in query.values[0].carriers.values() for t in pair)
            return ([torch.randn(part.shape, generator=given) for part in honest()[0]],)

        with answers_through(wrapper):
            classifier(random_state=0, mechanism=RGP(rank=2, warm_up=0.0)).fit(X, y)
        return found

    X, y = blobs
    one, two = carriers(X, y), carriers(-X[::-1], 1 - y)
    assert len(one) == len(two) == 6 * 2 and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
