"""Checks of an estimator's public parameters; every message names the parameter, its value and the remedy."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skdp.accounting.checks import is_real
from skdp.contract import ADJACENCIES
from skdp.contract.shown import shown
from skdp.contract.whole_numbers import is_whole
from skdp.neural_network.schedules import lr_factor
from skdp.training.clipping import CLIPPINGS

__all__ = [
    "bounds_array", "check_one_of", "check_parameters", "check_positive", "check_whole", "class_weights_array",
]  # fmt: skip

_CLIPPINGS = (*CLIPPINGS, "adaptive")


def check_parameters(estimator: Any) -> None:
    """Refuse nonsense before any data is looked at.

    Raises
    ------
    ValueError, TypeError
    """
    if isinstance(estimator.module, numbers.Number):
        raise ValueError(
            f"module={estimator.module!r} is a number, but the first argument is the net; did you mean "
            f"epsilon={estimator.module!r}?"
        )
    epsilon, noise = estimator.epsilon, estimator.noise_multiplier
    if (epsilon is None) == (noise is None):
        raise ValueError(
            f"epsilon={epsilon!r} and noise_multiplier={noise!r}: set exactly one of them, the other to None; one "
            "follows from the other"
        )
    if epsilon is not None and not (is_real(epsilon) and epsilon > 0):
        raise ValueError(
            f"epsilon={epsilon!r} must be a positive number; use epsilon=float('inf') for a fit without privacy"
        )
    if noise is not None and not (is_real(noise) and noise > 0 and math.isfinite(noise)):
        raise ValueError(f"noise_multiplier={noise!r} must be positive and finite")
    if not (estimator.delta == "auto" or (is_real(estimator.delta) and 0 < estimator.delta < 1)):
        raise ValueError(f"delta={estimator.delta!r} must be 'auto' or lie strictly between 0 and 1")
    check_one_of(estimator, "adjacency", ADJACENCIES)
    check_one_of(estimator, "clipping", _CLIPPINGS)
    check_one_of(estimator, "on_invalid", ("raise", "null"))
    check_whole(estimator, "n_public", None)
    check_whole(estimator, "batch_size", "auto")
    check_whole(estimator, "max_epochs", "auto")
    check_whole(estimator, "max_physical_batch_size", "auto")
    check_whole(estimator, "insecure_noise_seed", None, least=0)
    check_positive(estimator, "lr")
    lr_factor(estimator.lr_schedule)
    check_positive(estimator, "max_grad_norm")
    average = estimator.average
    if not (average == "auto" or (is_real(average) and 0 <= average < 1)):
        raise ValueError(f"average={average!r} must be 'auto' or a share of the last steps in [0, 1)")


def bounds_array(name: str, bounds: Any, columns: int, names: Sequence[Any] | None = None) -> np.ndarray:
    """Public (low, high) of every column as an array of shape (columns, 2); a dict has them by the `names` of columns.

    Raises
    ------
    ValueError
        For a wrong shape, a dict that does not name all columns and no others, a low that is not below its high, or a
        width that is infinite in float64.
    """
    if isinstance(bounds, Mapping):
        bounds = _in_order(name, bounds, list(range(columns)) if names is None else list(names))
    try:
        array = np.array(bounds, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={shown(bounds)} must be numbers: one (low, high), or one pair per column") from error
    if array.shape == (2,):
        array = np.tile(array, (columns, 1))
    if array.shape != (columns, 2):
        raise ValueError(
            f"{name} has shape {array.shape}; pass one (low, high) for all, or an array of shape ({columns}, 2)"
        )
    low, high = array.T
    with np.errstate(over="ignore", invalid="ignore"):
        wrong = np.flatnonzero(~(np.isfinite(high - low) & (low < high)))
    if len(wrong):
        raise ValueError(
            f"{name}: column {wrong[0]} has bounds {tuple(array[wrong[0]].tolist())}; low must be finite and below "
            "high, and high - low finite"
        )
    return array


def _in_order(name: str, bounds: Mapping, names: list) -> list:
    """The values of a dict in the order of columns."""
    unknown = [key for key in bounds if key not in names]
    if unknown:
        numbered = names == list(range(len(names)))
        known = "columns are numbered, for X has no names" if numbered else "X has no such columns"
        raise ValueError(f"{name} names {', '.join(map(repr, unknown[:5]))}, but {known}")
    missing = [column for column in names if column not in bounds]
    if missing:
        raise ValueError(
            f"{name} is a dict without {', '.join(repr(column) for column in missing[:5])}; give (low, high) of all "
            f"{len(names)} columns"
        )
    return [bounds[column] for column in names]


def class_weights_array(weights: dict, classes: np.ndarray) -> np.ndarray:
    """A public weight for every class, 1 where the dict is silent.

    Raises
    ------
    ValueError
    """
    known = classes.tolist()
    unknown = [label for label in weights if label not in known]
    values = np.array([float(weights.get(label, 1.0)) for label in known])
    if unknown or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise ValueError(
            f"class_weight={weights!r} must map labels among {known} to finite weights of at least 0, not all of them 0"
        )
    return values


def check_one_of(estimator: Any, name: str, known: tuple[str, ...]) -> None:
    """Refuse a parameter that is none of some names.

    Raises
    ------
    ValueError
    """
    value = getattr(estimator, name)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, known))}")


def check_whole(estimator: Any, name: str, default: Any, least: int = 1) -> None:
    """Refuse a parameter that is neither its default nor a whole number of at least `least`.

    Raises
    ------
    ValueError
    """
    value = getattr(estimator, name)
    if value is default or (isinstance(value, str) and value == default):
        return
    if not is_whole(value, least):
        raise ValueError(f"{name}={value!r} must be {default!r} or a whole number of at least {least}")


def check_positive(estimator: Any, name: str) -> None:
    """Refuse a parameter that is neither "auto" nor a positive finite number.

    Raises
    ------
    ValueError
    """
    value = getattr(estimator, name)
    if value == "auto":
        return
    if not (is_real(value) and value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}={value!r} must be 'auto' or a positive finite number")
