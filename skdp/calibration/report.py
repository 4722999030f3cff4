"""Every calibration metric of a fitted classifier in one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skdp.metrics.binning import BinnedCurve, check_bins
from skdp.metrics.calibration_errors import classwise_curves, top_label_curve
from skdp.metrics.losses import log_losses, squared_distances
from skdp.metrics.probabilities import read_predictions

__all__ = ["CalibrationReport", "calibration_report"]

_LINES = {
    "accuracy": "share of right predictions",
    "confidence": "mean probability of the predicted class; above accuracy is over-confident",
    "ece": "gap of confidence and accuracy, bins of equal width",
    "adaptive_ece": "the same, bins of equally many rows",
    "classwise_ece": "gap of probability and frequency, mean over classes",
    "mce": "the largest gap of a bin",
    "nll": "log loss in nats",
    "brier": "squared distance, 0 to 2",
}


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """Metrics of predicted probabilities. Made by `calibration_report`.

    Parameters
    ----------
    accuracy, confidence, ece, adaptive_ece, classwise_ece, mce, nll, brier : float
    n : int
        Number of rows.
    curve : BinnedCurve
        Of the predicted class, in bins of equal width; `ReliabilityDisplay` draws it.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdp.calibration import calibration_report
    >>> X, y = make_classification(500, random_state=0)
    >>> report = calibration_report(LogisticRegression().fit(X, y), X, y)
    >>> 0.8 < report.accuracy, report.to_frame().index[:3].tolist()
    (True, ['accuracy', 'confidence', 'ece'])
    """

    accuracy: float
    confidence: float
    ece: float
    adaptive_ece: float
    classwise_ece: float
    mce: float
    nll: float
    brier: float
    n: int
    curve: BinnedCurve

    def to_frame(self) -> pd.DataFrame:
        """One row per metric: `value`, and what it `means`."""
        values = [getattr(self, name) for name in _LINES]
        return pd.DataFrame({"value": values, "means": list(_LINES.values())}, index=pd.Index(_LINES, name="metric"))

    def __repr__(self) -> str:
        return f"CalibrationReport of {self.n} rows, exact\n{self.to_frame().to_string(float_format='{:.4f}'.format)}"

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(float_format="{:.4f}".format)
        return f"<p>Calibration of {self.n} rows, computed exactly: not private.</p>{table}"


def calibration_report(estimator: Any, X: Any, y: Any, *, n_bins: int = 15) -> CalibrationReport:
    """Accuracy, calibration errors and proper scores of a fitted classifier, exactly.

    Parameters
    ----------
    estimator : fitted classifier with ``predict_proba``
    X : array-like of shape (n_samples, ...)
        Public or test rows.
    y : array-like of shape (n_samples,)
    n_bins : int, default=15

    Returns
    -------
    CalibrationReport

    Notes
    -----
    Exact, so not private: on private rows use `dp_calibration_report`.
    """
    n_bins = check_bins(n_bins)
    found = read_predictions(y, estimator.predict_proba(X), estimator.classes_)
    curve = top_label_curve(found, n_bins, "uniform")
    return CalibrationReport(
        accuracy=float(found.hit.mean()),
        confidence=float(found.confidence.mean()),
        ece=curve.error,
        adaptive_ece=top_label_curve(found, n_bins, "quantile").error,
        classwise_ece=float(np.mean([own.error for own in classwise_curves(found, n_bins, "uniform")])),
        mce=curve.largest_error,
        nll=float(log_losses(found.proba, found.label).mean()),
        brier=float(squared_distances(found.proba, found.label).mean()),
        n=len(found.label),
        curve=curve,
    )
