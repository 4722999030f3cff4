"""How well predictions agree with what happens: probabilities, intervals and sets, exact and private."""

from __future__ import annotations

from skdp.metrics.calibration_errors import (
    adaptive_calibration_error,
    classwise_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
)
from skdp.metrics.groups import DPGroupReport, group_report
from skdp.metrics.intervals import interval_coverage, interval_width, set_coverage, set_size
from skdp.metrics.losses import brier_score, negative_log_likelihood
from skdp.metrics.private_score import PrivateScore
from skdp.metrics.scorers import SCORERS, get_scorer

__all__ = [
    "SCORERS",
    "DPGroupReport",
    "PrivateScore",
    "adaptive_calibration_error",
    "brier_score",
    "classwise_calibration_error",
    "expected_calibration_error",
    "get_scorer",
    "group_report",
    "interval_coverage",
    "interval_width",
    "maximum_calibration_error",
    "negative_log_likelihood",
    "set_coverage",
    "set_size",
]
