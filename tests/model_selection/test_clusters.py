"""Searches on the workers of a Dask cluster, which are processes that live longer than any ledger."""

from __future__ import annotations

import contextlib
import os
import warnings

import numpy as np
import pytest
from cluster_fits import KillsItsWorkerOnce, far_away, refit, without_board
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, cross_validate
from spenders import Majority, make_and_fit

import skdp
from skdp import DPClassifier
from skdp.exceptions import PlanViolationError, PrivacyLeakWarning
from skdp.model_selection import DPSearchCV, DPSweepCV, search_trials
from skdp.worker_process import worker_number

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed.*")

X = np.random.default_rng(0).uniform(-1, 1, (240, 2))
Y = (X[:, 0] > 0).astype(int)
CV = KFold(2)
GRID = {"slack": [0.0, 1.0, 2.0]}
NET = DPClassifier("linear", classes=[0, 1], feature_bounds=(-1, 1), batch_size=60, max_epochs=2, lr=0.1,
                   epsilon=None, noise_multiplier=50.0)  # fmt: skip


@contextlib.contextmanager
def cluster(n_workers, threads=1):
    quiet = {"silence_logs": 50, "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers, threads_per_worker=threads, processes=True, **quiet) as made:
        with distributed.Client(made, set_as_default=True) as client:
            yield client


@pytest.fixture(scope="module")
def client():
    with cluster(2) as made:
        yield made


def states(ledger):
    return sorted(ledger.table()["state"])


def check(fits, use):
    with skdp.PrivacyLedger(delta=1e-6) as ledger, parallel_config("dask"), warnings.catch_warnings():
        warnings.simplefilter("ignore", PrivacyLeakWarning)
        made = use()
    assert states(ledger) == ["charged"] * fits
    return made


def test_entries_are_fits(client):
    check(2, lambda: cross_validate(Majority(50.0), X, Y, cv=CV))
    check(7, lambda: GridSearchCV(Majority(50.0), GRID, cv=CV).fit(X, Y))
    check(5, lambda: RandomizedSearchCV(Majority(50.0), GRID, n_iter=2, cv=CV).fit(X, Y))
    client.run(without_board)
    with skdp.PrivacyLedger(delta=1e-6) as ledger:
        client.run(type, Majority())  # tells every worker, for tasks that bring no estimator
        client.submit(make_and_fit, X, Y).result()
    client.submit(make_and_fit, X, Y, pure=False).result()  # they know that it is over
    assert states(ledger) == ["charged"]


@pytest.mark.slow  # workers import much
def test_sweeps_spend_what_they_say(client):
    sweep = check(5, lambda: DPSweepCV(NET, {"lr": [0.1, 0.2]}, cv=CV).fit(X, Y))
    assert any("lost worker" in line for line in sweep.privacy_.warnings)


def test_disjoint_blocks_and_fitted_models_reach_the_workers(client):
    fitted = Majority(50.0).fit(X, Y)
    with skdp.PrivacyLedger(delta=1e-6) as ledger, parallel_config("dask"):
        with ledger.disjoint("A"):
            cross_validate(Majority(50.0), X, Y, cv=CV)
        client.submit(refit, fitted, X, Y, pure=False).result()
    assert list(ledger.table()["key"].fillna("")) == ["A", "A", ""]


def test_a_fit_that_is_made_again_is_charged_again(client, tmp_path):
    before = set(client.run(os.getpid).values())
    model = KillsItsWorkerOnce(marker=str(tmp_path / "killed"))
    few = X[:40], Y[:40]  # joblib sends more to a single worker ahead of the tasks, and it would die with that
    check(3, lambda: cross_validate(model, *few, cv=CV, error_score="raise"))
    client.wait_for_workers(2)
    assert set(client.run(os.getpid).values()) != before


def test_a_search_is_one_entry_and_its_tasks_do_not_tell_how_many_trials_it_had(client, monkeypatch):
    search = DPSearchCV(NET, {"lr": [0.1, 1.0]}, epsilon=2.0, mean_trials=2, trials="poisson", random_state=0)
    for n_jobs, trials, tasks in [(2, 0, 2), (2, 5, 2), (None, 2, 0)]:
        monkeypatch.setattr(search_trials, "draw_trials", lambda *_, trials=trials: trials)
        search.set_params(n_jobs=n_jobs)
        with distributed.get_task_stream(client) as stream:
            check(1, lambda: search.fit(X, Y))
        assert sum("best_of" in task["key"] for task in stream.data) == tasks
        assert any("on a cluster" in line for line in search.privacy_.assumptions) == (n_jobs is not None)


def test_workers_take_gpus_in_turn(client):
    assert len({number % 2 for number in client.run(worker_number).values()}) == 2


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_file_refuses():
    with cluster(1, threads=2) as client:
        client.run(far_away)
        fitted = Majority(50.0).fit(X, Y)
        for send in (
            lambda: cross_validate(Majority(50.0), X, Y, cv=CV, error_score="raise"),
            lambda: client.submit(refit, fitted, X, Y, pure=False).result(),
        ):
            with skdp.PrivacyLedger(delta=1e-6) as ledger, parallel_config("dask"):
                with pytest.raises(PlanViolationError, match="in a folder that all machines share"):
                    send()
            assert ledger.table().empty
            client.run(skdp.PrivacyLedger.leave)
            with parallel_config("dask"):
                cross_validate(Majority(50.0), X, Y, cv=CV, error_score="raise")
