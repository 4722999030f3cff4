"""How a group of processes begins and ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist

from skdp.distributed.membership import belongs, member
from skdp.distributed.ranks import Ranks

__all__ = ["process_group"]

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def process_group(timeout: float = 600.0, backend: str | None = None) -> Iterator[Ranks]:
    """Inside, nets and linear models are fitted by all processes together, each on rows of its own.

    They are `DPClassifier`, `DPRegressor`, `DPLinearClassifier` and `DPLinearRegressor`.

    Parameters
    ----------
    timeout : float, default=600.0
        Seconds that ranks wait for each other at most; longer than what the slowest needs for one step, or for reading
        its rows, more than the fastest.
    backend : {None, "gloo", "nccl"}, default=None
        What carries the sums of gradients on GPUs. None is NCCL where every rank has a GPU of its own, else gloo. All
        else goes by gloo.

    Yields
    ------
    Ranks
        ``.rank`` and ``.size`` tell which rows are this process's own: ``X[ranks.rank :: ranks.size]``.

    Raises
    ------
    ValueError
        Outside of torchrun and without a group of torch.distributed that was started before; inside another group.
    RankFailureError
        Another rank failed, died or hangs.

    Notes
    -----
    A group that torch.distributed has already is used and left as it is; otherwise one is started from the environment
    that torchrun sets, and ended.

    *Formal guarantee.* The fit is the one that a single process with all rows would make, at the same price. Its
    processes trust each other: sums over the rows of one of them cross to others before noise is added.

    Examples
    --------
    >>> from skdp import DPClassifier
    >>> from skdp.distributed import process_group
    >>> def train(X_shard, y_shard):  # in a script that torchrun starts
    ...     with process_group():
    ...         return DPClassifier(epsilon=1.0, classes=[0, 1]).fit(X_shard, y_shard)
    """
    if belongs():
        raise ValueError("process_group() inside process_group(): a process belongs to one group at a time")
    if backend not in (None, "gloo", "nccl"):
        raise ValueError(f"backend={backend!r} must be None, 'gloo' or 'nccl'")
    if not timeout > 0:
        raise ValueError(f"timeout={timeout!r} must be a positive number of seconds")
    ours = not dist.is_initialized()
    if ours:
        _start(timeout)
    ranks = None
    try:
        ranks = _join(timeout, backend)
        with member(ranks):
            yield ranks
    except BaseException as error:
        if ranks is not None:
            ranks.report(error, in_words=False)  # of the user's own code, perhaps about rows
        raise
    finally:
        if ours:
            dist.destroy_process_group()
        elif ranks is not None:
            ranks.leave()


def _start(timeout: float) -> None:
    """torch.distributed as torchrun's environment says."""
    absent = [name for name in _ENVIRONMENT if name not in os.environ]
    if absent:
        raise ValueError(
            f"process_group() needs the environment that torchrun sets, and {', '.join(absent)} is not in it: start "
            "the script by `torchrun --nproc-per-node 2 script.py`, or call torch.distributed.init_process_group before"
        )
    dist.init_process_group("gloo", timeout=timedelta(seconds=timeout))


def _join(timeout: float, backend: str | None) -> Ranks:
    """Groups of our own within torch's, so that their timeout and their messages are."""
    rank, size, limit = dist.get_rank(), dist.get_world_size(), timedelta(seconds=timeout)
    control = dist.new_group(backend="gloo", timeout=limit)
    local = int(os.environ.get("LOCAL_RANK", rank))
    gpu = torch.cuda.is_available() and dist.is_nccl_available() and local < torch.cuda.device_count()
    flags = torch.zeros(size, dtype=torch.int64)
    flags[rank] = gpu
    dist.all_reduce(flags, group=control)
    own = flags.bool().tolist()
    if backend == "nccl" and not all(own):
        raise ValueError(f"backend='nccl': rank {own.index(False)} has no GPU of its own; use backend='gloo'")
    device = None
    if all(own) and backend != "gloo":
        torch.cuda.set_device(local)
        # Our own clock runs out first: torch's would end the process without an error that could be caught.
        device = dist.new_group(backend="nccl", timeout=2 * limit + timedelta(seconds=60))
    return Ranks(rank, size, control, device, timeout, dist.distributed_c10d._get_default_store())
