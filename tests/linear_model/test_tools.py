"""Linear models in the tools around them, and what they say to parameters and data that make no sense."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV

import skdp
from skdp.accounting import verify
from skdp.exceptions import BudgetExceededError, CalibrationError, PrivacyLeakWarning, PrivateBoundsWarning
from skdp.linear_model import DPLinearClassifier
from skdp.linear_model.terms import row_length
from skdp.model_selection import DPSearchCV
from skdp.pipeline import make_private_pipeline
from skdp.preprocessing import DPMinMaxScaler
from skdp.releases import ArrayExecutor
from tests.linear_model.fits import classifier, regressor, rows

X, LABELS, NUMBERS = rows(1500)
pytestmark = [
    pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivateBoundsWarning"),
    pytest.mark.filterwarnings("ignore::skdp.exceptions.WeakPrivacyWarning"),
]


@pytest.mark.parametrize("solver", ["gradient-descent", "objective-perturbation"])
def test_a_pipeline_pays_for_all_steps_at_once(solver):
    last = DPLinearClassifier(solver, classes=[0, 1], class_weight="balanced")
    pipe = make_private_pipeline(DPMinMaxScaler(), last, epsilon=2.0).fit(X, LABELS)
    assert 1.99 < pipe.privacy_.epsilon <= 2.0 and pipe.score(X, LABELS) > 0.6
    assert {line.name.partition(":")[0] for line in pipe.privacy_.queries} == {"dpminmaxscaler", "dplinearclassifier"}
    again = make_private_pipeline(DPMinMaxScaler(), regressor(y_bounds=None), epsilon=2.0).fit(X, NUMBERS)
    assert again.privacy_.epsilon <= 2.0 and again.score(X, NUMBERS) > 0.3


def _interrupted_at(monkeypatch, answer):
    """Ctrl-C when so many queries are answered, while the next one is paid for."""
    real, asked = ArrayExecutor.answer, []

    def interrupted(self, query):
        asked.append(query)
        answers = real(self, query)
        if len(asked) > answer:
            raise KeyboardInterrupt
        return answers

    monkeypatch.setattr(ArrayExecutor, "answer", interrupted)


@pytest.mark.parametrize("model", [classifier(), classifier("objective-perturbation"), regressor("adassp")])
def test_an_interrupt_says_that_there_is_no_model_and_what_is_spent(model, monkeypatch):
    _interrupted_at(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.fit(X, LABELS)
    (note,) = caught.value.__notes__
    assert "leaves no model" in note and f"epsilon={model.privacy_.epsilon:.4g} at" in note and "begun: 1 of" in note
    assert not hasattr(model, "coef_") and model.privacy_.epsilon == pytest.approx(model.epsilon, rel=1e-3)


def test_an_interrupt_before_the_first_query_spends_nothing(monkeypatch):
    monkeypatch.setattr("skdp.linear_model.central.linear_arrays", mock.Mock(side_effect=KeyboardInterrupt))
    model = classifier()
    with pytest.raises(KeyboardInterrupt) as caught:
        model.fit(X, LABELS)
    assert caught.value.__notes__ == [
        "The fit was interrupted and leaves no model. No query was begun, and nothing is spent."
    ]
    assert not hasattr(model, "_failed")


def test_an_interrupted_pipeline_or_search_speaks_for_its_steps(monkeypatch):
    _interrupted_at(monkeypatch, 2)  # the scaler's two histograms are through
    pipe = make_private_pipeline(DPMinMaxScaler(), classifier(feature_bounds="private"), epsilon=2.0)
    search = DPSearchCV(classifier(insecure_noise_seed=None), {"alpha": [1e-4]}, epsilon=3.0, trials="geometric")
    for model, whole, part in (
        (pipe, "epsilon=2 at", "1 of 'dplinearclassifier: "),
        (search, "epsilon=3 at", "1 of '"),
    ):
        with pytest.raises(KeyboardInterrupt) as caught:
            model.fit(X, LABELS)
        (note,) = caught.value.__notes__
        assert whole in note and part in note and model.privacy_.epsilon == pytest.approx(float(whole[8]), rel=1e-2)


def test_searches():
    grid = GridSearchCV(classifier(), {"alpha": [1e-4, 1e-1], "loss": ["log_loss", "hinge"]}, cv=2).fit(X, LABELS)
    assert len(grid.cv_results_["params"]) == 4 and grid.best_estimator_.privacy_.epsilon <= 1.0
    space = {"alpha": [1e-4, 1e-2], "solver": ["gradient-descent", "objective-perturbation"]}
    search = DPSearchCV(DPLinearClassifier(classes=[0, 1], feature_bounds=(-1, 1)), space, epsilon=3.0, mean_trials=3)
    assert search.fit(X, LABELS).privacy_.epsilon <= 3.0


def test_a_ledger_counts_fits_and_refuses_the_one_that_is_too_much():
    with skdp.PrivacyLedger(epsilon=2.5, delta=1e-5) as ledger:
        classifier("objective-perturbation", epsilon=1.0).fit(X, LABELS)
        regressor("adassp", epsilon=1.0).fit(X, NUMBERS)
        with pytest.raises(BudgetExceededError):
            classifier(epsilon=2.0).fit(X, LABELS)
    assert list(ledger.table()["what"]) == ["DPLinearClassifier", "DPLinearRegressor"] and ledger.epsilon <= 2.5
    solvers = ("gradient-descent", "objective-perturbation")
    models = [classifier(solver, epsilon=1.0, feature_bounds="private", delta=1e-5) for solver in solvers]
    with skdp.PrivacyLedger(delta=1e-5, mode="declared") as ledger:
        for model in models:
            ledger.declare(model, n=len(X), n_features=X.shape[1])
        for model in models:
            model.fit(X, LABELS)
    assert 1.0 < ledger.epsilon < 2.0


def test_a_plan_has_a_verdict():
    found = skdp.plan(estimator=classifier("objective-perturbation"), n=5000, n_features=8)
    assert found.verdict == "linear" and found.epsilon <= 1.0
    assert skdp.plan(estimator=regressor(epsilon=0.01), n=500, n_features=8).verdict == "prior"


def test_a_statement_is_verified_and_names_what_was_public():
    model = DPLinearClassifier("objective-perturbation", class_weight={0: 1, 1: 2}, classes=[0, 1]).fit(X, LABELS)
    assert verify(model.privacy_).holds
    text = str(model.privacy_)
    assert "class weights" in text and "feature bounds: (" in text and "minimum" in text
    assert "bounds of y: (-1, 1)" in str(regressor().fit(X, NUMBERS).privacy_)


def test_public_indicators_stay_as_they_are():
    table = pd.DataFrame({"a": X[:, 0], "b": (X[:, 1] > 0).astype(float)})
    model = classifier(feature_bounds=[(-1, 1), (0, 1)], epsilon=math.inf, alpha=0.0)
    with pytest.warns(UserWarning, match="NOT PRIVATE"):
        model.fit(table, LABELS)
    np.testing.assert_array_equal(model.feature_bounds_, [[-1, 1], [-1, 1]])
    assert list(model.feature_names_in_) == ["a", "b"] and row_length(2, 1, True) == math.sqrt(1.625)


def test_private_bounds_are_found():
    model = classifier(feature_bounds="private", epsilon=20.0).fit(X * 100, LABELS)
    assert (np.abs(model.feature_bounds_) > 90).all() and model.score(X * 100, LABELS) > 0.7


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (classifier("adassp"), "must be one of 'auto', 'gradient-descent', .* 'adassp' is of DPLinearRegressor only"),
        (classifier("objective-perturbation", loss="hinge"), "its guarantee is for 'log_loss'"),
        (classifier("objective-perturbation", penalty="l1"), "use penalty='l2'"),
        (classifier(loss="log"), "loss='log' must be one of"),
        (classifier(penalty="l3"), "penalty='l3'"),
        (classifier(alpha=-1), "alpha=-1"),
        (classifier(max_iter=0), "max_iter=0 must be 'auto' or a whole number"),
        (classifier(max_grad_norm=math.inf), "max_grad_norm=inf"),
        (classifier(feature_bounds="public"), "feature_bounds='public'"),
        (classifier(feature_bounds=(1, 0)), "low must be finite and below"),
        (classifier(class_weight="even"), "class_weight='even'"),
        (classifier(class_weight={5: 1.0}), "class_weight="),
        (classifier(on_invalid="drop"), "on_invalid='drop'"),
        (classifier(epsilon=1.0, noise_multiplier=1.0), "set exactly one of them"),
        (classifier(adjacency="add-remove"), "n_public"),
    ],
)
def test_what_makes_no_sense_is_named_and_costs_nothing(model, names):
    with pytest.raises(ValueError, match=names):
        model.fit(X, LABELS)
    assert not hasattr(model, "_statement") and not hasattr(model, "_failed")


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (regressor("adassp", loss="huber"), "loss='squared_error' alone"),
        (regressor("boosted-adassp", penalty="elasticnet"), "use penalty='l2'"),
        (regressor(loss="poisson"), "y_bounds=\\(0, largest\\)"),
        (regressor("objective-perturbation"), "solver='objective-perturbation' must be one of"),
    ],
)
def test_regressions_that_make_no_sense(model, names):
    with pytest.raises(ValueError, match=names):
        model.fit(X, NUMBERS)
    assert not hasattr(model, "_statement")


def test_data_that_cannot_be_used():
    with pytest.raises(ValueError, match="NaN in column 1"):
        classifier().fit(np.where(X == X[3, 1], np.nan, X), LABELS)
    with pytest.raises(ValueError, match="takes tables"):
        classifier().fit(X[:, :, None], LABELS)
    with pytest.raises(ValueError, match="not in classes"):
        classifier().fit(X, LABELS + 1)
    with pytest.warns(PrivacyLeakWarning, match="classes were read from y"):
        classifier(classes=None).fit(X, LABELS)
    with pytest.raises(CalibrationError, match="nothing was spent"):
        regressor(y_bounds=None, epsilon=0.01).fit(X[:50], NUMBERS[:50])


def test_columns_that_may_be_indicators_keep_zero_at_zero():
    """Forty of them at -1 would make every row long, and the intercept a sum over all: they cost a fit what it has."""
    rng, n = np.random.default_rng(0), 5_000
    cells = (rng.random((n, 12)) < 0.3).astype(float)
    model = DPLinearClassifier(epsilon=0.5, classes=[0, 1], feature_bounds="private", insecure_noise_seed=0)
    with pytest.warns(PrivateBoundsWarning):
        model.fit(cells, (cells[:, 0] + rng.random(n) > 0.9).astype(int))
    low, high = model.feature_bounds_.T
    assert (high >= 1.9).any(), "noise hides some"
    np.testing.assert_array_equal(low, -high)
