"""scikit-learn's own checks, and by name the few that cannot pass."""

from __future__ import annotations

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdp import DPClassifier, DPRegressor

# Noise is seeded, and epsilon so large that noise does not decide whether blobs of 30 rows can be told apart. The
# checks are about the interface; that accuracy falls with epsilon is no defect of it.
GENEROUS = {"epsilon": 1e4, "insecure_noise_seed": 0, "random_state": 0}

# What privacy makes impossible, the same for both kinds.
_IMPOSSIBLE = {
    "check_all_zero_sample_weights_error": (
        "whether any row weighs something is private: with an error in its place one row would decide between a "
        "model and an exception. Null rows alone train a model of pure noise"
    ),
} | dict.fromkeys(
    ["check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"],
    "a weight of 2 doubles one record's gradient before it is clipped, two copies are two records of which each is "
    "clipped, and leaving rows out changes the public number of rows and so the noise",
)
EXPECTED_FAILURES = {"DPClassifier": _IMPOSSIBLE, "DPRegressor": _IMPOSSIBLE}


def expected(estimator):
    return EXPECTED_FAILURES[type(estimator).__name__]


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks([DPClassifier(**GENEROUS), DPRegressor(**GENEROUS)], expected_failed_checks=expected)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", [DPClassifier, DPRegressor])
@pytest.mark.parametrize("check", sorted(_IMPOSSIBLE))
def test_expected_failures_do_fail(kind, check):
    """A reason that is no longer true has to go."""
    with pytest.raises(AssertionError):
        getattr(estimator_checks, check)(kind.__name__, kind(**GENEROUS))
