"""The group that this process belongs to, if any, and what holds while one fit runs in it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skdp.exceptions import RankFailureError

if TYPE_CHECKING:
    from skdp.distributed.ranks import Ranks

__all__ = ["current", "lockstep", "member"]

_current: tuple[Ranks, int, threading.Thread] | None = None
_told = False


@contextmanager
def member(ranks: Ranks) -> Iterator[None]:
    """Make this process, and in it this thread, a member of a group."""
    global _current
    _current = ranks, os.getpid(), threading.current_thread()
    try:
        yield
    finally:
        _current = None


def belongs() -> bool:
    """Whether this process is in a group, of whatever size."""
    return _current is not None and _current[1] == os.getpid()


def current() -> Ranks | None:
    """The group that fits in this process belong to; None outside, and where it has one process.

    Returns
    -------
    Ranks or None

    Raises
    ------
    ValueError
        In another thread than the one that entered `process_group`: ranks would meet in different fits.
    """
    if not belongs():
        return None
    ranks, _, thread = _current
    if thread is not threading.current_thread():
        raise ValueError(
            "process_group() was entered by another thread: ranks could meet in different fits. Fit in the thread that "
            "enters it, one after the other (n_jobs=None)"
        )
    return ranks if ranks.size > 1 else None


def unjoined_processes() -> list[str]:
    """That torchrun started several processes and a fit begins outside of `process_group`; once per process."""
    global _told
    size = os.environ.get("WORLD_SIZE", "1")
    if _told or belongs() or not (size.isdecimal() and int(size) > 1):
        return []
    _told = True
    return [
        f"WORLD_SIZE={size} is in the environment, as torchrun sets it, and no process_group() is open: each process "
        "trains a model of its own on its own rows, at a price of its own. Fit inside `with "
        "skdp.distributed.process_group():` to train one model together"
    ]


@contextmanager
def lockstep() -> Iterator[Ranks | None]:
    """Around everything that ranks do together: an error on one is raised on all, Ctrl-C on one stops all.

    Ctrl-C waits until the next exchange, where all ranks are interrupted at the same place. A second one does not, and
    leaves the others to their timeout.

    Yields
    ------
    Ranks or None
        None outside of a group.
    """
    ranks = current()
    if ranks is None:
        yield None
        return
    with _held_interrupts(ranks):
        try:
            yield ranks
        except RankFailureError as error:
            if error.spent is None:
                error.args = (f"{error}. Nothing was spent",)
            raise
        except BaseException as error:
            ranks.report(error)
            raise


@contextmanager
def _held_interrupts(ranks: Ranks) -> Iterator[None]:
    """Ctrl-C as a wish that is told at the next exchange: in the middle of one it would leave the others waiting."""

    def wish(number: int, frame: Any) -> None:
        if ranks.asked_to_stop:
            raise KeyboardInterrupt
        ranks.ask_to_stop()

    alone = threading.current_thread() is not threading.main_thread()
    if alone or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, wish)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
