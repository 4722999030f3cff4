"""Locks of the operating system on files: that of a killed process goes with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None

_AGAIN_AFTER = 0.05  # seconds


@contextlib.contextmanager
def locked(target: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a file, which is a file beside it, ``<name>.lock``.

    Parameters
    ----------
    target : Path
        With all links resolved, or two names of one file would have two locks.
    wait : bool
        Whether to wait for another holder, which may be a thread of this process.

    Raises
    ------
    OSError
        The lock is held and `wait` is False, or this system locks no files.
    """
    with open(target.with_name(target.name + ".lock"), "w") as sidecar:
        _lock(sidecar, wait)
        try:
            yield
        finally:
            if fcntl is not None:  # closing is not enough where a fork of this process holds the file open as well
                fcntl.flock(sidecar, fcntl.LOCK_UN)


def _lock(file: Any, wait: bool) -> None:
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    elif msvcrt is not None:
        while True:
            try:
                return msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError:
                if not wait:
                    raise
            time.sleep(_AGAIN_AFTER)
    else:
        raise OSError("this system locks no files")
