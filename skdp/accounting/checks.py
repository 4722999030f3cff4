"""What a number has to be before anything is computed from it."""

from __future__ import annotations

import numbers

import numpy as np


def is_real(value: object) -> bool:
    """A number that is neither a bool nor NaN."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)) and value == value
