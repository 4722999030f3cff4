"""Whether predicted probabilities can be trusted, and what to do where they cannot: shown, measured and repaired."""

from __future__ import annotations

from skdp.calibration.conformal_classifier import DPConformalClassifier
from skdp.calibration.conformal_regressor import DPConformalRegressor
from skdp.calibration.private_report import DPCalibrationReport, dp_calibration_report
from skdp.calibration.reliability import ReliabilityDisplay
from skdp.calibration.report import CalibrationReport, calibration_report
from skdp.calibration.temperature import DPTemperatureScaling, DPVectorScaling

__all__ = [
    "CalibrationReport",
    "DPCalibrationReport",
    "DPConformalClassifier",
    "DPConformalRegressor",
    "DPTemperatureScaling",
    "DPVectorScaling",
    "ReliabilityDisplay",
    "calibration_report",
    "dp_calibration_report",
]
