"""Fits that ended before their last step."""

from __future__ import annotations

import sys
from typing import Any

from skorch.callbacks import EarlyStopping

from skdp.contract import Plan
from skdp.exceptions import InterruptedFitWarning
from skdp.user_line import warn_user

__all__ = ["interruption", "stopped_early", "tell_interrupted"]


def stopped_early(engine: Any) -> bool:
    """Whether skorch's early stopping, which also speaks through an interrupt, ended the training."""
    return any(isinstance(c, EarlyStopping) and getattr(c, "misses_", 0) >= c.patience for _, c in engine.callbacks_)


def interruption(done: int, executed: dict[str, int], plan: Plan) -> str:
    """How an interrupt left the model and what that means for the claim."""
    partial = f"fit interrupted after {done} of {plan.steps} steps; the model is partial"
    touches = plan.charge.touches
    if all(executed[touch.name] == touch.count for touch in touches):
        return (
            f"{partial}, but every query of its plan had been answered: the statement is that of a whole fit, and its "
            "status speaks of queries"
        )
    charged = max(done, *(executed[touch.name] for touch in touches))
    return (
        f"{partial} and its statement names the planned epsilon, and counts {charged} steps (one that was begun is "
        "spent, whether or not it reached the model)"
    )


def tell_interrupted(message: str) -> None:
    """Warn about a partial model, or stop the loop of fits that this one runs in."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "joblib.parallel":
            raise KeyboardInterrupt
        frame = frame.f_back
    warn_user(message, InterruptedFitWarning)
