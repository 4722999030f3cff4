"""DPFeatureRelease: one noisy release of rows, a map without noise for others, and what each says about privacy."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from skdp import DPClassifier
from skdp.accounting import PrivacyStatement, epsilon, noise_multiplier, verify
from skdp.contract import Public, Spender
from skdp.nets import RandomProjection
from skdp.preprocessing import DPFeatureRelease

FALSE_ALARM = 1e-6


@parametrize_with_checks(
    [DPFeatureRelease(), DPFeatureRelease(3, feature_bounds=(-5, 5))],
    expected_failed_checks=lambda estimator: {
        "check_all_zero_sample_weights_error": "whether any row counts is private, and a fit alone releases nothing"
    },
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_scikit_learn_checks(estimator, check):
    """Those that compare fit_transform with transform skip an estimator that says it is not deterministic."""
    check(estimator)


def table(n=3000, k=4):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(n, k))
    return X, (X[:, 0] + 0.5 * X[:, 1] > 0.4).astype(int)


def test_noise_is_what_the_statement_says():
    """Two-sided chi-square at a false alarm of 1e-6, and certain to see noise scaled by 2/3."""
    X, _ = table()
    release = DPFeatureRelease(epsilon=2.0, max_norm=0.9, stretch=False)
    noisy, again = release.fit_transform(X), release.fit_transform(X)
    clipped = release.transform(X)
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(clipped, X * np.minimum(1, 0.9 / norms), rtol=1e-5, atol=1e-7)
    std = release.privacy_.noise_multiplier * 0.9
    low, high = stats.chi2.interval(1 - FALSE_ALARM, noisy.size)
    total = np.square((noisy - clipped) / std).sum()
    assert low <= total <= high and not low <= total * 4 / 9 <= high
    shared = ((noisy - clipped) * (again - clipped)).mean() / std**2
    assert abs(shared) < stats.norm.isf(FALSE_ALARM / 2) / math.sqrt(noisy.size)


@pytest.mark.parametrize("row", [1e30, -np.inf, np.nan, 3e38, "null"])
def test_one_row_changes_its_own_entry_by_at_most_the_bound(row):
    """Without noise; the null row is the vector of zeros."""
    X, _ = table(40)
    other = X.copy()
    other[7] = np.nan if row == "null" else row
    options = {"max_norm": 0.9, "on_invalid": "null", "noise_multiplier": 1e-12, "epsilon": None, "stretch": False}
    a, b = (DPFeatureRelease(**options).fit_transform(part) for part in (X, other))
    moved = np.linalg.norm(a - b, axis=1)
    assert (moved[np.arange(40) != 7] < 1e-6).all() and moved[7] <= 2 * 0.9 + 1e-6
    if row == "null" or not np.isfinite(row):
        np.testing.assert_allclose(b[7], 0, atol=1e-9)


def test_rows_of_weight_0_are_released_as_the_null_row():
    X, _ = table(40)
    weights = np.where(np.arange(40) == 7, 0.0, np.linspace(0.1, 9, 40))
    options = {"max_norm": 0.9, "noise_multiplier": 1e-12, "epsilon": None, "stretch": False}
    release = DPFeatureRelease(**options)
    plain, nulled = release.fit_transform(X), release.fit_transform(X, sample_weight=weights)
    np.testing.assert_allclose(nulled[7], 0, atol=1e-9)
    np.testing.assert_allclose(np.delete(nulled, 7, 0), np.delete(plain, 7, 0), atol=1e-9)
    assert any("sample weights" in line for line in release.privacy_.assumptions)
    with pytest.raises(ValueError, match="sample_weight"):
        release.fit_transform(X, sample_weight=-weights)


def test_costs_at_each_adjacency_and_protocol():
    X, _ = table(500)
    for adjacency, times in (("zero-out", 1), ("replace-one", 2)):
        release = DPFeatureRelease(epsilon=1.5, adjacency=adjacency)
        release.fit_transform(X)
        statement = release.privacy_
        assert statement.noise_multiplier == pytest.approx(times * noise_multiplier(1.5, statement.delta), rel=2e-3)
        assert verify(statement) and statement.epsilon <= 1.5
        assert any("labels" in fact for fact in statement.public)
        assert PrivacyStatement.from_json(statement.to_json()) == statement
    assert isinstance(release, Spender)
    public = Public(500, (4,), 1, "binary")
    costs = [epsilon(release.privacy_charge(public, scale).event(), 1e-5) for scale in (1.0, 2.0)]
    assert costs[0] > costs[1] > 0


def test_fit_alone_releases_and_spends_nothing():
    X, _ = table(100)
    release = DPFeatureRelease(feature_bounds=(-1, 1)).fit(X)
    with pytest.raises(NotFittedError, match="released nothing.*protects nobody"):
        _ = release.privacy_
    assert release.transform(X[:3]).shape == (3, 4)
    release.fit_transform(X)
    assert release.privacy_.epsilon <= 1.0


def test_pipeline_cross_validation_pickle_clone():
    X, y = table()
    model = make_pipeline(DPFeatureRelease(feature_bounds=(-1, 1), epsilon=6.0), LogisticRegression())
    scores = cross_validate(model, X, y, cv=2)["test_score"]
    assert scores.min() > max(y.mean(), 1 - y.mean()) + 0.05
    model.fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again[0].privacy_ == model[0].privacy_ and not hasattr(clone(model)[0], "max_norm_")
    flat = make_pipeline(DPFeatureRelease(feature_bounds=(-1, 1), epsilon=6.0, stretch=False), LogisticRegression())
    assert flat.fit(X, y).predict_proba(X)[:, 1].std() < 0.7 * model.predict_proba(X)[:, 1].std()


def test_projections_and_names():
    pandas = pytest.importorskip("pandas")
    X, _ = table(60, 10)
    frame = pandas.DataFrame(X, columns=list("abcdefghij"))
    plain = DPFeatureRelease().set_output(transform="pandas").fit_transform(frame)
    assert list(plain.columns) == list("abcdefghij")
    projected = DPFeatureRelease(3, random_state=0).set_output(transform="pandas")
    assert list(projected.fit_transform(frame).columns) == [f"dpfeaturerelease{i}" for i in range(3)]
    one, two = (DPFeatureRelease(3, random_state=0).fit(X).transform(X) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    module = nn.Sequential(nn.Linear(10, 5), nn.Dropout(0.9), nn.Tanh())
    release = DPFeatureRelease(module)
    assert release.fit_transform(X).shape == (60, 5) and module[0].weight.requires_grad
    assert "the weights of projection= were made from public data" in release.privacy_.assumptions
    images = DPFeatureRelease(RandomProjection(64, 6)).fit_transform(np.random.default_rng(0).random((20, 8, 8)))
    assert images.shape == (20, 6)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"adjacency": "add-remove"}, "adjacency='add-remove'.*zero-out"),
        ({"adjacency": "whatever"}, "adjacency='whatever'"),
        ({"epsilon": None}, "set exactly one"),
        ({"epsilon": 1.0, "noise_multiplier": 1.0}, "set exactly one"),
        ({"epsilon": -1.0}, "epsilon=-1.0"),
        ({"max_norm": 0}, "max_norm=0"),
        ({"projection": 0}, "projection=0"),
        ({"projection": "pca"}, "projection='pca'"),
        ({"feature_bounds": (1, -1)}, "feature_bounds"),
        ({"on_invalid": "drop"}, "on_invalid='drop'"),
        ({"delta": 0.5}, "delta=0.5"),
        ({"projection": nn.BatchNorm1d(4, track_running_stats=False)}, "BatchNorm1d"),
    ],
)
def test_refused_before_anything_is_spent(params, words):
    release = DPFeatureRelease(**params)
    with pytest.raises(ValueError, match=words):
        release.fit_transform(table(50)[0])
    assert not hasattr(release, "_statement")


def test_no_noise_says_so_and_clips_nothing():
    X = table(50)[0] * 100
    release = DPFeatureRelease(epsilon=math.inf)
    with pytest.warns(UserWarning, match="NOT PRIVATE"):
        np.testing.assert_allclose(release.fit_transform(X), X, rtol=1e-6)
    np.testing.assert_allclose(release.transform(X), X, rtol=1e-6)
    assert "NOT PRIVATE" in release.privacy_.text
    with pytest.warns(UserWarning, match="insecure_noise_seed"):
        one = DPFeatureRelease(insecure_noise_seed=1).fit_transform(X)
    np.testing.assert_array_equal(one, DPFeatureRelease(insecure_noise_seed=1).fit_transform(torch.tensor(X)))


class Remembers(nn.Module):
    """A user's map that keeps what it was given."""

    def forward(self, x):
        self.last = x
        return 2 * x


def test_a_projection_that_remembers_rows_leaves_none():
    X, _ = table(500)
    release = DPFeatureRelease(Remembers(), epsilon=1.0, feature_bounds=(-1, 1))
    release.fit_transform(X)
    release.transform(X)
    assert X[17].astype(np.float32).tobytes() not in pickle.dumps(release)


def test_a_weak_delta_is_said():
    with pytest.warns(UserWarning, match="close to 1/n"):
        DPFeatureRelease(epsilon=1.0, delta=1e-3, feature_bounds=(-1, 1)).fit_transform(table(300)[0])


@pytest.mark.parametrize(
    "budget", [{"epsilon": 20.0}, {"epsilon": math.inf, "delta": 1e-3}, {"insecure_noise_seed": 1}]
)
def test_a_release_warns_of_its_budget_like_a_fit(budget):
    X, y = table(300)
    with pytest.warns(UserWarning) as release:
        DPFeatureRelease(feature_bounds=(-1, 1), **budget).fit_transform(X)
    with pytest.warns(UserWarning) as fit:
        DPClassifier("linear", feature_bounds=(-1, 1), classes=[0, 1], max_epochs=1, **budget).fit(X, y)
    said = [str(warning.message).replace("this release", "this fit") for warning in release]
    assert said == [str(warning.message) for warning in fit if "signal" not in str(warning.message)]
