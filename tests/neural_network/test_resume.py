"""A fit that was killed goes on without spending anything twice; Ctrl-C leaves a usable model."""

from __future__ import annotations

import contextlib
import pickle
import re
import subprocess
import sys
import textwrap
from unittest import mock

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from suite import answers_through
from walk import walk

from skdp import DPClassifier, DPRegressor
from skdp.callbacks import FitCheckpoint
from skdp.exceptions import PlanViolationError
from skdp.neural_network.checkpoint import exclusive, read_file, write_file
from skdp.training import TorchExecutor

N, STEPS = 389, 120


class Killed(Exception):
    """Stands for a crash."""


class At(Callback):
    """Raise at the end of a step; step 0 is before the first."""

    def __init__(self, step, error=Killed):
        self.step = step
        self.error = error

    def on_train_begin(self, net, **kwargs):
        if self.step == 0:
            raise self.error

    def on_batch_end(self, net, training, **kwargs):
        if net.state_["step"] == self.step:
            raise self.error


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(N, 4))
    return X, (X[:, 0] > 0).astype(int)


def estimator(path, *callbacks, every=50, first=(), **options):
    """120 full-batch steps of a logistic regression."""
    given = {"module": "linear", "classes": [0, 1], "feature_bounds": (-1, 1), "epsilon": 4.0, "lr": 0.1}
    listed = [*first, FitCheckpoint(path, every=every), *callbacks]
    return DPClassifier(**{**given, "batch_size": N, "max_epochs": STEPS, "callbacks": listed, **options})


def saved_in(path):
    """What the file holds, first line and rest."""
    facts, rest = read_file(path)
    return {**facts, **pickle.loads(rest)}


@contextlib.contextmanager
def editing(path):
    facts, rest = read_file(path)
    payload = pickle.loads(rest)
    yield payload
    write_file(path, facts, pickle.dumps(payload))


def without(path):
    """Take the killer out of the file: a crash does not happen twice."""
    with editing(path) as payload:
        payload["estimator"].callbacks = [c for c in payload["estimator"].callbacks if not isinstance(c, At)]


def resume(path, X, y):
    """The resumed model, and the queries that it asked."""
    without(path)
    asked = []

    def wrapper(executor, query, honest):
        weights = {name: p.detach().clone() for name, p in executor.model.parameters.items()}
        asked.append((query, weights))
        return honest()

    with answers_through(wrapper):
        return DPClassifier.resume(path, X, y), asked


def test_a_killed_process_forfeits_its_open_lease(tmp_path, rows):
    """63 steps done, 100 leased: 20 of 120 are left."""
    path = tmp_path / "fit.ckpt"
    np.savez(tmp_path / "rows.npz", X=rows[0], y=rows[1])
    script = f"""
        import os, sys, numpy as np
        from skdp import DPClassifier
        from skdp.callbacks import FitCheckpoint
        from skdp.training import Engine

        step = Engine._one_step
        def dying(self, plan, executor, state, *rest):
            if state["step"] == 63:
                os._exit(9)
            step(self, plan, executor, state, *rest)
        Engine._one_step = dying
        rows = np.load({str(tmp_path / "rows.npz")!r})
        DPClassifier("linear", classes=[0, 1], feature_bounds=(-1, 1), epsilon=4.0, lr=0.1, batch_size={N},
            max_epochs={STEPS}, callbacks=[FitCheckpoint({str(path)!r}, every=50)]).fit(rows["X"], rows["y"])
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert process.returncode == 9, process.stderr
    saved = saved_in(path)
    assert saved["training"]["state"]["step"] == 50
    model, asked = resume(path, *rows)
    assert len(asked) == 20
    for name, weight in saved["training"]["module"].items():
        assert torch.equal(asked[0][1][name], weight), "training did not go on from the saved weights"
    statement = model.privacy_
    assert statement.status == "resumed" and statement.steps == STEPS
    assert statement.epsilon <= 4.0 and statement.planned_event is None
    assert model.score(*rows) > 0.8


# (killed at the end of step, checkpoint written before the kill) -> queries that are left
@pytest.mark.parametrize(
    ("step", "after_checkpoint", "left"),
    [(0, True, 70), (1, True, 70), (49, True, 70), (50, False, 70), (50, True, 20), (99, True, 20), (100, False, 20),
     (100, True, 0), (119, True, 0)],
)  # fmt: skip
def test_at_every_step_a_lease_counts_as_spent(tmp_path, rows, step, after_checkpoint, left):
    path = tmp_path / "fit.ckpt"
    killer = At(step)
    model = estimator(path, killer) if after_checkpoint else estimator(path, first=[killer])
    asked = []
    with answers_through(lambda executor, query, honest: asked.append(1) or honest()), pytest.raises(Killed):
        model.fit(*rows)
    assert len(asked) == step
    assert not hasattr(model, "classes_")
    resumed, again = resume(path, *rows)
    assert len(again) == left and step + left <= STEPS
    assert resumed.privacy_.steps == STEPS and resumed.privacy_.epsilon <= 4.0
    assert np.isfinite(resumed.predict_proba(rows[0])).all()


def test_a_second_crash_is_counted_too(tmp_path, rows):
    path = tmp_path / "fit.ckpt"
    with pytest.raises(Killed):
        estimator(path, At(5), every=20).fit(*rows)
    with editing(path) as payload:
        payload["estimator"].callbacks[1].step = 21
    with pytest.raises(Killed):
        DPClassifier.resume(path, *rows)
    _, asked = resume(path, *rows)
    assert len(asked) == STEPS - 20 - 20


def test_a_crash_during_the_estimates_counts_them(tmp_path, rows):
    """The reservation is on disk before a row is read; there is nothing to go on with, and the message says so."""
    path = tmp_path / "fit.ckpt"
    model = estimator(path, feature_bounds="private")

    def crash(executor, query, honest):
        assert path.exists()
        raise Killed

    with answers_through(crash), pytest.raises(Killed):
        model.fit(*rows)
    with pytest.raises(
        ValueError, match="stopped before its first step.*count FitCheckpoint.moved..statement.. as spent"
    ):
        DPClassifier.resume(path, *rows)


def test_a_crash_between_spending_and_answer_is_covered_by_the_lease(tmp_path, rows):
    path = tmp_path / "fit.ckpt"
    calls = []

    def crash(self, *query):
        calls.append(1)
        if len(calls) == 31:
            raise Killed
        return honest(self, *query)

    honest = TorchExecutor._sample
    with mock.patch.object(TorchExecutor, "_sample", crash), pytest.raises(Killed):
        estimator(path).fit(*rows)
    _, asked = resume(path, *rows)
    assert len(asked) == 70


@pytest.mark.parametrize("clipping", ["flat", "adaptive"])
def test_ctrl_c_settles_exactly_and_can_be_resumed_without_loss(tmp_path, rows, clipping):
    """A clean stop forfeits nothing, and the resumed fit is bit for bit the uninterrupted one (without noise)."""
    path, other = tmp_path / "fit.ckpt", tmp_path / "other.ckpt"
    options = {"epsilon": float("inf"), "average": 0.5, "clipping": clipping, "optimizer": "adam"}
    with pytest.warns(UserWarning, match="NOT PRIVATE"):
        stopped = estimator(path, At(63, KeyboardInterrupt), **options).fit(*rows)
        assert stopped.privacy_.status == "interrupted" and stopped.privacy_.steps == 63
        resumed, asked = resume(path, *rows)
        whole = estimator(other, **options).fit(*rows)
    assert len(asked) == 57
    for name, weight in whole.module_.state_dict().items():
        assert torch.equal(resumed.module_.state_dict()[name], weight)


def test_ctrl_c_returns_a_usable_model_and_states_the_planned_epsilon(rows):
    model = DPClassifier(
        "linear", classes=[0, 1], feature_bounds=(-1, 1), epsilon=4.0, batch_size=N, max_epochs=STEPS, lr=0.1,
        callbacks=[At(30, KeyboardInterrupt)],
    ).fit(*rows)  # fmt: skip
    statement = model.privacy_
    assert statement.status == "interrupted" and statement.steps == 30
    assert 3.9 < statement.epsilon <= 4.0
    assert statement.executed_epsilon < 0.6 * statement.epsilon
    assert statement.planned_event is not None and statement.event != statement.planned_event
    assert "only if the decision to stop did not depend on results" in " ".join(statement.text.split())
    assert model.score(*rows) > 0.7
    assert model.n_iter_ == 30


def test_ctrl_c_within_a_step_counts_the_step(rows):
    """The answer was asked for, so it is spent, whether or not it moved the weights."""
    honest, calls = TorchExecutor._sample, []

    def interrupt(self, *query):
        calls.append(1)
        if len(calls) == 31:
            raise KeyboardInterrupt
        return honest(self, *query)

    model = DPClassifier("linear", classes=[0, 1], feature_bounds=(-1, 1), epsilon=4.0, batch_size=N, max_epochs=STEPS)
    with mock.patch.object(TorchExecutor, "_sample", interrupt):
        model.fit(*rows)
    assert model.privacy_.steps == 31 and model.privacy_.status == "interrupted"
    assert np.isfinite(model.predict_proba(rows[0])).all()


def test_a_finished_fit_resumes_to_itself(tmp_path, rows):
    path = tmp_path / "fit.ckpt"
    model = estimator(path).fit(*rows)
    resumed, asked = resume(path, *rows)
    assert asked == []
    np.testing.assert_allclose(resumed.predict_proba(rows[0]), model.predict_proba(rows[0]), rtol=1e-6)


def test_regressors_with_estimates_resume(tmp_path, slope):
    path = tmp_path / "fit.ckpt"
    options = {"module": "linear", "epsilon": 8.0, "max_epochs": 20, "batch_size": 400}
    with pytest.raises(Killed):
        DPRegressor(**options, callbacks=[FitCheckpoint(path, every=10), At(15)]).fit(*slope)
    saved = saved_in(path)["estimates"]
    without(path)
    resumed = DPRegressor.resume(path, *slope)
    np.testing.assert_array_equal(resumed.feature_bounds_, saved.feature_bounds)
    np.testing.assert_array_equal(resumed.y_bounds_, saved.target_bounds)
    assert resumed.privacy_.status == "resumed" and resumed.privacy_.epsilon <= 8.0


# ------------------------------------------------------------------ one budget, spent once
def weights_of(model):
    return np.concatenate([w.ravel() for w in model._weights.values()])


@pytest.mark.parametrize("moved", [False, True])
def test_a_second_resume_draws_nothing_new(tmp_path, rows, moved):
    path = tmp_path / "fit.ckpt"
    with pytest.raises(Killed):
        estimator(path, At(63)).fit(*rows)
    without(path)
    if moved:
        (tmp_path / "folder").mkdir()
        path = path.rename(tmp_path / "folder" / "other.ckpt")
    first, asked = resume(path, *rows)
    second, again = resume(path, *rows)
    assert len(asked) == 20 and again == []
    np.testing.assert_allclose(weights_of(second), weights_of(first), rtol=1e-6)


def test_a_resume_that_dies_at_once_is_on_disk(tmp_path, rows, monkeypatch):
    path = tmp_path / "fit.ckpt"
    with pytest.raises(Killed):
        estimator(path, At(5), every=20).fit(*rows)
    without(path)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("skdp.neural_network.base.FitRun", mock.Mock(side_effect=Killed))
        DPClassifier.resume(path, *rows)
    _, asked = resume(path, *rows)
    assert len(asked) == STEPS - 40


def test_two_fits_cannot_share_a_file(tmp_path, rows):
    path = tmp_path / "fit.ckpt"
    model = estimator(path).fit(*rows)
    with exclusive(path):
        for attempt in (lambda: DPClassifier.resume(path, *rows), lambda: model.fit(*rows)):
            with pytest.raises(ValueError, match="is in use by another fit"):
                attempt()
    assert DPClassifier.resume(path, *rows).privacy_.status == "resumed"
    with pytest.raises(ValueError, match="2 FitCheckpoint were passed"):
        estimator(path, FitCheckpoint(tmp_path / "second.ckpt")).fit(*rows)


def test_a_resumed_warm_start_remembers_the_first_fit(tmp_path, rows):
    path = tmp_path / "fit.ckpt"
    model = estimator(path).set_params(callbacks=None, warm_start=True).fit(*rows)
    honest = estimator(path).set_params(callbacks=None, warm_start=True).fit(*rows).fit(*rows).privacy_.epsilon
    with pytest.raises(Killed):
        model.set_params(callbacks=[FitCheckpoint(path), At(63)]).fit(*rows)
    without(path)
    resumed = DPClassifier.resume(path, *rows)
    assert resumed.privacy_.epsilon == pytest.approx(honest, rel=1e-3)
    assert resumed.set_params(callbacks=None).fit(*rows).privacy_.epsilon > honest


def test_a_resumed_fit_remembers_those_that_failed(tmp_path, rows):
    path = tmp_path / "fit.ckpt"
    model = estimator(path).set_params(callbacks=[At(STEPS)])
    with pytest.raises(Killed):
        model.fit(*rows)
    with pytest.raises(Killed):
        model.set_params(callbacks=[FitCheckpoint(path), At(63)]).fit(*rows)
    without(path)
    assert DPClassifier.resume(path, *rows).privacy_.epsilon > 5.0


def test_private_bounds_that_found_an_indicator_resume(tmp_path):
    path, rng = tmp_path / "fit.ckpt", np.random.default_rng(0)
    X = np.column_stack([rng.uniform(-1, 1, (6000, 2)), rng.random(6000) < 0.5])
    y = (X[:, 0] > 0).astype(int)
    model = DPClassifier(classes=[0, 1], epsilon=3.0, max_epochs=6, callbacks=[FitCheckpoint(path, every=2), At(3)])
    with pytest.raises(Killed):
        model.fit(X, y)
    saved = saved_in(path)
    assert saved["estimates"].indicators == (2,) and saved["public"].indicators == ()
    without(path)
    assert DPClassifier.resume(path, X, y).privacy_.epsilon <= 3.0


class Gathering(Callback):
    """Keeps what scikit-learn's clone and pickle would choke on."""

    def __init__(self, name):
        self._called = name
        self.extra = []

    def on_batch_end(self, net, training, **kwargs):
        self.extra.append(net)


def test_callbacks_may_gather_what_cannot_be_saved(tmp_path, rows):
    path = tmp_path / "fit.ckpt"
    estimator(path, Gathering("mine")).fit(*rows)
    assert DPClassifier.resume(path, *rows).callbacks[1].extra == []


# ------------------------------------------------------------------ what does not resume
@pytest.fixture
def stopped(tmp_path, rows):
    path = tmp_path / "fit.ckpt"
    with pytest.raises(Killed):
        estimator(path, At(5)).fit(*rows)
    without(path)
    return path


def test_another_number_of_rows_or_columns_is_refused(stopped, rows):
    X, y = rows
    n, d = X.shape
    for a, b, differs in (
        (X[1:], y[1:], f"n was {n} and is {n - 1}"),
        (X[:, 1:], y, f"input_shape was ({d},) and is ({d - 1},)"),
    ):
        with pytest.raises(ValueError, match=rf"data has changed since the stopped fit: {re.escape(differs)}$"):
            DPClassifier.resume(stopped, a, b)


@pytest.mark.parametrize(
    "change", [{"epsilon": 2.0}, {"max_epochs": 130}, {"batch_size": 100}, {"clipping": "adaptive"}]
)
def test_another_configuration_is_refused(stopped, rows, change):
    with editing(stopped) as payload:
        payload["estimator"].set_params(**change)
    with pytest.raises(PlanViolationError, match="no longer gives the charge that was reserved"):
        DPClassifier.resume(stopped, *rows)


def test_other_files_are_refused(stopped, tmp_path, rows):
    with pytest.raises(ValueError, match="holds a DPClassifier; call DPClassifier.resume"):
        DPRegressor.resume(stopped, *rows)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="is no checkpoint of a fit"):
        DPClassifier.resume(tmp_path / "text", *rows)
    with pytest.raises(FileNotFoundError):
        DPClassifier.resume(tmp_path / "nothing", *rows)
    facts, rest = read_file(stopped)
    write_file(stopped, {**facts, "version": 99}, rest)
    with pytest.raises(ValueError, match="checkpoint version 99"):
        DPClassifier.resume(stopped, *rows)


# ------------------------------------------------------------------ what the file holds
def test_the_file_holds_no_row_no_secret_and_nothing_as_long_as_the_data(tmp_path, rows):
    path = tmp_path / "fit.ckpt"
    with pytest.raises(Killed):
        estimator(path, At(60), feature_bounds="private", class_weight="balanced", batch_size=40, max_epochs=10).fit(
            *rows, sample_weight=np.linspace(0.5, 1, N)
        )
    raw = path.read_bytes()
    for row in rows[0]:
        assert row.tobytes() not in raw and row.astype(np.float32).tobytes() not in raw
    generators = 0
    for item in walk(saved_in(path)):
        assert not isinstance(item, torch.Generator)
        if isinstance(item, np.ndarray | torch.Tensor | list | tuple | str | bytes):
            assert len(item) not in (N, N * 4) if np.ndim(item) else True
            assert N not in np.shape(item) if isinstance(item, np.ndarray | torch.Tensor) else True
        generators += isinstance(item, np.random.Generator)
    assert generators == 1, "only the plan's public generator"
    assert (path.stat().st_mode & 0o777) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fit.ckpt", "fit.ckpt.lock"]
    assert (tmp_path / "fit.ckpt.lock").read_bytes() == b""
