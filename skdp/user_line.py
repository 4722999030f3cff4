"""Warnings that point at the line of whoever called skdp, through however many frames of libraries in between."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

from skdp.worker_process import worker_number

__all__ = ["private_rows", "rows_are_private", "warn_all", "warn_user"]

_PRIVATE_ROWS: ContextVar[bool] = ContextVar("private rows are read", default=False)

# What lies between a user's line and a fit: wrappers of callbacks, pipelines, searches and their workers.
_BETWEEN = (
    "skdp", "sklearn", "joblib", "contextlib", "multiprocessing", "threading", "concurrent", "runpy", "dask",
    "distributed", "ray",
)  # fmt: skip
_SAID: dict[Any, Any] = {}  # by workers, whose filters decide how often


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the first line outside of skdp, scikit-learn, joblib and what runs workers.

    A thread of joblib has no such line; then it is that of the main thread, which waits for it. The process of a worker
    knows none either, and says that it is one. Elsewhere the outermost line is named where there is none.

    Parameters
    ----------
    message : str
    category : type, default=UserWarning
    """
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _root(frame) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    if _root(frame) not in _BETWEEN:
        warnings.warn(message, category, stacklevel=level)
    elif (waiting := _line_that_waits()) is not None:
        names = waiting.f_globals
        registry = names.setdefault("__warningregistry__", {})
        module = names.get("__name__")
        warnings.warn_explicit(message, category, waiting.f_code.co_filename, waiting.f_lineno, module, registry)
    elif (number := worker_number()) is not None:
        place = f"<worker process {number}, for the line of yours that has n_jobs>"
        warnings.warn_explicit(message, category, place, 1, registry=_SAID)
    else:
        warnings.warn(message, category, stacklevel=level)


def _root(frame: FrameType) -> str:
    """Package of a frame, also of one that was started as ``python -m``."""
    name = frame.f_globals.get("__name__", "")
    if name == "__main__":
        name = getattr(frame.f_globals.get("__spec__"), "name", None) or name
    return name.partition(".")[0]


def _line_that_waits() -> FrameType | None:
    """The user's frame in the main thread, where that waits in joblib for this one."""
    main = threading.main_thread().ident
    frame = None if main == threading.get_ident() else sys._current_frames().get(main)
    while frame is not None and _root(frame) != "joblib":
        frame = frame.f_back
    while frame is not None and _root(frame) in _BETWEEN:
        frame = frame.f_back
    return frame


@contextmanager
def private_rows() -> Iterator[None]:
    """Inside, whatever predicts or transforms reads rows of which only charged releases may tell."""
    token = _PRIVATE_ROWS.set(True)
    try:
        yield
    finally:
        _PRIVATE_ROWS.reset(token)


def rows_are_private() -> bool:
    """Whether warnings that count cells must stay unsaid."""
    return _PRIVATE_ROWS.get()


def warn_all(messages: Iterable[tuple[type[Warning], str]]) -> None:
    """Warn of several things on the user's own line.

    Parameters
    ----------
    messages : iterable of (type, str)
    """
    for category, message in messages:
        warn_user(message, category)
