"""A mixed table with missing values as numbers in [-1, 1], by public knowledge alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skdp.contract import Charge
from skdp.preprocessing.local_check import LocalCheck
from skdp.preprocessing.schema import Column, Schema
from skdp.preprocessing.tables import as_array, as_codes, as_float, check_columns, column_values, is_named

__all__ = ["SchemaEncoder"]

POLICIES = {
    "unknown": ("ignore", "other", "missing", "raise"),
    "out_of_bounds": ("clip", "missing", "raise"),
    "undeclared_missing": ("raise", "neutral"),
}


@dataclass(frozen=True)
class _Block:
    """Where one column's outputs lie: values from `start`, then perhaps "other", then perhaps "missing"."""

    column: Column
    start: int
    other: int | None
    missing: int | None


class SchemaEncoder(TransformerMixin, BaseEstimator):
    """Encode a mixed table with missing values by its public schema; `fit` learns nothing from the rows.

    Numeric columns are clipped to their public bounds and mapped to [-1, 1]; categorical columns become one
    column of 0 and 1 per public category; a column declared ``missing=True`` gets an indicator. A missing
    value is the neutral value 0 in all outputs of its column but the indicator. Columns of the table that the
    schema does not list are left out. Tables are read by column name, arrays by position.

    Parameters
    ----------
    schema : Schema
        Public columns, categories and bounds.
    unknown : {"ignore", "other", "missing", "raise"}, default="ignore"
        A category outside the public list: zeros in all outputs of the column, an output of its own (one more
        per categorical column), treated as missing, or an error that names the column.
    out_of_bounds : {"clip", "missing", "raise"}, default="clip"
        A number outside the public bounds, infinities included.
    undeclared_missing : {"raise", "neutral"}, default="raise"
        A missing value in a column that is not declared ``missing=True``. An error tells whoever sees it that
        such a row exists; ``"neutral"`` tells nothing.
    sparse_output : bool, default=False
        Return a ``scipy.sparse.csr_array``.
    dtype : numpy floating type, default=numpy.float64
        Type of the output.

    Attributes
    ----------
    output_bounds_ : ndarray of shape (n_outputs, 2)
        Public (low, high) of each output: (0, 1) for indicators, (-1, 1) for numbers. With
        ``DPClassifier(feature_bounds=encoder.output_bounds_)`` nothing is spent on finding bounds, and the default net
        knows the indicators.
    binary_features_ : ndarray of bool of shape (n_outputs,)
        True where an output is an indicator of 0 and 1.
    n_features_in_ : int
        Number of columns of the table seen in `fit`.
    feature_names_in_ : ndarray of str
        Their names, where the table has names that are strings.

    Notes
    -----
    *Formal guarantee*: each output row is a function of its input row and the public schema, so the encoder
    costs no privacy, and neighbouring tables stay neighbours (`privacy_charge` is empty). Errors are outside
    the guarantee: those about values name the column and never quote a value or a row.

    Examples
    --------
    >>> import pandas as pd
    >>> from skdp.preprocessing import Column, Schema, SchemaEncoder
    >>> schema = Schema([Column("age", low=20, high=80), Column("sex", categories=("F", "M"), missing=True)])
    >>> table = pd.DataFrame({"age": [50, 95], "sex": ["M", None]})
    >>> encoder = SchemaEncoder(schema).set_output(transform="pandas")
    >>> encoder.fit_transform(table)
       age  sex_F  sex_M  missingindicator_sex
    0  0.0    0.0    1.0                   0.0
    1  1.0    0.0    0.0                   1.0
    """

    gives_output_bounds = True

    def __init__(
        self,
        schema,
        *,
        unknown="ignore",
        out_of_bounds="clip",
        undeclared_missing="raise",
        sparse_output=False,
        dtype=np.float64,
    ):
        self.schema = schema
        self.unknown = unknown
        self.out_of_bounds = out_of_bounds
        self.undeclared_missing = undeclared_missing
        self.sparse_output = sparse_output
        self.dtype = dtype

    def fit(self, X, y=None):
        """Check that the table has the schema's columns; no value is read.

        Parameters
        ----------
        X : table or array-like of shape (n_samples, n_columns)
            A pandas or polars table, or anything with `columns` whose columns have `to_numpy`; or an array
            whose columns are the schema's, in order.
        y : None
            Ignored.

        Returns
        -------
        SchemaEncoder
            Itself.

        Raises
        ------
        ValueError
            If a parameter is invalid, or a column of the schema is not in the table.
        """
        self._check_parameters()
        if not is_named(X):
            X = as_array(X)
        check_columns(self.schema, X)
        # Sets n_features_in_ and feature_names_in_ and reads no value.
        validate_data(self, X, reset=True, skip_check_array=True)
        self._lay_out()
        return self

    def transform(self, X):
        """Encode a table row by row.

        Parameters
        ----------
        X : table or array-like of shape (n_samples, n_columns)
            As in `fit`; a table may have its columns in any order.

        Returns
        -------
        ndarray or csr_array of shape (n_samples, n_outputs)
            Every entry lies within `output_bounds_`.

        Raises
        ------
        ValueError
            If a column is missing or holds values of the wrong type, or a policy says ``"raise"``.
        """
        check_is_fitted(self)
        if not is_named(X):
            X = as_array(X)
            validate_data(self, X, reset=False, skip_check_array=True)
        check_columns(self._schema, X)
        entries = [self._encode(block, column_values(X, i, block.column.name)) for i, block in enumerate(self._blocks)]
        rows, outputs, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        shape = (len(X), len(self._names))
        if self.sparse_output:
            return sparse.csr_array((values.astype(self.dtype), (rows, outputs)), shape=shape)
        encoded = np.zeros(shape, dtype=self.dtype)
        encoded[rows, outputs] = values
        return encoded

    def check(self, X):
        """Compare the schema with private rows, to find a misspelt category or bounds in another unit.

        What lies outside the public list or bounds reaches the model as nothing or as a bound, silently under the
        default policies; so a typo turns a column off. The encoder need not be fitted, and is not changed.

        Parameters
        ----------
        X : table or array-like of shape (n_samples, n_columns)
            As in `fit`.

        Returns
        -------
        LocalCheck
            Shares of the rows, column by column. **Exact figures of private rows**: for your screen, not for others.
            A schema that is corrected to fit them is no longer public knowledge; correct slips, not bounds.

        Raises
        ------
        ValueError
            If a column is missing or holds values of the wrong type.
        """
        self._check_parameters()
        X = X if is_named(X) else as_array(X)
        check_columns(self.schema, X)
        return LocalCheck.of(self.schema, [column_values(X, i, name) for i, name in enumerate(self.schema.names)])

    def get_feature_names_out(self, input_features=None):
        """Names of the outputs.

        Parameters
        ----------
        input_features : array-like of str, optional
            Must be the names seen in `fit`, if given.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        if input_features is not None:
            seen = getattr(self, "feature_names_in_", None)
            if len(input_features) != self.n_features_in_:
                raise ValueError(
                    f"input_features should have length equal to number of features ({self.n_features_in_}), "
                    f"got {len(input_features)}"
                )
            if seen is not None and list(input_features) != list(seen):
                raise ValueError("input_features is not equal to feature_names_in_")
        return np.asarray(self._names, dtype=object)

    def privacy_charge(self, public: Any, scale: float = 1.0) -> Charge:
        """The empty price list: no answer about the rows is released.

        Parameters
        ----------
        public : skdp.contract.Public
        scale : float
            Not used.

        Returns
        -------
        Charge
        """
        return Charge((), public.adjacency, public.unit)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    # ------------------------------------------------------------------ layout, all public
    def _check_parameters(self) -> None:
        if not isinstance(self.schema, Schema):
            raise ValueError(
                f"schema must be a skdp.preprocessing.Schema, got {type(self.schema).__name__}; "
                f"build one with Schema([Column(...), ...])"
            )
        for name, allowed in POLICIES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}")
        if np.dtype(self.dtype).kind != "f":
            raise ValueError(f"dtype={self.dtype!r} must be a floating type such as numpy.float32")

    def _lay_out(self) -> None:
        names, bounds, blocks = [], [], []
        for column in self.schema:
            start, other, missing = len(names), None, None
            if column.kind == "numeric":
                names.append(column.name)
                bounds.append((-1.0, 1.0))
            else:
                names.extend(f"{column.name}_{category}" for category in column.categories)
                if self.unknown == "other":
                    other = len(names)
                    names.append(f"{column.name}_other")
            if column.missing:
                missing = len(names)
                names.append(f"missingindicator_{column.name}")
            bounds.extend([(0.0, 1.0)] * (len(names) - len(bounds)))
            blocks.append(_Block(column, start, other, missing))
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two outputs would be called {', '.join(map(repr, twice))}; rename a column or category")
        self._schema, self._names, self._blocks = self.schema, tuple(names), tuple(blocks)
        self.output_bounds_ = np.array(bounds)
        self.binary_features_ = self.output_bounds_[:, 0] == 0

    # ------------------------------------------------------------------ values, row by row
    def _encode(self, block: _Block, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows, outputs, values) of the entries of one column that are not zero."""
        if block.column.kind == "numeric":
            number, missing = self._numbers(block.column, values)
            rows = np.flatnonzero(~missing)
            outputs, entries = np.full(len(rows), block.start), _scaled(block.column, number[rows])
        else:
            code, missing = self._codes(block, values)
            rows = np.flatnonzero(code >= 0)
            outputs, entries = block.start + code[rows], np.ones(len(rows))
        gaps = np.flatnonzero(missing)
        if block.missing is None:
            if len(gaps) and self.undeclared_missing == "raise":
                raise ValueError(
                    f"column {block.column.name!r} has missing values (NaN), but its schema does not declare "
                    f"them; use Column({block.column.name!r}, ..., missing=True) or "
                    f"undeclared_missing='neutral'"
                )
            return rows, outputs, entries
        return (
            np.concatenate([rows, gaps]),
            np.concatenate([outputs, np.full(len(gaps), block.missing)]),
            np.concatenate([entries, np.ones(len(gaps))]),
        )

    def _numbers(self, column: Column, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values as float64, and which are missing."""
        number = as_float(column.name, values)
        missing = np.isnan(number)
        beyond = (number < column.low) | (number > column.high)
        if self.out_of_bounds == "missing":
            missing = missing | beyond
        elif self.out_of_bounds == "raise" and beyond.any():
            raise ValueError(
                f"column {column.name!r} has values outside its public bounds "
                f"[{column.low:g}, {column.high:g}]; widen them from public knowledge, or use "
                f"out_of_bounds='clip'"
            )
        return number, missing

    def _codes(self, block: _Block, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position of each value among the column's outputs (-1 is none), and which are missing."""
        column = block.column
        code, missing = as_codes(column, values)
        unknown = ~missing & (code < 0)
        if self.unknown == "raise" and unknown.any():
            raise ValueError(
                f"column {column.name!r} has categories outside its public list; extend the list from public "
                f"knowledge, or use unknown='ignore' or 'other'"
            )
        if block.other is not None:
            code = np.where(unknown, block.other - block.start, code)
        elif self.unknown == "missing":
            missing = missing | unknown
        return code, missing


def _scaled(column: Column, number: np.ndarray) -> np.ndarray:
    """Numbers that are not missing, clipped to the bounds and mapped to [-1, 1]."""
    above, width = np.clip(number, column.low, column.high) - column.low, column.high - column.low
    if column.transform == "log1p":
        above, width = np.log1p(above), np.log1p(width)
    return np.clip(2 * (above / width) - 1, -1.0, 1.0)
