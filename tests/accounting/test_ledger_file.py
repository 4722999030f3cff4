"""The file of a ledger: several writers at once, kill -9 anywhere, torn lines, somebody's editor, months of use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from charges import gaussian, spend

import skdp
from skdp.accounting import FitBook, ledger_sessions
from skdp.exceptions import BudgetExceededError, PlanViolationError

HERE = Path(__file__).parent
START = f"""
import os, signal, sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parents[1])!r}]
import skdp
from skdp.accounting import FitBook
from skdp.exceptions import BudgetExceededError
from charges import gaussian, spend
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clinic.ledger"


def run(code, **more):
    """A process of its own."""
    text = START + textwrap.dedent(code)
    environment = {name: value for name, value in os.environ.items() if name != "SKDP_LEDGERS"} | more
    return subprocess.Popen([sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE, text=True)


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def test_a_ledger_is_gone_on_with_and_can_be_read_later(path):
    with skdp.PrivacyLedger(3.0, 1e-6, path=path) as ledger:
        spend(gaussian(9), what="January")
    january = ledger.epsilon
    with skdp.PrivacyLedger(path=path) as ledger:
        assert ledger.epsilon == january
        spend(gaussian(9), what="February")
    read = skdp.PrivacyLedger.load(path)
    assert list(read.table()["what"]) == ["January", "February"]
    assert read.epsilon == ledger.epsilon > january and read.statement == ledger.statement
    with pytest.raises(PlanViolationError, match="for reading"):
        read.__enter__()


@pytest.mark.parametrize(
    "other", [{"epsilon": 4.0}, {"delta": 1e-7}, {"mode": "declared"}, {"order": 7.0}, {"adjacency": "replace-one"}]
)
def test_other_terms_are_refused(path, other):
    skdp.PrivacyLedger(3.0, 1e-6, path=path)
    assert skdp.PrivacyLedger(3.0, 1e-6, path=path).ceiling == 3.0
    with pytest.raises(ValueError, match="which cannot change"):
        skdp.PrivacyLedger(path=path, **other)


def test_two_ledgers_on_one_file_count_once(path):
    with skdp.PrivacyLedger(3.0, 1e-6, path=path) as outer, skdp.PrivacyLedger(path=path) as inner:
        spend(gaussian(9))
    assert len(outer.table()) == len(inner.table()) == 1


def test_a_charge_is_on_disk_before_anything_is_spent(path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    with skdp.PrivacyLedger(3.0, 1e-6, path=path):
        FitBook("fit", 10_000).reserve(gaussian(9))
        assert path.stat().st_size == flushed[-1] and "reserve" in path.read_text().splitlines()[-1]


def test_a_disk_that_is_full_stops_the_fit_and_loses_nothing(path, monkeypatch):
    def full(_):
        raise OSError("no space left")

    with skdp.PrivacyLedger(3.0, 1e-6, path=path) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="no space"):
                spend(gaussian(9))
        spend(gaussian(9))
    assert list(ledger.table()["state"]) == ["ended without a word, so it counts in full", "charged"]


def test_a_torn_line_is_skipped_and_the_next_writer_starts_on_a_fresh_one(path):
    with skdp.PrivacyLedger(3.0, 1e-6, path=path) as ledger:
        spend(gaussian(9))
    with open(path, "ab") as file:
        file.write(b'{"at": "2026-01-01T00:00:00+00:00", "reser')
    assert skdp.PrivacyLedger.load(path).epsilon == ledger.epsilon
    with skdp.PrivacyLedger(path=path) as ledger:
        spend(gaussian(9))
    read = skdp.PrivacyLedger.load(path)
    assert len(read.table()) == 2 and read.epsilon == ledger.epsilon


@pytest.mark.parametrize("line", ["{", "[]", '{"at": "x"}', '{"settle": "nothing", "executed": {}}', "7"])
def test_a_file_that_somebody_changed_is_refused(path, line):
    with skdp.PrivacyLedger(3.0, 1e-6, path=path):
        spend(gaussian(9))
    lines = path.read_text().splitlines()
    for place in (1, len(lines)):
        path.write_text("\n".join([*lines[:place], line, *lines[place:]]) + "\n")
        with pytest.raises(ValueError, match=f"line {place + 1}: this is no ledger, or it was changed"):
            skdp.PrivacyLedger.load(path)
        with pytest.raises(ValueError, match="this is no ledger, or it was changed"):
            skdp.PrivacyLedger(path=path)


def test_a_file_that_is_taken_away_while_it_is_in_use_stops_everything(path):
    with skdp.PrivacyLedger(3.0, 1e-6, path=path):
        spend(gaussian(9))
        whole, copy = path.read_bytes(), path.with_name("copy")
        copy.write_bytes(whole)
        path.write_bytes(whole[:200])
        with pytest.raises(ValueError, match="replaced or cut"):
            spend(gaussian(9))
        path.unlink()
        with pytest.raises(ValueError, match="removed"):
            spend(gaussian(9))
        copy.rename(path)
        with pytest.raises(ValueError, match="replaced or cut"):
            spend(gaussian(9))
    with skdp.PrivacyLedger(path=path) as ledger:
        spend(gaussian(9))
    assert len(ledger.table()) == 2


def test_a_file_that_is_no_ledger(path):
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="line 1: this is no ledger"):
        skdp.PrivacyLedger(path=path)
    with pytest.raises(ValueError, match="holds no ledger"):
        skdp.PrivacyLedger.load(path.with_name("missing"))


def test_a_resumed_fit_is_charged_once_and_to_a_new_ledger_in_full(path):
    with skdp.PrivacyLedger(3.0, 1e-6, path=path) as ledger:
        book = FitBook("fit", 10_000)
        book.reserve(gaussian(9, count=4), lease=2)
    saved = json.loads(json.dumps(book.to_dict()))
    with skdp.PrivacyLedger(path=path) as ledger, skdp.PrivacyLedger(3.0, 1e-6) as fresh:
        again = FitBook.from_dict(saved)
        again.reopen(again.reservation, gaussian(9, count=4))
        again.settle(again.reservation)
    assert len(ledger.table()) == len(fresh.table()) == 1
    assert list(fresh.table()["what"]) == ["fit"] and ledger.epsilon == fresh.epsilon > 0


def going_on(saved, lease=None):
    """A book like `saved`, gone on with."""
    book = FitBook.from_dict(json.loads(json.dumps(saved)))
    book.reopen(book.reservation, gaussian(9, count=4), lease)
    return book


def test_copies_of_a_checkpoint_are_fits_of_their_own(path):
    with skdp.PrivacyLedger(3.0, 1e-6, path=path) as ledger:
        book = FitBook("fit", 10_000)
        book.reserve(gaussian(9, count=4), lease=1)
        saved = book.to_dict()
        first = going_on(saved, lease=1)
        one = ledger.epsilon
        assert len(ledger.table()) == 1
        assert going_on(first.to_dict(), lease=1).id == book.id and len(ledger.table()) == 1, "crashed a second time"
        copies = {going_on(saved).id, going_on(saved).id, going_on(first.to_dict()).id}
        assert len(copies - {book.id}) == 3 and len(ledger.table()) == 4 and ledger.epsilon > 1.5 * one


def test_a_finished_fit_is_not_gone_on_with_for_nothing(path):
    charge = gaussian(9, count=4)
    with skdp.PrivacyLedger(3.0, 1e-6, path=path) as ledger:
        book = FitBook("fit", 10_000)
        reservation = book.reserve(charge, lease=1)
        saved = book.to_dict()
        book.extend(reservation, {touch.name: 4 for touch in charge.touches})
        for touch in charge.touches * 4:
            book.spend(reservation, touch)
        whole = book.to_dict()
        book.settle(reservation)
        assert going_on(whole).id == book.id and len(ledger.table()) == 1, "nothing is left to ask"
        assert going_on(saved).id != book.id and len(ledger.table()) == 2
    with skdp.PrivacyLedger(ledger.epsilon, 1e-6) as other, pytest.raises(BudgetExceededError):
        for _ in range(3):
            going_on(saved)
    assert len(other.table()) >= 1


def test_a_void_fit_that_is_resumed_is_charged_again(path):
    with skdp.PrivacyLedger(1.2, 1e-6, path=path) as ledger:
        book = FitBook("fit", 10_000)
        book.reserve(gaussian(9), lease=1)
        saved = book.to_dict()
        book.settle(book.reservation)
        assert ledger.epsilon == 0
        again = FitBook.from_dict(saved)
        again.reopen(again.reservation, gaussian(9))
        assert ledger.epsilon > 0 and len(ledger.table()) == 1
        book = FitBook("fit", 10_000)
        book.reserve(gaussian(9, count=3), lease=1)
        saved = book.to_dict()
        book.settle(book.reservation)
        spend(gaussian(9, count=2))
        again = FitBook.from_dict(saved)
        with pytest.raises(BudgetExceededError):
            again.reopen(again.reservation, gaussian(9, count=3))


def test_a_fork_does_not_keep_the_lock(path):
    ledger = skdp.PrivacyLedger(3.0, 1e-6, path=path)
    with ledger:
        with ledger._store.transaction():
            child = os.fork()
            if child == 0:
                signal.pause()
        try:
            spend(gaussian(9))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert len(ledger.table()) == 1


def test_a_closed_ledger_hears_how_a_late_fit_ended():
    with skdp.PrivacyLedger(3.0, 1e-6) as ledger:
        book = FitBook("late", 10_000)
        reservation = book.reserve(gaussian(9))
    book.settle(reservation)
    assert ledger.epsilon == 0


def test_temporary_files_go_with_the_ledger():
    ledger = skdp.PrivacyLedger(3.0, 1e-6)
    folder = ledger._store.path.parent
    assert folder.exists()
    del ledger
    assert not folder.exists()


# ------------------------------------------------------------------ other processes
def test_processes_that_write_at_once_and_one_that_is_killed(path):
    skdp.PrivacyLedger(1.5, 1e-6, path=path)
    writer = f"""
        refused = 0
        with skdp.PrivacyLedger(path={str(path)!r}):
            for _ in range(12):
                try:
                    spend(gaussian(12))
                except BudgetExceededError:
                    refused += 1
        print(refused)
    """
    killed = f"""
        skdp.PrivacyLedger(path={str(path)!r}).__enter__()
        FitBook("killed", 10_000).reserve(gaussian(20))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    processes = [run(writer), run(writer), run(killed)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, -signal.SIGKILL]
    ledger = skdp.PrivacyLedger.load(path)
    refused = sum(int(output) for output in outputs[:2])
    table = ledger.table()
    assert 0 < refused < 24 and len(table) == 25 - refused and ledger.epsilon <= 1.5
    states = dict(zip(table["what"], table["state"], strict=True))
    assert states == {"release": "charged", "killed": "ended without a word, so it counts in full"}
    with skdp.PrivacyLedger(path=path), pytest.raises(BudgetExceededError):
        spend(gaussian(12))


def test_a_process_that_is_started_meanwhile_joins(path):
    with skdp.PrivacyLedger(3.0, 1e-6, path=path) as ledger:
        token = os.environ["SKDP_LEDGERS"]
        with ledger.disjoint("A"):
            inside = run('spend(gaussian(9), what="child")', SKDP_LEDGERS=os.environ["SKDP_LEDGERS"])
            assert inside.wait(60) == 0
    assert "SKDP_LEDGERS" not in os.environ
    assert list(ledger.table()["key"]) == ["A"] and list(ledger.table()["what"]) == ["child"]
    late = run('spend(gaussian(9), what="late")', SKDP_LEDGERS=token)  # the ledger is closed by now
    assert late.wait(60) == 0 and len(ledger.table()) == 1


def test_a_fork_is_charged(path):
    with skdp.PrivacyLedger(3.0, 1e-6, path=path) as ledger:
        spend(gaussian(9))
        child = os.fork()
        if child == 0:
            spend(gaussian(9), what="fork")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert list(ledger.table()["what"]) == ["release", "fork"]


def forged(**changes):
    token = ledger_sessions.tokens()[0]
    return token._replace(**{"session": "of another process", **changes})


def test_what_cannot_be_charged_is_refused(path, tmp_path):
    with skdp.PrivacyLedger(3.0, 1e-6, path=path):
        missing, foreign = forged(path=str(tmp_path / "elsewhere")), forged(ledger="another")
        remote = forged(path=str(tmp_path / "elsewhere"), temporary=True, host="another machine")
    for token in (missing, foreign, remote):
        ledger_sessions.join([token], weak=True)  # a fitted model, from anywhere
        spend(gaussian(9))
        ledger_sessions.join([token], weak=False)
        with pytest.raises(PlanViolationError, match="could not be charged"):
            spend(gaussian(9))
        skdp.PrivacyLedger.leave()
        spend(gaussian(9))
    gone = forged_temporary()
    ledger_sessions.join([gone], weak=False)  # a temporary ledger that is over
    spend(gaussian(9))


def forged_temporary():
    with skdp.PrivacyLedger(3.0, 1e-6):
        token = forged()
    return token
