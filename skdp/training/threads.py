"""How many of the processor's threads a pass is worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from skdp.training.buffers import scratch_buffers

__all__ = ["trial_pass", "worthwhile_threads"]

_TRIES = 3


def trial_pass(module: nn.Module, forward: Callable[[Tensor], Tensor], rows: Tensor) -> Callable[[], object]:
    """A forward and backward pass that leaves the module as it was."""
    parameters = [p for p in module.parameters() if p.requires_grad]

    def one_pass() -> None:
        with scratch_buffers(module), torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.autograd.grad(forward(rows).sum(), parameters, allow_unused=True)

    return one_pass


@contextmanager
def worthwhile_threads(one_pass: Callable[[], object]) -> Iterator[None]:
    """Run with one thread where a pass takes no longer than with all that torch was given.

    Small passes on a processor that others use too, or in a container with fewer cores than it sees, spend most of
    their time waiting for threads to meet: ten times slower was seen.

    Parameters
    ----------
    one_pass : callable
        A pass on made-up rows; nothing else decides.
    """
    given = torch.get_num_threads()
    try:
        if given > 1 and _seconds(one_pass, 1) <= _seconds(one_pass, given):
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
