"""Private ADMM behind scikit-learn's interface: searches, persistence, and wrong parameters."""

from __future__ import annotations

import math
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skdp import PrivacyLedger
from skdp.exceptions import NotPrivateWarning, PrivacyLeakWarning, WeakSignalWarning
from skdp.linear_model import DPADMMClassifier, DPADMMRegressor, Huber


def table(n=600):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.uniform(0, 100, n), "height": rng.uniform(150, 200, n)})
    return X, np.where(X["age"] > 50, "old", "young")


BOUNDS = [(0, 100), (150, 200)]


def test_coefficients_are_for_values_as_they_came():
    X, y = table()
    model = DPADMMClassifier(epsilon=8.0, feature_bounds=BOUNDS, classes=["old", "young"], n_agents=2).fit(X, y)
    z = X.to_numpy() @ model.coef_[0] + model.intercept_[0]
    np.testing.assert_allclose(model.decision_function(X), z)
    assert model.score(X, y) > 0.9 and list(model.feature_names_in_) == ["age", "height"]
    beyond = X.assign(age=1e6)
    np.testing.assert_allclose(model.decision_function(beyond), model.decision_function(X.assign(age=100)))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.privacy_.epsilon == model.privacy_.epsilon
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns={"age": "years"}))


def test_searches_count_every_fit():
    X, y = table()
    model = DPADMMClassifier(feature_bounds=BOUNDS, classes=["old", "young"], rounds=5, epsilon=0.1)
    with PrivacyLedger(delta=1e-3) as ledger:
        GridSearchCV(model, {"loss": ["log_loss", "hinge"]}, cv=2, n_jobs=2).fit(X, y)
    assert len(ledger.table()) == 5


def test_what_predicts_probabilities():
    X, y = table()
    model = DPADMMClassifier(feature_bounds=BOUNDS, classes=["old", "young"], rounds=5).fit(X, y)
    assert model.predict_proba(X).shape == (600, 2)
    assert not hasattr(clone(model).set_params(loss="hinge"), "predict_proba")
    three = np.where(X["height"] < 160, "small", y)
    model = DPADMMClassifier(feature_bounds=BOUNDS, classes=["old", "small", "young"], epsilon=8.0).fit(X, three)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    assert model.coef_.shape == (3, 2) and model.decision_function(X).shape == (600, 3)


def test_class_weights_and_several_targets():
    X, y = table()
    kwargs = {"feature_bounds": BOUNDS, "classes": ["old", "young"], "epsilon": 8.0}
    heavy = DPADMMClassifier(**kwargs, class_weight={"old": 1.0, "young": 0.1}).fit(X, y)
    assert (heavy.predict(X) == "old").mean() > (DPADMMClassifier(**kwargs).fit(X, y).predict(X) == "old").mean()
    both = np.column_stack([X["age"], -X["height"]])
    model = DPADMMRegressor(epsilon=8.0, feature_bounds=BOUNDS, y_bounds=[(0, 100), (-200, -150)]).fit(X, both)
    assert model.predict(X).shape == (600, 2) and model.score(X, both) > 0.9


WRONG = [
    ({"loss": "squared_error"}, "loss='squared_error'"),
    ({"penalty": "l3"}, "penalty='l3'"),
    ({"alpha": -1}, "alpha=-1"),
    ({"rounds": 0}, "rounds=0"),
    ({"rho": 0.0}, "rho=0.0"),
    ({"momentum": 1.0}, "momentum=1.0"),
    ({"average": -0.1}, "average=-0.1"),
    ({"sampling_rate": 0.0}, "sampling_rate=0.0"),
    ({"schedule": "steep"}, "schedule='steep'"),
    ({"engine": "ray"}, "engine='ray'"),
    ({"max_sites_per_person": 0}, "max_sites_per_person=0"),
    ({"n_agents": 0}, "n_agents=0"),
    ({"n_agents": 601}, "n_agents=601"),
    ({"epsilon": {"0": 1.0, "1": 2.0}}, "epsilon must name a budget for each site"),
    ({"epsilon": 0.0}, "epsilon=0.0"),
    ({"epsilon": None}, "set exactly one of them"),
    ({"class_weight": "balanced"}, "class_weight='balanced'"),
    ({"feature_bounds": "private"}, "feature_bounds='private'"),
    ({"feature_bounds": None}, "feature_bounds=None"),
    ({"max_grad_norm": math.inf}, "max_grad_norm=inf"),
    ({"adjacency": "add-remove"}, "n_public"),
]


@pytest.mark.parametrize(("params", "match"), WRONG, ids=lambda part: str(part)[:40])
def test_wrong_parameters_are_named_and_cost_nothing(params, match):
    X, y = table()
    model = DPADMMClassifier(**{"feature_bounds": BOUNDS, "classes": ["old", "young"]} | params)
    with PrivacyLedger(delta=1e-3) as ledger, pytest.raises(ValueError, match=match):
        model.fit(X, y)
    assert not len(ledger.table()) and not hasattr(model, "privacy_")


@pytest.mark.parametrize(
    ("groups", "match"),
    [(np.zeros(10), "groups has shape"), ([None] * 600, "600 rows have no site")],
)
def test_wrong_groups(groups, match):
    X, y = table()
    with pytest.raises(ValueError, match=match):
        DPADMMClassifier(feature_bounds=BOUNDS, classes=["old", "young"]).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="both given"):
        DPADMMClassifier(classes=["old", "young"], feature_bounds=BOUNDS, n_agents=2).fit(X, y, groups=np.zeros(600))


def test_regressors_say_what_bounds_they_need():
    X, y = table()
    age = X["age"].to_numpy()
    with pytest.raises(ValueError, match="y_bounds=None"):
        DPADMMRegressor(feature_bounds=BOUNDS).fit(X, age)
    with pytest.raises(ValueError, match="least value is 0"):
        DPADMMRegressor("poisson", feature_bounds=BOUNDS, y_bounds=(1, 100)).fit(X, age)
    with pytest.raises(ValueError, match="scale must be positive"):
        DPADMMRegressor(Huber(0.0), feature_bounds=BOUNDS, y_bounds=(0, 100)).fit(X, age)


def test_warnings_are_given_and_stated():
    X, y = table()
    with pytest.warns(PrivacyLeakWarning, match="classes were read from y"):
        model = DPADMMClassifier(feature_bounds=BOUNDS, rounds=3).fit(X, y)
    assert "classes (read from y)" in model.privacy_.public
    with pytest.warns(NotPrivateWarning):
        free = DPADMMClassifier(epsilon=math.inf, feature_bounds=BOUNDS, classes=["old", "young"], rounds=3).fit(X, y)
    assert math.isinf(free.privacy_.epsilon) and "NOT PRIVATE" in repr(free.privacy_)


def test_the_number_of_rows_may_be_declared():
    X, y = table()
    model = DPADMMClassifier(
        adjacency="add-remove", n_public=500, feature_bounds=BOUNDS, classes=["old", "young"], rounds=5
    ).fit(X, y, groups=np.arange(600) % 4)
    assert model.privacy_.n == 500 and {s.n for s in model.privacy_by_site_.values()} == {125}


@pytest.mark.parametrize("kind", [DPADMMClassifier, DPADMMRegressor])
def test_rows_without_values_are_refused_or_null_and_nothing_else(kind):
    X, y = table()
    options = {"classes": ["old", "young"]} if kind is DPADMMClassifier else {"y_bounds": (0, 1)}
    y = y if kind is DPADMMClassifier else np.zeros(len(X))
    for given in ("ignore", None, "NULL"):
        with pytest.raises(ValueError, match="^on_invalid=.* must be one of 'raise', 'null'$"):
            kind(feature_bounds=BOUNDS, on_invalid=given, **options).fit(X, y)


def test_hopeless_budgets_are_said_to_be():
    """The noise of all sites counts, so that more sites at one budget are worse."""
    X, y = table()
    options = {"feature_bounds": BOUNDS, "classes": ["old", "young"], "rounds": 4}
    with pytest.warns(WeakSignalWarning, match="^epsilon=0.001 is so small .* n=600 rows .* for 2 columns"):
        DPADMMClassifier(epsilon=0.001, **options).fit(X, y)
    site = X.index.to_numpy() % 2
    with pytest.warns(WeakSignalWarning, match="^epsilon=0.001 is so small"):
        DPADMMClassifier(epsilon={"0": 0.001, "1": 8.0}, **options).fit(X, y, groups=site)
    # All four rounds cost one Gaussian of multiplier 175, hence a signal of 600 / 175 = 3.4, where 3 are needed.
    alone = DPADMMClassifier(epsilon=None, noise_multiplier=350.0, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", WeakSignalWarning)
        alone.fit(X, y)
        DPADMMClassifier(epsilon=math.inf, **options).fit(X, y)
    with pytest.warns(WeakSignalWarning, match="^noise_multiplier=350 is so small .* signal 2.4"):
        clone(alone).set_params(n_agents=2).fit(X, y)
