"""Temperatures: right without noise, harmless to predictions always, useful with noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import check_no_attributes_set_in_init, check_parameters_default_constructible
from stand_in import Given

from skdp import DPClassifier
from skdp.accounting import compose
from skdp.calibration import DPTemperatureScaling, DPVectorScaling
from skdp.calibration.temperature import tempered
from skdp.exceptions import PrivacyLeakWarning, WeakSignalWarning
from skdp.metrics import negative_log_likelihood

not_private = pytest.mark.filterwarnings("ignore::skdp.exceptions.NotPrivateWarning")


def overconfident(n, k, temperature, seed=0):
    """Probabilities that are right at a temperature, and labels."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet(np.full(k, 0.5), n)
    y = (true.cumsum(1) > rng.uniform(size=(n, 1))).argmax(1)
    powers = np.power(
        np.maximum(true, 1e-12), temperature if np.isscalar(temperature) else temperature[true.argmax(1), None]
    )
    return powers / powers.sum(1, keepdims=True), y


@not_private
@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_without_noise_it_finds_the_best_temperature(k, temperature):
    proba, y = overconfident(20_000, k, temperature)
    found = DPTemperatureScaling(Given(k).fit(), epsilon=math.inf).fit(proba, y)

    def loss(log_inverse):
        return negative_log_likelihood(y, tempered(proba, math.exp(log_inverse)))

    best = minimize_scalar(loss, bounds=(math.log(0.1), math.log(2)), method="bounded").fun
    assert negative_log_likelihood(y, found.predict_proba(proba)) < best + 1e-3
    assert found.temperature_ == pytest.approx(temperature, rel=0.15)


@pytest.mark.parametrize("kind", [DPTemperatureScaling, DPVectorScaling])
def test_with_noise_it_repairs(kind):
    """epsilon = .5 on 3,000 rows; noise would have to be over ten times what it is to miss this."""
    proba, y = overconfident(3000, 2, 4.0)
    repaired = kind(Given().fit(), epsilon=0.5).fit(proba, y)
    test, labels = overconfident(5000, 2, 4.0, seed=1)
    before, after = (negative_log_likelihood(labels, p) for p in (test, repaired.predict_proba(test)))
    right = negative_log_likelihood(labels, tempered(test, 0.25))
    assert after - right < 0.1 * (before - right)
    assert repaired.privacy_.epsilon <= 0.5


@not_private
def test_each_predicted_class_gets_its_own():
    proba, y = overconfident(40_000, 2, np.array([1.0, 4.0]))
    found = DPVectorScaling(Given().fit(), epsilon=math.inf).fit(proba, y)
    np.testing.assert_allclose(found.temperatures_, [1, 4], rtol=0.15)


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda p: sum(p) > 0), min_size=1, max_size=20),
    st.floats(0.1, 2),
)
def test_the_predicted_class_never_changes(rows, inverse):
    proba = np.array(rows)
    scaled = tempered(proba, inverse)
    np.testing.assert_array_equal(scaled.argmax(1), proba.argmax(1))
    np.testing.assert_allclose(scaled.sum(1), 1)


def test_ties_by_rounding_go_to_the_predicted_class():
    proba = np.array([[0.5, np.nextafter(0.5, 1)], [np.nextafter(0.25, 0), 0.25]])
    for inverse in (0.1, 0.3, 1.0):
        np.testing.assert_array_equal(tempered(proba, inverse).argmax(1), [1, 1])


def test_order_between_rows_stays_for_two_classes():
    p = np.sort(np.random.default_rng(0).uniform(size=500))
    scaled = tempered(np.column_stack([1 - p, p]), 0.3)[:, 1]
    assert (np.diff(scaled) >= 0).all()


def test_few_rows_are_announced_and_the_range_is_kept():
    proba, y = overconfident(40, 2, 3.0)
    with pytest.warns(WeakSignalWarning, match="at least"):
        found = DPTemperatureScaling(Given().fit(), epsilon=0.1, delta=1e-4).fit(proba, y)
    assert 0.5 - 1e-9 <= found.temperature_ <= 10 + 1e-9


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (1000, 2))
    y = (X[:, 0] > 0).astype(int)
    net = DPClassifier("linear", epsilon=1.0, classes=[0, 1], feature_bounds=(-1, 1), max_epochs=5)
    return net.fit(X[:500], y[:500]), X[500:], y[500:]


def test_statements_of_model_and_repair(model):
    net, X, y = model
    apart = DPTemperatureScaling(net, epsilon=0.5).fit(X, y)
    assert apart.total_privacy_.epsilon == max(net.privacy_.epsilon, apart.privacy_.epsilon)
    assert apart.total_privacy_.n == 1000 and "disjoint" in apart.total_privacy_.split
    same = DPTemperatureScaling(FrozenEstimator(net), epsilon=0.5, split="same").fit(X, y)
    assert same.total_privacy_.epsilon == compose([net.privacy_, same.privacy_]).epsilon > net.privacy_.epsilon
    with pytest.raises(AttributeError, match="compose_disjoint"):
        _ = DPTemperatureScaling(LogisticRegression().fit(X, y)).fit(X, y).total_privacy_


def test_as_many_rows_as_the_model_was_trained_on_are_doubted(model, recwarn):
    net, X, y = model
    doubted = DPTemperatureScaling(net, epsilon=0.5).fit(X, y)
    assert [str(w.message) for w in recwarn if w.category is PrivacyLeakWarning] == [doubted.privacy_.warnings[0]]
    assert "pass split='same'" in doubted.privacy_.warnings[0]
    assert "on what was declared to be other rows" in doubted.total_privacy_.text
    recwarn.clear()
    DPTemperatureScaling(net, epsilon=0.5, split="same").fit(X, y)
    DPTemperatureScaling(net, epsilon=0.5).fit(X[:499], y[:499])
    assert not [w for w in recwarn if w.category is PrivacyLeakWarning]


def test_few_rows_do_not_raise_delta(model):
    net, X, y = model
    assert net.privacy_.delta == 1e-4
    few = DPTemperatureScaling(net, epsilon=0.5).fit(X[:100], y[:100])
    assert few.privacy_.delta == few.total_privacy_.delta == 1e-4
    assert DPTemperatureScaling(net, epsilon=0.5, delta=1e-3).fit(X[:100], y[:100]).privacy_.delta == 1e-3
    more = DPTemperatureScaling(net, epsilon=0.5).fit(np.tile(X, (4, 1)), np.tile(y, 4))
    assert more.privacy_.delta == 1e-5


def test_it_is_a_classifier_around_a_frozen_one(model):
    net, X, y = model
    repaired = clone(DPTemperatureScaling(FrozenEstimator(net), epsilon=2.0)).fit(X, y)
    np.testing.assert_array_equal(repaired.predict(X), net.predict(X))
    assert repaired.classes_.tolist() == [0, 1] and repaired.n_features_in_ == 2
    assert repaired.score(X, y) == net.score(X, y)


@pytest.mark.parametrize("kind", [DPTemperatureScaling, DPVectorScaling])
def test_conventions_of_scikit_learn(kind):
    check_no_attributes_set_in_init(kind.__name__, kind(LogisticRegression()))
    check_parameters_default_constructible(kind.__name__, kind(LogisticRegression()))
    with pytest.raises(NotFittedError):
        kind(LogisticRegression()).predict_proba([[0.0]])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"split": "other"}, "split='other'"), ({"max_slope": 0}, "max_slope=0"), ({"max_slope": "big"},
    "max_slope='big'"),
     ({"estimator": None}, "fitted model"), ({"estimator": LogisticRegression}, "fitted model")],
)  # fmt: skip
def test_impossible_repairs_are_refused(options, words):
    proba, y = overconfident(40, 2, 3.0)
    with pytest.raises(ValueError, match=words):
        DPTemperatureScaling(**{"estimator": Given().fit(), **options}).fit(proba, y)


def test_an_unfitted_model_is_refused():
    with pytest.raises(NotFittedError, match="FrozenEstimator"):
        DPTemperatureScaling(LogisticRegression()).fit([[0.0]], [0])
