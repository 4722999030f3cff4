"""Where processes that were there before a ledger was opened learn of it: files of the processes they descend from.

Any process may sit between the two, as the fork server of `multiprocessing` does, and none of them has to know of skdp.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["post", "read_ancestors"]

_MOST_ANCESTORS = 64


def post(text: str | None) -> None:
    """Say something to the processes that descend from this one; None takes it back.

    Nothing is said where there is no place that belongs to this user alone, or where the system does not tell when a
    process began: another one that gets its number later would speak in its name. What processes have left that were
    killed is taken away.
    """
    where, own = _where(), _process(os.getpid())
    if own is None or not where:
        return
    for folder in _folders(make=text is not None):
        board = folder / _name(where, os.getpid(), own[1])
        with contextlib.suppress(OSError):
            if text is None:
                board.unlink(missing_ok=True)
                continue
            partial = board.with_name(f"{board.name}.partial")
            partial.write_text(text)
            os.replace(partial, board)
            _tidy_up_at_the_end(os.getpid())
            _tidy_up_after_others(folder)


def read_ancestors() -> tuple[str, ...]:
    """What the processes say that this one descends from, the nearest first."""
    where, found = _where(), []
    folders = list(_folders()) if where else []
    for pid, began in _ancestors() if folders else ():
        for folder in folders:
            with contextlib.suppress(OSError):
                found.append((folder / _name(where, pid, began)).read_text())
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
    """Number of the parent, and start in the kernel's ticks since boot; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[1]), fields[19].decode()
    except (OSError, IndexError, ValueError):
        return None


def _name(where: str, pid: int, began: str) -> str:
    return f"{where}-{pid}-{began}"


def _where() -> str:
    """Names what numbers and starts of processes are counted in; empty where those of others cannot be looked up.

    Containers that share a folder count each for itself, and so does a machine after each boot.
    """
    parts = []
    with contextlib.suppress(OSError):
        if os.readlink("/proc/self") != str(os.getpid()):  # what is in there are the numbers of another container
            return ""
    for path, read in (
        ("/proc/sys/kernel/random/boot_id", Path.read_text),
        ("/proc/self/ns/pid", os.readlink),
        ("/proc/self/ns/time", os.readlink),
    ):
        with contextlib.suppress(OSError):
            parts.append(read(Path(path)).strip())
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _gone(pid: int, began: str) -> bool:
    """Whether a process exists no more; what cannot be told counts as no."""
    found = _process(pid)
    if found is not None:
        return found[1] != began
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


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
def _tidy_up_after_others(folder: Path) -> None:
    """Take away the files of processes that were killed, once for each folder."""
    here = _where()
    for board in folder.iterdir():
        where, _, process = board.name.removesuffix(".partial").partition("-")
        pid, _, began = process.partition("-")
        if where == here and pid.isdecimal() and _gone(int(pid), began):
            board.unlink(missing_ok=True)


@functools.cache
def _tidy_up_at_the_end(pid: int) -> None:
    """Take the files away when the process ends, once for each process."""
    atexit.register(lambda: os.getpid() == pid and post(None))
