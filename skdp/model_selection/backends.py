"""Where joblib sends work: to this machine, or to a cluster whose operators see what it does."""

from __future__ import annotations

import contextlib

from joblib import parallel_config
from joblib.parallel import get_active_backend

__all__ = ["at_home", "on_cluster"]

_LOCAL = ("SequentialBackend", "ThreadingBackend", "LokyBackend", "MultiprocessingBackend")


def on_cluster() -> bool:
    """Whether the backend that is active is none of joblib's own, which all stay on this machine."""
    backend, _ = get_active_backend()
    return type(backend).__name__ not in _LOCAL


def at_home(n_jobs: int | None) -> contextlib.AbstractContextManager:
    """Keep work off a cluster unless `n_jobs` asks for it."""
    return parallel_config("sequential") if n_jobs is None and on_cluster() else contextlib.nullcontext()
