"""A sample weight of 0 makes the null row, in every private transformer, and no other weight does anything."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from suite import assert_same_transcript, largest_move, record, replay

from skdp.contract import Frequent
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
from skdp.releases import ArrayExecutor

N, CHOSEN = 100, [3, 40, 77]
NUMBERS = {
    "standard": DPStandardScaler(),
    "standard, bounds": DPStandardScaler(feature_bounds=(-4, 4)),
    "min-max": DPMinMaxScaler(),
    "quantile": DPQuantileTransformer(),
    "bins": DPKBinsDiscretizer(),
    "mean": DPSimpleImputer(),
    "median": DPSimpleImputer("median"),
    "components": DPPCA(feature_bounds=(-4, 4)),
}
CATEGORIES = {
    "most frequent": DPSimpleImputer("most_frequent", categories=[list("uvw"), [0, 1]]),
    "one-hot": DPOneHotEncoder(),
    "table": DPTableVectorizer(),
}
CASES = NUMBERS | CATEGORIES
# Answers that are arrays, which can be replayed; which categories there are is looked at below.
REPLAYED = [case for case in CASES if case not in ("one-hot", "table")]
pytestmark = [
    pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivateBoundsWarning"),
    pytest.mark.filterwarnings("ignore::skdp.exceptions.WeakPrivacyWarning"),
]


def data(case):
    rng = np.random.default_rng(0)
    if case in NUMBERS:
        return rng.normal(size=(N, 3))
    numbers = rng.normal(size=N) if case == "table" else rng.integers(0, 2, N)
    return pd.DataFrame({"a": rng.choice(list("uvw"), N), "b": numbers})


def odd(case):
    """The same rows, but those chosen hold what no other row does."""
    X = data(case).copy()
    if case in NUMBERS:
        X[CHOSEN] = [[3.9, -3.9, 3.9], [np.inf, np.nan, 1e300], [-3.0, 3.0, np.nan]]
    else:
        X.loc[CHOSEN, "a"] = [None, "lonely", "w"]
        X.loc[CHOSEN, "b"] = [5.0, 1e9, 1.0] if case == "table" else 1
    return X


def weights(chosen=0.0, others=1.0):
    w = np.full(N, others)
    w[CHOSEN] = chosen
    return w


def at(case, **params):
    return clone(CASES[case]).set_params(**{"epsilon": None, "noise_multiplier": 0.1, "delta": 1e-4, **params})


@pytest.mark.parametrize("case", REPLAYED)
def test_what_a_null_row_holds_moves_nothing(case):
    script = record(lambda: at(case).fit(data(case), sample_weight=weights()))
    moved = replay(lambda: at(case).fit(odd(case), sample_weight=weights()), script)
    assert_same_transcript(script, moved)
    assert largest_move(script, moved) == 0
    counted = replay(lambda: at(case).fit(odd(case), sample_weight=weights(1.0)), script)
    assert largest_move(script, counted) > 0.3, "the harness does not see these rows at all"


@pytest.mark.parametrize("case", REPLAYED)
def test_null_rows_are_as_if_left_out_but_for_the_number_of_rows(case):
    """Under add-remove the number is declared, so that the fits ask the very same queries."""
    options = {"adjacency": "add-remove", "n_public": N}
    X = odd(case)
    left = np.delete(X, CHOSEN, 0) if case in NUMBERS else X.drop(index=CHOSEN)
    script = record(lambda: at(case, **options).fit(left))
    nulled = replay(lambda: at(case, **options).fit(X, sample_weight=weights()), script)
    assert_same_transcript(script, nulled)
    assert largest_move(script, nulled) < 1e-12


@pytest.mark.parametrize("case", REPLAYED)
def test_nulling_one_row_moves_no_answer_by_more_than_declared(case):
    X = odd(case)
    for row in CHOSEN:
        script = record(lambda: at(case).fit(X))
        w = np.ones(N)
        w[row] = 0
        moved = replay(lambda w=w: at(case).fit(X, sample_weight=w), script)
        assert_same_transcript(script, moved)
        assert largest_move(script, moved) <= 1 + 1e-9


@pytest.mark.parametrize("case", REPLAYED)
def test_other_weights_count_once(case):
    """No weight raises the sensitivity, because none is multiplied by."""
    script = record(lambda: at(case).fit(odd(case)))
    for w in (weights(1e300, 1e-300), 7, pd.Series(weights(2.5, 0.5)), weights(5e-324)):
        moved = replay(lambda w=w: at(case).fit(odd(case), sample_weight=w), script)
        assert_same_transcript(script, moved)
        assert largest_move(script, moved) == 0


@pytest.mark.parametrize("case", ["one-hot", "table"])
def test_null_rows_hold_no_category(case):
    options, X = {"adjacency": "add-remove", "n_public": N}, odd(case)
    nulled = counted_by(lambda: at(case, **options).fit(X, sample_weight=weights(0.0, 3.0)))
    assert nulled == counted_by(lambda: at(case, **options).fit(X.drop(index=CHOSEN)))
    assert nulled == counted_by(lambda: at(case, **options).fit(data(case), sample_weight=weights()))
    everyone = counted_by(lambda: at(case, **options).fit(X, sample_weight=weights(7.0)))
    assert "slonely" in everyone[-1] and "slonely" not in nulled[-1]
    assert sum(everyone[-1].values()) <= sum(nulled[-1].values()) + len(CHOSEN) * (2 if case == "one-hot" else 1)


def counted_by(fit):
    """Exact answers of a fit: counts of bins, and of all categories, whatever the threshold."""
    seen, honest = [], ArrayExecutor._noisy

    def noisy(self, rows, value, multiplier):
        if not isinstance(value, Frequent):
            seen.append(honest(self, rows, value, 0.0).tolist())
            return np.array(seen[-1])
        found = honest(self, rows, replace(value, threshold=-1.0), 0.0)
        seen.append({key: count for keys, counts in found for key, count in zip(keys, counts, strict=True)})
        return found

    with mock.patch.object(ArrayExecutor, "_noisy", noisy):
        fit()
    return seen


@pytest.mark.parametrize("case", CASES)
def test_the_statement_counts_all_rows_and_names_the_weights(case):
    plain, nulled = at(case).fit(data(case)), at(case).fit(data(case), sample_weight=weights())
    assert nulled.privacy_.n == plain.privacy_.n == N
    assert nulled.privacy_.epsilon == plain.privacy_.epsilon
    assert "sample weights were computed from each record alone" in nulled.privacy_.assumptions
    assert any("sample weight" in line for line in nulled.privacy_.public)
    assert not any("sample weight" in line for line in (*plain.privacy_.public, *plain.privacy_.assumptions))
    assert at(case).fit_transform(data(case), sample_weight=weights()).shape[0] == N


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones(N - 1), r"sample_weight.shape == \(99,\), expected \(100,\)"), (np.ones((N, 1)), "must be 1D array"),
        (weights(-1.0), "not negative"), (weights(np.nan), "finite"), (weights(np.inf), "finite"),
        (["much"] * N, "must be numeric"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("case", ["standard", "table", "most frequent"])
def test_impossible_weights_spend_nothing(case, given, message):
    transformer = at(case)
    with pytest.raises(ValueError, match=message) as error:
        transformer.fit(data(case), sample_weight=given)
    assert "-1" not in str(error.value) and not hasattr(transformer, "_failed")


@pytest.mark.parametrize("case", CASES)
def test_rows_may_all_be_null(case):
    """Whether there is any row is private."""
    at(case, noise_multiplier=3.0).fit(data(case), sample_weight=np.zeros(N))
