"""Mixed tables to numbers: kinds by type, public knowledge, private rest, and a net that is told what it needs."""

from __future__ import annotations

import math
import pickle
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdp import DPClassifier
from skdp.accounting import epsilon as epsilon_of
from skdp.contract import Frequent, Public
from skdp.datasets import load_adult
from skdp.exceptions import NotPrivateWarning, PrivateBoundsWarning
from skdp.metrics import PrivateScore
from skdp.preprocessing import Column, DPTableVectorizer, Schema
from skdp.preprocessing.table_layout import declared_types
from skdp.releases import ArrayExecutor

PUBLIC = Public(3000, (6,), 0, "regression")


def table(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "wage": np.where(rng.random(n) < 0.1, np.nan, rng.gamma(2, 1000, n)),
            "owner": rng.random(n) < 0.4,
            "town": pd.Series(rng.choice(["Bonn", "Ulm", None], n, p=[0.6, 0.3, 0.1]), dtype=object),
            "since": pd.Timestamp("2010-01-01") + pd.to_timedelta(rng.integers(0, 3650, n), unit="D"),
            "married": rng.integers(0, 2, n),
            "level": pd.Categorical(rng.choice(["low", "high"], n)),
        }
    )


SCHEMA = {
    "wage": (0, 10_000), "owner": [False, True], "town": ["Bonn", "Ulm"], "since": (3000, 8000),
    "married": (0, 1), "level": ["low", "high"],
}  # fmt: skip


# ------------------------------------------------------------------ what comes out
def test_kinds_follow_from_types():
    X = table()
    vectorizer = DPTableVectorizer(epsilon=5.0).fit(X)
    out = vectorizer.transform(X)
    assert out.columns.tolist() == [
        "wage", "missingindicator_wage", "owner", "town_Bonn", "town_Ulm", "town_other", "missingindicator_town",
        "since", "missingindicator_since", "married", "missingindicator_married", "level_high", "level_low",
        "level_other", "missingindicator_level",
    ]  # fmt: skip
    booleans = [dtype.kind == "b" for dtype in out.dtypes]
    assert out.columns[~np.array(booleans)].tolist() == ["wage", "since"]
    assert list(vectorizer.get_feature_names_out()) == out.columns.tolist()
    assert booleans == vectorizer.binary_features_.tolist()
    low, high = vectorizer.output_bounds_.T
    assert ((out >= low) & (out <= high)).all(axis=None)
    assert (out["missingindicator_wage"] == X["wage"].isna()).all() and (out.loc[X["wage"].isna(), "wage"] == 0).all()
    assert (out["married"] == (X["married"] == 1)).all() and (out["town_Ulm"] == (X["town"] == "Ulm")).all()
    assert 7000 < vectorizer.columns_["since"][1] < 8000, "days since 2000"


def test_public_knowledge_is_used_as_it_is():
    X = table()
    vectorizer = DPTableVectorizer(SCHEMA).fit(X)
    assert vectorizer.privacy_.epsilon == 0 and any(line.startswith("schema: ") for line in vectorizer.privacy_.public)
    out = vectorizer.transform(X)
    np.testing.assert_allclose(out["wage"], (X["wage"].clip(0, 10_000) / 5000 - 1).fillna(0), atol=1e-12)
    assert (out["owner"] == X["owner"]).all() and vectorizer.kinds_["owner"] == "boolean"
    assert out.index.equals(X.index)
    again = DPTableVectorizer(vectorizer.columns_).fit(X)
    pd.testing.assert_frame_equal(again.transform(X), out)


def test_false_and_true_are_a_boolean_and_round_trip():
    flags = [True, False, True, None]
    X = pd.DataFrame({"b": [True, False, True, True], "o": pd.Series(flags, dtype=object), "k": [1, 0, 1, 5]})
    vectorizer = DPTableVectorizer({"b": [False, True], "o": [True, False], "k": [False, True]}).fit(X)
    out = vectorizer.transform(X)
    assert out["b"].tolist() == X["b"].tolist() and out["o"].tolist() == [True, False, True, False]
    assert out["missingindicator_o"].tolist() == [False, False, False, True] and out["k"].tolist() == [1, 0, 1, 1]
    assert vectorizer.columns_ == dict.fromkeys("bok", [False, True])
    pd.testing.assert_frame_equal(DPTableVectorizer(vectorizer.columns_).fit_transform(X), out)


def test_cells_that_are_no_numbers_are_counted_at_prediction_alone(recwarn):
    X = pd.DataFrame({"age": pd.Series([40, "old", None, 50] * 5, dtype=object), "at": pd.Timestamp("2020-01-01")})
    vectorizer = DPTableVectorizer({"age": (0, 100), "at": (0, 9000)})
    vectorizer.fit_transform(X)
    pipeline = make_pipeline(vectorizer, DPClassifier("linear", epsilon=1.0, classes=[0, 1], max_epochs=1))
    y = np.arange(20) % 2
    pipeline.fit(X, y)
    PrivateScore("accuracy", epsilon=1.0)(pipeline, X, y)
    assert not [w for w in recwarn if "taken as missing" in str(w.message)]
    with pytest.warns(UserWarning, match="column 'age': 5 cells were taken as missing; the model expects numbers"):
        pipeline.predict(X)
    with pytest.warns(UserWarning, match="column 'at': 20 cells were taken as missing; the model expects dates"):
        pipeline.predict(X.assign(age=1.0, at="soon"))
    recwarn.clear()
    pipeline.predict(X.assign(age=[41, np.nan] * 10))
    assert len(recwarn) == 0


def test_small_counts_keep_their_range_and_are_named():
    rng = np.random.default_rng(0)
    visits = np.where(rng.random(5000) < 0.89, 0, np.minimum(rng.geometric(0.6, 5000), 9))
    X = pd.DataFrame({"visits": visits, **{f"lab{k}": rng.normal(size=5000) for k in range(9)}})
    with pytest.warns(PrivateBoundsWarning, match="range of columns.*'visits'.*schema="):
        out = DPTableVectorizer(epsilon=0.1, insecure_noise_seed=0).fit_transform(X)
    assert out["visits"].dtype.kind == "f" and out["visits"][visits > 1].min() > out["visits"][visits == 1].max()


def test_a_schema_says_what_it_always_says():
    X = table()
    schema = Schema(
        [Column("wage", low=0, high=9999, transform="log1p", missing=True), Column("married", low=0, high=1)]
    )
    out = DPTableVectorizer(schema, epsilon=5.0).fit_transform(X)
    expected = 2 * np.log1p(X["wage"].clip(0, 9999)) / math.log(10_000) - 1
    np.testing.assert_allclose(out["wage"], expected.fillna(0), atol=1e-12)
    assert "missingindicator_married" not in out and "missingindicator_wage" in out


def test_values_never_seen_and_infinite_ones():
    vectorizer = DPTableVectorizer(SCHEMA).fit(table())
    odd = table(3)
    odd["wage"] = [np.inf, -np.inf, np.nan]
    odd["town"] = ["Köln", None, " Bonn "]
    out = vectorizer.transform(odd)
    assert out["wage"].tolist() == [1, -1, 0]
    town = out[["town_Bonn", "town_Ulm", "town_other", "missingindicator_town"]]
    assert town.to_numpy().argmax(axis=1).tolist() == [2, 3, 0]


def test_text_in_a_column_with_public_bounds_is_missing():
    X = pd.DataFrame({"age": pd.Series(["40", 50, "unknown", None], dtype=object)})
    out = DPTableVectorizer({"age": (0, 100)}).fit_transform(X)
    assert out["age"].tolist() == pytest.approx([-0.2, 0, 0, 0], abs=1e-7)
    assert out["missingindicator_age"].tolist() == [False, False, True, True]


@pytest.mark.parametrize("kind", ["Int64", "Float64", "int8", "float32", "UInt16"])
def test_numeric_types_are_numeric(kind):
    X = pd.DataFrame({"a": pd.array([1, 2, 3] * 400, dtype=kind), "b": pd.array(["x"] * 1200, dtype="string")})
    out = DPTableVectorizer(epsilon=5.0).fit_transform(X)
    assert out.columns.tolist() == ["a", "missingindicator_a", "b_x", "b_other", "missingindicator_b"]


def test_arrays_are_read_by_position():
    X = np.random.default_rng(0).uniform(0, 5, (2000, 2))
    out = DPTableVectorizer({"x0": (0, 5)}, epsilon=5.0).fit_transform(X)
    assert out.columns.tolist() == ["x0", "missingindicator_x0", "x1", "missingindicator_x1"]
    np.testing.assert_allclose(out["x0"], X[:, 0] / 2.5 - 1)


def test_tables_without_names_keep_their_types():
    X = table().set_axis(range(6), axis=1)
    vectorizer = DPTableVectorizer({"x0": (0, 10_000)}, epsilon=5.0).fit(X)
    assert not hasattr(vectorizer, "feature_names_in_")
    out = vectorizer.transform(X)
    assert {"x0", "x1", "x2_Bonn", "x3", "x4", "x5_low"} <= set(out)


def test_dates_with_a_time_zone_and_time_spans_are_numbers():
    days = pd.Series(pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(1200) % 30, unit="D"))
    level = pd.Categorical([1, 2] * 600)
    X = pd.DataFrame({"at": days.dt.tz_localize("UTC"), "for": days - days.min(), "level": level})
    X.loc[0, "at"] = pd.NaT
    out = DPTableVectorizer({"at": (7305, 7334), "for": (0, 29), "level": (1, 2)}).fit_transform(X)
    np.testing.assert_allclose(out["for"], np.arange(1200) % 30 / 14.5 - 1)
    np.testing.assert_allclose(out["at"][1:], out["for"][1:])
    assert out["missingindicator_at"].tolist() == [True] + [False] * 1199 and out["level"].tolist() == [-1, 1] * 600


@pytest.mark.parametrize(
    "X, words",
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "unique column names"),
        (pd.DataFrame({"a": [1j]}), "Complex data not supported: column 'a'"),
        (pd.DataFrame({"a": []}), "0 sample"),
    ],
)
def test_impossible_tables_are_refused(X, words):
    with pytest.raises(ValueError, match=words):
        DPTableVectorizer().fit(X)


class Numeric:
    def is_numeric(self):
        return True


class OtherLibrary:
    """A table with declared types of its own."""

    shape, columns, dtypes = (1000, 3), ["age", "town", "flag"], [Numeric(), "String", "Boolean"]

    def __getitem__(self, name):
        cells = {"age": [30.0, None] * 500, "town": ["Ulm", None] * 500, "flag": [True, None] * 500}[name]
        return pd.Series(cells, dtype=float if name == "age" else object)

    def __len__(self):
        return 1000


def test_tables_of_other_libraries_are_read():
    out = DPTableVectorizer(epsilon=5.0).fit_transform(OtherLibrary())
    assert out.columns.tolist() == [
        "age", "missingindicator_age", "town_Ulm", "town_other", "missingindicator_town", "flag",
        "missingindicator_flag",
    ]  # fmt: skip
    assert out["flag"].tolist() == out["town_Ulm"].tolist() == [True, False] * 500


# ------------------------------------------------------------------ privacy
@pytest.mark.parametrize("schema", [None, {"wage": (0, 10_000)}, {"town": ["Ulm"], "level": ["low"]}])
@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one", "add-remove"])
def test_the_statement_meets_the_target(schema, adjacency):
    n_public = 2500 if adjacency == "add-remove" else None
    vectorizer = DPTableVectorizer(schema, epsilon=0.8, adjacency=adjacency, n_public=n_public).fit(table())
    statement = vectorizer.privacy_
    assert 0.78 < statement.epsilon <= 0.8
    assert "the number, names and declared types of the columns" in statement.public
    assert "that every category is text, a number or missing (an error would have told)" in statement.public
    lists = schema is None or "town" not in schema
    fail = 0.1 * statement.delta if lists else 0
    assert epsilon_of(statement.event, statement.delta - fail, adjacency) == pytest.approx(statement.epsilon, rel=1e-3)


@pytest.mark.parametrize("schema", [None, {"wage": (0, 10_000)}, {"town": ["Ulm"], "level": ["low"]}])
def test_the_price_is_known_before_the_types_are(schema):
    vectorizer = DPTableVectorizer(schema, epsilon=None, noise_multiplier=3.0)
    before = vectorizer.privacy_charge(PUBLIC, 3.0)
    typed = replace(PUBLIC, columns=declared_types(table()))
    after = vectorizer.privacy_charge(typed, 3.0)
    assert after.event() == vectorizer.fit(table()).privacy_.event
    assert [t.name for t in before.touches] == ["columns"] and len(after.touches) >= 2
    assert sum(t.noise.combined**-2 for t in after.touches) == pytest.approx(1 / 9)
    assert after.delta_fail <= before.delta_fail
    epsilons = [epsilon_of(charge.event(), 1e-6) for charge in (before, after)]
    assert epsilons[0] == pytest.approx(epsilons[1], rel=1e-6)
    for charge in (before, after):
        assert charge.adjacency == "zero-out"
    five = vectorizer.privacy_charge(typed, 15.0)
    assert [t.noise.combined for t in five.touches] == pytest.approx([5 * t.noise.combined for t in after.touches])
    assert DPTableVectorizer(SCHEMA).privacy_charge(PUBLIC, 1.0).touches == ()


def test_all_columns_get_the_same_share():
    typed = replace(PUBLIC, columns=declared_types(table()))
    magnitude, ranges, categories = DPTableVectorizer().privacy_charge(typed, 3.0).touches
    # Three numeric columns with two histograms each, two categorical ones.
    stds = [magnitude.noise.combined * 3**0.5, ranges.noise.combined * 3**0.5, categories.noise.combined * 2**0.5]
    assert stds == pytest.approx([3.0 * 10**0.5, 3.0 * 10**0.5, 3.0 * 5**0.5])


ROWS = {
    "missing": [np.nan, False, None, pd.NaT, 0, None],
    "huge": [1e300, True, "Bonn", pd.Timestamp("2200-01-01"), 10**15, "low"],
    "infinite": [-np.inf, True, "Ulm", pd.Timestamp("1700-01-01"), -5, "high"],
    "lonely": [1.0, True, "Zell", pd.Timestamp("2015-01-01"), 1, "medium"],
}


@contextmanager
def transcript(answers=None):
    """Collect ``(query, exact answer, given answer)``; give the answers of an earlier transcript where there is one."""
    entries, honest = [], ArrayExecutor.answer

    def answer(self, query):
        with mock.patch.object(self, "_normal", np.zeros), mock.patch.object(self, "_spend", lambda touch: 0):
            exact = honest(self, query)
        given = honest(self, query) if answers is None else answers[len(entries)][2]
        entries.append((query, exact, given))
        return given

    with mock.patch.object(ArrayExecutor, "answer", answer):
        yield entries


@pytest.mark.parametrize("row", ROWS)
def test_a_row_replaced_changes_no_query_and_no_answer_by_more_than_twice_the_sensitivity(row):
    X = table(400).astype({"level": object, "married": float})
    other = X.copy()
    other.iloc[7] = ROWS[row]
    other = other.astype(X.dtypes)
    one = DPTableVectorizer(adjacency="replace-one", epsilon=None, noise_multiplier=0.5, delta=1e-4)
    two = clone(one)
    with transcript() as script:
        one.fit(X)
    with transcript(script) as moved:
        two.fit(other)
    assert [query.fingerprint() for query, *_ in script] == [query.fingerprint() for query, *_ in moved]
    for (query, before, _), (_, after, _) in zip(script, moved, strict=True):
        for value, a, b in zip(query.values, before, after, strict=True):
            if not isinstance(value, Frequent):  # those have a test of their own
                assert np.linalg.norm(a - b) <= 2 * value.sensitivity + 1e-9
    assert one.columns_ == two.columns_ and list(one.columns_["town"]) == ["Bonn", "Ulm"]
    pd.testing.assert_frame_equal(one.transform(X), two.transform(X))


def test_clone_pickle_and_nothing_of_rows():
    X = table()
    X["name"] = [f"person-{k}" for k in range(len(X))]
    with pytest.warns(PrivateBoundsWarning, match="no category of columns 'name' has enough rows"):
        vectorizer = DPTableVectorizer(epsilon=1.0).fit(X)
    kept = pickle.dumps(vectorizer)
    assert b"person-" not in kept and len(kept) < 20_000
    pd.testing.assert_frame_equal(pickle.loads(kept).transform(X), vectorizer.transform(X))
    assert not hasattr(clone(vectorizer), "_columns")


def test_without_noise_it_says_so():
    with pytest.warns(NotPrivateWarning):
        vectorizer = DPTableVectorizer(epsilon=math.inf).fit(table())
    assert vectorizer.columns_["town"] == ["Bonn", "Ulm"] and vectorizer.privacy_.epsilon == math.inf


def test_identifiers_are_told_by_their_names():
    X = table().rename(columns={"wage": "customer_id", "town": "Valid"})
    with pytest.warns(UserWarning, match="columns 'customer_id' are named like identifiers"):
        DPTableVectorizer(epsilon=5.0).fit(X)


@pytest.mark.parametrize(
    "params, words",
    [
        ({"schema": {"street": (0, 1)}}, "does not have: 'street'"), ({"schema": {"wage": (1, 0)}}, "wage"),
        ({"schema": {"wage": "numeric"}}, "must be bounds as a tuple"), ({"schema": [1]}, "schema must be None"),
        ({"max_categories": 0}, "max_categories"), ({"epsilon": 0}, "epsilon"),
    ],
)  # fmt: skip
def test_impossible_parameters_spend_nothing(params, words):
    vectorizer = DPTableVectorizer(**params)
    with pytest.raises(ValueError, match=words):
        vectorizer.fit(table())
    assert not hasattr(vectorizer, "_statement")


# ------------------------------------------------------------------ with a model
def test_the_net_knows_the_indicators_and_spends_nothing_on_bounds():
    adult = load_adult()
    X, y = adult.X_train[:3000], adult.y_train[:3000]
    model = DPClassifier(epsilon=2.0, classes=adult.classes, feature_bounds=None)
    pipeline = make_pipeline(DPTableVectorizer(epsilon=1.0, insecure_noise_seed=0), model).fit(X, y)
    features = pipeline[-1].module_.features
    assert features.indicator.tolist() == np.flatnonzero(pipeline[0].binary_features_).tolist()
    assert [line for line in pipeline[-1].privacy_.text.splitlines() if "bounds" in line and "queries" in line] == []
    assert pipeline.score(adult.X_test[:2000], adult.y_test[:2000]) > 0.79  # the prior is at .764


# Indicators are booleans, so that a model knows them; numpy makes objects of a table of booleans and numbers.
TABLES = dict.fromkeys(
    ["check_transformer_general", "check_methods_sample_order_invariance", "check_methods_subset_invariance",
     "check_fit_idempotent"],
    "compares outputs as arrays of numbers, and these are tables of numbers and booleans",
)  # fmt: skip


WEIGHTS = {
    "check_all_zero_sample_weights_error": "whether any row counts is private",
    "check_sample_weight_equivalence_on_dense_data": "a row counts once whatever it weighs, and a null row stays in n",
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks(
    [DPTableVectorizer(epsilon=1e4, insecure_noise_seed=0)], expected_failed_checks=lambda estimator: TABLES | WEIGHTS
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", TABLES)
def test_what_those_checks_ask_holds(name):
    """The same questions, asked of tables; and the reason for leaving them out is still there."""
    with pytest.raises(TypeError):
        getattr(estimator_checks, name)("DPTableVectorizer", DPTableVectorizer(epsilon=1e4, insecure_noise_seed=0))
    X = table()
    vectorizer = DPTableVectorizer(epsilon=5.0, insecure_noise_seed=0).fit(X)
    out = vectorizer.transform(X)
    pd.testing.assert_frame_equal(out, pd.concat([vectorizer.transform(X[:7]), vectorizer.transform(X[7:])]))
    pd.testing.assert_frame_equal(out[::-1], vectorizer.transform(X[::-1]))
    pd.testing.assert_frame_equal(out, clone(vectorizer).fit_transform(X))
