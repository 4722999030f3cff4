"""Reading columns of tables of any library, and of arrays, as numpy arrays."""

from __future__ import annotations

from datetime import date, timedelta
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_array

from skdp.preprocessing.schema import Column, Schema

__all__ = ["as_array", "as_codes", "as_float", "check_columns", "column_values", "is_named"]


def is_named(X: Any) -> bool:
    """Whether X is a table whose columns are found by name (columns numbered by pandas are not names)."""
    textual = {isinstance(name, str) for name in getattr(X, "columns", ())}
    if len(textual) == 2:
        raise ValueError("some column names of the table are strings and some are not; make all of them strings")
    return textual == {True}


def check_columns(schema: Schema, X: Any) -> None:
    """Raise unless every column of the schema is in the table once."""
    if is_named(X):
        names = list(X.columns)
        absent = [name for name in schema.names if name not in names]
        twice = [name for name in schema.names if names.count(name) > 1]
        if absent:
            raise ValueError(
                f"the table lacks the columns {', '.join(map(repr, absent))} of the schema; "
                f"rename its columns, or leave these out with schema.without(...)"
            )
        if twice:
            raise ValueError(f"the table has more than one column {', '.join(map(repr, twice))}")
        if len(X) == 0:
            raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required")
    elif X.shape[1] != len(schema):
        raise ValueError(
            f"X has {X.shape[1]} columns without names, but the schema has {len(schema)}: "
            f"{', '.join(schema.names)}; pass these in order, or a table with names"
        )


def as_array(X: Any) -> np.ndarray:
    """X as a two-dimensional array with its values untouched; lists keep their mixed types."""
    dtype = None if hasattr(X, "dtype") or hasattr(X, "columns") else object
    # The dimensions are checked here because scikit-learn's message prints the array.
    array = check_array(X, dtype=dtype, ensure_all_finite=False, ensure_2d=False, allow_nd=True)
    if array.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D array instead. Reshape your data: one row per record, one column "
            "per column of the schema"
        )
    return array


def column_values(X: Any, index: int, name: str) -> np.ndarray:
    """One column as an array."""
    return np.asarray(X[name].to_numpy()) if is_named(X) else X[:, index]


def as_float(name: str, values: np.ndarray) -> np.ndarray:
    """Numbers as float64, missing ones NaN; integers beyond its range are infinite."""
    number = np.full(len(values), np.nan)
    present = ~pd.isna(values)
    try:
        if values.dtype.kind in "cmM":
            raise TypeError
        number[present] = _floats(values[present])
    except (TypeError, ValueError):
        remedy = _not_a_number(name, values[present])
        raise ValueError(f"column {name!r} is numeric in the schema but holds {remedy}") from None
    return number


def as_codes(column: Column, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position of each value in the public list (-1 is none), and which are missing."""
    position = {category: i for i, category in enumerate(column.categories)}
    textual = {isinstance(category, str) for category in column.categories}
    try:
        index, distinct = pd.factorize(values)
    except TypeError:
        raise ValueError(f"column {column.name!r} holds values that are neither strings nor numbers") from None
    found = np.full(len(distinct) + 1, -1)  # the last entry is for index -1, the missing values
    for i, value in enumerate(distinct):
        if isinstance(value, str) not in textual:
            kinds = "strings" if isinstance(value, str) else "values that are not strings"
            raise ValueError(
                f"column {column.name!r} holds {kinds} and its public categories are of another type; "
                f"convert the column or the categories"
            )
        found[i] = position.get(value.strip() if isinstance(value, str) else value, -1)
    return found[index], index < 0


def _not_a_number(name: str, present: np.ndarray) -> str:
    """What a column holds instead of real numbers, by types and never by values, and what to do about it."""
    kinds = {"M": date, "m": timedelta, "c": complex}
    types = {kinds[present.dtype.kind]} if present.dtype.kind in kinds else {type(value) for value in present}
    if any(issubclass(kind, (date, np.datetime64)) for kind in types):
        return f"dates; give days since a fixed public date: (table[{name!r}] - pd.Timestamp('2000-01-01')).dt.days"
    if any(issubclass(kind, (timedelta, np.timedelta64)) for kind in types):
        return f"time spans; give them as numbers: table[{name!r}].dt.total_seconds()"
    if all(issubclass(kind, (str, Number, np.generic)) and not issubclass(kind, complex) for kind in types):
        return (
            f"text that is not numeric; if most of it is, use pd.to_numeric(table[{name!r}], errors='coerce') and "
            f"Column({name!r}, ..., missing=True), otherwise declare categories=(...)"
        )
    odd = sorted(kind.__name__ for kind in types if not issubclass(kind, (str, int, float, np.integer, np.floating)))
    return f"values of type {', '.join(odd)}, which are not real numbers; convert it, or leave the column out"


def _floats(values: np.ndarray) -> np.ndarray:
    """float64, infinite where a number does not fit."""
    if values.dtype.kind == "O":
        return np.array([_float(value) for value in values], dtype=np.float64)
    with np.errstate(over="ignore"):
        return values.astype(np.float64)


def _float(value: Any) -> float:
    if isinstance(value, np.complexfloating | np.datetime64 | np.timedelta64):
        raise TypeError  # numpy would drop the imaginary part, or the unit
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf
