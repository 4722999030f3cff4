"""Ledgers and other machines: what cannot be counted safely is refused, and says why."""

from __future__ import annotations

import errno
import fcntl
import pickle

import pytest
from charges import gaussian, spend
from spenders import Majority

import skdp
from skdp.accounting import file_lock, ledger_sessions
from skdp.exceptions import PlanViolationError

ELSEWHERE = "another machine"
FAULTS = {
    "locks stay local": "do not reach",
    "no lock at all": "gives no lock",
    "old contents": "looks here as it did before",
    "no file of the holder": "who holds it open is not here",
}


@pytest.fixture
def afar(monkeypatch):
    """This process forgets what it has open and takes itself for one on another machine."""

    def go():
        ledger_sessions._OPEN.clear()
        monkeypatch.setattr(ledger_sessions, "host", lambda: ELSEWHERE)

    yield go
    ledger_sessions.forget_joined()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clinic.ledger"


def test_another_machine_joins_where_locks_reach(path, afar):
    with skdp.PrivacyLedger(delta=1e-6, path=path) as ledger:
        sent = pickle.dumps(Majority())
        token = ledger_sessions.tokens()[0]
        afar()
        pickle.loads(sent)
        spend(gaussian(9))
        assert len(ledger.table()) == 1
        (passed_on,) = ledger_sessions.tokens()
        assert passed_on.host == token.host != ELSEWHERE  # of the machine that opened it, wherever it is sent from
        ledger_sessions._OPEN.extend(ledger._sessions)
    assert [p.name for p in path.parent.iterdir() if ".open" in p.name] == []
    spend(gaussian(9))
    assert not ledger_sessions.tokens() and len(ledger.table()) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_not_really_shared_is_refused(path, afar, fault, monkeypatch):
    with skdp.PrivacyLedger(delta=1e-6, path=path) as ledger:
        spend(gaussian(9))
        before, sent = path.read_bytes(), pickle.dumps(Majority())
        afar()
        if fault == "locks stay local":
            monkeypatch.setattr(file_lock.fcntl, "flock", lambda *_: None)
        elif fault == "no lock at all":
            monkeypatch.setattr(file_lock.fcntl, "flock", refuse)
        elif fault == "old contents":
            path.write_bytes(before[: before.index(b"\n") + 1])
        else:
            next(path.parent.glob("*.open")).unlink()
        pickle.loads(sent)
        with pytest.raises(PlanViolationError, match="in a folder that all machines share") as refused:
            spend(gaussian(9))
        why = {
            "locks stay local": "do not reach",
            "no lock at all": "gives no lock",
            "old contents": "looks here as it",
        }
        assert why.get(fault, "who holds it open is not here") in str(refused.value)
        monkeypatch.undo()
        path.write_bytes(before)
        assert len(skdp.PrivacyLedger.load(path).table()) == 1
        ledger_sessions.forget_joined()
        ledger_sessions._OPEN.extend(ledger._sessions)


def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")


def test_no_ledger_is_opened_where_there_are_no_locks(path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="mounted with locks"):
        skdp.PrivacyLedger(delta=1e-6, path=path)
    assert not path.exists()


@pytest.mark.parametrize("fitted", [False, True])
def test_a_scheduler_that_sees_no_file_passes_the_ledger_on(path, afar, fitted, monkeypatch):
    model = Majority().fit([[0.0]] * 30, [0] * 30) if fitted else Majority()
    with skdp.PrivacyLedger(delta=1e-6, path=path) as ledger:
        sent = pickle.dumps(model)
        afar()
        hidden = path.rename(path.with_name("hidden"))
        again = pickle.loads(sent)
        sent = pickle.dumps(again)
        hidden.rename(path)
        skdp.PrivacyLedger.leave()
        pickle.loads(sent)
        spend(gaussian(9))
        ledger_sessions._OPEN.extend(ledger._sessions)
    assert len(ledger.table()) == 1


def test_a_fitted_model_is_refused_by_a_worker_of_a_cluster_and_let_go_elsewhere(path, afar, monkeypatch):
    model = Majority().fit([[0.0]] * 30, [0] * 30)
    with skdp.PrivacyLedger(delta=1e-6, path=path) as ledger:
        sent = pickle.dumps(model)
        afar()
        path.rename(path.with_name("hidden"))
        pickle.loads(sent)
        spend(gaussian(9))
        monkeypatch.setattr(ledger_sessions, "is_cluster_worker", lambda: True)
        pickle.loads(sent)
        with pytest.raises(PlanViolationError, match="is not here"):
            spend(gaussian(9))
        path.with_name("hidden").rename(path)
        ledger_sessions.forget_joined()
        ledger_sessions._OPEN.extend(ledger._sessions)
    assert ledger.table().empty
