"""Categories as keys: text that says of which kind a value is, made from each cell by itself."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import validate_data

from skdp.preprocessing.tables import as_array, column_values, is_named

__all__ = ["TEXT_OR_NUMBERS", "category_of", "given_categories", "key_of", "keys_of", "read_cells"]

TEXT_OR_NUMBERS = "that every category is text, a number or missing (an error would have told)"


def read_cells(estimator: Any, X: Any, *, reset: bool) -> list[np.ndarray]:
    """Columns of a table or array with their cells as they are; names and number are checked."""
    X = X if is_named(X) else as_array(X)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    if is_named(X):
        if len(X) == 0:
            raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required")
        return [column_values(X, i, name) for i, name in enumerate(X.columns)]
    return [X[:, i] for i in range(X.shape[1])]


def key_of(value: Any) -> str | None:
    """Key of one cell; None where it is missing.

    Raises
    ------
    TypeError
        For what is neither text nor a number.
    """
    if isinstance(value, str):
        return f"s{value.strip()}"
    if isinstance(value, bool | np.bool_):
        return f"b{bool(value)}"
    if isinstance(value, numbers.Real | np.number) and not isinstance(value, np.timedelta64):
        return None if value != value else f"n{_float(value) + 0.0!r}"  # -0.0 is 0.0
    if pd.isna(value) is True:
        return None
    raise TypeError


def _float(value: Any) -> float:
    """A number as a float; infinite where it does not fit, for an error would stop a fit for one cell."""
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def category_of(key: str) -> Any:
    """The value of a key; whole numbers are integers."""
    kind, text = key[0], key[1:]
    if kind == "n":
        number = float(text)
        return int(number) if number.is_integer() else number
    return text == "True" if kind == "b" else text


def keys_of(name: Any, values: np.ndarray) -> np.ndarray:
    """Keys of a column's cells, of shape (n,).

    Raises
    ------
    ValueError
        If a cell is neither text nor a number; no cell is quoted.
    """
    try:
        # Objects may be equal and of different kinds, such as 1 and True, and which comes first must not matter.
        if values.dtype.kind == "O" and pd.api.types.infer_dtype(values, skipna=True) != "string":
            return np.array([key_of(value) for value in values] + [None], dtype=object)[:-1]
        index, distinct = pd.factorize(values)
        return np.array([*map(key_of, distinct), None], dtype=object)[index]
    except (TypeError, ValueError):
        raise ValueError(
            f"column {name!r} holds values that are neither text nor numbers; convert it, for instance with "
            "astype(str), or leave it out"
        ) from None


def given_categories(categories: Any, names: list, columns: int) -> list[list[str] | None]:
    """Keys of the public categories of each column, None where they are private.

    Raises
    ------
    ValueError
        For columns that are not there, or lists that make no sense.
    """
    if categories is None:
        return [None] * columns
    if isinstance(categories, Mapping):
        unknown = [name for name in categories if name not in names]
        if unknown:
            raise ValueError(f"categories names columns that X does not have: {', '.join(map(repr, unknown))}")
        categories = [categories.get(name) for name in names]
    if isinstance(categories, str) or len(categories) != columns:
        raise ValueError(f"categories must be a dict by column, or a list with one entry for each of {columns} columns")
    return [None if own is None else _keys(name, own) for name, own in zip(names, categories, strict=True)]


def _keys(name: Any, categories: Any) -> list[str]:
    """Keys of one public list, in its order."""
    keys = [] if isinstance(categories, str) else [key_of(category) for category in categories]
    if not keys or None in keys or len(set(keys)) < len(keys):
        raise ValueError(
            f"categories of column {name!r} must be a list of different text or numbers; missing values need "
            "not be listed"
        )
    return keys
