"""Calibration errors, proper scores, intervals and scorers against scikit-learn and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.model_selection import GridSearchCV, KFold, cross_validate

from skdp.metrics import (
    SCORERS,
    adaptive_calibration_error,
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    get_scorer,
    interval_coverage,
    interval_width,
    maximum_calibration_error,
    negative_log_likelihood,
    set_coverage,
    set_size,
)

RNG = np.random.default_rng(0)
P = RNG.uniform(size=400)
Y = (RNG.uniform(size=400) < P**2).astype(int)
WEIGHT = RNG.uniform(size=400)
P3 = RNG.dirichlet([1, 1, 1], 300)
Y3 = RNG.choice(3, 300)


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_proper_scores_are_scikit_learns(weight):
    assert negative_log_likelihood(Y, P, sample_weight=weight) == pytest.approx(log_loss(Y, P, sample_weight=weight))
    assert brier_score(Y, P, sample_weight=weight) == pytest.approx(2 * brier_score_loss(Y, P, sample_weight=weight))
    several = None if weight is None else weight[:300]
    assert negative_log_likelihood(Y3, P3, sample_weight=several) == pytest.approx(
        log_loss(Y3, P3, sample_weight=several)
    )
    onehot = np.eye(3)[Y3]
    assert brier_score(Y3, P3, sample_weight=several) == pytest.approx(
        np.average(((P3 - onehot) ** 2).sum(1), weights=several)
    )


def test_impossible_things_that_happened_cost_a_finite_amount():
    assert negative_log_likelihood([1], [0.0], labels=[0, 1]) == pytest.approx(-np.log(np.finfo(float).eps))


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_classwise_error_is_made_of_scikit_learns_curves(strategy):
    frequency, mean = calibration_curve(Y, P, n_bins=10, strategy=strategy)
    edges = np.linspace(0, 1, 11)[1:-1] if strategy == "uniform" else np.quantile(P, np.linspace(0, 1, 11))[1:-1]
    counts = np.bincount(np.searchsorted(edges, P), minlength=10)
    # For two classes both curves say the same.
    expected = np.abs(frequency - mean) @ counts[counts > 0] / len(P)
    # scikit-learn's bins of equal mass end at other edges' sides by one row at most.
    assert classwise_calibration_error(Y, P, n_bins=10, strategy=strategy) == pytest.approx(expected, abs=0.003)


def test_one_bin_is_the_difference_of_means():
    top, hit = P3.max(1), P3.argmax(1) == Y3
    gap = abs(hit.mean() - top.mean())
    for metric in (expected_calibration_error, adaptive_calibration_error, maximum_calibration_error):
        assert metric(Y3, P3, n_bins=1) == pytest.approx(gap)
    shares = np.abs(np.eye(3)[Y3].mean(0) - P3.mean(0))
    assert classwise_calibration_error(Y3, P3, n_bins=1) == pytest.approx(shares.mean())


def test_the_largest_gap_is_that_of_a_bin_and_ignores_empty_ones():
    # Two bins with gaps .4 (three records) and .05 (one record).
    p, y = [0.9, 0.9, 0.9, 0.55], [1, 1, 0, 1]
    assert maximum_calibration_error(y, p, n_bins=10) == pytest.approx(0.45)
    assert expected_calibration_error(y, p, n_bins=10) == pytest.approx(abs(2 - 2.7) / 4 + 0.45 / 4)
    assert maximum_calibration_error(Y, P) >= expected_calibration_error(Y, P)


def test_intervals_and_sets():
    assert interval_coverage([0, 1, 2], [[0, 0], [2, 3], [-np.inf, np.inf]]) == pytest.approx(2 / 3)
    assert interval_coverage([0, 1], [[0, 0], [2, 3]], sample_weight=[3, 1]) == 0.75
    assert interval_width([[0, 1], [1, 4]]) == 2
    held = [[True, False], [True, True], [False, False]]
    assert set_coverage(["x", "y", "z"], held, ["x", "y"]) == pytest.approx(2 / 3)
    assert set_size(held) == 1
    for wrong in ([[1, 0]], [[np.nan, 0]], [[0, 1, 2]]):
        with pytest.raises(ValueError, match="two columns"):
            interval_width(wrong)


def test_scorers_work_in_searches_and_by_name():
    X, y = make_classification(300, n_classes=3, n_informative=4, random_state=0)
    model = LogisticRegression()
    search = GridSearchCV(model, {"C": [1e-3, 1.0]}, scoring=get_scorer("neg_nll"), cv=KFold(2)).fit(X, y)
    assert search.best_params_ == {"C": 1.0}
    found = cross_validate(model, X, y, scoring=dict(SCORERS), cv=KFold(2))
    assert all((found[f"test_{name}"] < 0).all() for name in SCORERS)
    fitted = model.fit(X, y)
    assert get_scorer("neg_ece")(fitted, X, y) == -expected_calibration_error(y, fitted.predict_proba(X))
    assert get_scorer("accuracy")(fitted, X, y) == fitted.score(X, y)
    with pytest.raises(ValueError, match="neg_ece"):
        get_scorer("ece")
