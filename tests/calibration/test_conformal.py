"""Prediction sets and intervals: coverage as promised, noise included."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression
from stand_in import Given

from skdp import DPRegressor
from skdp.calibration import DPConformalClassifier, DPConformalRegressor
from skdp.calibration.conformal import needed_count, threshold_queries, threshold_touch
from skdp.calibration.conformal_regressor import Residual
from skdp.contract import drive
from skdp.exceptions import WeakSignalWarning
from skdp.metrics import interval_coverage, set_coverage
from skdp.releases import ArrayExecutor

MODEL = LinearRegression().fit([[0.0], [1.0]], [0.0, 0.0])
LOGISTIC = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
RUNS, FALSE_ALARM = 600, 1e-6


def rows(n, rng):
    return rng.uniform(size=(n, 1)), rng.uniform(0, 1, size=n)


@pytest.mark.parametrize(("n_is_public", "n", "noise"), [(True, 200, 2.0), (True, 60, 0.5), (True, 200, None),
                                                       (False, 200, 2.0)])  # fmt: skip
def test_coverage_is_at_least_what_was_promised(n_is_public, n, noise):
    """Exact coverage of each threshold is known (residuals are uniform), averaged over 600 calibration sets.

    It is a mean of numbers in [0, 1] with expectation of 1 - alpha or more; by Hoeffding it lies below by more than
    t = .107 with chance 1e-6 at most. As its deviation is far smaller, the test with that deviation is made, too.
    """
    rng, alpha, touch = np.random.default_rng(0), 0.2, threshold_touch(noise, 10)

    def threshold():
        values = np.column_stack([np.zeros(n), rng.uniform(size=n)])
        source = ArrayExecutor(
            {"rows": values}, np.zeros(n, dtype=bool), spend=lambda touch: 0, normal=rng.standard_normal
        )
        return drive(threshold_queries(touch, "rows", Residual(-1, 1), n, alpha, 2.0, n_is_public), source.answer)

    covered = np.minimum([threshold() for _ in range(RUNS)], 1.0)
    assert covered.mean() > 1 - alpha - math.sqrt(math.log(1 / FALSE_ALARM) / (2 * RUNS))
    assert covered.mean() > 1 - alpha - stats.norm.isf(FALSE_ALARM) * covered.std() / math.sqrt(RUNS)
    # Without the margin for noise it would fail, or nearly: what is left over is not much more than the margin.
    assert covered.mean() < 1 - alpha + 0.16
    if noise is None:
        assert covered.mean() < 1 - alpha + 0.02


def test_power_a_threshold_without_margin_would_be_noticed():
    """Noise that is taken for granted: accepting at the classical rank misses more than alpha."""
    rng, alpha, n, std = np.random.default_rng(0), 0.05, 60, 6.0
    covered = []
    for _ in range(RUNS):
        scores, low, high = rng.uniform(size=n), 0, 1024
        for _ in range(10):
            middle = (low + high) // 2
            if (scores <= middle / 1024).sum() + std * rng.standard_normal() >= (1 - alpha) * (n + 1):
                high = middle
            else:
                low = middle
        covered.append(high / 1024)
    assert np.mean(covered) < 1 - alpha - stats.norm.isf(FALSE_ALARM) * np.std(covered) / math.sqrt(RUNS)


def test_margin_and_level_share_alpha():
    q, margin = needed_count(1000, 0.1, 5.0, 8)
    beta = q - 0.9
    assert 0 < beta < 0.1 and margin == pytest.approx(stats.norm.isf(beta / 8) * 5.0)
    assert q * 1001 + margin < min(0.9 * 1001 + b * 1001 + stats.norm.isf(b / 8) * 5.0 for b in (1e-5, 0.05, 0.09))
    assert needed_count(1000, 0.1, 0.0, 8) == (0.9, 0.0)


def test_sets_of_classes_cover():
    """One calibration: coverage of 20,000 new rows is within .03 of what the classical rank would give, or above."""
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([0.4] * 5, 26_000)
    y = (proba.cumsum(1) > rng.uniform(size=(26_000, 1))).argmax(1)
    sets = DPConformalClassifier(Given(5).fit(), alpha=0.1, epsilon=0.5).fit(proba[:6000], y[:6000])
    held = sets.predict_set(proba[6000:])
    assert 0.88 < set_coverage(y[6000:], held, sets.classes_) < 0.94
    assert held[np.arange(20_000), proba[6000:].argmax(1)].all()
    assert held.sum(1).mean() < 4 and 0.9 < sets.level_ < 0.91
    np.testing.assert_array_equal(sets.predict_proba(proba[:5]), proba[:5])


def test_invalid_rows_raise_the_threshold():
    rng = np.random.default_rng(0)
    X, y = rows(500, rng)
    options = {"alpha": 0.2, "y_bounds": (-1, 1), "epsilon": None, "noise_multiplier": 1.0, "insecure_noise_seed": 0}
    whole = DPConformalRegressor(MODEL, **options).fit(X, y).threshold_
    y[:100] = np.nan
    assert DPConformalRegressor(MODEL, on_invalid="null", **options).fit(X, y).threshold_ >= whole - 0.02


def test_intervals_end_at_the_bounds_that_the_model_knows():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (3000, 2))
    y = X[:, 0] + 0.1 * rng.standard_normal(3000)
    model = DPRegressor("linear", epsilon=2.0, feature_bounds=(-1, 1), y_bounds=(-1.5, 1.5), max_epochs=5)
    model.fit(X[:1000], y[:1000])
    intervals = DPConformalRegressor(model, alpha=0.1).fit(X[1000:2000], y[1000:2000])
    ends = intervals.predict_interval(X[2000:])
    assert intervals.y_bounds_ == (-1.5, 1.5) and ends.min() >= -1.5 and ends.max() <= 1.5
    assert interval_coverage(y[2000:], ends) > 0.86
    assert intervals.total_privacy_.epsilon == model.privacy_.epsilon
    np.testing.assert_array_equal(intervals.predict(X), model.predict(X))


def test_too_few_rows_hold_everything_and_say_so():
    X, y = rows(20, np.random.default_rng(0))
    with pytest.warns(WeakSignalWarning, match="too few"):
        made = DPConformalRegressor(MODEL, alpha=0.05, y_bounds=(-1, 1), epsilon=0.5, delta=1e-3).fit(X, y)
    assert made.threshold_ > 1.9


@pytest.mark.parametrize(
    ("options", "words"),
    [({"alpha": 0}, "alpha=0"), ({"alpha": 0.6}, "alpha=0.6"), ({"split": "same"}, "less often than promised"),
     ({"y_bounds": None}, "y_bounds=None"), ({"y_bounds": (1, 0)}, "range"), ({"y_bounds": (0, math.inf)}, "range")],
)  # fmt: skip
def test_impossible_intervals_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        DPConformalRegressor(MODEL, **{"y_bounds": (-1, 1), **options}).fit(*rows(50, np.random.default_rng(0)))


LINE, POINTS = np.linspace(0, 1, 40).reshape(-1, 1), np.linspace(0, 1, 40)
HALVES = (POINTS > 0.5).astype(int)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            lambda: DPConformalRegressor(MODEL).fit(LINE, POINTS),
            r"y_bounds=None must be .* DPRegressor",
        ),
        (lambda: DPConformalRegressor(MODEL, y_bounds=("a", "b")).fit(LINE, POINTS), r"y_bounds=\('a', 'b'\) must be"),
        (
            lambda: DPConformalRegressor("ridge", y_bounds=(0, 1)).fit(LINE, POINTS),
            "estimator='ridge' must be",
        ),
        (lambda: DPConformalRegressor(MODEL, y_bounds=(0, 1), alpha=90).fit(LINE, POINTS), "alpha=90 .* such as 0.1"),
        (lambda: DPConformalRegressor(MODEL, y_bounds=(0, 1)).fit(LINE, None), "y is None, and must be one number"),
        (lambda: DPConformalRegressor(MODEL, y_bounds=(0, 1)).fit(LINE, LINE), r"y has shape \(40, 1\).*y.ravel"),
        (lambda: DPConformalRegressor(LOGISTIC, y_bounds=(0, 1)).fit(LINE, POINTS), "use DPConformalClassifier"),
        (lambda: DPConformalClassifier(MODEL).fit(LINE, HALVES), "no predict_proba.*pass a classifier"),
        (lambda: DPConformalClassifier(LOGISTIC).fit(LINE, POINTS), r"classes_=\[0, 1\].*on_invalid='null'"),
    ],
)
def test_messages_name_parameter_value_and_remedy(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()


def test_too_few_rows_name_the_budget():
    with pytest.warns(WeakSignalWarning, match=r"10 rows are too few for alpha=0.1 at noise_multiplier=2: .*about \d+"):
        DPConformalClassifier(LOGISTIC, epsilon=None, noise_multiplier=2.0, delta=1e-3).fit(LINE[::4], HALVES[::4])
