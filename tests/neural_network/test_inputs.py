"""What X, y and weights may be, and what null rows do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from linear_fits import SEEDED, classifier, regressor
from sklearn.exceptions import DataConversionWarning
from torch import nn

from skdp import DPClassifier
from skdp.exceptions import PrivacyLeakWarning
from skdp.nets import Net


# ------------------------------------------------------------------ kinds of input
def test_every_kind_of_table_gives_the_same_model(blobs):
    X, y = blobs
    expected = classifier(**SEEDED).fit(X, y).predict_proba(X)
    assert expected.dtype == np.float64 and expected.shape == (400, 2)
    np.testing.assert_allclose(expected.sum(axis=1), 1)
    names = list("abcd")
    for a, b in (
        (X.tolist(), y.tolist()),
        (torch.tensor(X), torch.tensor(y)),
        (torch.tensor(X, requires_grad=True), y),
        (pd.DataFrame(X, columns=names), pd.Series(y, index=np.arange(400) + 7)),
        (np.asfortranarray(X), y.astype(float)),
        (X, y.astype(bool)),
        (pd.DataFrame(X, columns=names).astype("Float64"), y),
    ):
        model = classifier(**SEEDED).fit(a, b)
        np.testing.assert_allclose(model.predict_proba(a), expected, atol=1e-6)
        if hasattr(a, "columns"):
            assert list(model.feature_names_in_) == names
        else:
            assert not hasattr(model, "feature_names_in_")


def test_outputs_of_two_classes(blobs):
    X, y = blobs
    model = classifier().fit(X, y)
    logits, proba = model.decision_function(X), model.predict_proba(X)
    np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-logits)))
    np.testing.assert_array_equal(model.predict(X), (logits > 0).astype(int))
    assert model.score(X, y) == (model.predict(X) == y).mean() > 0.85
    assert model.n_features_in_ == 4 and list(model.classes_) == [0, 1]


def test_string_labels_of_three_classes(three):
    X, y = three
    model = classifier(classes=["c", "a", "b"], batch_size=300, max_epochs=40).fit(X, y)
    assert list(model.classes_) == ["a", "b", "c"]
    assert model.decision_function(X).shape == model.predict_proba(X).shape == (300, 3)
    assert model.score(X, y) > 0.75 and set(model.predict(X)) <= {"a", "b", "c"}


def test_a_class_that_does_not_occur_changes_nothing_public(blobs):
    X, y = blobs
    model = classifier(classes=[0, 1, 2]).fit(X, y)
    assert model.predict_proba(X).shape == (400, 3)
    again = classifier(classes=[0, 1, 2]).fit(X, np.where(np.arange(400) == 3, 2, y))
    assert again.privacy_.event == model.privacy_.event


def test_inferred_classes_are_a_leak_that_is_named(blobs):
    with pytest.warns(PrivacyLeakWarning, match=r"Pass classes=\[...\] with the public list"):
        model = classifier(classes=None).fit(*blobs)
    assert any("classes were read from y" in line for line in model.privacy_.warnings)
    assert "classes (read from y)" in model.privacy_.public
    assert "classes: all labels that can occur, as declared" in classifier().fit(*blobs).privacy_.public


def test_column_vectors_warn_as_in_scikit_learn(blobs):
    with pytest.warns(DataConversionWarning):
        classifier().fit(blobs[0], blobs[1][:, None])


def test_multi_output_regression(slope):
    X, y = slope
    both = np.column_stack([y, 10 - 2 * y])
    model = regressor(y_bounds=[(-4, 4), (2, 18)]).fit(X, both)
    assert model.predict(X).shape == (400, 2) and model.score(X, both) > 0.8
    with pytest.warns(DataConversionWarning):
        one = regressor().fit(X, y[:, None])
    assert one.predict(X).shape == (400,)


def test_predictions_stay_within_the_bounds_of_y(slope):
    model = regressor(y_bounds=(-1, 1)).fit(*slope)
    predicted = model.predict(slope[0] * 100)
    assert predicted.min() >= -1 and predicted.max() <= 1 and predicted.dtype == np.float64


class Pixels(nn.Module):
    """A user's own convolutional net."""

    def __init__(self, n_outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(4 * 3 * 3, n_outputs)

    def forward(self, x):
        return self.head(self.body(x))


def images(n=300):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    X = rng.normal(0, 0.3, size=(n, 1, 8, 8))
    X[y == 1, :, :4] += 1
    return X, y


@pytest.mark.parametrize("module", [Pixels, Pixels(1), Pixels(2), Net(Pixels, n_outputs=2)])
def test_images_and_every_way_to_pass_a_module(module):
    X, y = images()
    before = [p.clone() for p in module.parameters()] if isinstance(module, nn.Module) else []
    model = classifier(module=module, feature_bounds="private", batch_size=300, epsilon=50.0).fit(X, y)
    assert model.feature_bounds_ is None, "pixels have no columns to estimate"
    assert model.score(X, y) > 0.9 and isinstance(model.module_, Pixels)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=False)) if before else True
    with pytest.raises(
        ValueError, match=r"rows of shape \(1, 5, 8\), but the model was fitted on rows of shape \(1, 8, 8\)"
    ):
        model.predict(X[:, :, :5])


class Words(nn.Module):
    """Mean of embedded tokens."""

    def __init__(self, vocabulary=20, n_outputs=1):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 4)
        self.head = nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.head(self.embedding(x).mean(dim=1))


def test_tokens():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 20, size=(400, 6))
    y = ((X < 6).sum(axis=1) > 1).astype(int)
    model = classifier(module=Words, feature_bounds="private", epsilon=50.0, max_epochs=60, lr=2.0, **SEEDED)
    assert model.fit(X, y).score(X, y) > max(y.mean(), 1 - y.mean()) + 0.05
    assert model.feature_bounds_ is None


def test_integer_columns_are_numbers_elsewhere(blobs):
    X = (blobs[0] * 10).astype(int)
    model = classifier(feature_bounds=(-10, 10)).fit(X, blobs[1])
    assert model.score(X, blobs[1]) > 0.8


# ------------------------------------------------------------------ ranges of features
def test_feature_bounds_do_what_they_say(blobs):
    X, y = blobs
    scaled = X * [1, 100, 1e-3, 5] + [0, 3, 0, 1000]
    limits = np.column_stack([[-1, -97, -1e-3, 995], [1, 103, 1e-3, 1005]])
    plain = classifier(feature_bounds=None, **SEEDED).fit(X, y)
    public = classifier(feature_bounds=limits, **SEEDED).fit(scaled, y)
    np.testing.assert_allclose(public.predict_proba(scaled), plain.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(public.feature_bounds_, limits)
    assert any("feature bounds: (" in fact for fact in public.privacy_.public)
    assert not any("feature bounds" in fact for fact in plain.privacy_.public)
    assert len(public.privacy_.event.events) == 1
    far = scaled.copy()
    far[:, 1] = 1e6
    edge = scaled.copy()
    edge[:, 1] = 103
    np.testing.assert_array_equal(public.predict_proba(far), public.predict_proba(edge))


def test_private_bounds_make_a_raw_table_learnable():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(3000, 3)) * [1e-3, 1, 1e5] + [0, 2000, 0]
    y = (X[:, 0] > 0).astype(int)
    model = classifier(feature_bounds="private", batch_size=3000, epsilon=8.0).fit(X, y)
    assert model.score(X, y) > 0.9
    assert len(model.privacy_.event.events) == 3 and model.privacy_.epsilon <= 8
    assert (np.abs(model.feature_bounds_[0]) < 3e-3).all() and model.feature_bounds_[1, 0] > 1900


def test_bounds_hidden_by_noise_warn(blobs):
    with pytest.warns(UserWarning, match="noise hides the range of columns .*pass feature_bounds"):
        model = classifier(feature_bounds="private", epsilon=0.1).fit(*blobs)
    assert any("noise hides the range" in line for line in model.privacy_.warnings)


# ------------------------------------------------------------------ null rows and weights
def spoiled(X, y, how):
    X, y = X.copy(), y.astype(float)
    rows = np.arange(0, 40)
    if how == "nan":
        X[rows, 1] = np.nan
    elif how == "infinite":
        X[rows] = np.inf
    elif how == "huge":
        X[rows, 3] = 1e200
    elif how == "nan label":
        y[rows] = np.nan
    elif how == "unknown label":
        y[rows] = 7
    return X, y, rows


@pytest.mark.parametrize("how", ["nan", "infinite", "huge", "nan label", "unknown label"])
@pytest.mark.parametrize("bounds", [(-1, 1), "private"])
def test_invalid_rows_are_null_rows(blobs, how, bounds):
    """Bit for bit what a weight of 0 gives, and so is what they hold."""
    X, y = blobs
    options = {"on_invalid": "null", "feature_bounds": bounds, "class_weight": "balanced", **SEEDED}
    bad_X, bad_y, rows = spoiled(X, y, how)
    weights = np.ones(len(X))
    weights[rows] = 0
    nulled = classifier(**options).fit(bad_X, bad_y)
    weighted = classifier(**options).fit(X, y.astype(float), sample_weight=weights)
    for name, weight in weighted.module_.state_dict().items():
        assert torch.equal(nulled.module_.state_dict()[name], weight)
    np.testing.assert_array_equal(nulled.feature_bounds_, weighted.feature_bounds_)
    assert nulled.privacy_.event == weighted.privacy_.event


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_invalid_targets_are_null_rows(slope, bad):
    X, y = slope
    bad_y, weights = y.copy(), np.ones(len(y))
    bad_y[:30], weights[:30] = bad, 0
    options = {"on_invalid": "null", "y_bounds": None, **SEEDED}
    nulled, weighted = regressor(**options).fit(X, bad_y), regressor(**options).fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(nulled.predict(X), weighted.predict(X))
    np.testing.assert_array_equal(nulled.y_bounds_, weighted.y_bounds_)


def test_null_rows_are_taken_without_a_word(blobs, recwarn):
    bad_X, _, _ = spoiled(*blobs, "nan")
    classifier(on_invalid="null", epsilon=10.0).fit(bad_X, blobs[1])
    assert not list(recwarn)


def test_null_rows_say_nothing_in_the_statement(blobs):
    bad_X, _, _ = spoiled(*blobs, "nan")
    clean, dirty = classifier(on_invalid="null").fit(*blobs), classifier(on_invalid="null").fit(bad_X, blobs[1])
    assert clean.privacy_.to_json() == dirty.privacy_.to_json()


def test_raising_is_an_observation_and_is_named(blobs):
    assert any("no value is missing" in fact for fact in classifier().fit(*blobs).privacy_.public)
    assert not any("missing" in fact for fact in classifier(on_invalid="null").fit(*blobs).privacy_.public)


def test_only_null_rows_train_a_model_of_noise(blobs):
    model = classifier().fit(*blobs, sample_weight=np.zeros(400))
    assert np.isfinite(model.predict_proba(blobs[0])).all()


def test_weights_move_the_model_and_scalars_do_not_crash(blobs):
    X, y = blobs
    heavy = classifier(**SEEDED).fit(X, y, sample_weight=np.where(y == 1, 1.0, 0.05)).predict_proba(X)[:, 1].mean()
    even = classifier(**SEEDED).fit(X, y).predict_proba(X)[:, 1].mean()
    assert heavy > even + 0.1
    ones = classifier(**SEEDED).fit(X, y, sample_weight=np.ones(400)).predict_proba(X)
    np.testing.assert_allclose(ones, classifier(**SEEDED).fit(X, y).predict_proba(X), atol=1e-6)


def imbalanced():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(1000, 2))
    return X, (X[:, 0] + 0.5 * rng.standard_normal(1000) > 0.9).astype(int)


def test_class_weights():
    X, y = imbalanced()

    def recall(model):
        return model.fit(X, y).predict(X)[y == 1].mean()

    plain = recall(classifier(batch_size=1000))
    balanced = classifier(batch_size=1000, class_weight="balanced")
    assert recall(balanced) > plain + 0.2
    ratio = (y == 0).sum() / (y == 1).sum()
    given = classifier(batch_size=1000, class_weight={0: 1 / ratio})
    assert recall(given) > plain + 0.2
    # Counts are charged, a dict is public and says so.
    assert len(balanced.privacy_.event.events) == 2 and balanced.privacy_.epsilon <= 20
    assert len(given.privacy_.event.events) == 1 and "class weights" in given.privacy_.public


def test_a_class_weight_of_zero_is_the_null_row(blobs):
    X, y = blobs
    dropped = classifier(class_weight={0: 0.0}, **SEEDED).fit(X, y)
    weighted = classifier(**SEEDED).fit(X, y, sample_weight=y.astype(float))
    np.testing.assert_allclose(dropped.predict_proba(X), weighted.predict_proba(X), atol=1e-6)


def test_public_bounds_of_the_user_are_left_alone():
    bounds = np.array([[0.0, 1.0], [-1.0, 1.0]])
    y = np.arange(200) % 2
    X = np.column_stack([y, np.linspace(-1, 1, 200)])
    model = DPClassifier(epsilon=5.0, classes=[0, 1], feature_bounds=bounds).fit(X, y)
    assert bounds.tolist() == [[0.0, 1.0], [-1.0, 1.0]]
    assert model._built_for[0]["indicators"] == (0,)


@pytest.mark.parametrize("bounds", [None, (-1, 1), (0, 100), [(0, 1), (-1, 1), (-1, 1)]])
def test_columns_of_boolean_type_are_indicators_and_stay_as_they_are(bounds):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.uniform(-1, 1, 200), "b": rng.random(200) < 0.3, "c": rng.uniform(-1, 1, 200)})
    y = X["b"].astype(int)
    model = DPClassifier(epsilon=3.0, classes=[0, 1], feature_bounds=bounds, random_state=0).fit(X, y)
    assert model.module_.features.indicator.tolist() == ([0, 1] if isinstance(bounds, list) else [1])
    assert bounds is None or model.feature_bounds_[1].tolist() == [-1, 1]
    np.testing.assert_allclose(model.predict_proba(X), model.predict_proba(X.astype(float)))
