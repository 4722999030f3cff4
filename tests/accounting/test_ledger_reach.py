"""Entries are fits: in every tool of scikit-learn, in threads and in worker processes, for every kind of spender."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from charges import gaussian, spend
from joblib import Parallel, delayed, parallel_config
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier
from spenders import Majority, StopAt, make_and_fit

import skdp
from skdp.accounting import ledger_sessions
from skdp.callbacks import FitCheckpoint
from skdp.exceptions import BudgetExceededError
from skdp.preprocessing import DPFeatureRelease

X = np.random.default_rng(0).uniform(-1, 1, (240, 2))
Y = (X[:, 0] > 0).astype(int)
GRID = {"slack": [0.0, 1.0, 2.0]}
VOTERS = [("a", Majority(50.0)), ("b", Majority(60.0))]
CV = KFold(2)


def net(**more):
    given = {"module": "linear", "classes": [0, 1], "feature_bounds": (-1, 1), "epsilon": None, "lr": 0.1}
    return skdp.DPClassifier(**{**given, "noise_multiplier": 50.0, "batch_size": 240, "max_epochs": 2, **more})


def halving(n_jobs):
    search = HalvingGridSearchCV(Majority(50.0), GRID, cv=CV, n_jobs=n_jobs, random_state=0, min_resources=60)
    search.fit(X, Y)
    return 2 * sum(search.n_candidates_) + 1


# What runs, and how many fits it makes.
TOOLS = {
    "cross_validate": lambda jobs: cross_validate(Majority(50.0), X, Y, cv=CV, n_jobs=jobs) and 2,
    "pipeline": lambda jobs: make_pipeline(Majority(50.0)).fit(X, Y) and 1,
    "GridSearchCV": lambda jobs: GridSearchCV(Majority(50.0), GRID, cv=CV, n_jobs=jobs).fit(X, Y) and 3 * 2 + 1,
    "HalvingGridSearchCV": halving,
    "VotingClassifier": lambda jobs: VotingClassifier(VOTERS, n_jobs=jobs).fit(X, Y) and 2,
    "StackingClassifier": lambda jobs: (
        StackingClassifier(VOTERS, DecisionTreeClassifier(), cv=CV, n_jobs=jobs).fit(X, Y) and 2 + 2 * 2
    ),
    "BaggingClassifier": lambda jobs: (
        BaggingClassifier(Majority(50.0), n_estimators=5, n_jobs=jobs, bootstrap=False).fit(X, Y) and 5
    ),
    "a fitted template": lambda jobs: (
        BaggingClassifier(copy.copy(FITTED), n_estimators=4, n_jobs=jobs, bootstrap=False).fit(X, Y) and 4
    ),
}
FITTED = Majority(50.0).fit(X, Y)


@pytest.mark.parametrize("backend", ["sequential", "threading"])
@pytest.mark.parametrize("tool", TOOLS)
def test_entries_are_fits(tool, backend):
    with skdp.PrivacyLedger(delta=1e-6) as ledger, parallel_config(backend):
        fits = TOOLS[tool](1 if backend == "sequential" else 2)
    assert list(ledger.table()["state"]) == ["charged"] * fits


def test_entries_are_fits_in_worker_processes():
    for tool, use in TOOLS.items():  # in one test, because workers take long to start
        with skdp.PrivacyLedger(delta=1e-6) as ledger:
            fits = use(2)
        assert list(ledger.table()["state"]) == ["charged"] * fits, tool
    with skdp.PrivacyLedger(delta=1e-6) as ledger:
        with ledger.disjoint("A"):
            fits = TOOLS["cross_validate"](2)
        with ledger.disjoint("B"):
            fits += TOOLS["BaggingClassifier"](2)
        Parallel(2)([delayed(make_and_fit)(X, Y)] * 2)  # no estimator travels, yet the workers know that B is over
        fits += TOOLS["cross_validate"](2) + 2
    assert list(ledger.table()["key"].fillna("")) == ["A"] * 2 + ["B"] * 5 + [""] * 4
    TOOLS["cross_validate"](2)  # outside: the workers know that it is over
    assert len(ledger.table()) == fits
    with skdp.PrivacyLedger(0.6, 1e-6) as ledger, pytest.raises(BudgetExceededError, match="would fit") as refused:
        cross_validate(Majority(8.0), X, Y, cv=KFold(4), n_jobs=2, error_score="raise")
    assert refused.value.fits > 0 and ledger.epsilon <= 0.6


def test_workers_that_were_there_before_hear_of_a_ledger_though_no_estimator_travels():
    Parallel(2)([delayed(make_and_fit)(X, Y)] * 4)  # workers are warm, and have heard of no ledger
    with skdp.PrivacyLedger(delta=1e-6) as ledger:
        Parallel(2)([delayed(make_and_fit)(X, Y)] * 4)
        with ledger.disjoint("A"):
            Parallel(2)([delayed(make_and_fit)(X, Y)] * 4)
    assert list(ledger.table()["key"].fillna("")) == [""] * 4 + ["A"] * 4
    Parallel(2)([delayed(make_and_fit)(X, Y)] * 4)
    assert len(ledger.table()) == 8


def test_nets_and_releases_are_charged():
    release = DPFeatureRelease(epsilon=None, noise_multiplier=50.0, feature_bounds=(-1, 1))
    with skdp.PrivacyLedger(delta=1e-6) as ledger:
        net().fit(X, Y)
    with skdp.PrivacyLedger(delta=1e-6) as features:
        make_pipeline(release, DecisionTreeClassifier()).fit(X, Y)
    (line,) = ledger.table().to_dict("records")
    assert line["what"].startswith("DPClassifier") and line["n"] == 240 and "2 queries" in line["queries"]
    assert list(features.table()["what"]) == ["DPFeatureRelease"] and features.statement.unit == "feature row"
    with features, pytest.raises(ValueError, match="unit='feature row'"):
        net().fit(X, Y)


def test_facts_of_each_fit_reach_the_statement():
    with skdp.PrivacyLedger(delta=1e-6) as ledger, pytest.warns(Warning, match="classes were read from y"):
        net(classes=None).fit(X, Y)
    assert "classes (read from y)" in ledger.statement.public
    assert any("classes were read from y" in line for line in ledger.statement.warnings)


def test_a_fit_that_bad_rows_stop_is_not_charged_and_one_that_a_callback_stops_is():
    with skdp.PrivacyLedger(delta=1e-6) as ledger:
        with pytest.raises(ValueError, match="NaN"):
            net().fit(np.where(X > 0.9, np.nan, X), Y)
        assert ledger.table().empty
        with pytest.raises(RuntimeError):
            net(callbacks=[StopAt(1)]).fit(X, Y)
    assert list(ledger.table()["state"]) == ["stopped early, charged in full"]


def test_a_resumed_net_is_charged_once(tmp_path):
    path = tmp_path / "fit.ckpt"
    model = net(max_epochs=6, callbacks=[FitCheckpoint(path, every=1), StopAt(2)])
    with skdp.PrivacyLedger(delta=1e-6, path=tmp_path / "l") as ledger, pytest.raises(RuntimeError):
        model.fit(X, Y)
    before = ledger.epsilon
    with skdp.PrivacyLedger(path=tmp_path / "l") as ledger, skdp.PrivacyLedger(delta=1e-6) as fresh:
        skdp.DPClassifier.resume(path, X, Y)
        assert len(ledger.table()) == len(fresh.table()) == 1
    assert ledger.epsilon == fresh.epsilon == before


# ------------------------------------------------------------------ tokens
@pytest.mark.parametrize("model", [Majority(), net(), DPFeatureRelease()], ids=lambda m: type(m).__name__)
def test_pickles_tell_of_open_ledgers_and_of_nothing_else(model, tmp_path):
    assert b"_skdp_ledgers" not in pickle.dumps(model)
    with skdp.PrivacyLedger(delta=1e-6, path=tmp_path / "l"):
        inside = pickle.dumps(model)
        assert b"_skdp_ledgers" in inside
        assert "_skdp_ledgers" not in vars(pickle.loads(inside)) | vars(clone(model)) | vars(copy.copy(model))
        assert len(ledger_sessions.tokens()) == 1
    back = pickle.loads(inside)  # the ledger is closed by now
    assert not ledger_sessions.tokens() and back.get_params() == model.get_params()
    spend(gaussian(9))
