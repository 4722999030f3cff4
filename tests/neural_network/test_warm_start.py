"""Going on from earlier weights: the net keeps its form, and what was found is not paid for again."""

from __future__ import annotations

import numpy as np
import pytest
from skorch.callbacks import Callback

from skdp import DPClassifier, DPRegressor
from skdp.accounting import compose, verify
from skdp.callbacks import FitCheckpoint
from skdp.exceptions import UnsupportedModuleError

RNG = np.random.default_rng(0)
X = np.column_stack([RNG.uniform(-1, 1, (2000, 2)), RNG.random(2000) < 0.5])
Y = (X[:, 0] > 0).astype(int)
QUICK = {"epsilon": 3.0, "max_epochs": 4}


def classifier(**options):
    return DPClassifier(**{"classes": [0, 1], "warm_start": True, **QUICK, **options})


def asked_for(statement):
    return {line.name for line in statement.queries if line.name != "gradient"}


class Stop(Callback):
    def on_batch_end(self, net, training, **kwargs):
        if net.state_["step"] == 2:
            raise RuntimeError("on purpose")


def test_the_default_net_goes_on_with_the_indicators_that_were_found():
    clear = {"epsilon": 9.9}  # so that the indicator is surely found
    model = classifier(**clear).fit(X, Y)
    first, bounds = model.privacy_, model.feature_bounds_
    assert model._built_for[0]["indicators"] == (2,) and asked_for(first)
    both = model.fit(X, Y).privacy_
    np.testing.assert_array_equal(model.feature_bounds_, bounds)
    assert model._built_for[0]["indicators"] == (2,)
    second = DPClassifier(classes=[0, 1], feature_bounds=(-1, 1), **QUICK | clear).fit(X, Y).privacy_
    assert both.epsilon == pytest.approx(compose([first, second]).epsilon, rel=1e-3)
    assert [line.planned for line in both.queries if line.name in asked_for(first)] == [1] * len(asked_for(first))
    assert not any("feature bounds" in fact for fact in both.public), (
        "they are not public, but paid for by the first fit"
    )
    assert verify(both), verify(both).text
    assert model.fit(X, Y).privacy_.epsilon > both.epsilon


def test_a_regressor_keeps_the_bounds_of_y():
    model = DPRegressor(warm_start=True, **{**QUICK, "epsilon": 8.0}).fit(X, X[:, 0])
    found = model.y_bounds_
    both = model.fit(X[:1000], X[:1000, 0]).privacy_
    np.testing.assert_array_equal(model.y_bounds_, found)
    assert not any("bounds of y" in fact for fact in both.public) and len(asked_for(both)) == 4
    assert {line.planned for line in both.queries if line.name != "gradient"} == {1}


def test_the_public_bounds_of_another_fit_come_first():
    model = classifier(module="linear").fit(X, Y)
    both = model.set_params(feature_bounds=(-2, 2)).fit(X, Y).privacy_
    np.testing.assert_array_equal(model.feature_bounds_, [[-2, 2]] * 3)
    assert "feature bounds: (-2, 2) for all 3 columns" in both.public


@pytest.mark.parametrize("change", [{"warm_start": True}, {"warm_start": False}])
def test_weights_to_start_from_never_fail_after_something_was_spent(change):
    """Bounds that find an indicator would change the net, for which these weights are no longer made."""
    start = DPClassifier(classes=[0, 1], feature_bounds=None, **QUICK).fit(X, Y)
    if change["warm_start"]:
        model = start.set_params(warm_start=True, feature_bounds="private")
    else:
        model = DPClassifier(classes=[0, 1], init_params=start.module_, **QUICK)
    model.fit(X, Y)
    assert model._built_for[0]["indicators"] == () and asked_for(model.privacy_)


def test_other_columns_are_refused_before_they_cost():
    model = classifier().fit(X, Y)
    before = model.privacy_.epsilon
    with pytest.raises(UnsupportedModuleError, match="warm_start=True: the weights of the last fit do not fit"):
        model.fit(X[:, :2], Y)
    assert model.privacy_.epsilon == before


def test_a_killed_warm_start_resumes_with_what_the_first_fit_found(tmp_path):
    path = tmp_path / "fit.ckpt"
    model = classifier().fit(X, Y)
    with pytest.raises(RuntimeError, match="on purpose"):
        model.set_params(callbacks=[FitCheckpoint(path, every=1), Stop()]).fit(X, Y)
    resumed = DPClassifier.resume(path, X, Y)
    np.testing.assert_array_equal(resumed.feature_bounds_, model.feature_bounds_)
    assert resumed.privacy_.epsilon == pytest.approx(model.privacy_.epsilon, rel=1e-6)
    assert not any("feature bounds" in fact for fact in resumed.privacy_.public)
