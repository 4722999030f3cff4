"""What a number has to be before anything is computed from it."""

from __future__ import annotations

import numbers

import numpy as np


def is_real(value: object) -> bool:
    """A number that is neither a bool nor NaN."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)) and value == value


def event_delta(delta: float, fail: float) -> float:
    """What is left of delta for the event once failure probabilities are taken off."""
    if not delta > fail and not delta == fail == 0:
        raise ValueError(
            f"delta={delta!r} is used up by failure probabilities of {fail!r} (thresholds that may fail); "
            f"use a larger delta or fewer releases with thresholds"
        )
    return delta - fail
