"""Sweeps over epsilon: what they cost, what they show, and what may be read off them."""

import math
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold

from skdp import DPClassifier, DPRegressor
from skdp.accounting import FitBook, compose
from skdp.exceptions import SweepSpendsWarning
from skdp.model_selection import PrivacyUtilityCurve, PrivacyUtilityDisplay, privacy_utility, privacy_utility_curve

mpl.use("Agg")


@pytest.fixture(scope="module")
def data():
    X = np.random.default_rng(0).uniform(-1, 1, (900, 3))
    return X, (X[:, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def test_rows():
    X = np.random.default_rng(1).uniform(-1, 1, (300, 3))
    return {"X_test": X, "y_test": (X[:, 0] > 0).astype(int)}


def classifier(**params):
    return DPClassifier("linear", **{"classes": [0, 1], "feature_bounds": (-1, 1), "max_epochs": 3, "lr": 1.0} | params)


@pytest.fixture(scope="module")
def public_curve(data, test_rows):
    return privacy_utility_curve(
        classifier(), *data, epsilons=[3, 0.5, math.inf], n_seeds=2, scoring=["accuracy", "neg_log_loss"],
        data_are_public=True, **test_rows,
    )  # fmt: skip


def made(scores, **changes):
    given = {
        "epsilons": np.array([0.1, 1.0, 4.0]), "scores": {"accuracy": np.array(scores, float)},
        "prior": {"accuracy": 0.5}, "non_private": {}, "statement": None, "scores_are_public": True, "estimator": "Net",
    }  # fmt: skip
    return PrivacyUtilityCurve(**given | changes)


# ------------------------------------------------------------------ what a sweep costs
def test_statement_is_the_composition_of_all_fits(data, test_rows):
    fitted = []

    class Seen(DPClassifier):
        def fit(self, X, y):
            fitted.append(super().fit(X, y))
            return self

    model = Seen(**classifier(random_state=9).get_params())
    with pytest.warns(SweepSpendsWarning, match="makes 6 private fits, whose budgets add up to 10.5"):
        curve = privacy_utility_curve(model, *data, epsilons=[0.5, 3], n_seeds=3, **test_rows)
    assert [(m.epsilon, m.random_state) for m in fitted] == [(e, s) for e in (0.5, 3.0) for s in (0, 1, 2)]
    assert curve.privacy_ == compose([m.privacy_ for m in fitted])
    assert max(m.privacy_.epsilon for m in fitted) < curve.privacy_.epsilon < 10.5
    assert f"{curve.privacy_.epsilon:.4g}" in str(curve) and curve.scores_are_public
    assert curve.scores["accuracy"][1, 2] == fitted[-1].score(*test_rows.values())


@pytest.mark.filterwarnings("ignore::skdp.exceptions.SweepSpendsWarning")
def test_every_fit_goes_through_a_book_before_its_rows_are_read(data, test_rows, monkeypatch):
    reserved = []
    reserve = FitBook.reserve
    monkeypatch.setattr(FitBook, "reserve", lambda self, *a, **k: reserved.append(a[0]) or reserve(self, *a, **k))
    privacy_utility_curve(classifier(), *data, epsilons=[0.5, 3], n_seeds=2, **test_rows)
    assert len(reserved) == 4


@pytest.mark.filterwarnings("ignore::skdp.exceptions.SweepSpendsWarning")
def test_an_error_names_what_was_spent(data, test_rows):
    calls = []

    def failing(model, X, y):
        calls.append(model)
        if len(calls) == 3:
            raise RuntimeError("broken")
        return 0.5

    with pytest.raises(RuntimeError, match="broken") as error:
        privacy_utility_curve(classifier(), *data, epsilons=[0.5, 3], n_seeds=2, scoring=failing, **test_rows)
    total = compose([model.privacy_ for model in calls])
    assert error.value.__notes__ == [
        f"3 fits of the sweep were finished before; together they cost epsilon = {total.epsilon:.4g} at delta = "
        f"{total.delta:g}"
    ]


def test_public_rows_are_marked_and_warn_of_nothing(public_curve, data, test_rows):
    assert public_curve.privacy_ is None and "declared public" in str(public_curve)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        privacy_utility_curve(
            classifier(), *data, epsilons=[3.0, math.inf], n_seeds=1, data_are_public=True, **test_rows
        )  # fmt: skip


# ------------------------------------------------------------------ refusals, before anything is spent
@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"epsilons": [1.0, math.inf]}, "unprotected release"),
        ({"epsilons": [0.0]}, "positive"),
        ({"epsilons": []}, "at least one"),
        ({"n_seeds": 0}, "n_seeds=0"),
        ({"cv": 3}, "either public test rows"),
        ({"X_test": None}, "either public test rows"),
        ({"X_test": None, "y_test": None, "cv": StratifiedKFold(3)}, "cannot split without labels"),
        ({"estimator": LogisticRegression()}, "not private"),
    ],
)
def test_refusals(data, test_rows, wrong, message, monkeypatch):
    monkeypatch.setattr(FitBook, "reserve", None)
    given = {"estimator": classifier(), "X": data[0], "y": data[1], "epsilons": [1.0], **test_rows} | wrong
    with pytest.raises(ValueError, match=message):
        privacy_utility_curve(**given)


def test_splitters_see_neither_rows_nor_labels(data):
    seen = []

    class Spy(KFold):
        def split(self, X, y=None, groups=None):
            seen.append((X, y, groups))
            return super().split(X)

    folds = privacy_utility._folds(*data, None, None, Spy(3))
    ((X, y, groups),) = seen
    assert not X.any() and y is None and groups is None
    assert [len(train[1]) for train, _ in folds] == [600] * 3
    assert len(privacy_utility._folds(*data, None, None, ShuffleSplit(2, random_state=0))) == 2
    pairs = [(np.arange(10), np.arange(10, 20))]
    np.testing.assert_array_equal(privacy_utility._folds(*data, None, None, pairs)[0][1][0], data[0][10:20])


# ------------------------------------------------------------------ what may be read off
@pytest.mark.filterwarnings("ignore::skdp.exceptions.SweepSpendsWarning")
def test_scores_of_private_rows_choose_no_epsilon(data):
    curve = privacy_utility_curve(classifier(), *data, epsilons=[0.5, 3], n_seeds=1, cv=2)
    assert curve.scores["accuracy"].shape == (2, 1) and "NOT covered" in str(curve)
    with pytest.raises(ValueError, match="nobody paid for them"):
        curve.smallest_epsilon_within(0.5)


def test_smallest_epsilon():
    curve = made([[0.70, 0.72], [0.85, 0.89], [0.90, 0.92]])
    assert [curve.smallest_epsilon_within(t) for t in (0.0, 0.05, 0.25)] == [4.0, 1.0, 0.1]
    dip = made([[0.9, 0.9], [0.7, 0.7], [0.9, 0.9]])  # what a larger epsilon undoes was luck
    assert dip.smallest_epsilon_within(0.05) == 4.0
    far = made([[0.7], [0.8], [0.9]], non_private={"accuracy": np.array([0.95])})
    assert far.smallest_epsilon_within(0.06) == 4.0
    with pytest.raises(ValueError, match="no epsilon up to 4 comes within"):
        far.smallest_epsilon_within(0.01)
    with pytest.raises(ValueError, match="tolerance=-1"):
        far.smallest_epsilon_within(-1)
    with pytest.raises(ValueError, match="metric='auc'"):
        far.medians("auc")


def test_medians_bands_and_frame(public_curve):
    curve = made([[0.0, 1.0, 0.5], [1, 1, 1], [1, 1, 1]])
    assert curve.medians().tolist() == [0.5, 1, 1]
    low, high = curve.bands(level=1.0)
    assert (low.tolist(), high.tolist()) == ([0, 1, 1], [1, 1, 1])
    frame = public_curve.to_frame()
    assert len(frame) == 3 * 2 * 2 and np.isinf(frame.epsilon).sum() == 4
    again = frame[(frame.metric == "neg_log_loss") & (frame.epsilon == 0.5)].sort_values("seed").score
    np.testing.assert_array_equal(again, public_curve.scores["neg_log_loss"][0])


def test_prior_is_the_best_constant(public_curve, test_rows):
    rate = test_rows["y_test"].mean()
    assert public_curve.prior["accuracy"] == pytest.approx(max(rate, 1 - rate))
    assert public_curve.prior["neg_log_loss"] == pytest.approx(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


def test_regression(data):
    X, _ = data
    model = DPRegressor("linear", feature_bounds=(-1, 1), y_bounds=(-1, 1), max_epochs=3)
    curve = privacy_utility_curve(model, X, X[:, 0], epsilons=[2.0], n_seeds=1, cv=2, data_are_public=True)
    assert list(curve.scores) == ["r2"] and curve.prior["r2"] == pytest.approx(0)


# ------------------------------------------------------------------ the display
def test_display_shows_the_curve(public_curve):
    display = PrivacyUtilityDisplay.from_curve(public_curve, metric="neg_log_loss", name="net", color="red")
    assert display.ax_.get_xscale() == "log" and display.ax_.get_ylabel() == "neg_log_loss"
    np.testing.assert_array_equal(display.line_.get_xdata(), [0.5, 3])
    np.testing.assert_array_equal(display.line_.get_ydata(), public_curve.medians("neg_log_loss"))
    assert display.ax_.get_legend_handles_labels()[1] == ["net", "prior", "net, without privacy"]
    assert display.line_.get_color() == "red" and display.figure_ is display.ax_.figure


def test_several_curves_share_axes_ticks_and_the_prior(public_curve):
    first = PrivacyUtilityDisplay.from_curve(public_curve, name="a")
    second = PrivacyUtilityDisplay.from_curve(made([[0.6], [0.7], [0.8]]), name="b", ax=first.ax_)
    assert second.ax_ is first.ax_
    assert first.ax_.get_legend_handles_labels()[1].count("prior") == 1
    assert [tick.get_text() for tick in first.ax_.get_xticklabels()] == ["0.1", "0.5", "1", "3", "4"]
    plain = PrivacyUtilityDisplay.from_curve(public_curve, references=False)
    assert len(plain.ax_.lines) == 1
    with pytest.raises(ValueError, match="metric='auc'"):
        PrivacyUtilityDisplay.from_curve(public_curve, metric="auc")


def test_display_from_estimator(data, test_rows):
    display = PrivacyUtilityDisplay.from_estimator(
        classifier(), *data, epsilons=[1.0], n_seeds=1, data_are_public=True, **test_rows
    )
    assert display.curve_.estimator == "DPClassifier" and len(display.line_.get_xdata()) == 1
