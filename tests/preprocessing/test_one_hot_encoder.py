"""Categories by public lists, or discovered above a threshold that hides those of a single row."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from sklearn import preprocessing
from sklearn.base import clone
from suite import check_noise

from skdp.accounting import epsilon as epsilon_of
from skdp.contract import Frequent, Gaussian, Poisson, Public, Query, Touch, drive
from skdp.exceptions import NotPrivateWarning
from skdp.preprocessing import DPOneHotEncoder
from skdp.preprocessing.categories import category_of, key_of, keys_of
from skdp.releases import ArrayExecutor, discovery_queries, discovery_touch

FALSE_ALARM = 1e-6


def table(n=3000):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "town": rng.choice(["Bonn", "Ulm", "Zell"], n, p=[0.6, 0.39, 0.01]),
            "floor": rng.integers(0, 4, n),
            "flag": rng.random(n) < 0.3,
        }
    )


def executor(cells, seed=0):
    cells = np.array(cells, dtype=object)
    normal = np.zeros if seed is None else np.random.default_rng(seed).standard_normal
    return ArrayExecutor({"X": cells}, np.zeros(len(cells), bool), spend=lambda touch: 0, normal=normal)


def discover(cells, z, fail=1e-6, adjacency="zero-out", seed=0):
    groups = np.shape(cells)[1]
    return drive(
        discovery_queries(discovery_touch("all", z), "X", groups, fail, adjacency), executor(cells, seed).answer
    )


# ------------------------------------------------------------------ against the twin
@pytest.mark.parametrize(
    "categories", [None, {"town": ["Bonn", "Ulm", "Zell"], "floor": range(4), "flag": [False, True]}]
)
def test_without_noise_it_is_its_twin_with_two_more_columns(categories):
    X = table()
    ours = DPOneHotEncoder(categories, epsilon=math.inf, sparse_output=False)
    if categories is None:
        with pytest.warns(NotPrivateWarning):
            ours.fit(X)
    else:
        assert ours.fit(X).privacy_.epsilon == 0
    twin = preprocessing.OneHotEncoder(sparse_output=False).fit(X)
    names = list(ours.get_feature_names_out())
    assert names[:5] == ["town_Bonn", "town_Ulm", "town_Zell", "town_other", "town_missing"]
    kept = [name for name in names if not name.endswith(("other", "missing"))]
    assert kept == list(twin.get_feature_names_out())
    out = pd.DataFrame(ours.transform(X), columns=names)
    np.testing.assert_array_equal(out[kept], twin.transform(X))
    assert (out.drop(columns=kept) == 0).all(axis=None)
    assert (ours.inverse_transform(out) == X.to_numpy()).all()


def test_unknown_and_missing_values_have_columns_of_their_own():
    X = pd.DataFrame({"town": ["Bonn", " Bonn ", "Köln", None, "Ulm"]})
    ours = DPOneHotEncoder({"town": ["Ulm", "Bonn"]}, sparse_output=False).set_output(transform="pandas").fit(X)
    out = ours.transform(X)
    assert out.columns.tolist() == ["town_Ulm", "town_Bonn", "town_other", "town_missing"]
    assert out.to_numpy().argmax(axis=1).tolist() == [1, 1, 2, 3, 0]
    back = ours.inverse_transform(out)[:, 0].tolist()
    assert back[:3] == ["Bonn", "Bonn", None] and math.isnan(back[3])
    assert sparse.issparse(DPOneHotEncoder({"town": ["Ulm"]}).fit(X).transform(X))


def test_partly_public():
    X = table()
    ours = DPOneHotEncoder({"town": ["Ulm"]}, epsilon=1.0).fit(X)
    assert ours.categories_[0].tolist() == ["Ulm"] and ours.categories_[1].tolist() == [0, 1, 2, 3]
    assert 0.98 < ours.privacy_.epsilon <= 1 and "categories" in ours.privacy_.public


def test_frequencies_are_bounded_by_their_noisy_counts():
    X = table()
    assert DPOneHotEncoder(max_categories=2, epsilon=5.0).fit(X).categories_[0].tolist() == ["Bonn", "Ulm"]
    few = DPOneHotEncoder(min_frequency=0.25, epsilon=5.0).fit(X)
    assert few.categories_[0].tolist() == ["Bonn", "Ulm"] and few.categories_[2].tolist() == [False, True]
    assert DPOneHotEncoder(min_frequency=1500, epsilon=5.0).fit(X).categories_[0].tolist() == ["Bonn"]


# ------------------------------------------------------------------ the threshold
@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one", "add-remove"])
@pytest.mark.parametrize("groups", [1, 7])
def test_failure_probability_in_closed_form(groups, adjacency):
    asked = []
    discovery = discovery_queries(discovery_touch("all", 2.0), "X", groups, 1e-6, adjacency)
    drive(discovery, lambda query: asked.append(query.values[0]) or ([],))
    (value,) = asked
    std = 2.0 * value.sensitivity
    assert value.sensitivity == groups**0.5
    # A row alone has at most one value in each column, each with count 1.
    fail = groups * stats.norm.sf((value.threshold - 1) / std)
    assert fail * (2 if adjacency == "replace-one" else 1) == pytest.approx(1e-6)


def test_failure_probability_in_simulation():
    """A lonely value of each of 4 columns, with a delta_fail of 0.2; false alarm 1e-6, and certain to see double."""
    cells = [[f"s{column}" for column in "abcd"]] + [["scommon"] * 4] * 50
    seen = sum(
        any("scommon" != key for own, _ in discover(cells, 1.0, 0.2, seed=k) for key in own) for k in range(3000)
    )
    low, high = stats.binom.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], 3000, 1 - (1 - 0.05) ** 4)
    assert low <= seen <= high
    assert 1 - (1 - 0.05) ** 4 < 0.2 and not low <= 2 * seen <= high


def test_delta_is_divided_between_noise_and_threshold():
    X = table()
    ours = DPOneHotEncoder(epsilon=1.0, delta=1e-5).fit(X)
    charge = ours.privacy_charge(Public(3000, (3,), 0, "regression"), 1.0)
    assert charge.delta_fail == pytest.approx(1e-6) and ours.privacy_.delta == 1e-5
    assert ours.privacy_.epsilon == pytest.approx(epsilon_of(ours.privacy_.event, 0.9e-5), rel=1e-3)


def test_counts_are_noised_as_declared():
    """False alarm 1e-6, and certain to see noise scaled by 2/3."""
    cells = np.array([[f"s{k:04}"] for k in range(2000)], dtype=object).repeat(3, axis=0)
    query = Query(Touch("all", Poisson(), Gaussian((2.5,)), 1), (Frequent("X", 1, -np.inf),))
    (((values, counts),),) = executor(cells).answer(query)
    assert len(values) == 2000
    check_noise(counts - 3, 2.5)
    with pytest.raises(AssertionError, match="noise is 0.6"):
        check_noise((counts - 3) * 2 / 3, 2.5)


def test_one_row_moves_counts_by_at_most_the_sensitivity():
    cells = [["sa", "nx", None], ["sb", "nx", "sq"]] * 30
    before = discover(cells, None, seed=None)
    for row in (["sa", "nx", "sq"], [None] * 3, ["sa", None, None]):
        after = discover([*cells, row], None, seed=None)
        moved = [b[1] - a[1] for a, b in zip(before, after, strict=True)]
        assert 0 <= np.linalg.norm(np.concatenate(moved)) <= 3**0.5 + 1e-12
    other = discover([*cells, ["sz"] * 3], None, seed=None)
    assert [len(own) for own, _ in other] == [3, 2, 2]  # what the threshold is for


def test_common_categories_are_found_at_epsilon_one():
    X = table(10_000)
    ours = DPOneHotEncoder(insecure_noise_seed=0).fit(X)
    assert ours.categories_[1].tolist() == [0, 1, 2, 3] and "Bonn" in ours.categories_[0]


def test_order_and_first_occurrence_tell_nothing():
    X = pd.DataFrame({"mixed": np.array([1, True, 1.0, "1", "a"] * 400, dtype=object)})
    one = DPOneHotEncoder(epsilon=5.0, insecure_noise_seed=0).fit(X)
    two = DPOneHotEncoder(epsilon=5.0, insecure_noise_seed=0).fit(X[::-1])
    assert one.categories_[0].tolist() == two.categories_[0].tolist() == [True, 1, "1", "a"]
    assert pickle.dumps(one.__getstate__()["_keys"]) == pickle.dumps(two.__getstate__()["_keys"])


def test_what_is_kept_are_released_categories():
    X = pd.DataFrame({"name": [f"person-{k}" for k in range(900)] + ["nobody"] * 900})
    ours = DPOneHotEncoder(epsilon=1.0).fit(X)
    assert ours.categories_[0].tolist() == ["nobody"] and b"person-" not in pickle.dumps(ours)
    assert not hasattr(clone(ours), "_keys")


# ------------------------------------------------------------------ keys and refusals
@pytest.mark.parametrize("value", ["a", "", "nan", 0, 3, -2.5, 1e300, True, False, np.int8(4), np.bool_(True)])
def test_keys_go_back_to_values(value):
    back = category_of(key_of(value))
    assert back == value and isinstance(back, bool) == isinstance(value, bool | np.bool_)


def test_missing_values_have_no_key():
    cells = np.array([None, np.nan, pd.NA, pd.NaT, float("nan")], dtype=object)
    assert keys_of("a", cells).tolist() == [None] * 5
    assert keys_of("a", np.array([0.0, -0.0, np.nan])).tolist() == ["n0.0", "n0.0", None]


def test_a_number_that_fits_no_float_stops_no_fit():
    X = pd.DataFrame({"a": np.array([1] * 900 + [10**400, -(10**400)], dtype=object)})
    assert keys_of("a", X["a"].to_numpy()[-2:]).tolist() == ["ninf", "n-inf"]
    encoder = DPOneHotEncoder(epsilon=1.0).fit(X)
    assert encoder.categories_[0].tolist() == [1]
    assert "that every category is text, a number or missing (an error would have told)" in encoder.privacy_.public


@pytest.mark.parametrize("cell", [(1, 2), {"a": 1}, [1], 1j, pd.Timestamp("2000-01-01")])
def test_other_cells_are_refused_unquoted(cell):
    X = pd.DataFrame({"odd": pd.Series(["a", cell] * 20, dtype=object)})
    encoder = DPOneHotEncoder()
    with pytest.raises(ValueError, match="column 'odd' holds values that are neither text nor numbers") as caught:
        encoder.fit(X)
    assert "2000" not in str(caught.value) and not hasattr(encoder, "_statement")


@pytest.mark.parametrize(
    "params, words",
    [
        ({"categories": {"street": ["a"]}}, "does not have: 'street'"),
        ({"categories": [["a"]]}, "one entry for each of 3"), ({"categories": {"town": "Ulm"}}, "column 'town'"),
        ({"categories": {"town": ["Ulm", "Ulm"]}}, "different"), ({"categories": {"town": []}}, "column 'town'"),
        ({"max_categories": 0}, "max_categories"),
        ({"min_frequency": -1}, "min_frequency"),
    ],
)  # fmt: skip
def test_impossible_parameters_spend_nothing(params, words):
    encoder = DPOneHotEncoder(**params)
    with pytest.raises(ValueError, match=words):
        encoder.fit(table())
    assert not hasattr(encoder, "_statement")
