"""Locks of the operating system on files: that of a killed process goes with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
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
        The lock is held and `wait` is False, or the file system gives no locks.
    """
    with open(target.with_name(target.name + ".lock"), "w") as sidecar:
        _lock(sidecar, wait)
        try:
            yield
        finally:
            if fcntl is not None:  # closing is not enough where a fork of this process holds the file open as well
                fcntl.flock(sidecar, fcntl.LOCK_UN)


def hold(path: Path) -> Callable[[], None]:
    """Make a file and hold its lock until the returned function is called, which removes both.

    Raises
    ------
    OSError
        As from `locked`.
    """
    file = open(path, "w")
    _lock(file, wait=False)

    def release() -> None:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_UN)
        file.close()
        path.unlink(missing_ok=True)

    return release


def is_held(path: Path) -> bool:
    """Whether somebody else holds the lock of a file that is there.

    Raises
    ------
    FileNotFoundError
        It is not there.
    OSError
        As from `locked`.
    """
    with open(path, "r+") as file:  # exclusive locks on network file systems ask for the right to write
        try:
            _lock(file, wait=False)
        except (BlockingIOError, PermissionError):
            return True
    return False


def _lock(file: Any, wait: bool) -> None:
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):
            raise
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: the file system gives no lock on this file, and several processes could write to "
                "it at once; use a local disk, or a network file system that is mounted with locks",
                file.name,
            ) from error
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
