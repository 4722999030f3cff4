"""What every private transformer promises: bounded answers, declared noise, one statement, nothing kept of rows."""

from __future__ import annotations

import math
import pickle
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from suite import assert_same_transcript, check_noise, largest_move, record, replay

from skdp.accounting import epsilon as epsilon_of
from skdp.contract import Public
from skdp.exceptions import NotPrivateWarning
from skdp.preprocessing import (
    DPPCA,
    DPKBinsDiscretizer,
    DPMinMaxScaler,
    DPQuantileTransformer,
    DPSimpleImputer,
    DPStandardScaler,
)
from skdp.releases import ArrayExecutor

N, SLACK = 120, 1e-9
BOUNDS = (-4.0, 4.0)
CASES = {
    "standard": DPStandardScaler(),
    "standard, bounds": DPStandardScaler(feature_bounds=BOUNDS),
    "standard, some bounds": DPStandardScaler(feature_bounds=[BOUNDS, (np.nan, np.nan), BOUNDS]),
    "standard, mean": DPStandardScaler(feature_bounds=BOUNDS, mean=0.1),
    "min-max": DPMinMaxScaler(),
    "quantile": DPQuantileTransformer(),
    "quantile, bounds": DPQuantileTransformer(feature_bounds=BOUNDS, output_distribution="normal"),
    "bins": DPKBinsDiscretizer(encode="ordinal"),
    "even bins": DPKBinsDiscretizer(encode="onehot-dense", strategy="uniform"),
    "mean": DPSimpleImputer(),
    "median": DPSimpleImputer("median", feature_bounds=BOUNDS, add_indicator=True),
    "most frequent": DPSimpleImputer("most_frequent", categories=[range(-4, 5)] * 3),
    "components": DPPCA(feature_bounds=BOUNDS),
    "components, mean": DPPCA(feature_bounds=BOUNDS, mean=[0.0, 0.1, 0.2], whiten=True),
}
ROWS = {
    "ordinary": [0.3, -1.0, 2.0],
    "whole": [1.0, -2.0, 3.0],
    "corner": [4.0, -4.0, 4.0],
    "huge": [1e300, -1e300, 1e300],
    "infinite": [np.inf, -np.inf, np.inf],
    "NaN": [np.nan, np.nan, np.nan],
    "some NaN": [np.nan, 2.0, np.nan],
    "denormal": [5e-324, -5e-324, 5e-324],
}
FREE = {
    "standard": DPStandardScaler(mean=0.0, scale=2.0),
    "min-max": DPMinMaxScaler(feature_bounds=BOUNDS),
    "even bins": DPKBinsDiscretizer(strategy="uniform", feature_bounds=BOUNDS),
    "constant": DPSimpleImputer("constant"),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivateBoundsWarning"),
    pytest.mark.filterwarnings("ignore::skdp.exceptions.WeakPrivacyWarning"),
]


def table(n=N, whole=False):
    X = np.random.default_rng(0).normal(size=(n, 3))
    X = np.round(X) if whole else X
    X[::9, 1] = np.nan
    return X


def at(case, **params):
    return clone(CASES[case]).set_params(**params)


def outputs(transformer):
    """What a fit published, as far as outputs show it."""
    return transformer.transform(np.round(table(50, whole=True), 1)).astype(float).tobytes()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("case", CASES)
def test_one_row_more_moves_no_answer_by_more_than_declared(case, row):
    """Under add-remove a row that is not there is the null row of zero-out: it adds nothing to anything."""
    X = table(whole=case == "most frequent")
    options = {"adjacency": "add-remove", "n_public": N, "epsilon": None, "noise_multiplier": 0.1, "delta": 1e-4}
    one, two = at(case, **options), at(case, **options)
    script = record(lambda: one.fit(X))
    moved = replay(lambda: two.fit(np.vstack([X, ROWS[row]])), script)
    assert_same_transcript(script, moved)
    assert largest_move(script, moved) <= 1 + SLACK
    if row == "whole":
        assert largest_move(script, moved) > 0.3, "the harness did not see the row"
    assert outputs(one) == outputs(two)
    assert one.privacy_.epsilon == two.privacy_.epsilon


@pytest.mark.parametrize("case", CASES)
def test_a_row_replaced_moves_answers_by_at_most_twice_the_sensitivity(case):
    X = table(whole=case == "most frequent")
    script = record(lambda: at(case, adjacency="replace-one", epsilon=3.0).fit(X))
    for row in ROWS.values():
        other = X.copy()
        other[7] = row
        moved = replay(lambda other=other: at(case, adjacency="replace-one", epsilon=3.0).fit(other), script)
        assert_same_transcript(script, moved)
        assert largest_move(script, moved) <= 2 + SLACK


@pytest.mark.parametrize("case", CASES)
def test_noise_is_what_the_event_says(case):
    """False alarm 1e-6 per touch; certain to see noise scaled by 2/3 where there are 500 numbers."""
    X = table(60, whole=case == "most frequent")
    groups = {}
    transformer = at(case, epsilon=None, noise_multiplier=3.0, delta=1e-4)
    for _ in range(100 if case.startswith(("comp", "mean", "most", "standard")) else 3):
        with measured_arrays() as seen:
            transformer.fit(X)
        for name, noise, std in seen:
            groups.setdefault(name, []).append(noise / std)
    assert len(groups) == len(transformer.privacy_charge(Public(60, (3,), 0, "regression"), 1.0).touches)
    for parts in groups.values():
        samples = np.concatenate(parts)
        check_noise(samples, 1.0)
        if len(samples) > 500:
            with pytest.raises(AssertionError, match=r"noise is 0\.[67]"):
                check_noise(samples * 2 / 3, 1.0)
    assert any(sum(map(len, parts)) > 500 for parts in groups.values())


@contextmanager
def measured_arrays():
    """Collect ``(touch name, added noise, declared standard deviation)`` of honest answers."""
    seen = []
    honest = ArrayExecutor.answer

    def answer(self, query):
        with mock.patch.object(self, "_normal", np.zeros), mock.patch.object(self, "_spend", lambda touch: 0):
            exact = honest(self, query)
        noisy = honest(self, query)
        for a, b, value, z in zip(exact, noisy, query.values, query.touch.noise.multipliers, strict=True):
            seen.append((query.touch.name, (b - a).ravel(), z * value.sensitivity))
        return noisy

    with mock.patch.object(ArrayExecutor, "answer", answer):
        yield seen


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one", "add-remove"])
def test_the_statement_meets_the_target(case, adjacency):
    transformer = at(case, adjacency=adjacency, n_public=100 if adjacency == "add-remove" else None, epsilon=0.8)
    statement = transformer.fit(table(whole=case == "most frequent")).privacy_
    assert 0.78 < statement.epsilon <= 0.8 and statement.adjacency == adjacency
    assert epsilon_of(statement.event, statement.delta, adjacency) <= 0.8 * (1 + 1e-3)
    assert "the number, names and types of the columns" in statement.public
    told = "category is text, a number or missing" if case == "most frequent" else "cell is a number or missing"
    assert f"that every {told} (an error would have told)" in statement.public


@pytest.mark.parametrize("case", CASES)
def test_the_price_is_public_and_proportional(case):
    transformer, public = CASES[case], Public(1000, (3,), 0, "regression")
    one, five = transformer.privacy_charge(public, 1.0), transformer.privacy_charge(public, 5.0)
    for cheap, dear in zip(five.touches, one.touches, strict=True):
        assert cheap.noise.combined == pytest.approx(5 * dear.noise.combined)
    together = sum(touch.noise.combined**-2 for touch in one.touches)
    assert together == pytest.approx(1), "all touches cost what one release at the scale costs"
    assert all(touch.noise is None for touch in transformer.privacy_charge(public, None).touches)


@pytest.mark.parametrize("case", FREE)
def test_with_everything_public_it_costs_nothing(case):
    transformer = clone(FREE[case]).fit(table())
    assert transformer.privacy_.epsilon == 0
    assert transformer.privacy_charge(Public(10, (3,), 0, "regression"), 1.0).touches == ()


@pytest.mark.parametrize("case", CASES)
def test_clone_pickle_and_parameters(case):
    transformer = at(case, epsilon=1.0).fit(table(whole=case == "most frequent"))
    again = pickle.loads(pickle.dumps(transformer))
    assert outputs(again) == outputs(transformer) and again.privacy_ == transformer.privacy_
    assert not hasattr(clone(transformer), "_statement")
    assert repr(clone(transformer)) == repr(transformer)


@pytest.mark.parametrize("case", CASES)
def test_no_row_is_kept(case):
    X = table(2000, whole=case == "most frequent") + (0 if case == "most frequent" else math.pi)
    kept = pickle.dumps(at(case, epsilon=1.0).fit(X))
    assert X[17].tobytes() not in kept and len(kept) < 150_000


@pytest.mark.parametrize("case", CASES)
def test_without_noise_it_says_so(case):
    with pytest.warns(NotPrivateWarning):
        statement = at(case, epsilon=math.inf).fit(table(whole=case == "most frequent")).privacy_
    assert statement.epsilon == math.inf


@pytest.mark.parametrize("case", CASES)
def test_tables_go_in_and_out(case):
    X = pd.DataFrame(table(whole=case == "most frequent"), columns=["a", "b", "c"])
    transformer = at(case, epsilon=5.0).set_output(transform="pandas")
    out = transformer.fit_transform(X)
    assert isinstance(out, pd.DataFrame) and list(out.columns) == list(transformer.get_feature_names_out())
    assert out.index.equals(X.index) and list(transformer.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        transformer.transform(X.rename(columns={"a": "z"}))


@pytest.mark.parametrize(
    "params, words",
    [
        ({"epsilon": 0}, "epsilon"), ({"epsilon": None}, "noise_multiplier"), ({"adjacency": "swap"}, "adjacency"),
        ({"adjacency": "add-remove"}, "n_public"), ({"delta": 0.5}, "delta"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("case", CASES)
def test_impossible_budgets_spend_nothing(case, params, words):
    transformer = at(case, **params)
    with pytest.raises(ValueError, match=words):
        transformer.fit(table(whole=case == "most frequent"))
    assert not hasattr(transformer, "_statement") and not hasattr(transformer, "_failed")


@pytest.mark.parametrize("bounds", [(1, 0), (0, np.inf), [(0, 1)], {"z": (0, 1)}, {0: (1, 0)}, "wide"])
def test_impossible_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match="feature_bounds|could not convert"):
        DPMinMaxScaler(feature_bounds=bounds).fit(table())


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("case", CASES)
def test_no_warning_tells_of_a_huge_or_missing_value(case):
    X = table(whole=case == "most frequent")
    X[3], X[4] = ROWS["huge"], ROWS["infinite"]
    X[5] = [1.7e308, -1.7e308, np.nan]
    at(case, epsilon=5.0).fit_transform(X)
