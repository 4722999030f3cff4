"""Tables, arrays and tensors as numeric arrays. No message quotes a cell: rows are private, also in a traceback."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import validate_data
from torch import nn

from skdp.contract import Public
from skdp.nets import MLP, Linear, TabularNet, resolve_module
from skdp.nets.building import build_module

__all__ = [
    "as_array", "encode_features", "invalid_features", "invalid_targets", "raise_invalid", "read_labels",
    "read_numbers", "read_weights",
]  # fmt: skip

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_NO_TOKEN = -1


def as_array(values: Any) -> Any:
    """A torch tensor as a numpy array; anything else as it is."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def encode_features(estimator: Any, X: Any, *, reset: bool) -> np.ndarray:
    """Features as float64, invalid cells NaN, or tokens as int64, invalid ones -1; names and number are checked."""
    X = _numeric_cells(as_array(X), getattr(estimator, "on_invalid", "raise"))
    try:
        X = validate_data(
            estimator, X, reset=reset, dtype="numeric", ensure_all_finite=False, allow_nd=True,
            ensure_min_samples=1,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise type(error)(_without_values(str(error))) from None
    if reset:
        estimator._vocabulary = _vocabulary(estimator.module, X.shape[1:])
    if estimator._vocabulary is None:
        return X.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore"):
        known = (X >= 0) & (X < estimator._vocabulary) & (X % 1 == 0)
    return np.where(known, X, _NO_TOKEN).astype(np.int64)


def read_labels(y: Any) -> np.ndarray | None:
    """Labels as an array; text and numbers in one list stay what they are."""
    if y is None:
        return None
    array = np.asarray(as_array(y))
    if array.dtype.kind in "US" and isinstance(y, list | tuple) and not all(isinstance(v, str | bytes) for v in y):
        array = np.empty(len(y), dtype=object)
        array[:] = y
    return array


def read_numbers(name: str, values: Any, on_invalid: str) -> np.ndarray:
    """Numbers as an array; what is none becomes NaN, or an error where invalid rows raise."""
    array = np.asarray(as_array(values))
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} must hold real numbers")
    if array.dtype.kind in "fiub":
        return array
    numbers = _coerced(array)
    if on_invalid == "raise" and (np.isnan(numbers) & ~pd.isna(array)).any():
        what = "Unknown label type: y must be numeric for a regressor" if name == "y" else f"{name} must be numeric"
        raise ValueError(f"{what}, but holds text or other objects")
    return numbers


def read_weights(sample_weight: Any, n: int, on_invalid: str) -> np.ndarray | None:
    """Sample weights; impossible ones count as 0 where invalid rows do not raise."""
    if sample_weight is None:
        return None
    weights = read_numbers("sample_weight", sample_weight, on_invalid).astype(np.float64)
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


def invalid_features(inputs: np.ndarray) -> np.ndarray:
    """Cells that no net can take."""
    if inputs.dtype.kind == "i":
        return inputs == _NO_TOKEN
    with np.errstate(invalid="ignore"):
        return ~(np.abs(inputs) <= _FLOAT32_MAX)


def invalid_targets(y: np.ndarray) -> np.ndarray:
    """Rows whose target is missing or infinite."""
    if y.dtype.kind == "f":
        bad = ~np.isfinite(y)
    elif y.dtype.kind == "O":
        bad = pd.isna(y)
    else:
        return np.zeros(len(y), dtype=bool)
    return bad.reshape(len(y), -1).any(axis=1)


def raise_invalid(estimator: Any, inputs: np.ndarray, invalid: np.ndarray, remedy: str) -> None:
    """Name the first column with invalid cells, where there is one."""
    if not invalid.any():
        return
    flat = invalid.reshape(len(invalid), -1)
    column = int(flat.any(axis=0).argmax())
    names = getattr(estimator, "feature_names_in_", None)
    name = repr(str(names[column])) if names is not None and flat.shape[1] == len(names) else column
    values = inputs.reshape(len(inputs), -1)[flat[:, column], column]
    if inputs.dtype.kind == "i":
        kind = f"NaN, infinity or tokens that are not whole numbers from 0 to {estimator._vocabulary - 1}"
    else:
        kind = "NaN" if np.isnan(values).any() else "infinity or a value too large for dtype('float32')"
    raise ValueError(f"Input X contains {kind} in column {name} ({len(values)} rows){remedy}")


def _vocabulary(module: Any, shape: tuple[int, ...]) -> int | None:
    """Number of tokens of the embedding that the user's net begins with, where it does."""
    spec = resolve_module(module)
    if isinstance(spec, MLP | Linear | TabularNet):
        return None
    net = build_module(spec, Public(2, shape, 1, "regression"), 0.0, 0)
    first = next((m for m in net.modules() if not list(m.children())), None)
    return first.num_embeddings if isinstance(first, nn.Embedding | nn.EmbeddingBag) else None


def _numeric_cells(X: Any, on_invalid: str) -> Any:
    """Cells that are not numbers as NaN, or an error that names their columns."""
    if hasattr(X, "dtypes") and hasattr(X, "columns"):
        return _numeric_columns(X, on_invalid)
    if isinstance(X, list | tuple):
        try:
            array = np.asarray(X)
        except ValueError:
            raise ValueError("X has rows of different lengths; every row needs the same columns") from None
    else:
        array = X
    if getattr(getattr(array, "dtype", None), "kind", None) not in ("O", "U", "S") or np.ndim(array) < 2:
        return X
    if array.dtype.kind == "O" and on_invalid == "raise" and any(isinstance(v, dict | list | set) for v in array.flat):
        raise TypeError("argument must be a string or a number: X holds other objects, such as dicts or lists")
    numbers = _coerced(array)
    text = np.isnan(numbers) & ~pd.isna(array)
    if on_invalid == "raise" and text.any():
        _refuse_text(np.flatnonzero(text.reshape(len(array), -1).any(axis=0)).tolist())
    return numbers


def _numeric_columns(X: Any, on_invalid: str) -> Any:
    """A table with its object columns as numbers; columns declared as text or dates are refused."""
    kinds = [getattr(dtype, "kind", None) for dtype in X.dtypes]
    text = [
        name
        for name, dtype, kind in zip(X.columns, X.dtypes, kinds, strict=True)
        if not (kind in ("f", "i", "u", "b", "c") or getattr(dtype, "is_numeric", lambda: False)())
    ]
    single = [name for name in text if isinstance(X, pd.DataFrame) and getattr(X.dtypes[name], "kind", None) == "O"]
    if on_invalid == "null" and single:
        X = X.assign(**{name: pd.to_numeric(X[name], errors="coerce") for name in single})
        text = [name for name in text if name not in single]
    if text:
        _refuse_text([str(name) for name in text])
    return X


def _refuse_text(columns: list) -> None:
    raise ValueError(
        f"could not convert string to float: columns {columns} hold text or dates; encode them first, for "
        "instance with skdp.preprocessing.SchemaEncoder, which costs no privacy"
    )


def _coerced(array: np.ndarray) -> np.ndarray:
    """float64 of the same shape, NaN where a cell is no number."""
    cells = array.astype(object).reshape(-1)
    try:
        numbers = pd.to_numeric(cells, errors="coerce")
        if np.asarray(numbers).dtype.kind in "fiub":
            return np.asarray(numbers, dtype=np.float64).reshape(array.shape)
    except (TypeError, ValueError, OverflowError):
        pass
    return np.array([_number(cell) for cell in cells], dtype=np.float64).reshape(array.shape)


def _number(cell: Any) -> float:
    """A cell as a number, NaN where it is none."""
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _without_values(message: str) -> str:
    """A message of scikit-learn without the cells that it prints."""
    if "Complex data not supported" in message:
        return "Complex data not supported: X must hold real numbers; pass real and imaginary parts as columns"
    if message.startswith("Expected 2D array"):
        return (
            message.split(":")[0] + ". Reshape your data either using array.reshape(-1, 1) if it has a single feature "
            "or array.reshape(1, -1) if it contains a single sample."
        )
    if "could not convert" in message or "\n[" in message:
        return "X could not be converted to numbers; encode its columns first"
    return message
