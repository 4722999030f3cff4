"""Cells as numbers, each read from itself alone: what one row holds never decides how another row is read."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["as_array", "as_numbers", "boolean_columns", "float_type", "missing", "number", "stacked"]

# Everything else, such as a complex number or a date, may have a `float` of its own that means something else.
_HOLD_NUMBERS = (numbers.Real, np.bool_, Decimal, str, bytes)


def as_array(values: Any) -> Any:
    """A torch tensor as a numpy array; anything else as it is."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def boolean_columns(X: Any) -> tuple[int, ...]:
    """Columns of a table whose declared type leaves room for nothing but yes and no; a type is public."""
    if not (hasattr(X, "dtypes") and hasattr(X, "columns")):
        return ()
    return tuple(i for i, dtype in enumerate(X.dtypes) if str(dtype) in ("bool", "boolean", "Boolean"))


def float_type(dtype: Any) -> np.dtype:
    """float32 where it holds every value that a type has, float64 otherwise."""
    plain = dtype if isinstance(dtype, np.dtype) else getattr(dtype, "numpy_dtype", np.dtype(object))
    exact = plain.kind in "fiub" and np.result_type(plain, np.float32) == np.float32
    return np.dtype(np.float32 if exact else np.float64)


def number(cell: Any) -> float:
    """The number that a cell holds, infinity where it is too large, NaN where there is none."""
    if not isinstance(cell, _HOLD_NUMBERS):
        return math.nan
    try:
        return float(cell)
    except OverflowError:
        return math.inf
    except Exception:  # whatever a row holds may null that row, and must not stop a fit
        return math.nan


def as_numbers(name: str, values: Any, on_invalid: str) -> Any:
    """A table or array of numbers: what declares a numeric type as it is, other cells as float64.

    A type that is declared and not numeric is public, and refused. Python objects may be anything, so they are read
    one by one: a cell without a number is NaN, or an error that names its column where invalid rows raise.
    """
    values = as_array(values)
    if isinstance(values, pd.api.extensions.ExtensionArray):
        values = pd.Series(values)
    if hasattr(values, "to_frame"):
        return as_numbers(name, values.to_frame(), on_invalid).to_numpy()[:, 0]
    if hasattr(values, "dtypes") and hasattr(values, "columns"):
        return _table(name, values, on_invalid)
    if isinstance(values, list | tuple):
        values = stacked(name, values, on_invalid)
    elif not hasattr(values, "dtype"):
        values = np.asarray(values)
    kind = getattr(values.dtype, "kind", None)
    if kind == "c":
        return _real(name, values, on_invalid)
    if kind in ("U", "S", "M", "m", "V"):
        _refuse_text(name)
    if kind != "O" or not isinstance(values, np.ndarray):
        return values
    read, odd = _read(values)
    if on_invalid == "raise" and odd.any() and odd.ndim:
        if any(isinstance(cell, dict | list | set) for cell in values[odd]):
            raise TypeError(
                f"argument must be a string or a number: {name} holds other objects, such as dicts or lists"
            )
        _refuse_text(name, np.flatnonzero(odd.reshape(len(odd), -1).any(axis=0)).tolist())
    return read


def stacked(name: str, rows: Sequence, on_invalid: str, dtypes: tuple = (None, object)) -> np.ndarray:
    """A list of rows as one array, of float64 or objects; each row is an array of its own before.

    Reading them together would give all of them one type, which a single row can change. The shape
    that most rows have is public; rows of another hold None, or are an error where invalid rows raise.
    """
    read = [_row(row, dtypes) for row in rows]
    if not read:
        return np.empty(0)
    shapes = Counter(row.shape for row in read)
    if len(shapes) > 1 and on_invalid == "raise":
        raise ValueError(f"{name} has rows of different lengths; every row needs the same columns")
    ((shape, _),) = shapes.most_common(1)
    objects = len(shapes) > 1 or any(row.dtype.kind == "O" for row in read)
    array = np.full((len(read), *shape), None if objects else np.nan, dtype=object if objects else np.float64)
    with np.errstate(over="ignore"):
        for i, row in enumerate(read):
            if row.shape == shape:
                array[i, ...] = row
    return array


def _row(row: Any, dtypes: tuple) -> np.ndarray:
    """One row as the first of some types that keeps numbers numbers; None if it is no array at all."""
    for dtype in dtypes:
        try:
            array = np.asarray(as_array(row), dtype=dtype)
        except Exception:  # noqa: S112 -- as in `number`
            continue
        if array.dtype.kind in "fiubO":
            return array
    return np.array(None)


def missing(cells: np.ndarray) -> np.ndarray:
    """Which cells of an array of objects hold nothing."""
    try:
        return pd.isna(cells)
    except Exception:  # a signalling NaN among them
        return np.array([_is_missing(cell) for cell in cells.flat], dtype=bool).reshape(cells.shape)


def _is_missing(cell: Any) -> bool:
    try:
        return pd.isna(cell) is True
    except Exception:  # as in `number`
        return True


def _read(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of an array of objects, and which of its cells hold neither a number nor nothing."""
    read = np.array([number(cell) for cell in cells.flat], dtype=np.float64).reshape(cells.shape)
    return read, np.isnan(read) & ~missing(cells)


def _real(name: str, values: np.ndarray, on_invalid: str) -> np.ndarray:
    """Complex numbers as real ones: a single one among real numbers makes all of them complex."""
    if on_invalid == "raise":
        raise ValueError(
            f"Complex data not supported: {name} must hold real numbers; pass real and imaginary parts as columns"
        )
    return np.where(values.imag == 0, values.real, np.nan)


def _table(name: str, table: Any, on_invalid: str) -> Any:
    """A table whose columns are all of a numeric type of numpy, where it has others."""
    types = list(table.dtypes)
    text = [str(label) for label, dtype in zip(table.columns, types, strict=True) if not _may_be_numeric(dtype)]
    if text:
        _refuse_text(name, text)
    # Booleans beside numbers would be read as objects, one by one.
    plain = all(isinstance(dtype, np.dtype) and dtype.kind in "fiu" for dtype in types)
    if plain or not isinstance(table, pd.DataFrame):
        return table
    cells = np.empty(table.shape, np.result_type(*map(float_type, types)))
    for i, (label, dtype) in enumerate(zip(table.columns, types, strict=True)):
        column = table.iloc[:, i]  # not by name: y may have two columns of one name
        if dtype.kind == "c":
            cells[:, i] = _real(name, column.to_numpy(), on_invalid)
        elif dtype.kind == "O":
            cells[:, i], odd = _read(column.to_numpy())
            text += [str(label)] if odd.any() else []
        else:
            cells[:, i] = column.to_numpy(cells.dtype, na_value=np.nan)
    if text and on_invalid == "raise":
        _refuse_text(name, text)
    return pd.DataFrame(cells, columns=table.columns, copy=False)


def _may_be_numeric(dtype: Any) -> bool:
    """Whether a column's type leaves room for numbers: `object` may hold anything."""
    numeric = getattr(dtype, "kind", None) in ("f", "i", "u", "b", "c") or getattr(dtype, "is_numeric", lambda: False)()
    return numeric or (isinstance(dtype, np.dtype) and dtype.kind == "O")


def _refuse_text(name: str, columns: list | None = None) -> None:
    if name == "X":
        where = "X holds" if columns is None else f"columns {columns} hold"
        raise ValueError(
            f"could not convert string to float: {where} text or dates; encode them first, at no cost of privacy: the "
            "columns of a table with skdp.preprocessing.SchemaEncoder, texts with skdp.preprocessing.HashingTokenizer, "
            "whose tokens module='text' takes"
        )
    what = "Unknown label type: y must be numeric for a regressor" if name == "y" else f"{name} must be numeric"
    raise ValueError(f"{what}, but holds text, dates or other objects; convert it to floating point numbers first")
