"""Fits that ended before their last step."""

from __future__ import annotations

import sys
from typing import Any

from skorch.callbacks import EarlyStopping

from skdp.exceptions import InterruptedFitWarning
from skdp.neural_network.stating import warn_all

__all__ = ["stopped_early", "tell_interrupted"]


def stopped_early(engine: Any) -> bool:
    """Whether skorch's early stopping, which also speaks through an interrupt, ended the training."""
    return any(isinstance(c, EarlyStopping) and getattr(c, "misses_", 0) >= c.patience for _, c in engine.callbacks_)


def tell_interrupted(done: int, charged: int, planned: int) -> None:
    """Warn about a partial model, or stop the loop of fits that this one runs in."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "joblib.parallel":
            raise KeyboardInterrupt
        frame = frame.f_back
    message = (
        f"fit interrupted after {done} of {planned} steps; the model is partial and its statement names the planned "
        f"epsilon, and counts {charged} steps (one that was begun is spent, whether or not it reached the model)"
    )
    warn_all([(InterruptedFitWarning, message)])
