"""Learning rates that change while a fit goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["lr_factor"]


def lr_factor(schedule: Any) -> Callable[[float], float] | None:
    """Factor on the learning rate by the share of planned steps done."""
    known = {
        None: None,
        "cosine": lambda done: 0.5 * (1 + np.cos(np.pi * done)),
        "linear": lambda done: 1 - done,
    }
    if callable(schedule):
        return schedule
    if schedule not in known:
        raise ValueError(
            f"lr_schedule={schedule!r} must be None, 'cosine', 'linear', or a function of the share of steps done"
        )
    return known[schedule]
