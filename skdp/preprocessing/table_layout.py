"""What kinds of columns a mixed table has, by declared types and public knowledge alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skdp.neural_network.cells import number
from skdp.preprocessing.categories import keys_of
from skdp.preprocessing.schema import Column, Schema
from skdp.preprocessing.tables import as_array, is_named

__all__ = [
    "EPOCH", "TableColumn", "as_table", "declared_types", "known_columns", "read_table", "table_columns",
    "unread_cells",
]  # fmt: skip

EPOCH = np.datetime64("2000-01-01")
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class TableColumn:
    """One column of a table, as far as it is public.

    Parameters
    ----------
    name : str
    kind : {"numeric", "date", "boolean", "categorical"}
    knowledge : Column or None
        Public bounds or categories.
    nullable : bool
        Whether its type leaves room for missing values, and no public knowledge rules them out.
    """

    name: str
    kind: str
    knowledge: Column | None = None
    nullable: bool = True

    def read(self, values: np.ndarray) -> np.ndarray:
        """Numbers with NaN where there is none, or keys of categories with None."""
        if self.kind == "categorical":
            return keys_of(self.name, values)
        if self.kind == "date" and values.dtype.kind in "mM":
            since = values - EPOCH if values.dtype.kind == "M" else values
            return since / _DAY  # NaT is NaN
        if values.dtype.kind in "fiub":
            with np.errstate(over="ignore"):
                return values.astype(np.float64)
        return np.array([number(value) for value in values], dtype=np.float64)


def known_columns(schema: Any) -> dict[str, Column]:
    """Public knowledge by column name.

    Raises
    ------
    ValueError
        If an entry is neither bounds nor categories.
    """
    if schema is None:
        return {}
    if isinstance(schema, Schema):
        return {column.name: column for column in schema}
    if not isinstance(schema, Mapping):
        raise ValueError(
            f"schema must be None, a Schema, or a dict from column to (low, high), a list of categories or a Column; "
            f"got {type(schema).__name__}"
        )
    return {str(name): _column(str(name), entry) for name, entry in schema.items()}


def as_table(X: Any) -> Any:
    """A table whose columns have names, or an array; columns without names are x0, x1 and so on."""
    if isinstance(X, pd.DataFrame) and not is_named(X):
        return X.set_axis([f"x{i}" for i in range(X.shape[1])], axis=1)
    return X if is_named(X) else as_array(X)


def declared_types(table: Any) -> tuple[tuple[str, str], ...]:
    """Name of every column of what `as_table` gave, and what its declared type says: a kind, or "bool" without gaps.

    Raises
    ------
    ValueError
        For complex numbers.
    """
    if is_named(table):
        return tuple((name, _kind(name, dtype)) for name, dtype in zip(table.columns, table.dtypes, strict=True))
    return tuple((f"x{i}", _kind(f"x{i}", table.dtype)) for i in range(table.shape[1]))


def table_columns(types: Iterable[tuple[str, str]], known: Mapping[str, Column]) -> list[TableColumn]:
    """Kinds of columns by their names and declared types.

    Raises
    ------
    ValueError
        If knowledge is about a column that is not there.
    """
    types = dict(types)
    absent = [name for name in known if name not in types]
    if absent:
        raise ValueError(f"schema names columns that the table does not have: {', '.join(map(repr, absent))}")
    columns = []
    for name, dtype in types.items():
        column, kind = known.get(name), "boolean" if dtype == "bool" else dtype
        if column is not None:
            yes_or_no = len(column.categories) == 2 and all(isinstance(value, bool) for value in column.categories)
            kind = "date" if kind == "date" and column.kind == "numeric" else column.kind
            kind = "boolean" if yes_or_no else kind
        rules_out = column is not None and not column.missing
        columns.append(TableColumn(name, kind, column, not rules_out and dtype != "bool"))
    return columns


def read_table(table: Any, columns: list[TableColumn]) -> list[np.ndarray]:
    """Cells of each column as its kind says."""
    return [column.read(values) for column, values in zip(columns, _values(table, columns), strict=True)]


def unread_cells(table: Any, columns: list[TableColumn], cells: list[np.ndarray]) -> dict[str, int]:
    """By name of a column of numbers, dates or booleans: how many cells hold something that was taken as missing.

    `cells` is what `read_table` gave. The counts are exact, so they are for rows that are nobody's secret.
    """
    found = {}
    for column, values, own in zip(columns, _values(table, columns), cells, strict=True):
        if column.kind != "categorical" and values.dtype.kind not in "fiub":
            found[column.name] = int((np.isnan(own) & pd.notna(values)).sum())
    return {name: count for name, count in found.items() if count}


def _values(table: Any, columns: list[TableColumn]) -> list[np.ndarray]:
    """The columns as they are."""
    if not is_named(table):
        return [table[:, i] for i in range(len(columns))]
    return [_cells(table[column.name]) for column in columns]


def _cells(own: Any) -> np.ndarray:
    """Cells of a table's column; those of pandas' own types as numpy's, where there is one that fits."""
    if isinstance(own, pd.Series):
        if isinstance(own.dtype, pd.DatetimeTZDtype):
            own = own.dt.tz_convert(None)
        elif pd.api.types.is_numeric_dtype(own.dtype):
            return own.to_numpy(np.float64, na_value=np.nan)
    return np.asarray(own.to_numpy())


def _column(name: str, entry: Any) -> Column:
    if isinstance(entry, Column):
        return entry
    if isinstance(entry, tuple) and len(entry) == 2:
        return Column(name, low=entry[0], high=entry[1], missing=True)
    if isinstance(entry, list | set | frozenset | range | np.ndarray | pd.Index):
        return Column(name, categories=tuple(entry), missing=True)
    raise ValueError(
        f"schema[{name!r}]={entry!r} must be bounds as a tuple (low, high), a list of categories, or a Column"
    )


def _kind(name: str, dtype: Any) -> str:
    """Kind of a declared type, of pandas, numpy or polars."""
    text = str(dtype)
    if text.startswith("complex"):
        raise ValueError(f"Complex data not supported: column {name!r}; pass real and imaginary parts as columns")
    if text in ("bool", "boolean", "Boolean"):
        return "bool" if text == "bool" else "boolean"
    if text.lower().startswith(("datetime", "date", "timedelta", "duration")):
        return "date"
    if getattr(dtype, "is_numeric", lambda: False)():
        return "numeric"
    numeric = isinstance(dtype, np.dtype | pd.api.extensions.ExtensionDtype) and pd.api.types.is_numeric_dtype(dtype)
    return "numeric" if numeric else "categorical"
