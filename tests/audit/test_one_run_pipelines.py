"""Whole pipelines audited in one run: all private steps are, and faults of any of them show.

Every audit of an honest fit fails with probability at most 1e-3 (confidence 0.999); seeds are fixed.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import hadamard
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skdp import DPClassifier
from skdp.audit import audit_one_run
from skdp.contract import Charge, RowSum
from skdp.pipeline import make_private_pipeline
from skdp.preprocessing import DPOneHotEncoder, DPStandardScaler, DPTableVectorizer
from skdp.releases import ArrayExecutor
from skdp.releases.arrays import _EXACT
from skdp.releases.moments import _Contributions

CANARIES, N = 128, 600
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def classifier(**params):
    fast = {"module": "mlp", "classes": [0, 1], "max_grad_norm": 0.1, "insecure_noise_seed": 1, "random_state": 0}
    return DPClassifier(**{**fast, **params})


@pytest.fixture(scope="module")
def numbers():
    """Rows of 4 features, and canaries at the bounds of all other columns, each in a direction of its own."""
    rng = np.random.default_rng(0)
    X = np.zeros((N, 4 + CANARIES))
    X[:, :4] = rng.uniform(-1, 1, size=(N, 4))
    canaries = np.hstack([np.zeros((CANARIES, 4)), hadamard(CANARIES)]), rng.integers(0, 2, CANARIES)
    return X, (X[:, 0] > 0).astype(int), canaries


@pytest.fixture(scope="module")
def table():
    """A number and a town; every canary lives in a town of its own."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.uniform(20, 80, N), "town": rng.choice(["Bonn", "Ulm"], N)})
    own = [f"Town {k}" for k in range(CANARIES)]
    canaries = pd.DataFrame({"age": 50.0, "town": own}), rng.integers(0, 2, CANARIES)
    return X, (X["age"] > 50).astype(int), canaries


def scaled():
    scaler = DPStandardScaler(feature_bounds=(-1, 1), insecure_noise_seed=2)
    return make_private_pipeline(scaler, classifier(feature_bounds=None), epsilon=1.0, delta=1e-7)


def encoded():
    return make_private_pipeline(
        DPTableVectorizer({"age": (0, 100)}, max_categories=None, insecure_noise_seed=2), classifier(module="linear"),
        epsilon=1.0, delta=1e-7,
    )  # fmt: skip


def own_mean(fitted, X_c, y_c):
    """The released means in the direction that only this canary has."""
    return X_c @ fitted[0].mean_


def own_category(fitted, X_c, y_c):
    """Whether the released categories have the canary's."""
    return X_c["town"].isin(fitted[0].columns_["town"]).to_numpy(float)


def audit(pipeline, data, **options):
    X, y, canaries = data
    return audit_one_run(pipeline, X, y, canaries=canaries, **{"confidence": 0.999, "random_state": 0, **options})


def without_noise():
    return mock.patch.object(ArrayExecutor, "_noise", lambda self, value, multiplier, shape: 0.0)


def without_threshold():
    honest = ArrayExecutor._frequent
    exact = lambda self, rows, value, z: honest(self, rows, replace(value, threshold=0.0), 0.0)  # noqa: E731
    return mock.patch.object(ArrayExecutor, "_frequent", exact)


@contextmanager
def without_bounds():
    """Values are neither clipped to their column's bounds nor rows brought under theirs."""
    plain = lambda self, rows: np.hstack([rows, np.isnan(rows), 1 - rows**2])  # noqa: E731
    total = lambda rows, value: value.map(rows.arrays[value.of][~rows.null]).sum(axis=0)  # noqa: E731
    with mock.patch.object(_Contributions, "__call__", plain), mock.patch.dict(_EXACT, {RowSum: total}):
        yield


def without_clipping():
    return mock.patch("skdp.training.executor.clip_factors", lambda squares, *_: torch.ones_like(squares[0]))


@pytest.mark.parametrize("score", [None, own_mean])
def test_an_honest_scaler_and_model_stay_below(score, numbers):
    found = audit(scaled(), numbers, score=score)
    assert found.consistent and 0.9 < found.epsilon_claimed <= 1 and found.epsilon_reachable > 1.9
    assert found.audited == ("dpstandardscaler", "dpclassifier") and found.unseen == ()
    assert "Canaries were nulled in dpstandardscaler, dpclassifier." in found.text


@pytest.mark.parametrize("score", [None, own_category])
def test_an_honest_vectorizer_and_model_stay_below(score, table):
    found = audit(encoded(), table, score=score)
    assert found.consistent and found.audited == ("dptablevectorizer", "dpclassifier")


def test_a_scaler_without_noise_is_caught(numbers):
    with without_noise():
        broken = audit(scaled(), numbers, score=own_mean)
    assert not broken.consistent and broken.correct == broken.guesses, broken.text


def test_a_scaler_that_bounds_nothing_is_caught(numbers):
    """Noise is made for values of at most 1; these are a thousand times as large."""
    X, y, (X_c, y_c) = numbers
    honest = audit(scaled(), (X, y, (1e3 * X_c, y_c)), score=own_mean)
    assert honest.consistent, honest.text
    with without_bounds():
        broken = audit(scaled(), (X, y, (1e3 * X_c, y_c)), score=own_mean)
    assert not broken.consistent, broken.text


def test_categories_without_a_threshold_are_caught(table):
    with without_threshold():
        broken = audit(encoded(), table, score=own_category)
    assert not broken.consistent and broken.correct == broken.guesses, broken.text


def test_a_model_that_does_not_clip_is_caught(numbers):
    pipeline = scaled().set_params(epsilon=0.5, dpclassifier__module="linear")
    with without_clipping():
        broken = audit(pipeline, numbers)
    assert not broken.consistent and broken.epsilon_lower > 1, broken.text


def test_steps_within_column_transformers_are_audited(table):
    kinds = DPOneHotEncoder(sparse_output=False, insecure_noise_seed=3)
    columns = ColumnTransformer(
        [("numbers", DPStandardScaler(feature_bounds=(0, 100)), ["age"]), ("kinds", kinds, ["town"])]
    )

    def categories(fitted, X_c, y_c):
        return X_c["town"].isin(fitted[0].named_transformers_["kinds"].categories_[0]).to_numpy(float)

    pipeline = make_private_pipeline(columns, classifier(module="linear", feature_bounds=None), delta=1e-7)
    honest = audit(pipeline, table, score=categories)
    assert honest.consistent
    assert honest.audited == ("columntransformer__numbers", "columntransformer__kinds", "dpclassifier")
    with without_threshold():
        assert not audit(pipeline, table, score=categories).consistent


class Stubborn(TransformerMixin, BaseEstimator):
    """Claims a price of nothing and takes no weights."""

    def privacy_charge(self, public, scale):
        return Charge((), public.adjacency, public.unit)

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


def test_what_is_not_audited_is_named(numbers):
    pipeline = make_private_pipeline(Stubborn(), classifier(feature_bounds=None))
    found = audit(pipeline, numbers)
    assert found.audited == ("dpclassifier",) and found.unseen == ("stubborn",)
    assert "not audited: stubborn" in found.text
    plain = make_pipeline(DPStandardScaler(feature_bounds=(-1, 1)), classifier(feature_bounds=None, epsilon=0.7))
    found = audit(plain, numbers)
    assert found.audited == ("dpclassifier",) and found.unseen == ("dpstandardscaler",)
    assert 0.65 < found.epsilon_claimed <= 0.7, "the last step's own claim"
    outer = make_pipeline(FunctionTransformer(), scaled())
    found = audit(outer, numbers)
    assert found.audited == ("privatepipeline__dpstandardscaler", "privatepipeline__dpclassifier")
    assert found.consistent and 0.9 < found.epsilon_claimed <= 1
    with pytest.raises(ValueError, match="canaries cannot be nulled"):
        audit(make_private_pipeline(Stubborn()), numbers)


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_honest_pipelines_stay_below_at_every_epsilon(epsilon, numbers, table):
    for seed in range(2):
        for make, data, scores in ((scaled, numbers, (None, own_mean)), (encoded, table, (None, own_category))):
            for score in scores:
                pipeline = make().set_params(epsilon=epsilon)
                pipeline.steps[0][1].set_params(insecure_noise_seed=seed)
                found = audit(pipeline, data, score=score, random_state=seed)
                assert found.consistent, found.text


@pytest.mark.slow
def test_at_much_epsilon_an_honest_scaler_gives_something_away(numbers):
    """The attack on means is not blind."""
    generous = scaled().set_params(epsilon=8.0, shares={"dpstandardscaler": 0.9})
    assert audit(generous, numbers, score=own_mean).epsilon_lower > 0.5
