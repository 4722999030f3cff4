"""What counts as a whole number, wherever a parameter has to be one."""

from __future__ import annotations

from numbers import Integral
from typing import Any

__all__ = ["is_whole"]


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether a value is an integer (numpy's, too, but no bool) of at least so much."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least
