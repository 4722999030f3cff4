"""Sample weights of a private pipeline reach every private step, and no other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skdp import DPClassifier
from skdp.pipeline import PrivatePipeline, make_private_pipeline
from skdp.preprocessing import DPMinMaxScaler, DPOneHotEncoder, DPStandardScaler, DPTableVectorizer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
N = 200


def classifier():
    return Seen("linear", classes=[0, 1], max_epochs=1, feature_bounds=None)


class Seen(DPClassifier):
    """Remembers which weights it got."""

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.weights_ = sample_weight
        return self


class SeenScaler(DPStandardScaler):
    """Remembers which weights it got."""

    def fit(self, X, y=None, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.weights_ = sample_weight
        return self


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=N), "b": rng.normal(size=N), "c": rng.choice(list("uvw"), N)})
    return X, (X["a"] > 0).astype(int), (rng.random(N) < 0.5).astype(float)


def columns():
    kinds = DPOneHotEncoder([list("uvw")], sparse_output=False)
    numbers = FeatureUnion([("scaled", SeenScaler(feature_bounds=(-4, 4))), ("ranges", DPMinMaxScaler())])
    return ColumnTransformer([("numbers", numbers, ["a", "b"]), ("kinds", kinds, ["c"])])


def scaler_in(fitted):
    return fitted[0].named_transformers_["numbers"].transformer_list[0][1]


def test_every_private_step_gets_them_wherever_it_is(data):
    X, y, w = data
    pipe = make_private_pipeline(columns(), classifier(), epsilon=3.0).fit(X, y, sample_weight=w)
    assert (scaler_in(pipe).weights_ == w).all() and (pipe[-1].weights_ == w).all()
    assert pipe.privacy_.text.count("sample weights were computed") == 1
    plain = clone(pipe).fit(X, y)
    assert scaler_in(plain).weights_ is None and plain[-1].weights_ is None
    assert plain.privacy_.epsilon == pipe.privacy_.epsilon


def test_nested_private_pipelines_hand_them_on(data):
    X, y, w = data
    inner = make_private_pipeline(DPTableVectorizer(), SeenScaler(feature_bounds=(-1, 1)))
    pipe = PrivatePipeline([("inner", inner), ("model", classifier())], epsilon=3.0).fit(X, y, sample_weight=w)
    assert (pipe[0][1].weights_ == w).all() and (pipe[-1].weights_ == w).all()
    ahead = make_private_pipeline(DPTableVectorizer(), SeenScaler(feature_bounds=(-1, 1)), epsilon=3.0)
    assert ahead.fit_transform(X, sample_weight=w).shape[0] == N and (ahead[1].weights_ == w).all()


def test_steps_declared_public_do_not_get_them(data):
    """Their weights would be those of rows that they are said to learn nothing from."""
    X, y, w = data
    pipe = make_private_pipeline(StandardScaler(), classifier(), public_steps=("standardscaler",))
    fitted = pipe.fit(X[["a", "b"]], y, sample_weight=w)
    np.testing.assert_allclose(fitted[0].mean_, X[["a", "b"]].mean(), rtol=1e-9)
    assert (fitted[-1].weights_ == w).all()


def test_single_steps_are_weighted_by_name_as_before(data):
    X, y, w = data
    numbers = X[["a", "b"]]
    pipe = make_private_pipeline(SeenScaler(), classifier()).fit(numbers, y, seen__sample_weight=w)
    assert pipe[0].weights_ is None and (pipe[-1].weights_ == w).all()
    pipe.fit(numbers, y, seenscaler__sample_weight=w)
    assert (pipe[0].weights_ == w).all() and pipe[-1].weights_ is None
    outer = make_pipeline(make_private_pipeline(SeenScaler(), classifier()))
    outer.fit(numbers, y, privatepipeline__sample_weight=w)
    assert (outer[0][0].weights_ == w).all() and (outer[0][-1].weights_ == w).all()
    plain = make_pipeline(SeenScaler(), classifier()).fit(numbers, y, seenscaler__sample_weight=w)
    assert isinstance(plain, Pipeline) and (plain[0].weights_ == w).all() and plain[1].weights_ is None


def test_where_metadata_are_routed_the_requests_decide(data):
    X, y, w = data
    numbers = X[["a", "b"]]
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = SeenScaler().set_fit_request(sample_weight=False)
        pipe = make_private_pipeline(scaler, classifier().set_fit_request(sample_weight=True))
        pipe.fit(numbers, y, sample_weight=w)
        assert pipe[0].weights_ is None and (pipe[-1].weights_ == w).all()
        unsaid = make_private_pipeline(SeenScaler(), classifier())
        with pytest.raises(ValueError, match="not explicitly set as requested or not"):
            unsaid.fit(numbers, y, sample_weight=w)
        assert not any(unsaid._failed[0].get("executed", {}).values()) if hasattr(unsaid, "_failed") else True
    assert sklearn.get_config()["enable_metadata_routing"] is False


def test_a_request_of_a_step_keeps_its_word(data):
    X, y, w = data
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = SeenScaler().set_fit_request(sample_weight=False)
    pipe = make_private_pipeline(scaler, classifier()).fit(X[["a", "b"]], y, sample_weight=w)
    assert pipe[0].weights_ is None and (pipe[-1].weights_ == w).all()


@pytest.mark.parametrize("params, message", [
    ({"sample_weight": np.ones(3)}, "one weight per row"),
    ({"sample_weight": -np.ones(N)}, "not negative"),
    ({"sample_weight": np.ones(N), "seen__sample_weight": np.ones(N)}, "together with seen__sample_weight"),
])  # fmt: skip
def test_bad_weights_spend_nothing(data, params, message):
    X, y, _ = data
    pipe = make_private_pipeline(SeenScaler(), classifier())
    with pytest.raises(ValueError, match=message):
        pipe.fit(X[["a", "b"]], y, **params)
    assert not hasattr(pipe, "_failed")
