"""Where worker processes that were there before a ledger was opened learn of it: a file of their parent process."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import stat
import tempfile
from pathlib import Path

__all__ = ["post", "read_parents"]


def post(text: str | None) -> None:
    """Say something to the processes that this one has started; None takes it back.

    Where there is no place that belongs to this user alone, nothing is said.
    """
    board = _board(os.getpid())
    if board is None:
        return
    with contextlib.suppress(OSError):
        if text is None:
            board.unlink(missing_ok=True)
            return
        partial = board.with_name(f"{board.name}.partial")
        partial.write_text(text)
        os.replace(partial, board)
        _tidy_up(os.getpid())


def read_parents() -> str | None:
    """What the parent process has said; None where it said nothing."""
    board = _board(os.getppid())
    try:
        return None if board is None else board.read_text()
    except OSError:
        return None


def _board(pid: int) -> Path | None:
    """The file of a process. Its name holds when the process began, for numbers of processes come again."""
    folder = _folder()
    return None if folder is None else folder / f"{pid}-{_began(pid)}"


@functools.cache
def _folder() -> Path | None:
    """A folder that nobody else can write to."""
    if not hasattr(os, "getuid"):  # pragma: no cover - Windows, where workers are started anew and read the environment
        return None
    folder = Path(tempfile.gettempdir()) / f"skdp-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if own else None


def _began(pid: int) -> str:
    """Start time of a process, in the kernel's ticks, where it tells."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"


@functools.cache
def _tidy_up(pid: int) -> None:
    """Take the file away when the process ends, once for each process."""
    atexit.register(lambda: os.getpid() == pid and post(None))
