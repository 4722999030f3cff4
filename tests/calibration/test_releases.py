"""What every private release about a fitted model has to show, whatever it is about."""

from __future__ import annotations

import math
import pickle
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from suite import assert_same_transcript, check_noise, largest_move, record, replay

from skdp.accounting import FitBook, verify
from skdp.calibration import (
    DPCalibrationReport,
    DPConformalClassifier,
    DPConformalRegressor,
    DPTemperatureScaling,
    DPVectorScaling,
)
from skdp.exceptions import NotPrivateWarning
from skdp.metrics import DPGroupReport, PrivateScore
from skdp.releases import ArrayExecutor

RNG = np.random.default_rng(0)
X_PUBLIC = RNG.normal(size=(300, 4))
LABELS = np.array(["a", "b", "c"])
LOGITS = 3 * X_PUBLIC[:, :3] + RNG.gumbel(size=(300, 3))
# Far too sure of itself, so that rows reach every bound.
CLASSIFIER = LogisticRegression(C=1e4).fit(X_PUBLIC, LABELS[LOGITS.argmax(1)])
REGRESSOR = LinearRegression().fit(X_PUBLIC, X_PUBLIC[:, 0])


def data(n=400):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 4))
    return X, LABELS[(3 * X[:, :3] + rng.gumbel(size=(n, 3))).argmax(1)], X[:, 0] + rng.normal(size=n)


def score(metric):
    def made(**options):
        bounds = {"y_bounds": (-4, 4)} if metric in ("r2", "neg_mse") else {}
        return PrivateScore(metric, **bounds, **options)

    return made


SPENDERS = {
    **{metric: score(metric) for metric in ("accuracy", "neg_brier", "neg_log_loss", "neg_mse", "r2")},
    "report": DPCalibrationReport,
    "groups": lambda **options: DPGroupReport([0, 1, 2], **options),
    "temperature": lambda **options: DPTemperatureScaling(CLASSIFIER, **options),
    "vector": lambda **options: DPVectorScaling(CLASSIFIER, **options),
    "sets": lambda **options: DPConformalClassifier(CLASSIFIER, **options),
    "intervals": lambda **options: DPConformalRegressor(REGRESSOR, y_bounds=(-4, 4), **options),
}
RELEASED = {
    "report": ("ece_", "accuracy_", "brier_", "nll_"), "groups": ("frame_",), "temperature": ("temperature_",),
    "vector": ("temperatures_",), "sets": ("threshold_",), "intervals": ("threshold_",),
}  # fmt: skip


def run(name, spender, X, y, target, groups=None):
    """Whatever spends."""
    numeric = name in ("neg_mse", "r2", "intervals")
    model, truth = (REGRESSOR, target) if numeric else (CLASSIFIER, y)
    if isinstance(spender, PrivateScore):
        spender(model, X, truth)
    elif name == "report":
        spender.fit(model, X, truth)
    elif name == "groups":
        spender.fit(model, X, truth, np.arange(len(X)) % 3 if groups is None else groups)
    else:
        spender.fit(X, truth)
    return spender


def neighbour(change):
    """Row 7 changed; labels, targets and groups with it."""
    X, y, target = data()
    groups = np.arange(len(X)) % 3
    y = y.astype(object)
    cells = {"huge": 1e150, "NaN": np.nan, "infinite": np.inf, "denormal": 5e-324, "null": np.nan}
    if change in cells:
        X[7] = cells[change]
        target[7] = cells[change]
    if change == "mislabelled":
        y[7], target[7], groups[7] = LABELS[(y[7] == LABELS).argmax() - 1], 1e6, 2
    if change in ("unknown label", "null"):
        y[7], target[7], groups[7] = None, np.nan, 99
    return X, y, target, groups


@pytest.mark.filterwarnings("ignore::skdp.exceptions.WeakSignalWarning")
@pytest.mark.parametrize("name", SPENDERS)
def test_one_row_changes_no_query_and_moves_no_answer_too_far(name):
    X, y, target, groups = neighbour("null")

    def fit(X, y, target, groups):
        return lambda: run(name, SPENDERS[name](on_invalid="null"), X, y, target, groups)

    # Zero-out compares a row with the null row.
    before = record(fit(X, y, target, groups))
    moves = []
    for change in ("as it was", "huge", "NaN", "infinite", "denormal", "mislabelled", "unknown label"):
        after = replay(fit(*neighbour(change)), before)
        assert_same_transcript(before, after)
        moves.append(largest_move(before, after))
        assert moves[-1] <= 1 + 1e-9
    assert max(moves) > 0.3  # the row is seen at all


@pytest.mark.filterwarnings("ignore::skdp.exceptions.WeakSignalWarning")
@pytest.mark.parametrize("name", SPENDERS)
def test_noise_is_what_the_statement_says(name):
    """False alarm 1e-6 a spender; noise that is a third too small is noticed."""
    with measured_arrays() as samples:
        for _ in range(60 if name in ("sets", "intervals") else 500 if name not in ("temperature", "vector") else 20):
            run(name, SPENDERS[name](epsilon=None, noise_multiplier=3.0), *data(20))
    noise = np.concatenate(samples)
    check_noise(noise, 1.0)
    with pytest.raises(AssertionError):
        check_noise(noise * 2 / 3, 1.0)


@contextmanager
def measured_arrays():
    """Added noise over what the query declares, of every answer."""
    samples, honest = [], ArrayExecutor._noise

    def noise(executor, value, multiplier, shape):
        drawn = honest(executor, value, multiplier, shape)
        samples.append(np.ravel(drawn) / (multiplier * value.sensitivity))
        return drawn

    with mock.patch.object(ArrayExecutor, "_noise", noise):
        yield samples


@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one", "add-remove"])
@pytest.mark.parametrize("name", SPENDERS)
def test_statement_is_within_the_target_and_can_be_verified(name, adjacency):
    extra = {"n_public": 400} if adjacency == "add-remove" else {}
    spender = run(name, SPENDERS[name](epsilon=0.8, adjacency=adjacency, delta=1e-4, **extra), *data())
    statement = spender.privacy_
    assert 0.79 < statement.epsilon <= 0.8 and statement.adjacency == adjacency
    assert any("fitted model" in fact for fact in statement.public)
    assert verify(statement).holds


@pytest.mark.parametrize("name", SPENDERS)
def test_the_charge_is_reserved_before_a_row_is_summed(name, monkeypatch):
    order = []
    reserve, answer = FitBook.reserve, ArrayExecutor.answer
    monkeypatch.setattr(FitBook, "reserve", lambda *a: order.append("reserve") or reserve(*a))
    monkeypatch.setattr(ArrayExecutor, "answer", lambda *a: order.append("answer") or answer(*a))
    run(name, SPENDERS[name](), *data())
    assert order[0] == "reserve" and order[1] == "answer"


@pytest.mark.parametrize("name", SPENDERS)
def test_clone_pickle_and_fresh_noise(name):
    spender = SPENDERS[name](epsilon=0.5)
    run(name, spender, *data())
    if hasattr(spender, "estimator"):
        spender.set_params(estimator=FrozenEstimator(spender.estimator))
    copy, fresh = pickle.loads(pickle.dumps(spender)), clone(spender)
    assert copy.privacy_ == spender.privacy_ and not hasattr(fresh, "_statement")
    assert fresh.get_params(deep=False).keys() == spender.get_params(deep=False).keys()
    assert len(pickle.dumps(spender)) < 40_000  # no rows
    if name not in ("sets", "intervals"):
        fields = RELEASED.get(name, ("score_",))
        run(name, fresh, *data())
        assert all(str(getattr(fresh, f)) != str(getattr(spender, f)) for f in fields if f != "ece_")


@pytest.mark.parametrize("name", SPENDERS)
def test_without_noise_it_says_so(name):
    with pytest.warns(NotPrivateWarning, match="NOT PRIVATE"):
        spender = run(name, SPENDERS[name](epsilon=math.inf), *data())
    assert spender.privacy_.epsilon == math.inf


@pytest.mark.parametrize("name", SPENDERS)
def test_invalid_rows_are_an_error_and_cost_nothing(name):
    X, y, target, groups = neighbour("null")
    spender = SPENDERS[name]()
    with pytest.raises(ValueError, match="NaN|on_invalid='null'"):
        run(name, spender, X, y, target, groups)
    assert not hasattr(spender, "_statement") and not hasattr(spender, "_failed")


@pytest.mark.parametrize("name", SPENDERS)
@pytest.mark.parametrize(
    ("options", "words"),
    [({"epsilon": 0}, "epsilon"), ({"noise_multiplier": 1.0}, "noise_multiplier"), ({"on_invalid": "skip"}, "skip"),
     ({"adjacency": "add-remove"}, "n_public")],
)  # fmt: skip
def test_impossible_parameters_are_refused(name, options, words):
    with pytest.raises(ValueError, match=words):
        run(name, SPENDERS[name](**options), *data())
