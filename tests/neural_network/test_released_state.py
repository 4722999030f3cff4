"""What may leave a fit: no row in a module, no cell in a message, and no fit that is forgotten."""

from __future__ import annotations

import inspect
import pickle
import sys
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import cross_val_score
from skorch.callbacks import Callback, EarlyStopping
from torch import nn
from torch.nn import functional

from skdp import DPClassifier, DPRegressor
from skdp.accounting import compose, resolve_delta
from skdp.contract import Public
from skdp.exceptions import (
    CalibrationError,
    InterruptedFitWarning,
    PrivateBoundsWarning,
    UnsupportedModuleError,
    WeakPrivacyWarning,
    WeakSignalWarning,
)
from skdp.nets import Net
from skdp.neural_network import base, estimates
from skdp.neural_network.programme import draw_up
from skdp.neural_network.stating import signal_warnings
from skdp.releases import ArrayExecutor
from skdp.releases.bounds import Ranges
from skdp.training import TorchExecutor

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, size=(400, 3))
Y = (X[:, 0] > 0).astype(int)
TOKENS = RNG.integers(0, 10, size=(400, 5))


def classifier(**options):
    given = {"module": "linear", "classes": [0, 1], "epsilon": 2.0, "feature_bounds": (-1, 1), "max_epochs": 4}
    return DPClassifier(**{**given, "batch_size": 400, **options})


# ------------------------------------------------------------------ modules
class Words(nn.Module):
    def __init__(self, n_outputs=1):
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 4), nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.head(self.embedding(x).mean(1))


class Mixing(Words):
    """Normalises tokens over the batch, which zeros in the place of tokens do not show."""

    def forward(self, x):
        return self.head(functional.batch_norm(self.embedding(x).mean(1), None, None, training=True))


class Keeping(nn.Module):
    def __init__(self, n_features, n_outputs=1):
        super().__init__()
        self.layer, self.last = nn.Linear(n_features, n_outputs), None

    def forward(self, x):
        self.last = x
        return self.layer(x)


class Precomputing(nn.Module):
    precompute_features = True

    def __init__(self, n_features, n_outputs=1):
        super().__init__()
        self.features, self.head = nn.Linear(n_features, 4), nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.head(self.features(x))


def test_a_module_that_mixes_tokens_is_refused():
    with pytest.raises(UnsupportedModuleError, match="mixes rows"):
        classifier(module=Mixing, feature_bounds=None).fit(TOKENS, Y)


@pytest.mark.parametrize("module", [Keeping, Keeping(3)])
def test_what_a_module_keeps_of_rows_stays_behind(module):
    model = classifier(module=module).fit(X, Y)
    assert model.module_.last is None
    for name, weight in model.module_.state_dict().items():
        np.testing.assert_array_equal(weight.numpy(), model._weights[name])


def test_bounds_of_tokens_are_refused():
    with pytest.raises(ValueError, match=r"feature_bounds=\(-1, 1\) has no meaning for tokens"):
        classifier(module=Words).fit(TOKENS, Y)


def test_trainable_features_are_not_precomputed():
    with pytest.raises(UnsupportedModuleError, match=r"precompute_features=True.*\['weight', 'bias'\].*train"):
        classifier(module=Precomputing).fit(X, Y)


def test_frozen_batch_norm_trains_and_stays_frozen():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 1))
    with pytest.raises(UnsupportedModuleError, match="BatchNorm1d"):
        classifier(module=net).fit(X, Y)
    net[1].eval().requires_grad_(False)
    model = classifier(module=net, validation_public=(X, Y)).fit(X, Y)
    assert float(model.module_[1].num_batches_tracked) == 0
    assert classifier(module=net.eval()).fit(X, Y).module_[1].running_mean.abs().max() == 0


# ------------------------------------------------------------------ fits that failed
class GlobalState(Callback):
    """Torch's global generator, as a callback sees it between steps."""

    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_batch_begin(self, net, **kwargs):
        self.seen.append(torch.get_rng_state())

    on_batch_end = on_batch_begin


def test_dropout_leaves_torch_alone_and_follows_no_public_seed():
    """A generator that rows have moved tells how many they were; known masks tell more."""
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        spy = GlobalState()
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1))
        model = classifier(module=net, epsilon=np.inf, batch_size=400, callbacks=[spy], random_state=0).fit(X, Y)
        assert len(spy.seen) == 8 and all(torch.equal(state, spy.seen[0]) for state in spy.seen)
        weights.append(model.module_[1].weight.detach())
    assert not torch.equal(*weights)


def test_fits_in_threads_keep_to_their_own_streams():
    """Torch's generators belong to the process, so fits wait for each other."""
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1))
    torch.manual_seed(0)
    before = torch.get_rng_state()

    def fit(_):
        return classifier(module=net, max_epochs=8, batch_size=100).fit(X, Y).privacy_.epsilon

    with ThreadPoolExecutor(4) as pool:
        assert all(epsilon <= 2 for epsilon in pool.map(fit, range(8)))
    assert torch.equal(torch.get_rng_state(), before)


class Counting(Precomputing):
    """Counts its passes in a buffer, which tells the number of rows."""

    def __init__(self, n_features, n_outputs=1, drop=0.0):
        super().__init__(n_features, n_outputs)
        self.features = nn.Sequential(self.features, nn.Dropout(drop)).requires_grad_(False)
        self.features.register_buffer("passes", torch.zeros(()))
        self.features.register_forward_hook(lambda module, args, output: module.passes.add_(1) and None)


def test_features_that_are_computed_once_leave_nothing_either():
    model = classifier(module=Counting, max_epochs=1).fit(np.tile(X, (30, 1)), np.tile(Y, 30))
    assert float(model.module_.features.passes) == 0
    with pytest.raises(UnsupportedModuleError, match="drop units at random"):
        classifier(module=Net(Counting, drop=0.5)).fit(X, Y)


class Raising(Callback):
    def __init__(self, error=RuntimeError):
        self.error = error

    def on_train_end(self, net, **kwargs):
        raise self.error("on purpose")


class Refused(Callback):
    def on_train_begin(self, net, **kwargs):
        raise RuntimeError("before the first query")


def failing(model):
    with pytest.raises(RuntimeError):
        model.set_params(callbacks=[Raising()]).fit(X, Y)
    return model.set_params(callbacks=None)


def test_a_failed_fit_is_counted_before_and_after_the_next():
    model = failing(classifier())
    assert model.privacy_.status == "complete" and not hasattr(model, "classes_")
    alone = model.privacy_
    both = model.fit(X, Y).privacy_
    assert both.epsilon == pytest.approx(compose([alone, classifier().fit(X, Y).privacy_]).epsilon, rel=1e-3)
    before = model.predict_proba(X)
    assert failing(model).privacy_.epsilon > both.epsilon > alone.epsilon
    np.testing.assert_array_equal(model.predict_proba(X), before)


def test_a_failed_warm_start_is_counted_by_the_next():
    model = classifier(warm_start=True).fit(X, Y)
    three = failing(model).fit(X, Y).privacy_
    one = classifier().fit(X, Y).privacy_
    assert three.epsilon == pytest.approx(compose([one, one, one]).epsilon, rel=1e-3)


class Pickling(Callback):
    """Copies the estimator in mid-fit, as a callback that keeps a closure over it can."""

    def on_batch_end(self, net, training, **kwargs):
        kept.append(pickle.dumps(watched[0]))


kept, watched = [], []


def test_a_copy_in_mid_fit_counts_the_fit():
    watched[:], kept[:] = [classifier(callbacks=[Pickling()])], []
    model = watched[0].fit(X, Y)
    assert pickle.loads(kept[0]).privacy_.epsilon == model.privacy_.epsilon and model._failed_fits() == []


def lines_of(function):
    """Numbers of the lines of a function that may run."""
    return sorted({line for *_, line in function.__code__.co_lines() if line})


@pytest.mark.parametrize("callbacks", [None, [Raising()]])
def test_an_interrupt_at_any_line_of_fit_loses_no_charge(callbacks):
    """On every line of `fit`, `_fitting`, `_training`, once something was answered, also while a failure is counted."""
    functions = [inspect.unwrap(f) for f in (DPClassifier.fit, DPClassifier._fitting, DPClassifier._training)]
    places = [(f.__code__, line) for f in functions for line in lines_of(f)]
    reached = 0
    for code, line in places:
        answered, hit = [], []

        def watch(frame, event, argument, code=code, line=line, answered=answered, hit=hit):
            if frame.f_code is TorchExecutor.answer.__code__:
                answered.append(1)
            if frame.f_code is not code or hit:
                return watch
            if event == "line" and frame.f_lineno == line and answered:
                hit.append(1)
                raise KeyboardInterrupt
            return watch

        model = classifier(max_epochs=1, callbacks=callbacks)
        sys.settrace(watch)
        try:
            model.fit(X, Y)
        except (KeyboardInterrupt, RuntimeError):
            pass
        finally:
            sys.settrace(None)
        reached += len(hit)
        assert not answered or model.privacy_.epsilon >= 1.9, f"{code.co_name}, line {line}"
    assert reached > 5


def test_an_interrupt_while_a_failure_is_counted_loses_no_charge(monkeypatch):
    honest = base.make_statement

    def impatient(estimator, problem, programme, estimates, executed, *more):
        if executed is not None:
            raise KeyboardInterrupt
        return honest(estimator, problem, programme, estimates, executed, *more)

    model = classifier(callbacks=[Raising()])
    monkeypatch.setattr(base, "make_statement", impatient)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    monkeypatch.undo()
    alone = model.privacy_.epsilon
    assert 1.9 < alone <= 2.0
    assert model.set_params(callbacks=None).fit(X, Y).privacy_.epsilon > 1.3 * alone


def test_nothing_spent_is_nothing_to_count():
    model = classifier().fit(X, Y)
    with pytest.raises(RuntimeError):
        model.set_params(callbacks=[Refused()]).fit(X, Y)
    assert model.privacy_.status == "complete" and model.privacy_.epsilon <= 2.0


@pytest.mark.parametrize("change", [{"adjacency": "replace-one"}, {}])
def test_a_fit_that_cannot_compose_is_refused_before_it_costs(change, monkeypatch):
    model = classifier(warm_start=True).fit(X[:90], Y[:90])
    asked = []
    monkeypatch.setattr("skdp.training.TorchExecutor.answer", lambda self, query: asked.append(query))
    rows = slice(0, 90) if change else slice(None)
    large = (np.tile(X, (5, 1)), np.tile(Y, 5))
    with pytest.raises(ValueError, match="cannot be accounted for together.*clone"):
        model.set_params(**change).fit(*((X[rows], Y[rows]) if change else large))
    assert asked == []


# ------------------------------------------------------------------ interrupts
class Interrupting(Callback):
    def __init__(self, again=False):
        self.again = again

    def on_batch_end(self, net, training, **kwargs):
        if net.state_["step"] == 2:
            raise KeyboardInterrupt

    def on_train_end(self, net, **kwargs):
        if self.again:
            raise KeyboardInterrupt


def test_an_interrupt_is_loud():
    with pytest.warns(InterruptedFitWarning, match="after 2 of 4 steps; the model is partial.* counts 2 steps"):
        model = classifier(callbacks=[Interrupting()]).fit(X, Y)
    assert model.privacy_.status == "interrupted" and np.isfinite(model.predict_proba(X)).all()


def test_an_interrupted_step_is_counted_and_the_warning_says_both():
    class Within(Callback):
        def on_grad_computed(self, net, **kwargs):
            if net.state_["step"] == 2:
                raise KeyboardInterrupt

    with pytest.warns(
        InterruptedFitWarning, match="after 2 of 4 steps; .* counts 3 steps .one that was begun is spent"
    ):
        model = classifier(callbacks=[Within()]).fit(X, Y)
    assert model.privacy_.steps == 3


def test_a_second_interrupt_raises():
    model = classifier(callbacks=[Interrupting(again=True)])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert model.privacy_.steps == 2


def test_one_interrupt_stops_a_search():
    with pytest.raises(KeyboardInterrupt):
        cross_val_score(classifier(callbacks=[Interrupting()]), X, Y, cv=2)


def test_early_stopping_is_no_interrupt(recwarn):
    stop = EarlyStopping(monitor="valid_loss", patience=1, threshold=10.0, threshold_mode="abs")
    model = classifier(callbacks=[stop], validation_public=(X[:50], Y[:50])).fit(X, Y)
    assert model.n_iter_ == 2 and not list(recwarn)


# ------------------------------------------------------------------ single rows that are null
def objects(values, first):
    array = np.array(values, dtype=object)
    array[0] = first
    return array


def first_cell(value, dtype=object):
    spoiled = X.astype(dtype)
    spoiled[0, 0] = value
    return spoiled


def tokens(value, dtype=int):
    spoiled = TOKENS.astype(dtype)
    spoiled[0, 0] = value
    return spoiled


NULLS = [
    ({"module": Words, "feature_bounds": None}, TOKENS, tokens(4711), Y, None),
    ({"module": Words, "feature_bounds": None}, TOKENS, tokens(-3), Y, None),
    ({"module": Words, "feature_bounds": None}, TOKENS, tokens(np.nan, float), Y, None),
    ({}, X, X, objects(Y, None), None),
    ({}, X, X, objects(Y, "HIV positive"), None),
    ({}, X, X, ["HIV positive", *Y[1:].tolist()], None),
    ({}, X, first_cell("HIV positive"), Y, None),
    ({}, X, first_cell(None), Y, None),
    ({}, X, pd.DataFrame(first_cell("HIV positive"), columns=list("abc")), Y, None),
    ({}, X, X, Y, np.r_[np.nan, np.ones(399)]),
    ({}, X, X, Y, np.r_[-1.0, np.ones(399)]),
]


@pytest.mark.parametrize(("change", "clean", "bad", "y", "weights"), NULLS)
def test_one_impossible_row_is_a_null_row(change, clean, bad, y, weights):
    options = {"on_invalid": "null", "insecure_noise_seed": 0, "random_state": 0, **change}
    weighted = classifier(**options).fit(clean, Y, sample_weight=np.r_[0.0, np.ones(399)])
    nulled = classifier(**options).fit(bad, y, sample_weight=weights)
    for name, weight in weighted.module_.state_dict().items():
        assert torch.equal(nulled.module_.state_dict()[name], weight)


@pytest.mark.parametrize("bad", [None, "HIV positive"])
def test_one_impossible_target_is_a_null_row(bad):
    model = DPRegressor("linear", feature_bounds=(-1, 1), y_bounds=(-1, 1), on_invalid="null", max_epochs=2)
    assert np.isfinite(model.fit(X, objects(X[:, 0], bad)).predict(X)).all()


SECRETS = [
    ({}, first_cell("HIV positive"), Y, r"could not convert string to float: columns \[0\] hold text"),
    (
        {},
        pd.DataFrame(first_cell("HIV positive"), columns=list("abc")).infer_objects(),
        Y,
        r"columns \['a'\] hold text",
    ),
    ({}, [["HIV positive", 0.0, 1.0]] * 400, Y, r"columns \[0\] hold text"),
    ({}, np.full(400, 4711.25), Y, r"Expected 2D array, got 1D array instead\. Reshape your data"),
    ({}, X * (4711.25 + 1j), Y, "Complex data not supported"),
    ({}, X, objects(Y, "HIV positive"), r"labels which are not in classes=\[0, 1\]"),
    (
        {"module": Words, "feature_bounds": None},
        tokens(4711),
        Y,
        r"tokens that are not whole numbers from 0 to 9 in column 0",
    ),
    ({"classes": None}, X, objects(Y, "HIV positive"), "y mixes text and numbers as labels"),
    ({"classes": None}, X, X[:, 0], "Unknown label type.*use DPRegressor"),
    ({}, X, X[:, 0], "continuous targets need DPRegressor"),
]


@pytest.mark.parametrize(("change", "bad", "y", "message"), SECRETS)
def test_no_message_quotes_a_row(change, bad, y, message):
    with pytest.raises(ValueError, match=message) as caught:
        classifier(**change).fit(bad, y)
    # Without source lines, which quote this file.
    shown = traceback.TracebackException.from_exception(caught.value)
    told = [str(shown)]
    while (shown := shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)) is not None:
        told.append(str(shown))
    assert "HIV" not in " ".join(told) and "4711" not in " ".join(told)


# ------------------------------------------------------------------ ranges and budgets
def test_a_range_of_y_that_noise_is_sure_to_hide_is_refused_for_nothing(monkeypatch):
    asked = []
    monkeypatch.setattr(ArrayExecutor, "answer", lambda self, query: asked.append(query))
    model = DPRegressor("linear", epsilon=0.1, feature_bounds=(-1, 1))
    with pytest.raises(CalibrationError, match=r"y_bounds=None: 400 rows cannot show.*Pass y_bounds=\(low, high\)"):
        model.fit(X, 150 + X[:, 0])
    assert asked == [] and not hasattr(model, "_failed")


def test_a_range_of_y_that_noise_did_hide_is_an_error_that_was_paid_for():
    model = DPRegressor("linear", epsilon=2.0, feature_bounds=(-1, 1), on_invalid="null", insecure_noise_seed=0)
    with pytest.raises(ValueError, match="noise hides the range of 1 of 1 targets.*is spent"):
        model.fit(X, np.full(400, np.nan))
    assert model.privacy_.status == "interrupted" and model.privacy_.epsilon <= 2.0


def test_hidden_columns_have_a_warning_of_their_own():
    with pytest.warns(PrivateBoundsWarning, match=r"noise hides the range of columns 0, 1, 2, taken as \[-1, 1\]"):
        model = classifier(feature_bounds="private", epsilon=0.05, insecure_noise_seed=0).fit(X, Y)
    assert sum("hides the range of columns 0, 1, 2" in line for line in model.privacy_.warnings) == 1


def test_hidden_columns_are_named_in_one_warning(recwarn):
    table = pd.DataFrame(np.tile(X, 3), columns=[f"c{i}" for i in range(9)])
    classifier(feature_bounds="private", epsilon=0.05, insecure_noise_seed=0).fit(table, Y)
    (warning,) = [w for w in recwarn if w.category is PrivateBoundsWarning]
    assert "columns 'c0', 'c1', 'c2', 'c3', 'c4' and 4 more, taken as" in str(warning.message)


def test_hidden_and_blurred_columns_share_one_warning(recwarn):
    ranges = Ranges(
        np.tile([-1.0, 1.0], (3, 1)),
        np.array([1, 0, 1], bool),
        np.array([0, 1, 1], bool),
        np.zeros(3, bool),
        np.zeros(3, bool),
    )

    def known(*arguments):
        yield from ()
        return ranges

    with mock.patch.object(estimates, "bounds_queries", known):
        classifier(feature_bounds="private").fit(X, Y)
    (warning,) = recwarn
    hidden, blurred = "hides the range of columns 1, taken as [-1, 1]", "blurs the range of columns 2, which may be"
    assert f"noise {hidden} and noise {blurred}" in str(warning.message)


def test_warnings_point_at_the_line_that_fits(recwarn):
    classifier(feature_bounds="private", epsilon=0.05, insecure_noise_seed=0).fit(X, Y)
    here = inspect.currentframe().f_lineno - 1
    assert {(w.filename, w.lineno) for w in recwarn} == {(__file__, here)} and len(recwarn) == 2


@pytest.mark.parametrize("budget", [{"epsilon": 0.01}, {"epsilon": None, "noise_multiplier": 500.0}])
def test_a_budget_that_buys_noise_is_said_before_it_is_spent(budget):
    with warnings.catch_warnings():
        warnings.simplefilter("error", WeakSignalWarning)
        model = classifier(**budget)
        with pytest.raises(WeakSignalWarning, match="no better than the prior.*3 columns.* times the rows"):
            model.fit(X, Y)
    assert not hasattr(model, "_failed")


@pytest.mark.parametrize(("rows", "columns"), [(455, 30), (1437, 64), (353, 10), (32561, 105), (5000, 49)])
def test_tables_that_can_be_learnt_raise_no_such_alarm(rows, columns):
    public = Public(rows, (columns,), 1, "binary")
    assert signal_warnings(draw_up(classifier(epsilon=0.5), public, resolve_delta("auto", rows), ())) == []


@pytest.mark.parametrize(
    ("options", "rows", "message"),
    [({"epsilon": 12.0}, 400, "epsilon=12 is more than 10"), ({}, 60, "delta='auto' is 0.001 for n=60 rows"),
     ({"delta": 1e-3}, 400, "delta=0.001 is close to 1/n")],
)  # fmt: skip
def test_budgets_that_protect_little(options, rows, message):
    with pytest.warns(WeakPrivacyWarning, match=message):
        model = classifier(**options).fit(X[:rows], Y[:rows])
    assert any(message in line for line in model.privacy_.warnings)


def test_ordinary_use_is_silent(recwarn):
    classifier().fit(X, Y)
    classifier(delta=1e-5).fit(X, Y)
    assert not list(recwarn)


def test_what_the_guarantee_rests_on_is_stated():
    plain = classifier().fit(X, Y).privacy_.assumptions
    told = classifier(module=nn.Linear(3, 1)).fit(X, Y, sample_weight=np.ones(400)).privacy_.assumptions
    assert set(told) - set(plain) == {
        "sample weights were computed from each record alone",
        "the weights that module= came with were made from public data",
    }
