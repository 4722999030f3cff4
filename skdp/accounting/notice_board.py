"""Where processes that were there before a ledger was opened learn of it: files of the processes they descend from.

Any process may sit between the two, as the fork server of `multiprocessing` does, and none of them has to know of skdp.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["post", "read_ancestors"]

_MOST_ANCESTORS = 64


def post(text: str | None) -> None:
    """Say something to the processes that descend from this one; None takes it back.

    Nothing is said where there is no place that belongs to this user alone, or where the system does not tell when a
    process began: another one that gets its number later would speak in its name.
    """
    own = _process(os.getpid())
    if own is None:
        return
    for folder in _folders(make=text is not None):
        board = folder / _name(os.getpid(), own[1])
        with contextlib.suppress(OSError):
            if text is None:
                board.unlink(missing_ok=True)
                continue
            partial = board.with_name(f"{board.name}.partial")
            partial.write_text(text)
            os.replace(partial, board)
            _tidy_up(os.getpid())


def read_ancestors() -> tuple[str, ...]:
    """What the processes say that this one descends from, the nearest first."""
    folders, found = list(_folders()), []
    for pid, began in _ancestors() if folders else ():
        for folder in folders:
            with contextlib.suppress(OSError):
                found.append((folder / _name(pid, began)).read_text())
    return tuple(dict.fromkeys(found))


def _ancestors() -> Iterator[tuple[int, str]]:
    """Number and start of each. Number 1 is one of them: in a container that may be the program itself."""
    pid = os.getppid()
    for _ in range(_MOST_ANCESTORS):
        found = _process(pid) if pid > 0 else None
        if found is None:
            return
        yield pid, found[1]
        pid = found[0]


def _process(pid: int) -> tuple[int, str] | None:
    """Number of the parent, and start in the kernel's ticks; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[1]), fields[19].decode()
    except (OSError, IndexError, ValueError):
        return None


def _name(pid: int, began: str) -> str:
    return f"{pid}-{began}"


def _folders(make: bool = False) -> Iterator[Path]:
    """Those that nobody else can write to.

    They are the same for every process of the user, whatever its environment. There are several because systems empty
    each of them at times.
    """
    if not hasattr(os, "getuid"):  # pragma: no cover - Windows, where workers are started anew and read the environment
        return
    user = os.getuid()
    for place in (f"/run/user/{user}", "/dev/shm", "/tmp"):
        folder = Path(place, f"skdp-{user}")
        try:
            if make:
                folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077:
            yield folder


@functools.cache
def _tidy_up(pid: int) -> None:
    """Take the files away when the process ends, once for each process."""
    atexit.register(lambda: os.getpid() == pid and post(None))
