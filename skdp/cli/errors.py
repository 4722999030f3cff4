"""What a command raises when the request, and not the program, is at fault."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["UsageError", "check_writable"]


class UsageError(Exception):
    """A request that makes no sense; its message is all that the user sees."""


def check_writable(option: str, path: str) -> None:
    """Refuse a path that cannot be written before minutes are spent on training.

    Parameters
    ----------
    option : str
        That named it.
    path : str

    Raises
    ------
    UsageError
    """
    target = Path(path)
    folder = target.parent
    if target.is_dir() or not folder.is_dir() or not os.access(target if target.exists() else folder, os.W_OK):
        raise UsageError(f"{option} {path!r} cannot be written: it must name a file in an existing, writable folder")
