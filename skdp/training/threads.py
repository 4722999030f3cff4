"""How many of the processor's threads a pass is worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread", "worthwhile_threads"]

_TRIES = 3
_GAIN = 0.9


@contextmanager
def worthwhile_threads(one_pass: Callable[[], object]) -> Iterator[None]:
    """Run with one thread unless a pass is clearly faster with all that torch was given.

    Small passes on a processor that others use too, or in a container with fewer cores than it sees, spend most of
    their time waiting for threads to meet: ten times slower was seen.

    Parameters
    ----------
    one_pass : callable
        A pass on made-up rows; nothing else decides.
    """
    given = torch.get_num_threads()
    try:
        if given > 1:
            alone, together = (_seconds(one_pass, threads) for threads in (1, given))
            torch.set_num_threads(given if together < _GAIN * alone else 1)
        yield
    finally:
        torch.set_num_threads(given)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run with one thread: for many passes on a handful of rows, which threads only wait for each other in."""
    given = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(given)


def _seconds(one_pass: Callable[[], object], threads: int) -> float:
    """Median seconds of a pass."""
    torch.set_num_threads(threads)
    one_pass()
    seconds = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        one_pass()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[_TRIES // 2]
