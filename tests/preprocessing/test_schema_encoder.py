"""SchemaEncoder: the mapping, its policies and errors, and that an output row depends on its own row only."""

from __future__ import annotations

import pickle
from datetime import date
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import pandas as hpd
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from skdp.datasets import load_adult
from skdp.preprocessing import Column, Schema, SchemaEncoder

SCHEMA = Schema(
    [
        Column("age", low=20, high=80),
        Column("gain", low=0, high=99, transform="log1p", missing=True),
        Column("sex", categories=("F", "M"), missing=True),
        Column("rooms", categories=(1, 2, 3)),
    ]
)
TABLE = pd.DataFrame(
    {
        "age": [20, 50, 80, 35],
        "gain": [0.0, np.nan, 99.0, 9.0],
        "sex": ["F", "M", None, " M "],
        "rooms": [1, 2, 3, 2],
    }
)
NAMES = [
    "age",
    "gain",
    "missingindicator_gain",
    "sex_F",
    "sex_M",
    "missingindicator_sex",
    *(f"rooms_{i}" for i in (1, 2, 3)),
]
EXPECTED = np.array(
    [
        [-1.0, -1.0, 0, 1, 0, 0, 1, 0, 0],
        [0.0, 0.0, 1, 0, 1, 0, 0, 1, 0],
        [1.0, 1.0, 0, 0, 0, 1, 0, 0, 1],
        [-0.5, 0.0, 0, 0, 1, 0, 0, 1, 0],
    ]
)


def one(column, values, **policies):
    """Encode one column on its own."""
    table = pd.DataFrame({column.name: values})
    return SchemaEncoder(Schema([column]), **policies).fit(table).transform(table)


# ------------------------------------------------------------------ the mapping
def test_every_kind_of_value():
    encoder = SchemaEncoder(SCHEMA).fit(TABLE)
    np.testing.assert_allclose(encoder.transform(TABLE), EXPECTED, atol=1e-12)
    assert encoder.get_feature_names_out().tolist() == NAMES
    assert encoder.output_bounds_.tolist() == [[-1, 1], [-1, 1]] + [[0, 1]] * 7
    assert encoder.binary_features_.tolist() == [False, False] + [True] * 7


def test_numbers_beyond_the_bounds_infinities_and_huge_integers_are_clipped():
    column = Column("a", low=0, high=10)
    assert one(column, [-5.0, 15.0, np.inf, -np.inf, 1e308, 5e-324]).ravel().tolist() == [-1, 1, 1, -1, 1, -1]
    assert one(column, [10**400, -(10**400), 5]).ravel().tolist() == [1, -1, 0]


@pytest.mark.parametrize(("low", "high"), [(0, 5e-324), (-8e307, 8e307), (1e16, 1e16 + 2), (-1e-300, 1e-300)], ids=str)
@pytest.mark.parametrize("transform", ["linear", "log1p"])
def test_extreme_bounds_stay_finite_and_in_range(low, high, transform):
    values = [low, high, (low + high) / 2, np.inf, -np.inf, 0.0]
    encoded = one(Column("a", low=low, high=high, transform=transform), values)
    assert np.isfinite(encoded).all() and np.abs(encoded).max() <= 1
    assert encoded[0] == -1 and encoded[1] == 1


def test_float32_output_stays_in_bounds():
    encoded = one(Column("a", low=0, high=3), [0.1, 1, 2, 3, 9], dtype=np.float32)
    assert encoded.dtype == np.float32 and np.abs(encoded).max() <= 1


def test_numeric_text_and_booleans_are_numbers():
    assert one(
        Column("a", low=0, high=2), pd.Series(["1", "2", None], dtype=object), undeclared_missing="neutral"
    ).ravel().tolist() == [0, 1, 0]
    assert one(Column("a", low=0, high=1), [True, False]).ravel().tolist() == [1, -1]


def test_categories_of_other_types():
    assert one(Column("a", categories=(True, False)), [True, False]).tolist() == [[1, 0], [0, 1]]
    assert one(Column("a", categories=(1, 2)), [1.0, 2.0]).tolist() == [[1, 0], [0, 1]]
    assert one(Column("a", categories=("x", 1)), pd.Series(["x", 1], dtype=object)).tolist() == [
        [1, 0],
        [0, 1],
    ]
    categorical = pd.Categorical(["x", None], categories=["y", "x"])
    assert one(Column("a", categories=("x",), missing=True), categorical).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT], ids=str)
def test_every_spelling_of_missing(missing):
    values = pd.Series([missing, "x"], dtype=object)
    assert one(Column("a", categories=("x",), missing=True), values).tolist() == [[0, 1], [1, 0]]
    numbers = pd.Series([missing, 1], dtype=object)
    assert one(Column("a", low=0, high=1, missing=True), numbers).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "float32", "boolean"])
def test_nullable_columns(dtype):
    encoded = one(Column("a", low=0, high=1, missing=True), pd.array([1, 0, None], dtype=dtype))
    assert encoded.tolist() == [[1, 0], [-1, 0], [0, 1]]


# ------------------------------------------------------------------ policies
def test_unknown_category():
    column, values = Column("a", categories=("x", "y"), missing=True), ["x", "zebra", None]
    assert one(column, values).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert one(column, values, unknown="other").tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert one(column, values, unknown="missing").tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    with pytest.raises(ValueError, match="'a'.*outside its public list") as error:
        one(column, values, unknown="raise")
    assert "zebra" not in str(error.value)


def test_out_of_bounds():
    column, values = Column("a", low=0, high=2, missing=True), [1, 713.5, -np.inf, np.nan]
    assert one(column, values).tolist() == [[0, 0], [1, 0], [-1, 0], [0, 1]]
    assert one(column, values, out_of_bounds="missing").tolist() == [[0, 0], [0, 1], [0, 1], [0, 1]]
    with pytest.raises(ValueError, match=r"'a'.*\[0, 2\]") as error:
        one(column, values, out_of_bounds="raise")
    assert "713" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "values"),
    [(Column("a", low=0, high=2), [1, np.nan]), (Column("a", categories=("x",)), ["x", None])],
)
def test_undeclared_missing_values(column, values):
    with pytest.raises(ValueError, match=r"'a' has missing values.*missing=True"):
        one(column, values)
    assert one(column, values, undeclared_missing="neutral")[1].tolist() == [0]


@pytest.mark.parametrize("policy", ["unknown", "out_of_bounds", "undeclared_missing"])
def test_an_unknown_policy_is_refused(policy):
    with pytest.raises(ValueError, match=f"{policy}='drop' must be one of"):
        SchemaEncoder(SCHEMA, **{policy: "drop"}).fit(TABLE)


# ------------------------------------------------------------------ errors name the column
@pytest.mark.parametrize(
    "values",
    [["abc", "1"], pd.to_datetime(["2020-01-01", "2021-01-01"]), [1j, 2], [[1], [2]]],
    ids=lambda v: type(v).__name__,
)
def test_values_that_are_not_numbers(values):
    with pytest.raises(ValueError, match="column 'a' is numeric in the schema"):
        one(Column("a", low=0, high=1), values)


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        (pd.to_datetime(["2020-01-01", None]), r"holds dates; give days since a fixed public date.*table\['a'\]"),
        (pd.to_datetime(["2020-01-01"]).tz_localize("UTC"), "holds dates"),
        ([date(2020, 1, 1), 3], "holds dates"),
        (pd.to_timedelta(["3 days"]), "total_seconds"),
        (["12", "n/a", 4.5], r"pd.to_numeric\(table\['a'\], errors='coerce'\) and Column\('a', ..., missing=True\)"),
        ([1.0, [713]], "values of type list, "),
        ([1j], "values of type complex"),
    ],
    ids=str,
)
def test_what_a_column_holds_instead_of_numbers_and_the_remedy(values, advice):
    with pytest.raises(ValueError, match=f"column 'a' is numeric.*{advice}") as error:
        one(Column("a", low=0, high=1, missing=True), values)
    assert not any(value in str(error.value) for value in ("2020", "n/a", "713"))


def test_the_remedies_work():
    table = pd.DataFrame({"day": pd.to_datetime(["2000-01-11", None]), "text": ["5", "n/a"]})
    table["day"] = (table["day"] - pd.Timestamp("2000-01-01")).dt.days
    table["text"] = pd.to_numeric(table["text"], errors="coerce")
    for name in table:
        column = Column(name, low=0, high=10, missing=True)
        assert one(column, table[name])[1].tolist() == [0, 1]


# ------------------------------------------------------------------ the local check
def test_check_finds_typos_and_other_units():
    schema = Schema(
        [
            Column("age", low=0, high=1),
            Column("sex", categories=("female", "male"), missing=True),
            Column("rooms", categories=(1, 2, 3)),
            Column("gain", low=0, high=99),
        ]
    )
    encoder = SchemaEncoder(schema)
    check = encoder.check(TABLE)
    assert check.shares["outside"].tolist() == [1, 0.75, 0, 0]
    assert check.shares["missing"].tolist() == [0, 0.25, 0, 0.25]
    assert check.shares["declared"].tolist() == [False, True, False, False]
    assert check.suspects == ("age", "sex", "gain")
    assert "do not publish" in str(check) and "private rows" in repr(check)
    assert not vars(encoder).keys() & {"shares", "check_"} and not hasattr(encoder, "n_features_in_")
    assert SchemaEncoder(SCHEMA).check(TABLE).suspects == ()
    pd.testing.assert_frame_equal(
        encoder.check(TABLE[schema_names(schema)].to_numpy(dtype=object)).shares, check.shares
    )


def schema_names(schema):
    return [column.name for column in schema]


def test_categories_of_the_wrong_type_never_pass_silently():
    with pytest.raises(ValueError, match="column 'a' holds values that are not strings"):
        one(Column("a", categories=("1", "2")), [1, 2])
    with pytest.raises(ValueError, match="column 'a' holds strings"):
        one(Column("a", categories=(1, 2)), ["1", "2"])
    with pytest.raises(ValueError, match="column 'a' holds values that are neither"):
        one(Column("a", categories=("x",)), [["x"], ["y"]])


def test_columns_of_the_table():
    with pytest.raises(ValueError, match="lacks the columns 'gain', 'sex'.*without"):
        SchemaEncoder(SCHEMA).fit(TABLE[["age", "rooms"]])
    with pytest.raises(ValueError, match="more than one column 'age'"):
        SchemaEncoder(SCHEMA).fit(TABLE[["age", *TABLE.columns]])
    with pytest.raises(ValueError, match="4: age, gain, sex, rooms"):
        SchemaEncoder(SCHEMA).fit(np.ones((3, 5)))
    with pytest.raises(ValueError, match="make all of them strings"):
        SchemaEncoder(SCHEMA).fit(TABLE.rename(columns={"age": 0}))
    with pytest.raises(ValueError, match="0 sample"):
        SchemaEncoder(SCHEMA).fit(TABLE.iloc[:0])
    with pytest.raises(ValueError, match=r"Schema\(\[Column"):
        SchemaEncoder(["age"]).fit(TABLE)
    with pytest.raises(ValueError, match="dtype"):
        SchemaEncoder(SCHEMA, dtype=int).fit(TABLE)
    with pytest.raises(NotFittedError):
        SchemaEncoder(SCHEMA).transform(TABLE)


def test_two_outputs_of_one_name_are_refused():
    schema = Schema([Column("a_x", low=0, high=1), Column("a", categories=("x",))])
    with pytest.raises(ValueError, match="'a_x'"):
        SchemaEncoder(schema).fit(pd.DataFrame({"a_x": [0.0], "a": ["x"]}))


# ------------------------------------------------------------------ privacy: row by row, nothing learnt
_tables = hpd.data_frames(
    [
        hpd.column("age", elements=st.floats(allow_nan=False)),
        hpd.column("gain", elements=st.floats(allow_nan=True)),
        hpd.column("sex", elements=st.sampled_from(["F", "M", "D", "", None]), dtype=object),
        hpd.column("rooms", elements=st.integers(0, 5)),
    ],
    index=hpd.range_indexes(min_size=1, max_size=6),
)
_policies = st.fixed_dictionaries(
    {
        "unknown": st.sampled_from(["ignore", "other", "missing"]),
        "out_of_bounds": st.sampled_from(["clip", "missing"]),
        "undeclared_missing": st.just("neutral"),
    }
)


@settings(max_examples=60, deadline=None)
@given(_tables, _policies)
def test_each_row_is_encoded_from_itself_alone_and_lies_in_the_bounds(table, policies):
    encoder = SchemaEncoder(SCHEMA, **policies).fit(TABLE)
    whole = encoder.transform(table)
    alone = np.vstack([encoder.transform(table.iloc[[i]]) for i in range(len(table))])
    np.testing.assert_array_equal(whole, alone)
    np.testing.assert_array_equal(whole[::-1], encoder.transform(table.iloc[::-1]))
    low, high = encoder.output_bounds_.T
    assert ((whole >= low) & (whole <= high)).all()
    assert np.isin(whole[:, encoder.binary_features_], [0, 1]).all()


def test_fit_learns_nothing_from_the_rows():
    other = TABLE.assign(age=[1e9] * 4, gain=np.nan, sex="?", rooms=7)
    fits = [SchemaEncoder(SCHEMA).fit(table) for table in (TABLE, other, other.iloc[:1])]
    states = [pickle.dumps(vars(fit)) for fit in fits]
    assert states[0] == states[1] == states[2]


def test_price_list_is_empty_and_takes_over_the_relation():
    charge = SchemaEncoder(SCHEMA).privacy_charge(SimpleNamespace(adjacency="replace-one", unit="patient"), 2.0)
    assert charge.touches == () and charge.adjacency == "replace-one" and charge.unit == "patient"


# ------------------------------------------------------------------ a scikit-learn citizen
def test_columns_in_any_order_and_further_columns():
    encoder = SchemaEncoder(SCHEMA).fit(TABLE)
    shuffled = TABLE[["rooms", "sex", "age", "gain"]].assign(target=1)
    np.testing.assert_array_equal(encoder.transform(shuffled), encoder.transform(TABLE))
    wide = SchemaEncoder(SCHEMA).fit(shuffled)
    assert wide.n_features_in_ == 5 and wide.feature_names_in_.tolist() == list(shuffled.columns)
    np.testing.assert_array_equal(wide.transform(TABLE), encoder.transform(TABLE))


def test_arrays_lists_and_numbered_columns_are_read_by_position():
    expected = SchemaEncoder(SCHEMA).fit_transform(TABLE)
    array = TABLE.to_numpy(dtype=object)
    for X in (array, array.tolist(), pd.DataFrame(array)):
        encoder = SchemaEncoder(SCHEMA).fit(X)
        np.testing.assert_array_equal(encoder.transform(X), expected)
        assert encoder.n_features_in_ == 4 and not hasattr(encoder, "feature_names_in_")


class Library:
    """A table of another library: `columns`, columns by name, `to_numpy`."""

    def __init__(self, frame):
        self.frame, self.columns = frame, list(frame.columns)

    def __getitem__(self, name):
        return self.frame[name]

    def __len__(self):
        return len(self.frame)

    @property
    def shape(self):
        return self.frame.shape


def test_tables_of_other_libraries():
    np.testing.assert_allclose(SchemaEncoder(SCHEMA).fit(TABLE).transform(Library(TABLE)), EXPECTED, atol=1e-12)


def test_polars():
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({n: [None if pd.isna(v) else v for v in TABLE[n]] for n in TABLE})
    encoder = SchemaEncoder(SCHEMA)
    np.testing.assert_allclose(encoder.fit_transform(table), EXPECTED, atol=1e-12)
    assert encoder.feature_names_in_.tolist() == list(TABLE.columns)
    assert encoder.set_output(transform="polars").transform(table).columns == NAMES


def test_pandas_output_keeps_the_index():
    table = TABLE.set_axis([7, 8, 9, 10])
    out = SchemaEncoder(SCHEMA).set_output(transform="pandas").fit_transform(table)
    assert out.columns.tolist() == NAMES and out.index.tolist() == [7, 8, 9, 10]


def test_sparse_output():
    out = SchemaEncoder(SCHEMA, sparse_output=True, dtype=np.float32).fit_transform(TABLE)
    assert out.format == "csr" and out.dtype == np.float32
    np.testing.assert_allclose(out.toarray(), EXPECTED, atol=1e-6)


def test_clone_pickle_and_parameters():
    encoder = SchemaEncoder(SCHEMA, unknown="other")
    assert clone(encoder).get_params() == encoder.get_params()
    fitted = pickle.loads(pickle.dumps(encoder.fit(TABLE)))
    np.testing.assert_array_equal(fitted.transform(TABLE), encoder.transform(TABLE))
    assert len(repr(encoder)) < 200


def test_names_out_checks_its_argument():
    encoder = SchemaEncoder(SCHEMA).fit(TABLE)
    assert encoder.get_feature_names_out(TABLE.columns).tolist() == NAMES
    with pytest.raises(ValueError, match="not equal"):
        encoder.get_feature_names_out(["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="length"):
        encoder.get_feature_names_out(["a"])


def test_pipeline_and_column_transformer():
    y = [0, 1, 1, 0]
    pipeline = make_pipeline(SchemaEncoder(SCHEMA), LogisticRegression()).fit(TABLE, y)
    assert pipeline.predict(TABLE).shape == (4,)
    assert pipeline[:-1].get_feature_names_out().tolist() == NAMES
    both = ColumnTransformer([("a", SchemaEncoder(SCHEMA.without("rooms")), ["age", "gain", "sex"])])
    assert both.fit_transform(TABLE).shape == (4, 6)


def test_adult_one_hot_rows_sum_to_one():
    adult = load_adult()
    encoder = SchemaEncoder(adult.schema).fit(adult.X_train)
    encoded = encoder.transform(adult.X_test)
    names = encoder.get_feature_names_out()
    for column in adult.schema:
        if column.kind == "categorical":
            own = [n.startswith(f"{column.name}_") or n == f"missingindicator_{column.name}" for n in names]
            assert (encoded[:, own].sum(axis=1) == 1).all()


class AnyWidth(SchemaEncoder):
    """The encoder with a numeric column for each of the table's, for checks that invent their tables."""

    def __init__(self, schema=None, unknown="ignore", dtype=np.float64):
        super().__init__(schema, unknown=unknown, dtype=dtype)

    def fit(self, X, y=None):
        names = [n for n in getattr(X, "columns", ()) if isinstance(n, str)]
        names = names or [f"x{i}" for i in range((*np.asarray(X).shape, 0, 0)[1])] or ["x0"]
        given, self.schema = self.schema, Schema([Column(n, low=-100, high=100, missing=True) for n in names])
        try:
            return super().fit(X)
        finally:
            self.schema = given


def test_scikit_learn_checks():
    results = check_estimator(AnyWidth(), on_fail=None, on_skip=None)
    failed = {r["check_name"]: repr(r["exception"]) for r in results if r["status"] == "failed"}
    assert not failed, failed
    assert sum(r["status"] == "passed" for r in results) > 30


# ------------------------------------------------------------------ messages quote no cell
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([10**400, "alice 555-1234"], "text that is not numeric"),
        ([1.0, np.complex128(555 + 1j)], "values of type complex128"),
        ([1.0, np.datetime64("0555-01-01", "ns")], "dates"),
        ([1.0, np.timedelta64(555, "ns")], "time spans"),
    ],
    ids=["text beside a huge integer", "complex", "date", "time span"],
)
@pytest.mark.filterwarnings("error")
def test_a_cell_that_is_no_number_is_refused_by_its_type(values, kind):
    with pytest.raises(ValueError, match=f"column 'a' is numeric in the schema but holds {kind}") as error:
        one(Column("a", low=0, high=1), pd.Series(values, dtype=object))
    assert "555" not in str(error.value) and error.value.__suppress_context__


@pytest.mark.parametrize("X", [["alice 555"], np.array([555.25, 7.0])], ids=["list", "array"])
def test_an_array_of_one_dimension_is_not_printed(X):
    encoder = SchemaEncoder(Schema([Column("a", low=0, high=1)]))
    for use in (encoder.fit, encoder.check):
        with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead. Reshape your data") as error:
            use(X)
        assert "555" not in str(error.value)
