"""What transformers that learn statistics of numeric columns have in common: reading, public and private ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skdp.contract import Public, Touch, drive
from skdp.exceptions import PrivateBoundsWarning
from skdp.neural_network.parameters import bounds_array
from skdp.neural_network.reading import read_features
from skdp.neural_network.sparse_table import SparseTable
from skdp.preprocessing.tables import as_float, is_named
from skdp.releases import ArrayExecutor, Spending, bounds_queries, bounds_touches
from skdp.user_line import warn_user

__all__ = ["COLUMNS", "NUMBERS", "PrivateColumns", "part", "read_columns"]

COLUMNS = "the number, names and types of the columns"
NUMBERS = "that every cell is a number or missing (an error would have told)"

# Share of the squared signal that finds ranges which are not public, where statistics are computed within them. With .6
# or
# .8 the deviations of the columns of Adult and of credit default were closest, with .1 or .2 up to five times as far
# off.
RANGE_SHARE = 0.6


def part(scale: float | None, share: float) -> float | None:
    """Noise multiplier of one of several releases that together cost what one does at `scale`."""
    return None if scale is None else scale / share**0.5


def read_columns(estimator: Any, X: Any, *, reset: bool, accept_sparse: bool = False) -> Any:
    """A table or array as float64, missing values NaN, infinite ones as they are; names and number are checked.

    A sparse matrix is a `SparseTable` where it is accepted, and refused elsewhere.
    """
    if accept_sparse and sparse.issparse(X):
        return SparseTable(
            validate_data(estimator, X, reset=reset, accept_sparse="csr", dtype=np.float64, ensure_all_finite=False)
        )
    if isinstance(X, pd.DataFrame):
        coded = {label: _decoded(dtype) for label, dtype in X.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)}
        X = X.astype(coded) if coded else X
    elif is_named(X):
        X = pd.DataFrame({name: as_float(name, np.asarray(X[name].to_numpy())) for name in X.columns})
    values = read_features(estimator, X, reset=reset)
    if values.ndim != 2:
        raise ValueError(
            f"Found array with dim {values.ndim}, while dim <= 2 is required by {type(estimator).__name__}"
        )
    with np.errstate(over="ignore"):
        return values.astype(np.float64)


def _decoded(dtype: pd.CategoricalDtype) -> Any:
    """Type of the values of a coded column, with room for missing ones, whether there are any or not."""
    values = dtype.categories.dtype
    return np.float64 if isinstance(values, np.dtype) and values.kind in "iub" else values


class PrivateColumns(TransformerMixin, Spending):
    """Base of transformers that learn a statistic of every numeric column, within public or released ranges.

    A subclass takes ``feature_bounds`` besides the budget, and its price list begins with `_range_touches`.
    """

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Spend the budget on statistics of X, then transform it.

        Parameters
        ----------
        X : array-like or table of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            As in `fit`; rows of weight 0 are transformed like all others.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Still private: these are the rows, each by itself, with released statistics.
        """
        return self.fit(X, y, sample_weight).transform(X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_statement")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.non_deterministic = self.insecure_noise_seed is None
        tags.transformer_tags.preserves_dtype = []
        return tags

    # ------------------------------------------------------------------ ranges
    def _range_touches(self, public: Public, multiplier: float | None) -> tuple[Touch, ...]:
        """Two histograms where a range is not public; one release at `multiplier` costs as much."""
        return () if self._knows_ranges(public.input_shape[-1]) else bounds_touches("column", part(multiplier, 0.5))

    def _knows_ranges(self, columns: int) -> bool:
        """Whether all ranges are public, which is known before names are."""
        bounds = self.feature_bounds
        if isinstance(bounds, Mapping):
            return len(bounds) >= columns
        return bounds is not None and not np.isnan(np.asarray(bounds, dtype=float)).any()

    def _given_ranges(self, columns: int) -> np.ndarray:
        """Public bounds of shape (columns, 2), NaN where there are none."""
        given, known = self.feature_bounds, np.full((columns, 2), np.nan)
        if given is None:
            return known
        if isinstance(given, Mapping):
            names = list(getattr(self, "feature_names_in_", range(columns)))
            unknown = [name for name in given if name not in names]
            if unknown:
                raise ValueError(f"feature_bounds names columns that X does not have: {', '.join(map(repr, unknown))}")
            for name, pair in given.items():
                known[names.index(name)] = bounds_array(f"feature_bounds[{name!r}]", pair, 1)
            return known
        open_rows = np.isnan(np.asarray(given, dtype=float)).all(axis=-1) if np.ndim(given) == 2 else np.array(False)
        if not open_rows.any():
            return bounds_array("feature_bounds", given, columns)
        filled = bounds_array("feature_bounds", np.where(open_rows[:, None], (0.0, 1.0), given), columns)
        return np.where(open_rows[:, None], np.nan, filled)

    def _with_private(self, X: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of an executor: all columns, and those whose range is private."""
        return {"X": X, "unbounded": X[:, np.isnan(known[:, 0])]}

    def _release_ranges(
        self, executor: ArrayExecutor, touches: Mapping[str, Touch], known: np.ndarray, n: int
    ) -> np.ndarray:
        """Public bounds, and released ones in their gaps."""
        unknown = np.flatnonzero(np.isnan(known[:, 0]))
        if not len(unknown):
            return known
        pair = touches["column magnitude"], touches["column range"]
        ranges = drive(bounds_queries(pair, "unbounded", len(unknown), n), executor.answer)
        found = known.copy()
        found[unknown] = ranges.bounds
        names = getattr(self, "feature_names_in_", np.arange(len(known)))
        doubt = ranges.doubt([names[i] for i in unknown])
        if doubt:
            message = f"feature_bounds: {doubt}; pass feature_bounds with public (low, high) of these columns"
            warn_user(message, PrivateBoundsWarning)
        return found

    def _range_facts(self) -> list[str]:
        """What a statement names as public about columns."""
        return [COLUMNS, NUMBERS] + ["feature bounds"] * (self.feature_bounds is not None)

    # ------------------------------------------------------------------ rows at prediction time
    def _finite(self, X: Any) -> np.ndarray:
        """Rows to transform: infinite values are the end of their column's range, missing ones stay."""
        check_is_fitted(self)
        X = read_columns(self, X, reset=False)
        low, high = self.feature_bounds_.T
        return np.where(np.isinf(X), np.clip(X, low, high), X)
