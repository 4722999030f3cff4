"""Other machines: whether a ledger's file, and its locks, are the same for them.

A process that holds a ledger open holds a lock as well, on a file beside it. A process on another machine that can take
this lock has learnt that locks do not reach from one to the other there, or that nobody holds the ledger open any more:
two machines might then write at once, and what one of them wrote would be lost.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Callable
from pathlib import Path

from skdp.accounting.file_lock import hold, is_held


@functools.cache
def host() -> str:
    """Names the machine, or the container: where this differs a path may mean another file."""
    parts = [platform.node()]
    for path, read in (("/proc/sys/kernel/random/boot_id", Path.read_text), ("/proc/self/ns/mnt", os.readlink)):
        with contextlib.suppress(OSError):
            parts.append(read(Path(path)).strip())
    return " ".join(parts)


def _beside(ledger: Path, session: str) -> Path:
    return ledger.with_name(f"{ledger.name}.{session}.open")


def hold_open(ledger: Path, session: str) -> Callable[[], None]:
    """Show other machines that a session is open; returns what ends that."""
    return hold(_beside(ledger, session))


def why_unsafe(ledger: Path, session: str) -> str:
    """Why a session that another machine holds open cannot be written to from here; "" where it can."""
    try:
        if is_held(_beside(ledger, session)):
            return ""
    except FileNotFoundError:
        return f"the file beside {ledger} that shows who holds it open is not here"
    except OSError as error:
        return str(error)
    return (
        f"locks on {ledger} do not reach from the machine that opened it to this one (or its process is gone), so both "
        "could write at once"
    )
