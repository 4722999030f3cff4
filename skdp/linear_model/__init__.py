"""Private linear models."""

from __future__ import annotations

from skdp.linear_model.classifier import DPLinearClassifier
from skdp.linear_model.losses import Huber
from skdp.linear_model.regressor import DPLinearRegressor

__all__ = ["DPLinearClassifier", "DPLinearRegressor", "Huber"]
