"""A report says "covers everything" only where that is so."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from page_reader import Reader
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skdp
from skdp.accounting import compose, compose_disjoint
from skdp.calibration import DPConformalClassifier, DPTemperatureScaling, DPVectorScaling
from skdp.model_selection import DPSearchCV, DPSweepCV
from skdp.pipeline import make_private_pipeline
from skdp.preprocessing import DPStandardScaler

pytestmark = [
    pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivateBoundsWarning"),
    pytest.mark.filterwarnings("ignore::skdp.exceptions.WeakSignalWarning"),
    pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivacyLeakWarning"),
]


def told(made) -> str:
    return Reader(made.html).text


def alone(classifier, repaired) -> float:
    """Epsilon of the model by itself at the larger delta of a fit on fewer rows."""
    return compose([classifier.privacy_], delta=repaired.privacy_.delta).epsilon


@pytest.fixture(scope="module")
def fresh(table):
    X, y = table
    return X[1200:], y[1200:]


# ------------------------------------------------------------------ repairs of a fitted model
@pytest.mark.parametrize("repair", [DPTemperatureScaling, DPVectorScaling, DPConformalClassifier])
@pytest.mark.parametrize("wrap", [FrozenEstimator, lambda model: model])
def test_a_repaired_model_is_counted_together_with_its_repair(repair, wrap, classifier, fresh):
    repaired = repair(wrap(classifier), epsilon=0.4).fit(*fresh)
    made = skdp.report(repaired)
    assert made.statement.epsilon == repaired.total_privacy_.epsilon > 0.7 > repaired.privacy_.epsilon
    assert made.covered and made.columns == skdp.report(classifier).columns


def test_rows_that_were_in_both_fits_are_counted_twice(classifier, fresh):
    repaired = DPTemperatureScaling(classifier, epsilon=0.4, split="same").fit(*fresh)
    assert skdp.report(repaired).statement.epsilon == repaired.total_privacy_.epsilon > alone(classifier, repaired)


def test_a_repair_of_a_repair_counts_the_model_inside(classifier, fresh):
    once = DPTemperatureScaling(classifier, epsilon=0.2, split="same").fit(*fresh)
    twice = DPConformalClassifier(once, epsilon=0.3).fit(*fresh)
    both = compose([classifier.privacy_, once.privacy_])
    made = skdp.report(twice)
    assert made.statement.epsilon == compose_disjoint([both, twice.privacy_]).epsilon > alone(classifier, twice)
    assert made.covered


def test_a_repair_of_a_model_without_privacy_promises_nothing_about_the_whole(table, fresh):
    X, y = table
    made = skdp.report(DPTemperatureScaling(LogisticRegression().fit(X[:1200], y[:1200])).fit(*fresh))
    assert "No promise about the whole" in told(made) and "LogisticRegression" in made.alarms[0]
    assert not made.covered and not made.to_dict()["covers_everything"]


def test_what_an_inner_pipeline_did_not_pay_for_is_said(quick, table, fresh):
    X, y = table
    inner = make_pipeline(StandardScaler(), clone(quick)).fit(X[:1200], y[:1200])
    made = skdp.report(DPTemperatureScaling(inner).fit(*fresh))
    assert "standardscaler" in made.alarms[0] and made.steps[0].path == "estimator__standardscaler"


def test_a_repair_at_the_end_of_a_pipeline_brings_its_model(classifier, fresh):
    pipe = make_pipeline(FunctionTransformer(), DPTemperatureScaling(FrozenEstimator(classifier), epsilon=0.4))
    made = skdp.report(pipe.fit(*fresh))
    assert made.statement.epsilon == pipe[-1].total_privacy_.epsilon > 0.7
    private = make_private_pipeline(FunctionTransformer(), DPTemperatureScaling(FrozenEstimator(classifier)))
    made = skdp.report(private.set_params(epsilon=0.4).fit(*fresh))
    assert made.statement.epsilon == compose([private.privacy_, classifier.privacy_]).epsilon > 0.7


# ------------------------------------------------------------------ no noise, and noise that can be repeated
def test_not_private_is_never_covered(classifier, table):
    X, y = table
    with pytest.warns(skdp.exceptions.NotPrivateWarning):
        bare = clone(classifier).set_params(epsilon=float("inf")).fit(X[:300], y[:300])
    seeded = clone(classifier).set_params(insecure_noise_seed=0).fit(X[:300], y[:300])
    for model in (bare, seeded):
        made = skdp.report(model)
        assert "NOT PRIVATE" in repr(made) and "covers everything" not in repr(made) and not made.covered
        assert not made.to_dict()["private"] and not made.to_dict()["covers_everything"]
        assert not skdp.report(model.privacy_).covered
    assert skdp.report(classifier).private and skdp.report(classifier).covered


# ------------------------------------------------------------------ classes
def test_classes_read_from_y_are_not_covered(quick, table):
    X, y = table
    model = clone(quick).set_params(classes=None).fit(X[:1200], y[:1200])
    for made in (skdp.report(model), skdp.report(model.privacy_)):
        assert not made.covered and "which classes occur in the rows" in told(made)
        assert "which classes occur in the rows" in made.to_dict()["not_covered"]
    assert "which classes occur" not in told(skdp.report(clone(quick).fit(X[:1200], y[:1200])))


def test_classes_that_a_search_read_are_not_public_though_its_model_was_told_them(quick, table):
    X, y = table
    search = DPSearchCV(
        clone(quick).set_params(classes=None), {"lr": [1.0]}, mean_trials=2, epsilon=2.0, trials="geometric"
    )
    made = skdp.report(search.fit(X[:1200], y[:1200]))
    assert made.columns[-1].origin == "read from the rows, not protected" and not made.covered
    assert made.statement == search.privacy_


# ------------------------------------------------------------------ steps that the user vouches for
@pytest.mark.parametrize("make", [make_pipeline, make_private_pipeline])
def test_functions_and_frozen_steps_are_declared_and_not_covered(make, quick, table):
    X, y = table
    frozen = FrozenEstimator(StandardScaler().fit(X[:1200]))
    made = skdp.report(make(frozen, FunctionTransformer(np.tanh), clone(quick)).fit(X[:1200], y[:1200]))
    assert [step.verdict for step in made.steps] == ["declared", "declared", "charged"]
    assert not made.covered and not made.alarms and "step “frozenestimator” (FrozenEstimator)" in told(made)
    assert "step “functiontransformer”" in made.to_dict()["not_covered"][1]


def test_steps_that_nobody_has_to_vouch_for_are_covered(quick, table):
    X, y = table
    made = skdp.report(make_pipeline(FunctionTransformer(), clone(quick)).fit(X[:1200], y[:1200]))
    assert made.covered and made.steps[0].verdict == "public"


@pytest.mark.parametrize("make", [make_pipeline, make_private_pipeline])
def test_a_private_step_that_was_frozen_is_counted(make, quick, table):
    X, y = table
    scaler = DPStandardScaler(epsilon=1.0).fit(X[:1200])
    pipe = make(FrozenEstimator(scaler), clone(quick)).fit(X[:1200], y[:1200])
    own = pipe.privacy_ if hasattr(pipe, "privacy_") else pipe[-1].privacy_
    made = skdp.report(pipe)
    assert made.statement.epsilon == pytest.approx(compose([scaler.privacy_, own]).epsilon)
    assert made.statement.epsilon > own.epsilon
    assert made.steps[0].verdict == "charged" and made.covered


# ------------------------------------------------------------------ sweeps
def test_a_sweep_shows_the_statement_of_all_its_fits(quick, table):
    X, y = table
    for cv, bounds in ((KFold(2), True), (2, False)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sweep = DPSweepCV(clone(quick), {"lr": [0.1, 1.0]}, cv=cv).fit(X[:1200], y[:1200])
        made = skdp.report(sweep)
        assert made.statement.epsilon == sweep.privacy_.epsilon > sweep.best_estimator_.privacy_.epsilon
        assert "not known" not in made.alarms[0] and "2 candidates on 2 splits" in made.alarms[0]
        assert ("do not hold for any row" in made.alarms[0]) != bounds
        assert not made.covered and "exact scores" in made.alarms[1]


def test_a_sweep_over_pipelines_is_counted_like_a_grid(quick, table):
    X, y = table
    pipe = make_pipeline(FunctionTransformer(), clone(quick))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sweep = DPSweepCV(pipe, {"dpclassifier__lr": [0.1, 1.0]}, cv=KFold(2)).fit(X[:1200], y[:1200])
    assert skdp.report(sweep).statement.epsilon > 1.5
