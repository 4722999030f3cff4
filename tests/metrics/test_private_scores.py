"""Private scores and group reports: exact without noise, right on average with it."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import GridSearchCV, KFold

from skdp.accounting import compose
from skdp.metrics import DPGroupReport, PrivateScore, brier_score, group_report, negative_log_likelihood

pytestmark = pytest.mark.filterwarnings("ignore::skdp.exceptions.NotPrivateWarning")
rng = np.random.default_rng(0)
X = rng.normal(size=(2000, 3))
Y = np.where(X[:, 0] + rng.normal(size=2000) > 0, "yes", "no")
T = X[:, 0] + 0.5 * rng.normal(size=2000)
GROUPS = np.where(X[:, 1] > 1, "few", "many")
CLASSIFIER = LogisticRegression().fit(X[:200], Y[:200])
REGRESSOR = LinearRegression().fit(X[:200], T[:200])
EXACT = {
    "accuracy": CLASSIFIER.score(X, Y),
    "neg_brier": -brier_score(Y, CLASSIFIER.predict_proba(X)),
    "neg_log_loss": -negative_log_likelihood(Y, CLASSIFIER.predict_proba(X)),
    "neg_mse": -mean_squared_error(T, REGRESSOR.predict(X)),
    "r2": r2_score(T, REGRESSOR.predict(X)),
}


def scorer(metric, **options):
    bounds = {"y_bounds": (-6, 6)} if metric in ("neg_mse", "r2") else {}
    return PrivateScore(metric, max_log_loss=20.0, **bounds, **options)


def evaluate(score, metric):
    return score(REGRESSOR, X, T) if metric in ("neg_mse", "r2") else score(CLASSIFIER, X, Y)


@pytest.mark.parametrize("metric", EXACT)
def test_without_noise_it_is_the_exact_score(metric):
    assert evaluate(scorer(metric, epsilon=math.inf), metric) == pytest.approx(EXACT[metric], abs=1e-9)


@pytest.mark.parametrize("metric", EXACT)
def test_the_standard_error_is_that_of_the_noise(metric):
    """200 calls: the chi-square of their deviations lies within (139, 273) but for a chance of 1e-3 a metric.

    The noise itself is tested at 1e-6 elsewhere; this is about the factor between noise and score, with a fixed seed.
    """
    score = scorer(metric, epsilon=None, noise_multiplier=5.0)
    deviations = []
    for seed in range(200):
        score.set_params(insecure_noise_seed=seed)
        deviations.append((evaluate(score, metric) - EXACT[metric]) / score.std_error_)
        del score._calls
    # r2's denominator has noise of its own.
    assert 139 < np.square(deviations).sum() < (900 if metric == "r2" else 273)


def test_calls_add_up():
    score = PrivateScore("accuracy", epsilon=0.5)
    score(CLASSIFIER, X, Y)
    one = score.privacy_
    score(CLASSIFIER, X, Y)
    assert score.privacy_.epsilon == compose([one, one]).epsilon > one.epsilon
    assert pickle.loads(pickle.dumps(score)).privacy_ == score.privacy_


def test_it_scores_a_search():
    score = PrivateScore("neg_log_loss", epsilon=2.0)
    search = GridSearchCV(LogisticRegression(), {"C": [1e-6, 1.0]}, scoring=score, cv=KFold(2)).fit(X, Y)
    assert search.best_params_ == {"C": 1.0} and score.privacy_.steps == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [({"metric": "auc"}, "'auc'"), ({"metric": "r2"}, "y_bounds=None"), ({"metric": "r2", "y_bounds": (1, 1)}, "range"),
     ({"metric": "neg_log_loss", "max_log_loss": 0}, "max_log_loss=0")],
)  # fmt: skip
def test_impossible_scores_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        PrivateScore(**options)(REGRESSOR if options["metric"] == "r2" else CLASSIFIER, X, Y)


def test_group_report_is_the_metrics_of_each_part():
    report = group_report(CLASSIFIER, X, Y, GROUPS)
    few = GROUPS == "few"
    assert report.index.tolist() == ["few", "many", "all"]
    assert report.loc["few", "accuracy"] == pytest.approx(CLASSIFIER.score(X[few], Y[few]))
    assert report.loc["all", "log_loss"] == pytest.approx(-EXACT["neg_log_loss"])
    assert report["count"].tolist() == [few.sum(), 2000 - few.sum(), 2000]
    found = CLASSIFIER.predict(X)[few & (Y == "yes")] == "yes"
    assert report.loc["few", "recall_yes"] == pytest.approx(found.mean())
    assert report.loc["few", "bias"] == pytest.approx(report.loc["few", "confidence"] - report.loc["few", "accuracy"])


def test_missing_groups_are_a_group():
    groups = pd.Series(GROUPS).where(np.arange(2000) % 2 == 0)
    report = group_report(CLASSIFIER, X, Y, groups)
    assert len(report) == 4 and report["count"].sum() == 4000
    with pytest.raises(ValueError, match="inconsistent"):
        group_report(CLASSIFIER, X, Y, groups[:10])


def test_private_groups_without_noise_are_exact():
    exact = group_report(CLASSIFIER, X, Y, GROUPS).drop(index="all")
    options = {"epsilon": math.inf, "max_log_loss": 20.0}
    frame = DPGroupReport(["few", "many", "none"], **options).fit(CLASSIFIER, X, Y, GROUPS).frame_
    for field in ("count", "accuracy", "confidence", "bias", "log_loss"):
        np.testing.assert_allclose(frame.loc[["few", "many"], field], exact[field].astype(float), atol=1e-9)
    assert frame.loc["none", "count"] == 0


def test_private_groups_err_as_stated_and_hide_what_noise_hides():
    exact = group_report(CLASSIFIER, X, Y, GROUPS)
    fields = ["count", "accuracy", "confidence", "bias", "log_loss"]
    squares = []
    for seed in range(100):
        report = DPGroupReport(["few", "none"], epsilon=None, noise_multiplier=4.0, insecure_noise_seed=seed)
        frame = report.fit(CLASSIFIER, X, Y, GROUPS).frame_
        errors = (frame.loc["few", fields] - exact.loc["few", fields].astype(float)).to_numpy()
        squares.append((errors / frame.loc["few", [f"{f}_se" for f in fields]].to_numpy(float)) ** 2)
        assert frame.loc["none", ["accuracy", "log_loss"]].isna().all()
    # Log losses are cut at 5, which hardly any row reaches; chi-square of 100 within (55, 160) but for 1e-4.
    assert ((np.sum(squares, axis=0) > 55) & (np.sum(squares, axis=0) < 160)).all()


def test_groups_that_are_no_list_are_refused():
    with pytest.raises(ValueError, match="distinct"):
        DPGroupReport(["a", "a"]).fit(CLASSIFIER, X, Y, GROUPS)
    with pytest.raises(ValueError, match="one entry per row"):
        DPGroupReport(["a", "b"]).fit(CLASSIFIER, X, Y, GROUPS[:5])
