"""scikit-learn's own checks of the linear estimators, and by name the few that cannot pass."""

from __future__ import annotations

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdp.linear_model import DPADMMClassifier, DPADMMRegressor, DPLinearClassifier, DPLinearRegressor

# Noise is seeded and small: the checks are about the interface.
GENEROUS = {"epsilon": 1e4, "insecure_noise_seed": 0}
ESTIMATORS = [
    DPLinearClassifier(**GENEROUS),
    DPLinearClassifier("gradient-descent", loss="hinge", **GENEROUS),
    DPLinearClassifier("objective-perturbation", **GENEROUS),
    DPLinearRegressor(**GENEROUS),
    DPLinearRegressor("boosted-adassp", **GENEROUS),
    DPLinearRegressor("adassp", **GENEROUS),
    DPADMMClassifier(feature_bounds=(-100, 100), **GENEROUS),
    DPADMMRegressor(feature_bounds=(-5, 5), y_bounds=(-300, 300), **GENEROUS),
]
_WEIGHTS = (
    "a weight of 2 doubles one record's gradient before it is bounded, two copies are two records of which each is "
    "bounded, and leaving rows out changes the public number of rows and so the noise"
)
IMPOSSIBLE = {
    "check_all_zero_sample_weights_error": (
        "whether any row weighs something is private: with an error in its place one row would decide between a "
        "model and an exception. Null rows alone train a model of pure noise"
    ),
    "check_sample_weight_equivalence_on_dense_data": _WEIGHTS,
    "check_sample_weight_equivalence_on_sparse_data": _WEIGHTS,
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda estimator: IMPOSSIBLE)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "estimator", ESTIMATORS, ids=lambda model: f"{type(model).__name__} {getattr(model, 'solver', '')}"
)
@pytest.mark.parametrize("check", sorted(IMPOSSIBLE))
def test_expected_failures_do_fail(estimator, check):
    """A reason that is no longer true has to go."""
    with pytest.raises(AssertionError):
        getattr(estimator_checks, check)(type(estimator).__name__, estimator)
