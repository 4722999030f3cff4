"""Private linear models, over one table or over sites that show no row to each other."""

from skdp.linear_model.admm.classifier import DPADMMClassifier
from skdp.linear_model.admm.regressor import DPADMMRegressor
from skdp.linear_model.classifier import DPLinearClassifier
from skdp.linear_model.losses import Huber
from skdp.linear_model.regressor import DPLinearRegressor

__all__ = ["DPADMMClassifier", "DPADMMRegressor", "DPLinearClassifier", "DPLinearRegressor", "Huber"]
