"""scikit-learn's own checks of the private transformers; noise is seeded and small: they are about the interface."""

from __future__ import annotations

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdp.preprocessing import (
    DPPCA,
    DPKBinsDiscretizer,
    DPMinMaxScaler,
    DPOneHotEncoder,
    DPQuantileTransformer,
    DPSimpleImputer,
    DPStandardScaler,
    DPTableVectorizer,
)

GENEROUS = {"epsilon": 1e4, "insecure_noise_seed": 0}
NO_ROW_COUNTS, LEFT_OUT = "check_all_zero_sample_weights_error", "check_sample_weight_equivalence_on_dense_data"
IMPOSSIBLE = {
    NO_ROW_COUNTS: "whether any row counts is private: one row would decide between a result and an exception",
    LEFT_OUT: "a row counts once whatever it weighs, and a null row stays in the public number of rows",
}


def expected(estimator):
    """An imputer of values among which none is missing gives back what it was given."""
    return {k: v for k, v in IMPOSSIBLE.items() if k != LEFT_OUT or not isinstance(estimator, DPSimpleImputer)}


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks(
    [
        DPStandardScaler(**GENEROUS),
        DPMinMaxScaler(**GENEROUS),
        DPQuantileTransformer(**GENEROUS),
        DPKBinsDiscretizer(**GENEROUS),
        DPSimpleImputer(**GENEROUS),
        DPOneHotEncoder(**GENEROUS),
        DPPCA(feature_bounds=(-10, 10), **GENEROUS),
    ],
    expected_failed_checks=expected,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("check", [NO_ROW_COUNTS, LEFT_OUT])
@pytest.mark.parametrize("kind", [DPStandardScaler, DPTableVectorizer])
def test_expected_failures_do_fail(kind, check):
    """A reason that is no longer true has to go."""
    with pytest.raises((AssertionError, TypeError)):
        getattr(estimator_checks, check)(kind.__name__, kind(**GENEROUS))
