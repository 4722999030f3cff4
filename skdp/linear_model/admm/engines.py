"""Who carries messages between the sites of one process and their coordinator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from joblib import Parallel, delayed

from skdp.linear_model.admm.coordinator import Coordinator
from skdp.linear_model.admm.site import Site, Task

__all__ = ["run_rounds"]

# Arrays above this size are handed to other processes as files that all of them map, once for all rounds.
_MAPPED = "100K"


def run_rounds(
    sites: Sequence[Site],
    coordinator: Coordinator,
    *,
    n_jobs: int | None = None,
    each: Callable[[Coordinator], None] = lambda coordinator: None,
) -> None:
    """All rounds, to the end.

    Parameters
    ----------
    sites : sequence of Site
    coordinator : Coordinator
    n_jobs : int, optional
        Number of processes that look at rows; None looks in this one.
    each : callable
        Told after every round.
    """
    for site in sites:
        coordinator.admit(site.join())
    # Open for all rounds: after each the files would be taken away, at times those of the next one too.
    with nullcontext() if n_jobs is None else Parallel(n_jobs, max_nbytes=_MAPPED) as parallel:
        while not coordinator.finished:
            call = coordinator.call()
            for reply in _replies(sites, call, parallel):
                coordinator.receive(reply)
            coordinator.advance()
            each(coordinator)


def _replies(sites: Sequence[Site], call: bytes, parallel: Parallel | None) -> list[bytes]:
    if parallel is None:
        return [site.answer(call) for site in sites]
    begun = [site.begin(call) for site in sites]
    for task in begun:
        if isinstance(task, Task):
            task.rows.measure()  # here once, and not there in every round
    work = [task for task in begun if isinstance(task, Task)]
    totals = iter(parallel(delayed(task.run)() for task in work))
    return [
        site.finish(task, next(totals)) if isinstance(task, Task) else task
        for site, task in zip(sites, begun, strict=True)
    ]
