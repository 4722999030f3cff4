"""Private neural networks with scikit-learn's interface."""

from __future__ import annotations

from skdp.neural_network.classifier import DPClassifier
from skdp.neural_network.regressor import DPRegressor

__all__ = ["DPClassifier", "DPRegressor"]
