"""Bounds as a dict by the names of columns: the same as an array in their order, for all estimators with bounds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from skdp import DPClassifier, DPRegressor, plan
from skdp.linear_model import DPADMMClassifier, DPADMMRegressor, DPLinearClassifier, DPLinearRegressor
from skdp.pipeline import make_private_pipeline
from skdp.preprocessing import DPFeatureRelease, DPSimpleImputer

RNG = np.random.default_rng(0)
X = pd.DataFrame(
    {"age": RNG.uniform(18, 90, 400), "member": RNG.integers(0, 2, 400), "height": RNG.normal(170, 9, 400)}
)
LABELS, NUMBERS = (X["age"] > 50).to_numpy().astype(int), X["age"].to_numpy() / 90
BY_NAME = {"height": (140, 200), "age": (18, 90), "member": (0, 1)}
IN_ORDER = [(18, 90), (0, 1), (140, 200)]
NET = {"module": "linear", "max_epochs": 2, "random_state": 0}
MODELS = {
    "net": (DPClassifier(classes=[0, 1], **NET), LABELS),
    "net for numbers": (DPRegressor(y_bounds=(0, 1), **NET), NUMBERS),
    "linear": (DPLinearClassifier(classes=[0, 1]), LABELS),
    "linear for numbers": (DPLinearRegressor(y_bounds=(0, 1)), NUMBERS),
    "sites": (DPADMMClassifier(classes=[0, 1], n_agents=2, rounds=2), LABELS),
    "sites for numbers": (DPADMMRegressor(y_bounds=(0, 1), n_agents=2, rounds=2), NUMBERS),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", MODELS)
def test_a_dict_by_name_is_the_array_in_the_order_of_columns(kind):
    model, y = MODELS[kind]
    fits = [
        clone(model).set_params(feature_bounds=bounds, insecure_noise_seed=0).fit(X, y)
        for bounds in (BY_NAME, IN_ORDER)
    ]
    np.testing.assert_array_equal(fits[0].feature_bounds_, fits[1].feature_bounds_)
    np.testing.assert_array_equal(fits[0].predict(X), fits[1].predict(X))
    assert fits[0].privacy_.public == fits[1].privacy_.public
    with pytest.raises(ValueError, match="feature_bounds is a dict without 'height'; give .* of all 3 columns"):
        clone(model).set_params(feature_bounds={"age": (18, 90), "member": (0, 1)}).fit(X, y)
    with pytest.raises(ValueError, match="feature_bounds names 'size', but X has no such columns"):
        clone(model).set_params(feature_bounds={**BY_NAME, "size": (0, 1)}).fit(X, y)
    with pytest.raises(ValueError, match="feature_bounds names 'height', 'age', 'member', but columns are numbered"):
        clone(model).set_params(feature_bounds=BY_NAME).fit(X.to_numpy(), y)
    with pytest.raises(ValueError, match="low must be finite and below"):
        clone(model).set_params(feature_bounds={**BY_NAME, "age": (90, 18)}).fit(X, y)


def test_numbers_of_columns_plans_pipelines_and_releases():
    model = DPLinearClassifier(classes=[0, 1], feature_bounds={2: (140, 200), 0: (18, 90), 1: (0, 1)})
    np.testing.assert_array_equal(model.fit(X.to_numpy(), LABELS).feature_bounds_, [(18, 90), (-1, 1), (140, 200)])
    plans = [
        plan(n=400, n_features=3, estimator=DPClassifier(classes=[0, 1], feature_bounds=bounds), epsilon=1.0)
        for bounds in (BY_NAME, IN_ORDER)
    ]
    assert plans[0].noise_multiplier == plans[1].noise_multiplier and plans[0].signal_needed == plans[1].signal_needed
    imputer = DPSimpleImputer(feature_bounds=BY_NAME).set_output(transform="pandas")
    pipe = make_private_pipeline(imputer, DPLinearClassifier(classes=[0, 1], feature_bounds=BY_NAME)).fit(X, LABELS)
    assert pipe.privacy_.epsilon <= 1.0 and pipe[-1].feature_bounds_[0].tolist() == [18, 90]
    one, two = (
        DPFeatureRelease(feature_bounds=bounds, insecure_noise_seed=0).fit_transform(X, LABELS)
        for bounds in (BY_NAME, IN_ORDER)
    )
    np.testing.assert_array_equal(one, two)
