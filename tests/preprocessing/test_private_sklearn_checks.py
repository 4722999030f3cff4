"""scikit-learn's own checks of the private transformers; noise is seeded and small: they are about the interface."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdp.preprocessing import (
    DPPCA,
    DPKBinsDiscretizer,
    DPMinMaxScaler,
    DPOneHotEncoder,
    DPQuantileTransformer,
    DPSimpleImputer,
    DPStandardScaler,
)

GENEROUS = {"epsilon": 1e4, "insecure_noise_seed": 0}


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
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
