"""Reading columns of tables of any library, and of arrays, as numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_array

from skdp.preprocessing.schema import Schema

__all__ = ["as_array", "as_float", "check_columns", "column_values", "is_named"]


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
    return check_array(X, dtype=dtype, ensure_all_finite=False)


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
        number[present] = values[present].astype(np.float64)
    except OverflowError:
        number[present] = [_huge(value) for value in values[present]]
    except (TypeError, ValueError):
        raise ValueError(
            f"column {name!r} is numeric in the schema but holds values that are not real numbers; "
            f"convert it, or declare it with categories=(...)"
        ) from None
    return number


def _huge(value: Any) -> float:
    """A number as float, infinite where it does not fit."""
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf
