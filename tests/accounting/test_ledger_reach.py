"""Entries are fits: in every tool of scikit-learn, in threads and in worker processes, for every kind of spender."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

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
from spenders import (
    Majority,
    StopAt,
    fit_in_a_child,
    in_other_folders,
    make_and_fit,
    refusal,
)

import skdp
from skdp.accounting import ledger_sessions, notice_board
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


def serve(pipe):
    """What a fork of this process does when it is told."""
    for what in iter(pipe.recv, "end"):
        with contextlib.suppress(BudgetExceededError):
            what()
        pipe.send("done")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_hears_of_what_the_process_does_that_it_is_a_fork_of():
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def ask(what):
        here.send(what)
        assert here.poll(30) and here.recv() == "done"

    fit = functools.partial(make_and_fit, X, Y)
    with skdp.PrivacyLedger(delta=1e-6) as ledger:
        fork = context.Process(target=serve, args=(there,), daemon=True)
        fork.start()
        with ledger.disjoint("A"):
            ask(fit)
        ask(fit)
        assert list(ledger.table()["key"].fillna("")) == ["A", ""]
    ask(fit)  # the ledger is over
    assert len(ledger.table()) == 2
    with skdp.PrivacyLedger(delta=1e-6) as later:
        ask(fit)
        ask(skdp.PrivacyLedger.leave)
        ask(fit)
    assert len(later.table()) == 1
    here.send("end")
    fork.join()


def close_and_open(ledger, pipe):
    """In a fork: leave the blocks of the process that it is a fork of, then enter its own."""
    ledger_sessions.leave_block(ledger._sessions[-1])
    with ledger.disjoint("B") if pipe.recv() == "own" else contextlib.nullcontext():
        pipe.send("entered")
        pipe.recv()
        make_and_fit(X, Y)
    ledger.__exit__()
    pipe.send("done")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_closes_nothing_that_it_did_not_open():
    context = multiprocessing.get_context("fork")
    with skdp.PrivacyLedger(delta=1e-6) as ledger:
        for own in (False, True):
            here, there = context.Pipe()
            with contextlib.nullcontext() if own else ledger.disjoint("A"):
                fork = context.Process(target=close_and_open, args=(ledger, there), daemon=True)
                fork.start()
                here.send("own" if own else "")
                assert here.poll(30) and here.recv() == "entered"
                with (
                    ledger.disjoint("C") if own else contextlib.nullcontext()
                ):  # no news for who has a block of its own
                    here.send("go")
                    assert here.poll(30) and here.recv() == "done"
                Majority(50.0).fit(X, Y)
                fork.join()
        assert list(ledger.table()["key"].fillna("")) == ["A", "A", "B", ""]
        (session,) = ledger._sessions
        assert session.id not in session.store.refresh().closed


needs_boards = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="nothing tells who started whom")


@needs_boards
def test_workers_of_a_fork_server_and_their_own_workers_hear_of_a_ledger(tmp_path):
    context = multiprocessing.get_context("forkserver")
    elsewhere = functools.partial(in_other_folders, str(tmp_path))
    with ProcessPoolExecutor(1, context, initializer=elsewhere) as before:
        before.submit(make_and_fit, X, Y).result()
        with skdp.PrivacyLedger(delta=1e-6) as ledger:
            before.submit(make_and_fit, X, Y).result()  # the server is its parent process, and began before the ledger
            assert len(ledger.table()) == 1
            with ledger.disjoint("A"), ProcessPoolExecutor(1, context) as new:
                new.submit(make_and_fit, X, Y).result()
                assert len(ledger.table()) == 2
            before.submit(fit_in_a_child, X, Y).result()  # which starts anew
        assert list(ledger.table()["key"].fillna("")) == ["", "A", ""]
        before.submit(make_and_fit, X, Y).result()
        assert len(ledger.table()) == 3


def test_who_joins_a_ledger_passes_it_on_without_any_board(tmp_path, monkeypatch):
    """A process whose environment is its own joins by an estimator; what it starts finds the ledger."""
    monkeypatch.setattr(notice_board, "read_ancestors", tuple)
    monkeypatch.setattr(ledger_sessions, "_OPEN", [])
    with skdp.PrivacyLedger(delta=1e-6, path=tmp_path / "l") as ledger:
        token = ledger_sessions.tokens()[0]
        monkeypatch.delenv("SKDP_LEDGERS")
        ledger_sessions._OPEN.clear()  # as in another process
        ledger_sessions.join([token], weak=False)
        assert [found[0] for found in json.loads(os.environ["SKDP_LEDGERS"])] == [token.session]
        ledger_sessions._OPEN[:] = ledger._sessions


@needs_boards
def test_who_is_charged_for_another_process_is_told_and_can_leave():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as service:
        assert service.submit(refusal, X, Y).result() is None
        with skdp.PrivacyLedger(0.05, 1e-6) as ledger:
            told = service.submit(refusal, X, Y).result()
            assert f"opened by process {os.getpid()}" in told and "PrivacyLedger.leave()" in told
            service.submit(skdp.PrivacyLedger.leave).result()
            assert service.submit(refusal, X, Y).result() is None
            with ledger.disjoint("A"):  # more news of the same ledger
                assert service.submit(refusal, X, Y).result() is None
                service.submit(fit_in_a_child, X, Y).result()
            with pytest.raises(BudgetExceededError) as own:
                Majority(1.0).fit(X, Y)
            assert "opened by process" not in str(own.value)
        assert ledger.table().empty


def own_board():
    return notice_board._name(notice_board._where(), os.getpid(), notice_board._process(os.getpid())[1])


@needs_boards
def test_boards_of_killed_processes_are_taken_away_and_of_no_others(monkeypatch):
    forked = "import os; from skdp.accounting.notice_board import post; post('news'); print(os.getpid(), flush=True); "
    killed, living = (
        subprocess.Popen([sys.executable, "-c", forked + "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    )
    for process in (killed, living):
        process.stdout.readline()
    folder = next(notice_board._folders())
    names = {p: [x.name for x in folder.iterdir() if f"-{p.pid}-" in x.name] for p in (killed, living)}
    killed.kill()
    killed.wait()
    others = [folder / f"{'0' * 16}-{killed.pid}-1", folder / "news"]  # of another container; of who knows what
    reused = folder / f"{notice_board._where()}-{living.pid}-1"
    half = folder / f"{names[killed][0]}.partial"
    for path in (*others, reused, half):
        path.touch()
    notice_board._tidy_up_after_others.cache_clear()
    notice_board.post("news")
    try:
        assert [(folder / names[p][0]).exists() for p in (killed, living)] == [False, True]
        assert not reused.exists() and not half.exists() and all(path.exists() for path in others)
        living.communicate(b"\n")
        assert not (folder / names[living][0]).exists()
        monkeypatch.setattr(os, "readlink", lambda path: "1")  # /proc of another container
        assert notice_board._where() == "" and notice_board.read_ancestors() == ()
    finally:
        for path in others:
            path.unlink()
        monkeypatch.undo()
        notice_board.post(None)


@needs_boards
def test_a_process_of_the_same_number_in_another_container_is_another(monkeypatch):
    name = own_board()
    real = os.readlink
    for space in ("pid", "time"):
        monkeypatch.setattr(os, "readlink", lambda p, s=space: "other" if str(p).endswith(f"ns/{s}") else real(p))
        assert own_board() != name
    monkeypatch.undo()
    assert own_board() == name


@needs_boards
def test_boards_are_private_and_name_when_a_process_began(monkeypatch):
    notice_board.post("news")
    try:
        child = [sys.executable, "-c", "from skdp.accounting.notice_board import *; print(read_ancestors())"]
        asked = subprocess.run(child, capture_output=True, text=True, env={**os.environ, "TMPDIR": "/nowhere"})
        assert "'news'" in asked.stdout
        boards = [folder / own_board() for folder in notice_board._folders()]
        assert boards and all(board.exists() and not board.parent.stat().st_mode & 0o077 for board in boards)
    finally:
        notice_board.post(None)
    assert not any(board.exists() for board in boards)
    monkeypatch.setattr(notice_board, "_process", lambda pid: None)  # a number alone may be another process later
    before = {path for board in boards for path in board.parent.iterdir()}
    notice_board.post("news")
    assert {path for board in boards for path in board.parent.iterdir()} - before == set()
    assert notice_board.read_ancestors() == ()


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
