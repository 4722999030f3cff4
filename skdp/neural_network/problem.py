"""From what a user passes to `fit` to private arrays and the public facts about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import check_classification_targets

from skdp.contract import Public
from skdp.contract.shown import rows_in_words, shown
from skdp.exceptions import PrivacyLeakWarning
from skdp.neural_network.cells import as_array, boolean_columns
from skdp.neural_network.mapped_table import MappedTable
from skdp.neural_network.parameters import bounds_array
from skdp.neural_network.ranked_classes import all_classes
from skdp.neural_network.reading import (
    encode_features,
    invalid_targets,
    odd_rows,
    raise_odd,
    read_labels,
    read_numbers,
    read_weights,
)
from skdp.neural_network.sparse_table import SparseTable
from skdp.user_line import warn_user

__all__ = [
    "COLUMNS", "Problem", "as_columns", "classification_problem", "declared", "outputs_of", "positions",
    "regression_problem",
]  # fmt: skip

# What statements name as public.
COLUMNS = "columns: their number, order, names and types"
CLASSES = "classes: all labels that can occur, as declared"


@dataclass(frozen=True, eq=False)
class Problem:
    """One learning problem: private arrays beside everything public about them.

    Parameters
    ----------
    inputs : ndarray or MappedTable of shape (n, ...), or SparseTable of shape (n, columns)
        Features as float64, or as float32 where that holds all that their type can; or int64 tokens.
    targets : ndarray of shape (n,) or (n, n_targets)
        Class indices or raw regression targets; a null row keeps what it has, for its label may be public.
    weights : ndarray of shape (n,) or None
        Sample weights; 0 for null rows.
    public : Public
    classes : ndarray or None
    facts : tuple of str
        What was taken as public, in words, for the statement.
    warnings : tuple of str
    assumptions : tuple of str
        What the guarantee rests on, in words, for the statement.
    vocabulary : int or None
        Number of tokens that an embedding looks up, where the features are tokens.
    weighted : bool
        Whether sample weights were passed.
    """

    inputs: Any
    targets: np.ndarray
    weights: np.ndarray | None
    public: Public
    classes: np.ndarray | None = None
    facts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    vocabulary: int | None = None
    weighted: bool = False

    @property
    def tokens(self) -> bool:
        """Whether the features are integers that an embedding looks up."""
        return self.inputs.dtype.kind == "i"

    @property
    def null(self) -> np.ndarray:
        """Null rows."""
        return np.zeros(len(self.inputs), dtype=bool) if self.weights is None else self.weights == 0


def classification_problem(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Problem:
    """Check and encode a classification problem."""
    given, y = as_array(y), read_labels(y, estimator.on_invalid)
    inputs, y, weights, null, facts, assumptions = _common(estimator, X, y, sample_weight)
    y = _column(y)
    notes = []
    if estimator.classes is None:
        classes = all_classes(_classes_of(y[~null]))
        message = (
            "the classes were read from y: that a class occurs at all is then not protected. "
            "Pass classes=[...] with the public list of labels"
        )
        warn_user(message, PrivacyLeakWarning)
        notes.append(message)
        facts.append("classes (read from y)")
    else:
        classes = _given_classes(estimator.classes)
        _check_kinds(classes, given, y[~null] if estimator.on_invalid == "raise" else None)
        facts.append(CLASSES)
    if len(classes) < 2:
        raise ValueError(
            f"Classifier can't train when only one class is present: got classes {shown(classes.tolist())}; pass "
            "classes=[...] with all labels that can occur"
        )
    index = positions(classes, y)
    unknown = (index < 0) & ~null
    if unknown.any():
        if estimator.on_invalid == "raise":
            fractions = read_numbers("y", y[unknown].astype(object), "null") % 1 > 0
            hint = "; continuous targets need DPRegressor" if fractions.any() else ""
            raise ValueError(
                f"y contains labels which are not in classes={shown(classes.tolist())} ({rows_in_words(unknown.sum())})"
                f"{hint}; add them, or pass on_invalid='null' to leave such rows out"
            )
        null = null | unknown
    public = declared(estimator, inputs.shape, *outputs_of(len(classes)), boolean_columns(X))
    inputs, weights = _nulled(inputs, weights, null)
    return Problem(
        inputs, np.where(index < 0, 0, index), weights, public, classes, tuple(facts), tuple(notes), assumptions,
        estimator._vocabulary, sample_weight is not None,
    )  # fmt: skip


def regression_problem(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Problem:
    """Check and encode a regression problem with one or several targets."""
    y = y if y is None else read_numbers("y", y, estimator.on_invalid)
    inputs, y, weights, null, facts, assumptions = _common(estimator, X, y, sample_weight)
    if y.ndim == 2 and y.shape[1] == 1:
        y = _column(y)
    targets = as_columns(y)
    public = declared(estimator, inputs.shape, targets.shape[1], "regression", boolean_columns(X))
    inputs, weights = _nulled(inputs, weights, null)
    targets = np.where(np.isfinite(targets), targets, 0.0)
    return Problem(
        inputs, targets[:, 0] if y.ndim == 1 else targets, weights, public, None, tuple(facts), (), assumptions,
        estimator._vocabulary, sample_weight is not None,
    )  # fmt: skip


def _common(estimator, X, y, sample_weight):
    """Shapes, weights and invalid rows, which mean the same to both tasks."""
    inputs = encode_features(estimator, X, reset=True)
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    if y.ndim == 0:
        raise ValueError("y must be an array with one entry per row, not a single value")
    if y.ndim > 2 or 0 in y.shape[1:]:
        raise ValueError(
            f"y should be a 1d array, or have one column per target, but its rows have shape {y.shape[1:]}"
        )
    if len(y) != len(inputs):
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{len(inputs)}, {len(y)}]")
    weights = read_weights(sample_weight, len(inputs), estimator.on_invalid)
    invalid = odd_rows(inputs)
    bad_y = invalid_targets(y)
    null = invalid | bad_y
    facts = [COLUMNS]
    if estimator._pixels and isinstance(estimator.feature_bounds, str):
        facts.append("that pixels lie between 0 and 255 (declared by the type uint8)")
    remedy = "; pass on_invalid='null' to leave such rows out, or encode missing values before"
    if estimator.on_invalid == "raise":
        if bad_y.any():
            raise ValueError(f"Input y contains NaN or infinity in {rows_in_words(bad_y.sum())}{remedy}")
        raise_odd(estimator, inputs, invalid, remedy)
        facts.append("that no value is missing, infinite or an unknown label (an error would have told)")
    assumptions = () if sample_weight is None else ("sample weights were computed from each record alone",)
    return inputs, y, weights, null, facts, assumptions


def _classes_of(y: np.ndarray) -> np.ndarray:
    """The distinct labels of y, where no list was given."""
    text = sum(isinstance(label, str) for label in y) if y.dtype.kind == "O" else 0
    if 0 < text < len(y):
        raise ValueError("y mixes text and numbers as labels; make them all of one kind, or pass classes=[...]")
    try:
        y = np.asarray(y.tolist()) if y.dtype.kind == "O" and not text else y
        check_classification_targets(y)
    except ValueError as error:
        raise ValueError(f"{error} For continuous targets use DPRegressor") from None
    return np.unique(y)


def _given_classes(classes: Any) -> np.ndarray:
    """The public labels, sorted."""
    remedy = "pass a list of all labels that can occur, such as classes=[0, 1]"
    if isinstance(classes, str) or np.ndim(classes) != 1:
        raise ValueError(f"classes={shown(classes)} is not a list of labels; {remedy}")
    if 0 < sum(isinstance(label, str) for label in classes) < len(classes):
        raise ValueError(f"classes={shown(classes)} mixes text and numbers; {remedy}")
    found = np.unique(np.asarray(classes))
    if len(found) < 2:
        raise ValueError(f"classes={shown(classes)} must name at least two labels; {remedy}")
    return found


def _check_kinds(classes: np.ndarray, given: Any, cells: np.ndarray | None) -> None:
    """Refuse labels that can never match because one side is text and the other is not.

    The type that y declares is public. Labels that are mere objects are looked at only where invalid rows raise, when
    they are passed as `cells`.
    """
    dtype = getattr(given, "dtype", np.dtype(object))  # the labels of a list are objects
    if isinstance(dtype, pd.StringDtype) or dtype.kind in "US":
        text = True
    elif dtype.kind != "O":
        text = False
    elif cells is not None and len({isinstance(label, str) for label in cells}) == 1:
        text = isinstance(cells[0], str)
    else:
        return
    if text == (classes.dtype.kind in "US"):
        return
    raise ValueError(
        f"classes={shown(classes.tolist())} are {'numbers' if text else 'text'}, but the labels in y are "
        f"{'text' if text else 'numbers'}: give both the same type. "
        "(VotingClassifier, BaggingClassifier and StackingClassifier hand over labels encoded as 0, 1, ...: give "
        "their members classes=range(n_classes))"
    )


def positions(classes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Index of each label in `classes`, -1 where it is not among them."""
    if y.dtype.kind in "fiub" and classes.dtype.kind in "fiub":
        index = np.searchsorted(classes, y).clip(0, len(classes) - 1)
        return np.where(classes[index] == y, index, -1)
    known = {label: i for i, label in enumerate(classes.tolist())}
    return np.array([_position(known, label) for label in y.tolist()], dtype=np.int64)


def _position(known: dict[Any, int], label: Any) -> int:
    try:
        return known.get(label, -1)
    except Exception:  # it has no hash, or an odd one: no class has
        return -1


def outputs_of(classes: int) -> tuple[int, str]:
    """Outputs of the net, and the task, for a number of classes."""
    return (1, "binary") if classes == 2 else (classes, "multiclass")


def declared(
    estimator: Any, shape: tuple[int, ...], n_outputs: int, task: str, booleans: tuple[int, ...] = ()
) -> Public:
    """Public facts about rows of a shape, the number of rows included; `booleans` are columns of boolean type."""
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
        n = shape[0]
    return Public(
        n,
        shape[1:],
        n_outputs,
        task,
        estimator.adjacency,
        indicators=_indicators(estimator, shape, booleans),
        vocabulary=estimator._vocabulary,
    )


def _indicators(estimator: Any, shape: tuple[int, ...], booleans: tuple[int, ...]) -> tuple[int, ...]:
    """Columns known to be indicators of categories: of boolean type, or with own public bounds of (0, 1).

    Where bounds are private, histograms find them.
    """
    bounds = estimator.feature_bounds
    if len(shape) != 2 or isinstance(bounds, str):
        return ()
    if isinstance(bounds, Mapping) and len(bounds) == shape[1]:
        names = getattr(estimator, "feature_names_in_", None)
        if names is None and all(isinstance(key, str) for key in bounds):
            names = list(bounds)  # a made-up table that is priced has no names, and any order costs the same
        bounds = bounds_array("feature_bounds", bounds, shape[1], names)
    if bounds is None or np.shape(bounds) != (shape[1], 2):
        return booleans
    return tuple(sorted({*booleans, *np.flatnonzero((np.asarray(bounds) == (0, 1)).all(axis=1)).tolist()}))


def as_columns(targets: np.ndarray) -> np.ndarray:
    """Targets of shape (n, n_targets), also where there are no rows."""
    return targets[:, None] if targets.ndim == 1 else targets


def _nulled(inputs, weights, null):
    """Null rows keep their place and their chance to be sampled, but hold zeros and weigh nothing."""
    if not null.any():
        return inputs, weights
    if isinstance(inputs, SparseTable | MappedTable):
        inputs = inputs.without(null)
    else:
        inputs = inputs.copy()
        inputs[null] = 0
    weights = np.ones(len(inputs)) if weights is None else weights
    return inputs, np.where(null, 0.0, weights)


def _column(y: np.ndarray) -> np.ndarray:
    """A column vector as a row, with scikit-learn's warning."""
    if y.ndim == 2 and y.shape[1] == 1:
        from sklearn.exceptions import DataConversionWarning

        warn_user(
            "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
            "(n_samples,), for example using ravel().",
            DataConversionWarning,
        )
        return y.ravel()
    if y.ndim != 1:
        raise ValueError(f"y should be a 1d array, got an array of shape {y.shape} instead")
    return y
