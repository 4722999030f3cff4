"""Warnings that point at the line of whoever called skdp, through however many frames of libraries in between."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["private_rows", "rows_are_private", "warn_all", "warn_user"]

_PRIVATE_ROWS: ContextVar[bool] = ContextVar("private rows are read", default=False)

# What lies between a user's line and a fit: wrappers of callbacks, pipelines, searches and their workers.
_BETWEEN = ("skdp", "sklearn", "joblib", "contextlib")


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the first line outside of skdp, scikit-learn and joblib; at the outermost where there is none.

    Parameters
    ----------
    message : str
    category : type, default=UserWarning
    """
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


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
