"""A checkpoint of a fit that never returned is not overwritten, and no two fits share one under two names."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
from linear_fits import classifier
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from skdp import DPClassifier
from skdp.accounting import compose, file_lock
from skdp.callbacks import FitCheckpoint
from skdp.neural_network.checkpoint import exclusive, read_file
from skdp.training import TorchExecutor

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, size=(400, 3))
Y = (X[:, 0] > 0).astype(int)


class At(Callback):
    def __init__(self, error=RuntimeError, step=7):
        self.error = error
        self.step = step

    def on_batch_end(self, net, training, **kwargs):
        if net.state_["step"] == self.step:
            raise self.error("on purpose")


def fit(path, *more, **options):
    return classifier(callbacks=[FitCheckpoint(path, every=5), *more], **options).fit(X, Y)


@pytest.fixture
def asked(monkeypatch):
    """Queries that were answered."""
    found, honest = [], TorchExecutor.answer
    monkeypatch.setattr(TorchExecutor, "answer", lambda self, query: found.append(query) or honest(self, query))
    return found


@pytest.fixture
def stopped(tmp_path):
    path = tmp_path / "fit.ckpt"
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(path, At())
    return path


# ------------------------------------------------------------------ run again after a crash
def test_a_killed_script_that_runs_again_is_refused(tmp_path):
    path = tmp_path / "fit.ckpt"
    script = f"""
        import os, sys, numpy as np
        from skdp import DPClassifier
        from skdp.callbacks import FitCheckpoint
        from skorch.callbacks import Callback
        class Die(Callback):
            def on_batch_end(self, net, **kwargs):
                if net.state_["step"] == 7:
                    os._exit(9)
        X = np.random.default_rng(0).uniform(-1, 1, (400, 3))
        DPClassifier("linear", classes=[0, 1], feature_bounds=(-1, 1), max_epochs=20, batch_size=400,
            callbacks=[FitCheckpoint({str(path)!r}, every=5), Die()]).fit(X, (X[:, 0] > 0).astype(int))
    """
    first, second = (
        subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
        for _ in range(2)
    )
    assert first.returncode == 9, first.stderr
    assert second.returncode == 1 and "was stopped before it returned" in second.stderr
    assert read_file(path)[0]["book"]["lines"]["gradient"]["leased"] == 10


def test_it_is_refused_before_anything_is_spent_and_the_remedies_work(stopped, asked):
    before = stopped.read_bytes()
    model = classifier(callbacks=[FitCheckpoint(stopped)], epsilon=2.0)
    with pytest.raises(ValueError, match=r"up to epsilon=20 at .*DPClassifier\.resume\(.*compose\(\[FitCheckpoint"):
        model.fit(X, Y)
    assert asked == [] and stopped.read_bytes() == before and model._failed_fits() == []
    moved = stopped.rename(stopped.with_name("moved"))
    both = compose([FitCheckpoint(moved).statement(), model.fit(X, Y).privacy_])
    assert both.epsilon > 20
    model.set_params(callbacks=[FitCheckpoint(moved)])
    with pytest.raises(ValueError, match="was stopped before it returned"):
        clone(model).fit(X, Y)


def test_a_file_that_was_resumed_is_free_again(stopped):
    DPClassifier.resume(stopped, X, Y)
    assert fit(stopped).privacy_.epsilon <= 20


def test_a_fit_whose_model_was_lost_after_the_last_step_is_not_forgotten(tmp_path, monkeypatch):
    path = tmp_path / "fit.ckpt"
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(DPClassifier, "_build_module", lambda self: 1 / 0)
        fit(path)
    facts, _ = read_file(path)
    assert facts["book"]["settled"] and not facts["returned"]
    with pytest.raises(ValueError, match="was stopped before it returned"):
        fit(path)
    assert DPClassifier.resume(path, X, Y).privacy_.epsilon <= 20


def test_a_resume_that_stops_again_is_not_forgotten(stopped, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(DPClassifier, "_build_module", lambda self: 1 / 0)
        DPClassifier.resume(stopped, X, Y)
    with pytest.raises(ValueError, match="was stopped before it returned"):
        fit(stopped)


def test_an_interrupted_fit_that_returned_was_told(tmp_path):
    path = tmp_path / "fit.ckpt"
    with pytest.warns(UserWarning, match="fit interrupted after 7 of 20 steps"):
        assert fit(path, At(KeyboardInterrupt)).privacy_.status == "interrupted"
    assert fit(path).privacy_.status == "complete"


def test_fits_one_after_the_other_share_a_path(tmp_path):
    path = tmp_path / "fit.ckpt"
    search = GridSearchCV(classifier(callbacks=[FitCheckpoint(path)]), {"lr": [0.1, 0.5]}, cv=2, error_score="raise")
    assert search.fit(X, Y).best_estimator_.privacy_.epsilon <= 20
    assert FitCheckpoint(path).statement().epsilon <= 20


def test_the_statement_counts_earlier_fits_of_the_estimator(tmp_path):
    path = tmp_path / "fit.ckpt"
    model = classifier(warm_start=True).fit(X, Y)
    with pytest.raises(RuntimeError):
        model.set_params(callbacks=[FitCheckpoint(path), At()]).fit(X, Y)
    assert FitCheckpoint(path).statement().epsilon == pytest.approx(model.privacy_.epsilon, rel=1e-6)


@pytest.mark.parametrize("content", [b"", b"my notes\n", b"\x80\x04pickle", b'{"version": 2}\n', b"[]"])
def test_another_file_is_not_overwritten(tmp_path, asked, content):
    path = tmp_path / "fit.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="FitCheckpoint: .*checkpoint.*move it, or name another path"):
        fit(path)
    assert asked == [] and path.read_bytes() == content


# ------------------------------------------------------------------ two names of one file
@pytest.fixture
def link(stopped):
    (stopped.parent / "elsewhere").mkdir()
    link = stopped.parent / "elsewhere" / "link.ckpt"
    link.symlink_to(stopped)
    return link


def test_a_link_has_the_lock_of_its_file(stopped, link):
    for one, other in ((stopped, link), (link, stopped), (stopped, os.path.relpath(stopped))):
        with exclusive(one), pytest.raises(ValueError, match="is in use by another fit"), exclusive(other):
            pass


def test_a_resume_through_a_link_is_written_to_the_file(stopped, link, asked):
    DPClassifier.resume(link, X, Y)
    assert len(asked) == 10 and link.is_symlink()
    DPClassifier.resume(stopped, X, Y)
    assert len(asked) == 10


class Move(Callback):
    def on_batch_end(self, net, training, **kwargs):
        os.chdir("/")


def test_a_changed_working_directory_changes_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit("fit.ckpt", Move())
    assert read_file(tmp_path / "fit.ckpt")[0]["returned"]


# ------------------------------------------------------------------ systems without fcntl
def test_windows_locks_by_its_own_means(tmp_path, monkeypatch):
    held = []

    def locking(descriptor, mode, length):
        if held:
            raise PermissionError("taken")
        held.append((mode, length))

    monkeypatch.setattr(file_lock, "fcntl", None)
    monkeypatch.setattr(file_lock, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    with exclusive(tmp_path / "a"), pytest.raises(ValueError, match="is in use by another fit.*taken"):
        with exclusive(tmp_path / "a"):
            pass
    assert held == [(2, 1)]


def test_a_system_that_locks_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(file_lock, "fcntl", None)
    monkeypatch.setattr(file_lock, "msvcrt", None)
    with pytest.raises(ValueError, match="locks no files"):
        fit(tmp_path / "fit.ckpt")
