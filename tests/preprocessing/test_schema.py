"""Column and Schema: what is accepted, what is refused and how, and the JSON round trip."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdp.preprocessing import Column, Schema

AGE = Column("age", low=17, high=90, source="law")
SEX = Column("sex", categories=["F", "M"], missing=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "a"}, ["'a'", "low", "categories"]),
        ({"name": "a", "low": 0}, ["'a'", "bounds"]),
        ({"name": "a", "low": 1, "high": 1}, ["'a'", "low=1", "high=1"]),
        ({"name": "a", "low": 0, "high": np.inf}, ["'a'", "finite"]),
        ({"name": "a", "low": np.nan, "high": 1}, ["'a'", "nan"]),
        ({"name": "a", "low": -1e308, "high": 1e308}, ["'a'", "finite"]),
        ({"name": "a", "low": "x", "high": 1}, ["'a'", "'x'", "numbers"]),
        ({"name": "a", "low": 0, "high": 1, "transform": "sqrt"}, ["'a'", "'sqrt'", "log1p"]),
        ({"name": "a", "low": 0, "categories": ("x",)}, ["'a'", "do not apply"]),
        ({"name": "a", "categories": "xyz"}, ["'a'", "one string"]),
        ({"name": "a", "categories": ("x", " x ")}, ["'a'", "'x'", "once"]),
        ({"name": "a", "categories": (1, True)}, ["'a'", "once"]),
        ({"name": "a", "categories": ("x", None)}, ["'a'", "None", "missing=True"]),
        ({"name": "a", "categories": (1.0, float("nan"))}, ["'a'", "nan", "missing=True"]),
        ({"name": ""}, ["name"]),
        ({"name": 3, "low": 0, "high": 1}, ["name=3"]),
    ],
)
def test_nonsense_is_refused_with_the_column_and_the_value(arguments, words):
    with pytest.raises(ValueError) as error:
        Column(**arguments)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_columns_and_schemas_are_frozen_hashable_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        AGE.low = 0
    assert Schema([AGE, SEX]) == Schema((AGE, SEX)) and hash(Schema([AGE])) == hash(Schema([AGE]))
    assert Schema([AGE, SEX]) != Schema([SEX, AGE])


def test_numpy_scalars_become_python_scalars():
    column = Column("a", categories=np.array([1, 2]))
    assert column.categories == (1, 2) and all(type(c) is int for c in column.categories)


def test_schema_refuses_nonsense():
    with pytest.raises(ValueError, match="empty"):
        Schema([])
    with pytest.raises(ValueError, match="'age'"):
        Schema([AGE, AGE])
    with pytest.raises(ValueError, match="Column objects, got str"):
        Schema(["age"])


def test_lookup_without_and_text():
    schema = Schema([AGE, SEX])
    assert schema["sex"] is SEX and schema.without("sex").names == ("age",) and len(schema) == 2
    with pytest.raises(KeyError, match="no column 'agee'.*age, sex"):
        schema["agee"]
    with pytest.raises(KeyError, match="'x'"):
        schema.without("x")
    assert str(schema) == "age: numeric in [17, 90]\nsex: 2 categories, may be missing"


_name = st.text(min_size=1, max_size=5)
_number = st.floats(-1e6, 1e6, allow_nan=False)
_numeric = st.builds(
    lambda name, low, width, transform, missing, source: Column(
        name, low=low, high=low + width, transform=transform, missing=missing, source=source
    ),
    *(
        _name,
        _number,
        st.floats(0.5, 1e6),
        st.sampled_from(["linear", "log1p"]),
        st.booleans(),
        st.text(max_size=5),
    ),
)
_categorical = st.builds(
    lambda name, categories, missing: Column(name, categories=categories, missing=missing),
    _name,
    st.one_of(
        st.lists(st.text(max_size=4), min_size=1, max_size=4, unique_by=str.strip),
        st.lists(st.integers(-5, 5) | _number, min_size=1, max_size=4, unique=True),
        st.just([True, False]),
    ),
    st.booleans(),
)


@given(st.lists(_numeric | _categorical, min_size=1, max_size=5, unique_by=lambda column: column.name))
def test_json_round_trip_keeps_values_and_types(columns):
    schema = Schema(columns)
    back = Schema.from_json(schema.to_json())
    assert back == schema
    assert [[type(c) for c in column.categories] for column in back] == [
        [type(c) for c in column.categories] for column in schema
    ]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"skdp_schema": 2, "columns": []}',
        '{"skdp_schema": 1, "columns": 3}',
        '{"skdp_schema": 1, "columns": [{"low": 0}]}',
        '{"skdp_schema": 1, "columns": [{"name": "a", "low": 0, "hihg": 1}]}',
    ],
)
def test_text_that_is_no_schema_is_refused(text):
    with pytest.raises(ValueError, match=r"schema|columns\[0\]"):
        Schema.from_json(text)


def test_json_is_strict_and_short():
    raw = json.loads(Schema([AGE]).to_json())
    assert raw == {"skdp_schema": 1, "columns": [{"name": "age", "low": 17.0, "high": 90.0, "source": "law"}]}
