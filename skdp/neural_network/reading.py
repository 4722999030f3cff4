"""Tables, arrays and tensors as numeric arrays. No message quotes a cell: rows are private, also in a traceback."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils.validation import validate_data
from torch import nn
from torch.utils.data import Dataset

from skdp.contract import Public
from skdp.contract.shown import rows_in_words
from skdp.distributed import current
from skdp.nets import MLP, Linear, ScatterLinear, TabularNet, TanhCNN, TextBag, resolve_module
from skdp.nets.building import build_module
from skdp.neural_network.cells import as_array, as_numbers, float_type, missing, stacked
from skdp.neural_network.mapped_table import InvalidCells, MappedTable, is_mapped
from skdp.neural_network.sparse_table import SparseTable

__all__ = [
    "PIXELS", "encode_features", "invalid_features", "invalid_rows", "invalid_targets", "odd_rows",
    "raise_invalid", "raise_odd", "read_features", "read_labels", "read_numbers", "read_weights",
]  # fmt: skip

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_NO_TOKEN = -1
_CELLS = 2**24  # that are looked through at a time
# What an array of images that is declared as bytes can hold.
PIXELS = (0.0, 255.0)


def encode_features(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Features as floats, or tokens as int64, invalid ones -1; names and number are checked.

    Floats are float64, or float32 where the type that X declares has no other values. A sparse matrix stays one, as a
    `SparseTable`, and rows in a mapped file stay there, as a `MappedTable`.
    """
    if isinstance(X, Dataset):
        raise TypeError(
            f"X is a PyTorch dataset ({type(X).__name__}), which is read record by record and may draw at random; "
            "turn it into arrays once: rows = skdp.datasets.open_rows(dataset, cache=folder), then fit(rows.X, rows.y)"
        )
    if sparse.issparse(X):
        return _encode_sparse(estimator, X, reset=reset)
    X = read_features(estimator, X, reset=reset)
    if reset:
        estimator._vocabulary = vocabulary_of(estimator.module, X.shape[1:])
        estimator._integers = X.dtype.kind == "i" and X.ndim == 2 and estimator._vocabulary is None
        estimator._pixels = X.dtype == np.uint8 and X.ndim > 2 and estimator._vocabulary is None
    if is_mapped(X):
        return MappedTable(X, estimator._vocabulary)
    if estimator._vocabulary is None:
        return X.astype(np.float32, copy=False) if float_type(X.dtype) == np.float32 else _float64(X)
    with np.errstate(invalid="ignore"):
        known = (X >= 0) & (X < estimator._vocabulary) & (X % 1 == 0)
    return np.where(known, X, _NO_TOKEN).astype(np.int64)


def _encode_sparse(estimator: Any, X: Any, *, reset: bool) -> SparseTable:
    """Features of a sparse matrix, which are a table of numbers."""
    if reset:
        estimator._vocabulary = vocabulary_of(estimator.module, X.shape[1:])
        estimator._integers = estimator._pixels = False
    if estimator._vocabulary is not None:
        raise TypeError("Sparse data was passed for X, but tokens are looked up and have to be dense; pass X.toarray()")
    X = validate_data(
        estimator, X, reset=reset, accept_sparse="csr", dtype=np.float64, ensure_all_finite=False,
        ensure_min_samples=_fewest_rows(reset),
    )  # fmt: skip
    if reset:
        estimator._record_shape = X.shape[1:]
    return SparseTable(X)


def read_features(estimator: Any, X: Any, *, reset: bool) -> np.ndarray:
    """Features as an array of numbers; names and number of columns are checked."""
    X = as_numbers("X", X, getattr(estimator, "on_invalid", "raise"))
    if not reset:
        _check_shape(np.asarray(X).shape[1:], estimator._record_shape)
    try:
        X = validate_data(
            estimator, X, reset=reset, dtype="numeric", ensure_all_finite=False, allow_nd=True,
            ensure_min_samples=_fewest_rows(reset),
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise type(error)(_without_values(str(error))) from None
    if reset:
        estimator._record_shape = X.shape[1:]
    return X


def _fewest_rows(reset: bool) -> int:
    """None are enough where other processes of a group have some."""
    return 0 if reset and current() is not None else 1


def read_labels(y: Any, on_invalid: str) -> np.ndarray | None:
    """Labels as an array; of objects, unless y declares one type for all."""
    if y is None:
        return None
    y = as_array(y)
    if isinstance(y, list | tuple):
        return stacked("y", y, on_invalid, (object,))
    extension = isinstance(getattr(y, "dtype", None), pd.api.extensions.ExtensionDtype)
    return np.asarray(y, dtype=object if extension else None)


def read_numbers(name: str, values: Any, on_invalid: str) -> np.ndarray:
    """Numbers as float64; what is none becomes NaN, or an error where invalid rows raise."""
    return _float64(np.asarray(as_numbers(name, values, on_invalid)))


def read_weights(sample_weight: Any, n: int, on_invalid: str) -> np.ndarray | None:
    """Sample weights; impossible ones count as 0 where invalid rows do not raise."""
    if sample_weight is None:
        return None
    weights = read_numbers("sample_weight", sample_weight, on_invalid)
    if weights.ndim == 0:
        weights = np.full(n, float(weights))
    if weights.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got shape {weights.shape}")
    if weights.shape != (n,):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected ({n},): one weight per row")
    valid = np.isfinite(weights) & (weights >= 0)
    if on_invalid == "raise" and not valid.all():
        raise ValueError("sample_weight must be finite and not negative; on_invalid='null' takes others as 0")
    return np.where(valid, weights, 0.0)


def invalid_features(inputs: Any) -> Any:
    """Cells that no net can take: an array, of a sparse table a sparse one, of a mapped one `InvalidCells`."""
    if isinstance(inputs, SparseTable | MappedTable):
        return inputs.invalid(_FLOAT32_MAX)
    if inputs.dtype.kind == "i":
        return inputs == _NO_TOKEN
    with np.errstate(invalid="ignore"):
        return ~(np.abs(inputs) <= _FLOAT32_MAX)


def invalid_targets(y: np.ndarray) -> np.ndarray:
    """Rows whose target is missing or infinite."""
    if y.dtype.kind == "f":
        bad = ~np.isfinite(y)
    elif y.dtype.kind == "O":
        bad = missing(y)
    else:
        return np.zeros(len(y), dtype=bool)
    return bad.any(axis=tuple(range(1, bad.ndim)))


def invalid_rows(invalid: Any) -> np.ndarray:
    """Rows with a cell that no net can take, of shape (n,)."""
    if isinstance(invalid, InvalidCells):
        return invalid.rows
    if sparse.issparse(invalid):
        return np.diff(invalid.indptr) > 0
    return invalid.any(axis=tuple(range(1, invalid.ndim)))


def odd_rows(inputs: Any) -> np.ndarray:
    """The same rows, found in pieces, so that a large table has no second one of its cells beside it."""
    if isinstance(inputs, SparseTable | MappedTable):
        return invalid_rows(invalid_features(inputs))
    found = np.empty(len(inputs), dtype=bool)
    step = max(1, _CELLS // max(1, inputs[:1].size))
    for start in range(0, len(inputs), step):
        found[start : start + step] = invalid_rows(invalid_features(inputs[start : start + step]))
    return found


def raise_odd(estimator: Any, inputs: Any, rows: np.ndarray, remedy: str) -> None:
    """Name the first column with invalid cells, of which those rows have some, where there are any."""
    if rows.any():
        odd = inputs if isinstance(inputs, MappedTable) else inputs[rows]  # all rows of a file may be odd
        raise_invalid(estimator, odd, invalid_features(odd), remedy)


def raise_invalid(estimator: Any, inputs: Any, invalid: Any, remedy: str) -> None:
    """Name the first column with invalid cells, where there is one."""
    if not invalid_rows(invalid).any():
        return
    names = getattr(estimator, "feature_names_in_", None)
    if isinstance(invalid, InvalidCells):
        column, count, nan = invalid.column, invalid.count, invalid.nan
    else:
        if sparse.issparse(invalid):
            column = int(invalid.indices.min())
            values = inputs[:, column][invalid_rows(invalid[:, [column]])]
        else:
            flat = invalid.reshape(len(invalid), -1)
            column = int(flat.any(axis=0).argmax())
            values = inputs.reshape(len(inputs), -1)[flat[:, column], column]
        count, nan = len(values), np.isnan(values).any()
    name = repr(str(names[column])) if names is not None and inputs.shape[1:] == (len(names),) else column
    if inputs.dtype.kind == "i":
        kind = f"NaN, infinity or tokens that are not whole numbers from 0 to {estimator._vocabulary - 1}"
        both = "TextBag(vocabulary=...) and HashingTokenizer(n_buckets=...)"
        remedy = f"; {both} must agree where they are what makes and takes them{remedy}"
    else:
        kind = "NaN" if nan else "infinity or a value too large for dtype('float32')"
    raise ValueError(f"Input X contains {kind} in column {name} ({rows_in_words(count)}){remedy}")


def _check_shape(rows: tuple[int, ...], fitted: tuple[int, ...]) -> None:
    """Refuse records of another shape; tables are left to scikit-learn, which knows their columns' names."""
    if rows == fitted or not rows or len(rows) == len(fitted) == 1:
        return
    hint = ""
    if len(rows) > 1 and fitted == (1, *rows):
        hint = ": pass X[:, None]"
    elif len(fitted) > 1 and rows == (1, *fitted):
        hint = ": pass X[:, 0]"
    raise ValueError(f"X has rows of shape {rows}, but the model was fitted on rows of shape {fitted}{hint}")


def vocabulary_of(module: Any, shape: tuple[int, ...]) -> int | None:
    """Number of tokens of the embedding that the user's net begins with, where it does."""
    spec = resolve_module(module, shape)
    if isinstance(spec, TextBag):
        return spec.vocabulary
    if isinstance(spec, MLP | Linear | TabularNet | ScatterLinear | TanhCNN):
        return None
    net = build_module(spec, Public(2, shape, 1, "regression"), 0.0, 0)
    first = next((m for m in net.modules() if not list(m.children())), None)
    return first.num_embeddings if isinstance(first, nn.Embedding | nn.EmbeddingBag) else None


def _float64(array: np.ndarray) -> np.ndarray:
    """float64; a long double beyond its range is infinite, without the warning that would tell of it."""
    with np.errstate(over="ignore"):
        return array.astype(np.float64, copy=False)


def _without_values(message: str) -> str:
    """A message of scikit-learn without the cells that it prints."""
    if message.startswith("Expected 2D array"):
        return (
            message.split(":")[0] + ". Reshape your data either using array.reshape(-1, 1) if it has a single feature "
            "or array.reshape(1, -1) if it contains a single sample."
        )
    if "could not convert" in message or "\n[" in message:
        return "X could not be converted to numbers; encode its columns first"
    return message
