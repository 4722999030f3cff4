"""Nonsense gets an error that names parameter, value and remedy, and leaves a fitted estimator as it was."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from skdp import DPClassifier, DPRegressor
from skdp.nets import MLP, Net

ROWS = np.random.default_rng(0).uniform(-1, 1, size=(100, 3))
LABELS = (ROWS[:, 0] > 0).astype(int)


def options(**changes):
    given = {"module": "linear", "classes": [0, 1], "epsilon": 5.0, "feature_bounds": (-1, 1), "max_epochs": 2}
    return {**given, **changes}


class Broken(nn.Module):
    def forward(self, x):
        return x[:, 0], x


def deep(*layers):
    return nn.Sequential(nn.Linear(3, 4), *layers, nn.Linear(4, 1))


PARAMETERS = [
    ({"epsilon": 0}, r"epsilon=0 must be a positive number; use epsilon=float\('inf'\)"),
    ({"epsilon": -1.0}, r"epsilon=-1.0 must be a positive"),
    ({"epsilon": float("nan")}, r"epsilon=nan must be a positive"),
    ({"epsilon": "1"}, r"epsilon='1' must be a positive"),
    ({"epsilon": True}, r"epsilon=True must be a positive"),
    ({"epsilon": None}, r"epsilon=None and noise_multiplier=None: set exactly one"),
    ({"noise_multiplier": 1.0}, r"epsilon=5.0 and noise_multiplier=1.0: set exactly one"),
    ({"epsilon": None, "noise_multiplier": 0.0}, r"noise_multiplier=0.0 must be positive and finite"),
    ({"epsilon": None, "noise_multiplier": float("inf")}, r"noise_multiplier=inf must be positive and finite"),
    ({"delta": 0.0}, r"delta=0.0 must be 'auto' or lie strictly between 0 and 1"),
    ({"delta": 0.01}, r"delta=0.01"),
    ({"delta": 0.5}, r"delta=0.5"),
    ({"delta": 1.5}, r"delta=1.5"),
    ({"adjacency": "row"}, r"adjacency='row' must be one of 'zero-out', 'replace-one', 'add-remove'"),
    ({"adjacency": "add-remove"}, r"adjacency='add-remove' protects the number of rows, so pass n_public="),
    ({"n_public": 100}, r"n_public=100 has a meaning only with adjacency='add-remove'"),
    ({"adjacency": "add-remove", "n_public": 0}, r"n_public=0 must be None or a whole number of at least 1"),
    ({"mechanism": "dp-adam"}, r"mechanism='dp-adam' must be one of 'dp-sgd'"),
    ({"clipping": "hard"}, r"clipping='hard' must be one of 'flat', 'automatic', 'global', 'per-layer', 'adaptive'"),
    ({"max_grad_norm": 0}, r"max_grad_norm=0 must be 'auto' or a positive finite number"),
    ({"max_grad_norm": float("inf")}, r"max_grad_norm=inf must be 'auto' or a positive finite number"),
    ({"lr": -0.1}, r"lr=-0.1 must be 'auto' or a positive finite number"),
    ({"batch_size": 0}, r"batch_size=0 must be 'auto' or a whole number of at least 1"),
    ({"batch_size": 12.5}, r"batch_size=12.5 must be 'auto' or a whole number"),
    ({"max_epochs": 0}, r"max_epochs=0 must be 'auto' or a whole number of at least 1"),
    ({"lr_schedule": "cos"}, r"lr_schedule='cos' must be"),
    ({"max_physical_batch_size": 0}, r"max_physical_batch_size=0 must be"),
    ({"average": 1.0}, r"average=1.0 must be 'auto' or a share"),
    ({"optimizer": "lion"}, r"optimizer='lion' must be one of 'sgd', 'adam', 'dp-adam'"),
    ({"lr_schedule": "step"}, r"lr_schedule='step' must be None, 'cosine', 'linear'"),
    ({"on_invalid": "drop"}, r"on_invalid='drop' must be one of 'raise', 'null'"),
    ({"device": "tpu"}, r"device='tpu' (is not there|must be 'auto')"),
    ({"device": "cuda:99"}, r"device='cuda:99' is not there: found cpu.*; use device='auto'"),
    ({"insecure_noise_seed": -1}, r"insecure_noise_seed=-1 must be None or a whole number of at least 0"),
    ({"module": "resnet"}, r"module='resnet' must be None, 'linear', 'mlp'"),
    ({"module": MLP(activation="step")}, r"MLP\(activation='step'\) must be one of"),
    ({"module": deep(nn.BatchNorm1d(4))}, r"'1'.*BatchNorm1d|BatchNorm1d.*'1'"),
    ({"module": Net(nn.Linear, in_features=3, out_features=5)}, r"module=Linear gives \(4, 5\) for 4 rows; a binary"),
    ({"module": Net(nn.Linear, in_features=7, out_features=1)}, r"module=Linear cannot take rows of shape \(3,\)"),
    ({"module": Broken()}, r"module=Broken gives tuple for 4 rows"),
    ({"module": nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 1)))}, r"module=Sequential gives \(12, 1\)"),
    ({"init_params": {"other": torch.zeros(1)}}, r"init_params does not fit module"),
    ({"feature_bounds": "public"}, r"feature_bounds='public' must be None, 'private', or public"),
    ({"feature_bounds": [(0, 1), (0, 1)]}, r"feature_bounds has shape \(2, 2\).*\(3, 2\)"),
    ({"feature_bounds": [(0, 1), (1, 1), (0, 1)]}, r"feature_bounds: column 1 has bounds \(1.0, 1.0\)"),
    ({"feature_bounds": (0, float("inf"))}, r"feature_bounds: column 0 has bounds \(0.0, inf\)"),
    ({"class_weight": "auto"}, r"class_weight='auto' must be None, 'balanced', or a dict"),
    ({"class_weight": {0: -1.0}}, r"class_weight=\{0: -1.0\} must map labels among \[0, 1\]"),
    ({"class_weight": {7: 1.0}}, r"class_weight=\{7: 1.0\} must map labels among \[0, 1\]"),
    ({"classes": [0]}, r"classes=\[0\] must name at least two labels; pass a list"),
    ({"classes": "01"}, r"classes='01' is not a list of labels; pass a list"),
    ({"classes": {0, 1}}, r"is not a list of labels"),
    ({"classes": [0, "a"]}, r"classes=\[0, 'a'\] mixes text and numbers"),
    ({"classes": ["0", "1"]}, r"\['0', '1'\] are text, but the labels in y are numbers: give both the same type"),
    ({"module": 1.0}, r"module=1.0 is a number.*did you mean epsilon=1.0"),
    ({"class_weight": {0: 0, 1: 0.0}}, r"not all of them 0"),
    (
        {"classes": [1, 2]},
        r"y contains labels which are not in classes=\[1, 2\] \(\d+ rows\); add them, or pass on_invalid='null'",
    ),
    ({"classes": ["no", "yes"]}, r"classes"),
    ({"callbacks": ["a string"]}, r"callbacks: .* is not a skorch callback"),
]


@pytest.fixture(scope="module")
def fitted():
    return DPClassifier(**options()).fit(ROWS, LABELS)


@pytest.mark.parametrize(("change", "message"), PARAMETERS, ids=lambda v: str(v)[:40] if isinstance(v, dict) else "")
def test_parameters(fitted, change, message):
    expected = fitted.predict_proba(ROWS)
    before = dict(vars(fitted))
    original = {name: getattr(fitted, name) for name in change}
    try:
        with pytest.raises((ValueError, TypeError), match=message):
            fitted.set_params(**change).fit(ROWS, LABELS)
        fitted.set_params(**original)
        np.testing.assert_array_equal(fitted.predict_proba(ROWS), expected)
        after = vars(fitted)
        assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
    finally:
        fitted.set_params(**original)


TEXT = pd.DataFrame(ROWS, columns=["age", "income", "city"]).assign(city="Rome", when=pd.Timestamp("2020-01-01"))
HOLES = pd.DataFrame(ROWS, columns=["age", "income", "city"])
HOLES.loc[4, "income"] = np.nan


def holed(value):
    X = ROWS.copy()
    X[7, 2] = value
    return X


DATA = [
    (ROWS, np.zeros(100, int), {"classes": None}, r"only one class.*pass classes="),
    (ROWS, LABELS[:99], {}, r"inconsistent numbers of samples: \[100, 99\]"),
    (ROWS, None, {}, r"requires y to be passed"),
    (ROWS, 3, {}, r"y must be an array with one entry per row"),
    (np.float64(3.0), LABELS, {}, r"(?i)scalar|0 ?d|dimension"),
    (ROWS[:, 0], LABELS, {}, r"Expected 2D array, got 1D array"),
    (ROWS[:0], LABELS[:0], {}, r"0 sample"),
    (ROWS, np.column_stack([LABELS, LABELS]), {}, r"y should be a 1d array"),
    (ROWS, ROWS[:, 0], {"classes": None}, r"Unknown label type"),
    (TEXT, LABELS, {}, r"columns \['city', 'when'\] hold text or dates; encode them first"),
    (TEXT.to_numpy(), LABELS, {}, r"(?i)could not convert|float"),
    (HOLES, LABELS, {}, r"NaN in column 'income' \(1 row\); pass on_invalid='null'"),
    (holed(np.nan), LABELS, {}, r"NaN in column 2 \(1 row\)"),
    (holed(np.inf), LABELS, {}, r"infinity or a value too large.* in column 2"),
    (holed(1e300), LABELS, {}, r"infinity or a value too large.* in column 2"),
    (ROWS, np.where(LABELS, 1.0, np.nan), {}, r"y contains NaN"),
]


@pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivacyLeakWarning")
@pytest.mark.parametrize(("X", "y", "change", "message"), DATA)
def test_data(fitted, X, y, change, message):
    expected, statement = fitted.predict_proba(ROWS), fitted.privacy_
    original = {name: getattr(fitted, name) for name in change}
    try:
        with pytest.raises((ValueError, TypeError), match=message):
            fitted.set_params(**change).fit(X, y)
    finally:
        fitted.set_params(**original)
    np.testing.assert_array_equal(fitted.predict_proba(ROWS), expected)
    assert fitted.privacy_ == statement and fitted.n_features_in_ == 3 and not hasattr(fitted, "feature_names_in_")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(99), r"sample_weight.shape == \(99,\), expected \(100,\)"),
        (-np.ones(100), r"sample_weight must be finite and not negative"),
        (np.full(100, np.nan), r"sample_weight must be finite and not negative"),
        (np.ones((100, 1)), r"1D array"),
    ],
)
def test_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        DPClassifier(**options()).fit(ROWS, LABELS, sample_weight=weights)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (ROWS[:, :2], r"X has 2 features, but DPClassifier is expecting 3"),
        (holed(np.nan), r"Input X contains NaN in column 2 \(1 row\); fill or encode"),
        (ROWS[0], r"Expected 2D array"),
    ],
)
def test_prediction(fitted, X, message):
    with pytest.raises(ValueError, match=message):
        fitted.predict(X)


REGRESSION = [
    ({"y_bounds": (1, 0)}, r"y_bounds: column 0 has bounds \(1.0, 0.0\); low must be finite and below high"),
    ({"y_bounds": "auto"}, r"y_bounds='auto' must be numbers"),
    ({"y_bounds": [(0, 1), (0, 1)]}, r"y_bounds has shape \(2, 2\)"),
    ({"module": Net(nn.Linear, in_features=3, out_features=2)}, r"module=Linear gives \(4, 2\).*regression problem"),
]


@pytest.mark.parametrize(("change", "message"), REGRESSION)
def test_regression_parameters(change, message):
    with pytest.raises(ValueError, match=message):
        DPRegressor("linear", epsilon=5.0, feature_bounds=(-1, 1)).set_params(**change).fit(ROWS, ROWS[:, 0])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array(["a", "b"] * 50), r"y must be numeric for a regressor"),
        (np.where(LABELS, 1.0, np.inf), r"y contains"),
        (ROWS[:99, 0], r"inconsistent numbers"),
    ],
)
def test_regression_targets(y, message):
    with pytest.raises(ValueError, match=message):
        DPRegressor("linear", epsilon=5.0, feature_bounds=(-1, 1), y_bounds=(-1, 1)).fit(ROWS, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_bounds": [("low", 1.0)] * 500}, "feature_bounds=.* must be numbers: one"),
        ({"feature_bounds": np.tile([0.0, 1.0], (500, 1)), "module": "text"}, "feature_bounds=.* has no meaning for"),
        ({"classes": [*range(3000), "text"]}, "classes=.* mixes text and numbers"),
        ({"classes": range(10, 3000)}, "y contains labels which are not in classes="),
        ({"module": list(range(5000))}, "module=.* must be None, 'linear'"),
        ({"mechanism": DPClassifier(feature_bounds=np.ones((500, 2)))}, "mechanism=.* must be one of"),
    ],
)
def test_long_values_are_shortened(options, message):
    X = np.ones((40, 4), dtype=int)
    with pytest.raises(ValueError, match=message) as found:
        DPClassifier(**{"classes": [0, 1], **options}).fit(X, np.arange(40) % 2)
    assert len(str(found.value)) < 420 and "\n" not in str(found.value)


def test_an_impossible_budget_names_epsilon_and_remedy():
    """Bounds, counts and steps that no noise makes cheap enough."""
    with pytest.raises(ValueError, match=r"epsilon") as caught:
        DPClassifier(**options(epsilon=1e-300, delta=1e-300)).fit(ROWS, LABELS)
    assert "1e-300" in str(caught.value)


def test_nothing_is_spent_on_a_module_that_cannot_be_trained(monkeypatch):
    """Errors about parameters come before the charge: no row has been read for a release."""
    asked = []
    monkeypatch.setattr("skdp.releases.ArrayExecutor.answer", lambda self, query: asked.append(query))
    for module in (deep(nn.BatchNorm1d(4)), Net(nn.Linear, in_features=3, out_features=5), Broken()):
        with pytest.raises(ValueError):
            DPClassifier(**options(module=module, feature_bounds="private")).fit(ROWS, LABELS)
    assert asked == []
