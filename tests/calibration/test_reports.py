"""Reports and reliability diagrams, exact and private."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skdp.calibration import DPCalibrationReport, ReliabilityDisplay, calibration_report, dp_calibration_report
from skdp.exceptions import WeakSignalWarning
from skdp.metrics import (
    DPGroupReport,
    PrivateScore,
    adaptive_calibration_error,
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    negative_log_likelihood,
)
from skdp.metrics.binning import BinnedCurve

rng = np.random.default_rng(0)
X = rng.normal(size=(4000, 3))
Y = np.array(["a", "b", "c"])[(2 * X + rng.gumbel(size=X.shape)).argmax(1)]
MODEL = LogisticRegression().fit(X[:1000], Y[:1000])
SURE = LogisticRegression(C=1e3).fit(3 * X[:60], Y[:60])


def test_the_report_holds_every_metric():
    report, proba = calibration_report(MODEL, X, Y), MODEL.predict_proba(X)
    assert report.accuracy == pytest.approx(MODEL.score(X, Y))
    for name, metric in {
        "ece": expected_calibration_error, "adaptive_ece": adaptive_calibration_error,
        "classwise_ece": classwise_calibration_error, "mce": maximum_calibration_error,
        "nll": negative_log_likelihood, "brier": brier_score,
    }.items():  # fmt: skip
        assert getattr(report, name) == pytest.approx(metric(Y, proba))
        assert report.to_frame().loc[name, "value"] == getattr(report, name)
    assert "4000 rows" in repr(report) and "<table" in report._repr_html_() and "not private" in report._repr_html_()


@pytest.mark.filterwarnings("ignore::skdp.exceptions.NotPrivateWarning")
@pytest.mark.parametrize("n_bins", [1, 2, 10, 15])
@pytest.mark.parametrize("model", [MODEL, SURE])
def test_without_noise_the_private_report_is_exact(model, n_bins):
    found = dp_calibration_report(model, X, Y, epsilon=math.inf, n_bins=n_bins, max_log_loss=40.0)
    exact = calibration_report(model, X, Y, n_bins=n_bins)
    for name in ("ece", "accuracy", "brier", "nll"):
        assert getattr(found, f"{name}_") == pytest.approx(getattr(exact, name), abs=1e-9)
    for field in ("weight", "came_out", "predicted", "edges"):
        np.testing.assert_allclose(getattr(found.curve_, field), getattr(exact.curve, field), atol=1e-6)


def test_standard_errors_are_those_of_the_noise_and_the_bias_is_known():
    """With fixed seeds; bounds that hold but for a chance of 1e-4."""
    exact = calibration_report(SURE, X, Y)
    errors, noisy, corrected = [], [], []
    for seed in range(100):
        report = DPCalibrationReport(epsilon=None, noise_multiplier=10.0, insecure_noise_seed=seed).fit(SURE, X, Y)
        se = report.std_errors_
        errors.append([(getattr(report, f"{f}_") - getattr(exact, f)) / se[f] for f in ("accuracy", "brier")])
        noisy.append(report.ece_noisy_ - exact.ece)
        corrected.append(report.ece_ - exact.ece)
    sums = np.square(errors).sum(axis=0)
    assert ((sums > 55) & (sums < 160)).all()
    assert abs(np.mean(corrected)) < np.mean(noisy)
    assert np.std(corrected) < 1.5 * se["ece"]


def test_noise_alone_shows_what_is_said():
    """A calibrated model with much noise: the error of the noisy bins is on average `ece_noise_` (seeded)."""
    p = np.repeat([0.55, 0.75, 0.95], 4000)
    rows = np.column_stack([np.log(p / (1 - p))])
    y = (np.tile(np.arange(4000), 3) < np.repeat([2200, 3000, 3800], 4000)).astype(int)
    model = LogisticRegression().fit(rows[:9000], y[:9000])
    model.coef_, model.intercept_ = np.array([[1.0]]), np.array([0.0])
    reports = [
        DPCalibrationReport(epsilon=None, noise_multiplier=30.0, insecure_noise_seed=s).fit(model, rows, y)
        for s in range(60)
    ]
    mean = np.mean([r.ece_noisy_ for r in reports])
    assert mean == pytest.approx(reports[0].ece_noise_, rel=0.15)
    assert np.mean([r.ece_ for r in reports]) < 0.6 * mean


@pytest.mark.parametrize(("options", "words"), [({"n_bins": 0}, "n_bins=0"), ({"max_log_loss": -1}, "max_log_loss")])
def test_impossible_reports_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        DPCalibrationReport(**options).fit(MODEL, X, Y)


class TestDiagram:
    @pytest.fixture(autouse=True)
    def closed(self):
        matplotlib = pytest.importorskip("matplotlib")
        matplotlib.use("Agg")
        yield
        matplotlib.pyplot.close("all")

    def test_it_draws_the_bins(self):
        display = ReliabilityDisplay.from_estimator(MODEL, X, Y, n_bins=5)
        curve = calibration_report(MODEL, X, Y, n_bins=5).curve
        full = curve.weight > 0
        x, y = display.lines_[0].get_data()
        np.testing.assert_allclose(x, curve.predicted[full] / curve.weight[full])
        np.testing.assert_allclose(y, curve.came_out[full] / curve.weight[full])
        assert display.lines_[0].get_label() == "LogisticRegression" and display.ax_.get_ylabel() == "accuracy"
        np.testing.assert_allclose(display.histogram_ax_.patches[0].get_data().values, curve.weight / len(X))

    def test_several_models_share_a_figure(self):
        first = ReliabilityDisplay.from_estimator(MODEL, X, Y, name="one")
        second = ReliabilityDisplay.from_estimator(SURE, X, Y, name="two", ax=first.ax_, linestyle="--")
        assert second.histogram_ax_ is first.histogram_ax_ and second.figure_ is first.figure_
        labels = [text.get_text() for text in first.ax_.get_legend().get_texts()]
        assert labels == ["perfectly calibrated", "one", "two"]
        assert first.lines_[0].get_color() != second.lines_[0].get_color()

    def test_axes_of_the_user_get_a_histogram_each(self):
        import matplotlib.pyplot as plt

        _, axes = plt.subplots(1, 2)
        displays = [ReliabilityDisplay.from_estimator(MODEL, X, Y, ax=ax, strategy="quantile") for ax in axes]
        assert displays[0].histogram_ax_ is not displays[1].histogram_ax_
        again = ReliabilityDisplay.from_estimator(SURE, X, Y, ax=axes[0])
        assert again.histogram_ax_ is displays[0].histogram_ax_

    def test_one_line_for_each_class(self):
        display = ReliabilityDisplay.from_estimator(MODEL, X, Y, kind="class-wise", classes=["a", "c"], name="m")
        assert [line.get_label() for line in display.lines_] == ["m, a", "m, c"]
        assert display.ax_.get_ylabel() == "frequency"
        with pytest.raises(ValueError, match="among"):
            ReliabilityDisplay.from_estimator(MODEL, X, Y, kind="class-wise", classes=["z"])
        with pytest.raises(ValueError, match="kind='both'"):
            ReliabilityDisplay.from_estimator(MODEL, X, Y, kind="both")

    def test_released_bins_are_drawn_even_if_noise_made_them_negative(self):
        curve = BinnedCurve(
            np.linspace(0, 1, 4), np.array([-3.0, 5, 20]), np.array([1.0, 9, 15]), np.array([0.0, 2, 17])
        )
        display = ReliabilityDisplay([curve], ["released"]).plot()
        x, y = display.lines_[0].get_data()
        assert len(x) == 2 and ((y >= 0) & (y <= 1)).all()


def test_print_shows_the_figures_and_their_noise():
    report = DPCalibrationReport(epsilon=None, noise_multiplier=10.0, n_bins=10, insecure_noise_seed=0)
    assert str(report) == repr(report)
    report.fit(MODEL, X, Y)
    bins, text = report.bins_to_frame(), str(report)
    assert bins.index[0] == "0.30-0.40" and len(bins) == 7  # a top probability of three classes is 1/3 or more
    np.testing.assert_allclose(bins["rows"], report.curve_.weight[3:])
    np.testing.assert_allclose(bins["gap"], (report.curve_.came_out - report.curve_.predicted)[3:])
    # Two counts with noise of deviation z sqrt(2) sqrt(1 + 1/16) each.
    np.testing.assert_allclose(bins["rows_std"], 10 * 2 * (17 / 16) ** 0.5)
    assert float(np.sqrt((bins["gap_std"] ** 2).sum()) / len(Y)) == pytest.approx(report.std_errors_["ece"])
    for figure in (report.ece_, report.nll_, report.std_errors_["accuracy"], report.ece_noise_):
        assert f"{figure:.4f}" in text
    assert f"{bins['rows'].iloc[2]:.0f}" in text and f"{len(Y)} rows, with noise" in text


def test_print_names_figures_that_noise_carried_beyond_their_range():
    said = "Outside of what the metric can be: "
    noisy = DPCalibrationReport(epsilon=None, noise_multiplier=1e5, insecure_noise_seed=0).fit(MODEL, X, Y)
    most = {"accuracy": 1, "brier": 2, "nll": 5, "ece": 1, "ece_noisy": 1, "ece_noise": 1}
    beyond = [name for name, end in most.items() if not 0 <= getattr(noisy, f"{name}_") <= end]
    assert "ece_noise" in beyond and f"{said}{', '.join(beyond)}. " in str(noisy)
    quiet = DPCalibrationReport(epsilon=None, noise_multiplier=0.1, insecure_noise_seed=0).fit(MODEL, X, Y)
    assert said not in str(quiet)


def hides(fit):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fit()
    return [str(warning.message) for warning in found if warning.category is WeakSignalWarning]


@pytest.mark.parametrize("n_bins", [1, 15])
def test_a_report_that_is_mostly_noise_says_so_before_it_spends(n_bins):
    """By the standard error that it states afterwards, which is public."""
    for multiplier in (1.0, 10.0, 30.0, 100.0):
        report = DPCalibrationReport(n_bins, epsilon=None, noise_multiplier=multiplier)
        said = hides(lambda report=report: report.fit(MODEL, X[:2000], Y[:2000]))
        assert bool(said) == (report.std_errors_["ece"] > 0.03)
    least = int(re.search(r"about (\d+),", said[0])[1])
    enough = DPCalibrationReport(n_bins, epsilon=None, noise_multiplier=100.0)
    many = np.resize(X, (least, 3)), np.resize(Y, least)
    assert not hides(lambda: enough.fit(MODEL, *many)) and enough.std_errors_["ece"] == pytest.approx(0.03, rel=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", WeakSignalWarning)
        stopped = DPCalibrationReport(epsilon=None, noise_multiplier=100.0)
        with pytest.raises(WeakSignalWarning):
            stopped.fit(MODEL, X, Y)
    assert not hasattr(stopped, "privacy_")


def test_scores_and_groups_that_are_mostly_noise_say_so():
    for n, many in ((100, False), (40, True)):
        score = PrivateScore("accuracy", epsilon=None, noise_multiplier=5.0)
        assert bool(hides(lambda n=n, score=score: score(MODEL, X[:n], Y[:n]))) == many == (score.std_error_ > 0.05)
    groups = X[:, 0] > 0
    for n, many in ((2000, False), (100, True)):
        report = DPGroupReport([False, True], epsilon=None, noise_multiplier=5.0)
        assert bool(hides(lambda n=n, report=report: report.fit(MODEL, X[:n], Y[:n], groups[:n]))) == many
