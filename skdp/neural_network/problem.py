"""From what a user passes to `fit` to private arrays and the public facts about them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_y, validate_data
from torch import nn

from skdp.contract import Public
from skdp.exceptions import PrivacyLeakWarning
from skdp.nets import MLP, Linear, TabularNet, resolve_module
from skdp.nets.building import build_module

__all__ = ["Problem", "as_array", "classification_problem", "encode_features", "regression_problem"]

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Problem:
    """One learning problem: private arrays beside everything public about them.

    Parameters
    ----------
    inputs : ndarray of shape (n, ...)
        float64 features, or int64 tokens.
    targets : ndarray of shape (n,) or (n, n_targets)
        Class indices or raw regression targets.
    weights : ndarray of shape (n,) or None
        Sample weights; 0 for null rows.
    public : Public
    classes : ndarray or None
    facts : tuple of str
        What was taken as public, in words, for the statement.
    warnings : tuple of str
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None
    public: Public
    classes: np.ndarray | None = None
    facts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def tokens(self) -> bool:
        """Whether the features are integers that an embedding looks up."""
        return self.inputs.dtype.kind == "i"

    @property
    def null(self) -> np.ndarray:
        """Null rows."""
        return np.zeros(len(self.inputs), dtype=bool) if self.weights is None else self.weights == 0


def as_array(values: Any) -> Any:
    """A torch tensor as a numpy array; anything else as it is."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def encode_features(estimator: Any, X: Any, *, reset: bool) -> np.ndarray:
    """Features as a numeric array; column names and their number are checked, values are not."""
    X = as_array(X)
    _name_text_columns(X)
    X = validate_data(
        estimator, X, reset=reset, dtype="numeric", ensure_all_finite=False, allow_nd=True,
        ensure_min_samples=1,
    )  # fmt: skip
    whole = X.dtype.kind in "iu" and _looks_up_tokens(estimator.module, X.shape[1:])
    return X.astype(np.int64 if whole else np.float64, copy=False)


def _looks_up_tokens(module: Any, shape: tuple[int, ...]) -> bool:
    """Whether the user's net begins with an embedding, which takes integers and nothing else."""
    spec = resolve_module(module)
    if isinstance(spec, MLP | Linear | TabularNet):
        return False
    net = build_module(spec, Public(2, shape, 1, "regression"), 0.0, 0)
    first = next((m for m in net.modules() if not list(m.children())), None)
    return isinstance(first, nn.Embedding | nn.EmbeddingBag)


def classification_problem(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Problem:
    """Check and encode a classification problem."""
    inputs, y, weights, null, complaints = _common(estimator, X, y, sample_weight)
    y = _column(y)
    facts, notes = ["columns"], []
    if estimator.classes is None:
        check_classification_targets(y[~null] if null.any() else y)
        classes = np.unique(y[~null])
        message = (
            "the classes were read from y: that a class occurs at all is then not protected. "
            "Pass classes=[...] with the public list of labels"
        )
        warnings.warn(message, PrivacyLeakWarning, stacklevel=5)
        notes.append(message)
        facts.append("classes (read from y)")
    else:
        classes = np.unique(np.asarray(estimator.classes))
        kinds = {"text" if a.dtype.kind in "US" else a.dtype.kind for a in (classes, y)}
        if "text" in kinds and len(kinds) > 1 and "O" not in kinds:
            raise ValueError(
                f"classes={classes.tolist()} do not match y of type {y.dtype}; VotingClassifier, BaggingClassifier and "
                "StackingClassifier hand over labels encoded as 0, 1, ...: give their members classes=range(n_classes)"
            )
        facts.append("classes")
    if len(classes) < 2:
        raise ValueError(
            f"Classifier can't train when only one class is present: got classes {classes.tolist()}; pass "
            "classes=[...] with all labels that can occur"
        )
    index = np.searchsorted(classes, y).clip(0, len(classes) - 1)
    unknown = (classes[index] != y) & ~null
    if unknown.any():
        if estimator.on_invalid == "raise":
            label = y[unknown][:1].tolist()[0]
            raise ValueError(
                f"y contains the label {label!r}, which is not in classes={classes.tolist()}; add it, or pass "
                "on_invalid='null' to leave such rows out"
            )
        null = null | unknown
    public = _public(estimator, inputs, 1 if len(classes) == 2 else len(classes),
                     "binary" if len(classes) == 2 else "multiclass")  # fmt: skip
    inputs, weights = _nulled(inputs, weights, null)
    return Problem(inputs, np.where(null, 0, index), weights, public, classes, (*facts, *complaints), tuple(notes))


def regression_problem(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Problem:
    """Check and encode a regression problem with one or several targets."""
    inputs, y, weights, null, complaints = _common(estimator, X, y, sample_weight)
    y = np.asarray(y)
    if y.dtype.kind not in "fiub":
        try:
            y = y.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Unknown label type: y must be numeric for a regressor, got {y.dtype}") from error
    y = _check_y(y, multi_output=True, y_numeric=True) if not null.any() else y.astype(np.float64)
    if y.ndim == 2 and y.shape[1] == 1:
        y = _column(y)
    targets = y.reshape(len(y), -1).astype(np.float64)
    public = _public(estimator, inputs, targets.shape[1], "regression")
    inputs, weights = _nulled(inputs, weights, null)
    targets = np.where(null[:, None], 0.0, targets)
    facts = ("columns", *complaints)
    return Problem(inputs, targets[:, 0] if y.ndim == 1 else targets, weights, public, facts=facts)


def _common(estimator, X, y, sample_weight):
    """Shapes, weights and invalid rows, which mean the same to both tasks."""
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    inputs = encode_features(estimator, X, reset=True)
    y = np.asarray(as_array(y))
    if y.ndim == 0:
        raise ValueError(f"y={y!r} must be an array with one entry per row")
    if len(y) != len(inputs):
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{len(inputs)}, {len(y)}]")
    weights = _weights(sample_weight, len(inputs))
    invalid = _invalid_features(inputs)
    bad_y = _invalid_targets(y)
    null = invalid.reshape(len(inputs), -1).any(axis=1) | bad_y
    complaints: tuple[str, ...] = ()
    if null.any() and estimator.on_invalid == "raise":
        _raise_invalid(estimator, inputs, invalid, bad_y)
    if estimator.on_invalid == "raise":
        complaints = ("that no value is missing, infinite or an unknown label (an error would have told)",)
    return inputs, y, weights, null, complaints


def _public(estimator: Any, inputs: np.ndarray, n_outputs: int, task: str) -> Public:
    if estimator.adjacency == "add-remove":
        if estimator.n_public is None:
            raise ValueError(
                "adjacency='add-remove' protects the number of rows, so pass n_public=, a public estimate of it"
            )
        n = int(estimator.n_public)
    elif estimator.n_public is not None:
        raise ValueError(
            f"n_public={estimator.n_public!r} has a meaning only with adjacency='add-remove'; under "
            f"{estimator.adjacency!r} the number of rows is public"
        )
    else:
        n = len(inputs)
    return Public(n, inputs.shape[1:], n_outputs, task, estimator.adjacency, indicators=_indicators(estimator, inputs))


def _indicators(estimator: Any, inputs: np.ndarray) -> tuple[int, ...]:
    """Columns whose own public bounds are (0, 1): indicators of categories, as `SchemaEncoder` describes them."""
    bounds = estimator.feature_bounds
    if bounds is None or isinstance(bounds, str) or np.shape(bounds) != (inputs.shape[-1], 2) or inputs.ndim != 2:
        return ()
    return tuple(np.flatnonzero((np.asarray(bounds) == (0, 1)).all(axis=1)).tolist())


def _invalid_features(inputs: np.ndarray) -> np.ndarray:
    if inputs.dtype.kind == "i":
        return np.zeros(inputs.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        return ~(np.abs(inputs) <= _FLOAT32_MAX)


def _invalid_targets(y: np.ndarray) -> np.ndarray:
    if y.dtype.kind == "f":
        bad = ~np.isfinite(y)
    elif y.dtype.kind == "O":
        bad = np.vectorize(lambda v: v is None or v != v, otypes=[bool])(y)
    else:
        return np.zeros(len(y), dtype=bool)
    return bad.reshape(len(y), -1).any(axis=1)


def _raise_invalid(estimator, inputs, invalid, bad_y) -> None:
    remedy = "pass on_invalid='null' to leave such rows out, or encode missing values before"
    if bad_y.any():
        raise ValueError(f"Input y contains NaN or infinity in {int(bad_y.sum())} rows; {remedy}")
    flat = invalid.reshape(len(invalid), -1)
    column = int(flat.any(axis=0).argmax())
    names = getattr(estimator, "feature_names_in_", None)
    name = repr(str(names[column])) if names is not None and flat.shape[1] == len(names) else column
    values = inputs.reshape(len(inputs), -1)[flat[:, column], column]
    kind = "NaN" if np.isnan(values).any() else "infinity or a value too large for dtype('float32')"
    raise ValueError(f"Input X contains {kind} in column {name} ({len(values)} rows); {remedy}")


def _nulled(inputs, weights, null):
    """Null rows keep their place and their chance to be sampled, but hold zeros and weigh nothing."""
    if not null.any():
        return inputs, weights
    inputs = inputs.copy()
    inputs[null] = 0
    weights = np.ones(len(inputs)) if weights is None else weights
    return inputs, np.where(null, 0.0, weights)


def _weights(sample_weight: Any, n: int) -> np.ndarray | None:
    if sample_weight is None:
        return None
    weights = np.asarray(as_array(sample_weight), dtype=np.float64)
    if weights.ndim == 0:
        weights = np.full(n, float(weights))
    if weights.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got shape {weights.shape}")
    if weights.shape != (n,):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected ({n},): one weight per row")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("sample_weight must be finite and not negative")
    return weights


def _column(y: np.ndarray) -> np.ndarray:
    """A column vector as a row, with scikit-learn's warning."""
    if y.ndim == 2 and y.shape[1] == 1:
        from sklearn.exceptions import DataConversionWarning

        warnings.warn(
            "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
            "(n_samples,), for example using ravel().",
            DataConversionWarning,
            stacklevel=5,
        )
        return y.ravel()
    if y.ndim != 1:
        raise ValueError(f"y should be a 1d array, got an array of shape {y.shape} instead ({type_of_target(y)})")
    return y


def _name_text_columns(X: Any) -> None:
    """Say which columns of a table are not numbers, before a conversion fails without a name."""
    if not hasattr(X, "dtypes") or not hasattr(X, "columns"):
        return
    text = [
        str(name)
        for name, dtype in zip(X.columns, X.dtypes, strict=True)
        if not (getattr(dtype, "kind", None) in "fiub" or getattr(dtype, "is_numeric", lambda: False)())
    ]
    if text:
        raise ValueError(
            f"could not convert string to float: columns {text} hold text or dates; encode them first, for "
            "instance with skdp.preprocessing.SchemaEncoder, which costs no privacy"
        )
