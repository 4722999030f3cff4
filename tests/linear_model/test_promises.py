"""What every solver promises: one charge, declared sensitivities and noise, public state from answers alone."""

from __future__ import annotations

import math
import pickle
import warnings
from unittest import mock

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from sklearn.base import clone
from suite import (
    assert_same_transcript,
    check_noise,
    largest_move,
    public_state,
    record,
    replay,
)

from skdp.accounting import epsilon as epsilon_of
from skdp.contract import ADJACENCIES, Public
from skdp.exceptions import NotFittedError, NotPrivateWarning, WeakSignalWarning
from skdp.releases import ArrayExecutor
from tests.linear_model.fits import classifier, regressor, rows

X, LABELS, NUMBERS = rows(120)
PRIVATE = {"feature_bounds": "private", "on_invalid": "null", "epsilon": None, "noise_multiplier": 0.1, "delta": 1e-4}
CASES = {
    "objective perturbation": classifier("objective-perturbation", class_weight="balanced"),
    "one against the rest": classifier("objective-perturbation", classes=[0, 1, 2]),
    "logistic descent": classifier("gradient-descent", class_weight="balanced"),
    "multinomial descent": classifier("gradient-descent", classes=[0, 1, 2]),
    "support vectors": classifier(loss="hinge", penalty="elasticnet", max_iter=10),
    "adassp": regressor("adassp", y_bounds=None),
    "boosted": regressor("boosted-adassp", y_bounds=None),
    "least squares descent": regressor("gradient-descent"),
    "counts": regressor(loss="poisson", y_bounds=(0, 3), max_iter=10),
}
CHANGES = {
    "as it was": lambda X, y: None,
    "huge": lambda X, y: X.__setitem__(7, 1e30),
    "NaN": lambda X, y: X.__setitem__((7, 1), np.nan),
    "infinite": lambda X, y: X.__setitem__(7, -np.inf),
    "denormal": lambda X, y: X.__setitem__(7, 1e-310),
    "another label": lambda X, y: y.__setitem__(7, 1 - y[7]),
    "a wrong label": lambda X, y: y.__setitem__(7, 1e12),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivateBoundsWarning"),
    pytest.mark.filterwarnings("ignore::skdp.exceptions.WeakPrivacyWarning"),
]


def prepared(case, **params):
    """An estimator of a case, with bounds of y, which so few rows cannot show."""
    bounds = {"y_bounds": (0, 1)} if "y_bounds" in CASES[case].get_params() else {}
    return clone(CASES[case]).set_params(**bounds, **params)


def targets(model):
    return LABELS.astype(float) if hasattr(model, "classes") else NUMBERS.copy()


@pytest.mark.parametrize("make", [classifier, regressor])
def test_hopeless_budgets_are_said_to_be(make):
    X, labels, numbers = rows(2000)
    y = labels if make is classifier else numbers
    with pytest.warns(WeakSignalWarning, match=r"^epsilon=1e-09 is so small .* n=2000 rows .* for 4 columns") as found:
        make(epsilon=1e-9).fit(X, y)
    assert "times the rows at the same delta, or fewer columns" in str(found[0].message)
    with pytest.warns(WeakSignalWarning, match="times the rows or the epsilon, or fewer columns, would help$"):
        make(epsilon=0.05, delta=1e-12).fit(X[:200], y[:200])
    with pytest.warns(WeakSignalWarning, match="^noise_multiplier=900 is so small"):
        make(epsilon=None, noise_multiplier=900.0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", WeakSignalWarning)
        make(epsilon=None, noise_multiplier=400.0).fit(X, y)  # a signal of 5, where 4 are needed


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("case", CASES)
def test_one_row_changes_no_query_and_no_answer_by_more_than_declared(case, change):
    one, two = (clone(CASES[case]).set_params(**PRIVATE) for _ in range(2))
    y = targets(one)
    X2, y2, null = X.copy(), y.copy(), np.ones(len(X))
    null[7] = 0
    CHANGES[change](X2, y2)
    script = record(lambda: one.fit(X, y, null))
    moved = replay(lambda: two.fit(X2, y2, np.ones(len(X))), script)
    assert_same_transcript(script, moved)
    assert largest_move(script, moved) <= 1 + 1e-9
    assert public_state(one) == public_state(two)
    if change == "as it was":
        assert largest_move(script, moved) > 0.3, "the harness did not see the row"


@pytest.mark.parametrize("case", CASES)
def test_a_row_replaced_moves_answers_by_at_most_twice_the_sensitivity(case):
    options = {"adjacency": "replace-one", "epsilon": 3.0, "on_invalid": "null"}
    one, two = (prepared(case, **options) for _ in range(2))
    y = targets(one)
    X2, y2 = X.copy(), y.copy()
    X2[7], y2[7] = -50 * X[7], 1 - y[7]
    script = record(lambda: one.fit(X, y))
    moved = replay(lambda: two.fit(X2, y2), script)
    assert_same_transcript(script, moved)
    assert largest_move(script, moved) <= 2 + 1e-9


@pytest.mark.parametrize("case", [case for case in CASES if "minimum" not in case and "perturbation" not in case])
def test_noise_is_what_the_price_says(case):
    """False alarm 1e-6 per touch, certain to see two thirds of it; a minimum's noise has a test of its own."""
    model, samples = prepared(case, **PRIVATE | {"noise_multiplier": 3.0}), {}
    honest = ArrayExecutor._noisy

    def noisy(self, rows, value, multiplier):
        given = honest(self, rows, value, multiplier)
        if type(value).__name__ != "PerturbedMinimum":
            noise = (given - honest(self, rows, value, 0.0)).ravel() / (multiplier * value.sensitivity)
            samples.setdefault(type(value).__name__, []).append(noise)
        return given

    with mock.patch.object(ArrayExecutor, "_noisy", noisy):
        for _ in range(20):
            model.set_params(insecure_noise_seed=None).fit(X, np.abs(targets(model)))
    assert samples
    for parts in samples.values():
        noise = np.concatenate(parts)
        check_noise(noise, 1.0)
        if len(noise) > 500:
            with pytest.raises(AssertionError, match=r"noise is 0\.[67]"):
                check_noise(noise * 2 / 3, 1.0)


# ------------------------------------------------------------------ prices
@pytest.mark.parametrize("adjacency", ADJACENCIES)
@pytest.mark.parametrize("case", CASES)
def test_training_costs_what_one_gaussian_costs(case, adjacency):
    """However many steps, classes or rounds; what is estimated before has a share of its own."""
    model = prepared(case, adjacency=adjacency, n_public=500 if adjacency == "add-remove" else None)
    outputs = 3 if getattr(model, "classes", None) == [0, 1, 2] else 1
    task = "regression" if not hasattr(model, "classes") else "multiclass" if outputs > 1 else "binary"
    public = Public(500, (4,), outputs, task, adjacency)
    if task != "regression":
        model.set_params(class_weight=None)
    found = epsilon_of(model.privacy_charge(public, 2.0).event(), 1e-5, adjacency)
    assert found == pytest.approx(epsilon_of(GaussianDpEvent(2.0), 1e-5, adjacency), rel=1e-9)
    model.set_params(feature_bounds="private")
    dearer = epsilon_of(model.privacy_charge(public, 2.0).event(), 1e-5, adjacency)
    assert dearer == pytest.approx(epsilon_of(GaussianDpEvent(2.0 / math.sqrt(1.04)), 1e-5, adjacency), rel=1e-9)


def test_steps_of_full_batches_are_one_gaussian():
    public = Public(500, (4,), 1, "binary")
    (touch,) = classifier("gradient-descent", max_iter=50).privacy_charge(public, 2.0).touches
    assert touch.count == 50 and touch.noise.multipliers[0] == pytest.approx(2.0 * math.sqrt(50))
    charges = [classifier("gradient-descent", max_iter=n).privacy_charge(public, 2.0) for n in (1, 7, 1000)]
    assert len({round(epsilon_of(charge.event(), 1e-5), 9) for charge in charges}) == 1


@pytest.mark.parametrize("case", CASES)
def test_the_budget_is_reserved_before_a_row_is_read_and_met(case):
    model = prepared(case, epsilon=2.0, feature_bounds="private", on_invalid="null")
    y = np.abs(targets(model))
    with mock.patch("skdp.releases.spending.FitBook.reserve", side_effect=MemoryError):
        with mock.patch.object(ArrayExecutor, "_noisy", side_effect=AssertionError("a row was read")):
            with pytest.raises(MemoryError):
                clone(model).fit(X, y)
    broken = clone(model)
    with mock.patch.object(ArrayExecutor, "_noisy", side_effect=MemoryError), pytest.raises(MemoryError):
        broken.fit(X, y)
    assert broken.privacy_.epsilon <= 2.0 and not hasattr(broken, "coef_")
    with pytest.raises(NotFittedError):
        broken.predict(X)
    model.fit(X, y)
    assert 1.99 < model.privacy_.epsilon <= 2.0 and "seed" in str(model.privacy_)
    assert {line.name for line in model.privacy_.queries} >= {"feature bounds magnitude"}


@pytest.mark.parametrize("case", CASES)
def test_fitted_models_travel_without_rows_or_seeds(case):
    model = prepared(case, epsilon=5.0, insecure_noise_seed=None)
    model.fit(X, np.abs(targets(model)))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.privacy_ == model.privacy_ and not hasattr(clone(model), "coef_")
    other = clone(model).fit(X, np.abs(targets(model)))
    assert (other.coef_ != model.coef_).any(), "noise is secret unless it is seeded"


def test_without_noise_nothing_is_promised():
    with pytest.warns(NotPrivateWarning):
        model = classifier(epsilon=math.inf).fit(X, LABELS)
    assert math.isinf(model.privacy_.epsilon)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["objective perturbation", "logistic descent", "adassp", "boosted"])
def test_more_budget_is_a_better_model(case):
    """Medians over 15 seeded fits of 3,000 rows at epsilon .005 and 5."""
    rows_, labels, numbers = rows(3000)
    y = labels if hasattr(CASES[case], "classes") else numbers
    y_bounds = {"y_bounds": (-1, 1)} if "y_bounds" in CASES[case].get_params() else {"class_weight": None}

    def score(epsilon, seed):
        model = clone(CASES[case]).set_params(epsilon=epsilon, insecure_noise_seed=seed, **y_bounds)
        return model.fit(rows_, y).score(rows_, y)

    scores = {epsilon: np.median([score(epsilon, seed) for seed in range(15)]) for epsilon in (0.005, 5.0)}
    assert scores[5.0] > scores[0.005] + 0.02
