"""Sites that come late, drop out, crash in any phase, or hold odd rows: nothing is lost, or spent twice."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from admm_runs import joined, play, rows, sites, terms
from joblib import Parallel

from skdp import PrivacyLedger
from skdp.exceptions import ProtocolError
from skdp.linear_model import DPADMMClassifier
from skdp.linear_model.admm import Site, engines
from skdp.linear_model.admm.messages import Call, Reply, read_message
from skdp.linear_model.admm.ranked import run_ranked_rounds
from skdp.linear_model.admm.store import SiteStore

SITE = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from admm_runs import rows, terms
import numpy as np
from skdp.linear_model.admm import Site, engines
from skdp.linear_model.admm.ranked import run_ranked_rounds
from skdp.linear_model.admm.store import SiteStore
from skdp.linear_model.admm import site as module

phase, store = sys.argv[1:]
site = Site(terms(sites=1), rows(), np.zeros(240, dtype=bool), "a", epsilon=1.0, store=store)
die = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
write = SiteStore.write

def after(self, *args):
    write(self, *args)
    die()

def halfway(self, *args):
    self.path.with_name(self.path.name + ".partial").write_bytes(b"half a fi")
    die()

answered = 0
for line in sys.stdin:
    if answered == 3:
        if phase == "before spending":
            die()
        if phase == "while computing":
            module.Task.run = die
        if phase == "while storing":
            SiteStore.write = halfway
        if phase == "before sending":
            SiteStore.write = after
    print(site.answer(bytes.fromhex(line.strip())).hex(), flush=True)
    answered += 1
    if answered == 4 and phase == "after sending":
        die()
"""

PHASES = ["before spending", "while computing", "while storing", "before sending", "after sending"]


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_a_site_killed_in_any_phase_goes_on(phase, tmp_path):
    store, agreed = tmp_path / "site.json", terms(sites=1)
    script = SITE.format(folder=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", script, phase, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    replies = {}
    coordinator = joined(agreed, sites(agreed, rows(), epsilon=1.0, store=None))
    coordinator._joins["a"] = coordinator._joins.pop("site 0")
    coordinator._iterates["a"] = coordinator._iterates.pop("site 0")
    while True:
        call = coordinator.call()
        process.stdin.write(call.hex() + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            break
        replies[coordinator.round] = bytes.fromhex(line.strip())
        coordinator.receive(replies[coordinator.round])
        coordinator.advance()
    assert process.wait() == -signal.SIGKILL
    done = coordinator.consensus.round
    assert done == (4 if phase == "after sending" else 3)

    site = Site(agreed, rows(), np.zeros(240, dtype=bool), "a", epsilon=1.0, store=store)
    assert site.round == (4 if "sending" in phase else 3)
    reply = site.answer(call)
    if phase == "before sending":
        assert reply == site.answer(call), "what was stored is what is sent, whenever it is asked for"
    coordinator.receive(reply)
    coordinator.advance()
    play(coordinator, [site])
    stated = site.settle()
    assert stated.steps == agreed.rounds and stated.status in ("complete", "resumed") and stated.epsilon <= 1.0
    with pytest.raises(ProtocolError):
        site.answer(call)


def test_a_stored_reply_is_sent_again_byte_by_byte(tmp_path):
    store, agreed = tmp_path / "site.json", terms(sites=1, rounds=5)

    def opened():
        return Site(agreed, rows(), np.zeros(240, dtype=bool), "a", epsilon=1.0, store=store)

    with PrivacyLedger(epsilon=5.0, delta=1e-3) as ledger:
        site = opened()
        coordinator = joined(agreed, [site])
        for _ in range(3):
            call = coordinator.call()
            reply = site.answer(call)
            with pytest.raises(ProtocolError, match="in use by another process"):
                opened()
            site.close()
            site = opened()
            assert site.answer(call) == reply
            coordinator.receive(reply)
            coordinator.advance()
        play(coordinator, [site])
        assert site.settle().steps == 5
        assert len(ledger.table()) == 1, "however often it went on, it is one charge"
    assert store.stat().st_mode & 0o077 == 0
    with pytest.raises(ProtocolError, match=r"rounds \(5, now 6\)"):
        Site(terms(sites=1, rounds=6), rows(), np.zeros(240, dtype=bool), "a", epsilon=1.0, store=store)
    other = rows(seed=1)
    with pytest.raises(ProtocolError, match="other things than now: the rows"):
        Site(agreed, other, np.zeros(240, dtype=bool), "a", epsilon=1.0, store=store)
    with pytest.raises(ProtocolError, match="there is no folder"):
        Site(agreed, rows(), np.zeros(240, dtype=bool), "a", epsilon=1.0, store=tmp_path / "none" / "a.json")
    store.write_bytes(b"{}")
    with pytest.raises(ProtocolError, match="no file of a site"):
        opened()


def test_a_reply_that_could_not_be_stored_is_never_sent(tmp_path, monkeypatch):
    """A full disk: the round that was drawn is not sent; when the site goes on it is drawn anew, and sent once."""
    agreed, store = terms(sites=1, rounds=6), tmp_path / "site.json"

    def opened():
        return Site(agreed, rows(), np.zeros(240, dtype=bool), "a", epsilon=1.0, store=store)

    site = opened()
    coordinator = joined(agreed, [site])
    play(coordinator, [site], rounds=2)
    call, write = coordinator.call(), SiteStore.write

    def full(self, *args):
        raise OSError("no space left")

    monkeypatch.setattr(SiteStore, "write", full)
    with pytest.raises(OSError, match="no space"):
        site.answer(call)
    monkeypatch.setattr(SiteStore, "write", write)
    with pytest.raises(ProtocolError, match="could not be stored"):
        site.answer(call)
    site.close()
    again = opened()
    play(coordinator, [again])
    assert again.settle().steps == 6


def test_a_crash_before_the_first_reply_costs_nothing(tmp_path):
    agreed, store = terms(sites=1, rounds=4), tmp_path / "site.json"
    for _ in range(3):
        site = Site(agreed, rows(), np.zeros(240, dtype=bool), "a", epsilon=1.0, store=store)
        coordinator = joined(agreed, [site])
        site.begin(coordinator.call())
        site.close()  # as a killed process would
    site = Site(agreed, rows(), np.zeros(240, dtype=bool), "a", epsilon=1.0, store=store)
    play(coordinator, [site])
    assert site.settle().steps == 4


class OneOfTwo:
    """Ranks of which this process is one; the other's state is given."""

    def __init__(self, other):
        self.other = other

    def gather(self, thing, what):
        return [thing, self.other]


def test_a_site_without_its_store_is_refused_each_time(tmp_path):
    """Also by a second start, for which the first must leave no file; and so is one with an old store."""
    agreed, store = terms(sites=2, rounds=9), tmp_path / "site.json"

    def opened():
        return Site(agreed, rows(), np.zeros(240, dtype=bool), "a", epsilon=1.0, store=store)

    for _ in range(2):
        site = opened()
        with pytest.raises(ValueError, match="site 'a' has no store"):
            run_ranked_rounds(OneOfTwo((1, "00", {}, "b", True)), site)
        site.close()
        assert not store.exists()
    site = opened()
    site.answer(joined(agreed, [site]).call())
    site.close()
    site = opened()
    with pytest.raises(ValueError, match="or an old one"):
        run_ranked_rounds(OneOfTwo((3, "00", {}, "b", True)), site)
    site.close()
    assert store.exists()


def test_a_failed_start_lets_go_of_the_store(tmp_path):
    store, agreed = tmp_path / "site.json", terms(sites=1)
    kept = []
    for text in (b"{}", b"[]", b"no"):
        store.write_bytes(text)
        with pytest.raises(ProtocolError) as refused:
            Site(agreed, rows(), np.zeros(240, dtype=bool), "a", epsilon=1.0, store=store)
        kept.append(refused)
    store.unlink()
    Site(agreed, rows(), np.zeros(240, dtype=bool), "a", epsilon=1.0, store=store).close()


@pytest.mark.parametrize("late", [[3], list(range(2, 20))], ids=["one", "many"])
def test_late_replies_leave_the_optimum_where_it_is(late):
    """One site's replies come after the round is over: noise-free, the same end as with none late."""
    agreed = terms(sites=2, rounds=400)
    prompt = sites(agreed, rows())
    best = play(joined(agreed, prompt), prompt).consensus.model
    members = sites(agreed, rows())
    coordinator = joined(agreed, members, staleness=3)
    for k in range(1, 401):
        call = coordinator.call()
        coordinator.receive(members[0].answer(call))
        reply = members[1].answer(call)
        if k not in late:
            coordinator.receive(reply)
        coordinator.advance()
        if k in late:
            coordinator.receive(reply)
    np.testing.assert_allclose(coordinator.consensus.model, best, atol=1e-9)


def test_a_lost_reply_is_asked_for_again():
    agreed = terms(sites=2, rounds=10)
    members = sites(agreed, rows(), epsilon=5.0)
    coordinator = joined(agreed, members, staleness=3)
    call = coordinator.call()
    coordinator.receive(members[0].answer(call))
    members[1].answer(call)  # lost
    coordinator.advance()
    call = coordinator.call()
    coordinator.receive(members[0].answer(call))
    reply = members[1].answer(call)
    with pytest.raises(ProtocolError, match=r"send call\(1\) again"):
        coordinator.receive(reply)
    coordinator.receive(members[1].answer(coordinator.call(1)))
    coordinator.receive(reply)
    coordinator.advance()
    play(coordinator, members)
    assert [site.settle().steps for site in members] == [10, 10]


def test_a_task_is_drawn_once_and_an_abandoned_one_is_spent():
    (site,) = sites(terms(sites=1, rounds=6), rows(), epsilon=1.0)
    coordinator = joined(site.terms, [site])
    call = coordinator.call()
    task = site.begin(call)
    assert site.begin(call) is task and task.run() is task.run()
    assert (pickle.loads(pickle.dumps(task)).run() == task.run()).all(), "also a copy in another process"
    later = Call(site.terms.digest, 2, np.zeros((1, 5))).to_bytes()
    other = site.begin(later)
    with pytest.raises(ProtocolError, match="not the task"):
        site.finish(task, task.run())
    site.finish(other, other.run())
    assert site.settle().steps == 2


def test_late_joiners_and_drop_outs():
    agreed = terms(rounds=90)
    members = sites(agreed, rows(), epsilon=50.0)
    coordinator = joined(agreed, members[:2])
    play(coordinator, members[:2], rounds=30)
    coordinator.admit(members[2].join())
    play(coordinator, members, rounds=30)
    assert coordinator.consensus.trace[-1]["sites"] == 3
    play(coordinator, members[1:], rounds=30)
    assert coordinator.consensus.trace[-1]["sites"] == 2
    spent = [site.settle() for site in members]
    assert [statement.steps for statement in spent] == [60, 90, 60]
    assert all(statement.epsilon <= 50.0 for statement in spent)
    assert spent[0].status == "interrupted" and spent[0].executed_epsilon < 50.0
    whole = sites(agreed, rows(), epsilon=50.0)
    full = play(joined(agreed, whole), whole).consensus.result
    assert np.linalg.norm(coordinator.consensus.result - full) < 0.5 * np.linalg.norm(full)


def test_a_straggler_is_represented_by_its_last_reply_for_so_long():
    agreed = terms(rounds=12)
    members = sites(agreed, rows(), epsilon=50.0)
    coordinator = joined(agreed, members, staleness=2)
    counts = []
    for k in range(1, 13):
        call = coordinator.call()
        present = members if k <= 4 or k >= 10 else members[:2]
        for site in present:
            coordinator.receive(site.answer(call))
        assert coordinator.waiting == ([] if len(present) == 3 else ["site 2"])
        coordinator.advance()
        counts.append(coordinator.consensus.trace[-1]["sites"])
    assert counts == [3, 3, 3, 3, 3, 3, 2, 2, 2, 3, 3, 3]
    assert members[2].settle().steps == 7


def test_a_site_with_three_rows_and_one_with_one_class():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(900, 3))
    y = (X[:, 0] > 0).astype(int)
    groups = np.where(y == 1, "ones", "zeros").astype(object)
    groups[:3] = "tiny"
    model = DPADMMClassifier(epsilon=4.0, classes=[0, 1], rounds=60, feature_bounds=(-1, 1)).fit(X, y, groups=groups)
    assert model.score(X, y) > 0.9 and model.privacy_by_site_["tiny"].n == 3


def test_nan_at_one_site_is_an_error_before_anything_is_spent_or_a_null_row():
    X, y = np.random.default_rng(0).uniform(-1, 1, size=(300, 2)), np.arange(300) % 2
    X[7, 1] = np.nan
    model = DPADMMClassifier(epsilon=1.0, classes=[0, 1], rounds=5, n_agents=3, feature_bounds=(-1, 1))
    with pytest.raises(ValueError, match="contains NaN in column 1"):
        model.fit(X, y)
    assert not hasattr(model, "privacy_")
    model.set_params(on_invalid="null", insecure_noise_seed=1).fit(X, y)
    coef = model.coef_.copy()
    X[7] = 0.5
    weights = np.ones(300)
    weights[7] = 0
    np.testing.assert_array_equal(model.fit(X, y, sample_weight=weights).coef_, coef)


def test_a_clock_that_stands_still_stops_nothing(monkeypatch):
    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: 0.0)
    members = sites(terms(rounds=5), rows(), epsilon=1.0)
    assert play(joined(members[0].terms, members), members).finished


def test_a_round_that_failed_in_memory_can_be_tried_again(monkeypatch):
    (site,) = sites(terms(sites=1, rounds=3), rows(), epsilon=1.0)
    coordinator = joined(site.terms, [site])
    task = site.begin(coordinator.call())
    del task  # lost: a process that computed it died
    reply = site.answer(coordinator.call())
    read_message(reply, Reply, site.terms)
    coordinator.receive(reply)
    coordinator.advance()
    play(coordinator, [site])
    assert site.settle().steps == 3


@pytest.mark.parametrize("n, rounds", [(600, 4), (60_000, 20)])  # the second kind is handed over in files
def test_processes_of_joblib_give_the_same_numbers(n, rounds, monkeypatch):
    X = np.random.default_rng(0).uniform(-1, 1, size=(n, 3))
    y = (X[:, 0] > 0).astype(int)
    kwargs = {"classes": [0, 1], "rounds": rounds, "n_agents": 3, "insecure_noise_seed": 3, "feature_bounds": (-1, 1)}
    here = DPADMMClassifier(**kwargs).fit(X, y)
    done = []

    class Watched(Parallel):
        def __enter__(self):
            done.append("open")
            return super().__enter__()

        def __call__(self, work):
            done.append("round")
            return super().__call__(work)

        def __exit__(self, *error):
            done.append("close")
            return super().__exit__(*error)

    monkeypatch.setattr(engines, "Parallel", Watched)
    there = DPADMMClassifier(**kwargs, engine="joblib", n_jobs=2).fit(X, y)
    assert done == ["open", *["round"] * rounds, "close"]  # closed in between, it takes files of the next round away
    np.testing.assert_array_equal(here.coef_, there.coef_)
    assert os.getpid() and here.privacy_.epsilon == there.privacy_.epsilon
