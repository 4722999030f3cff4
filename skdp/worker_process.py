"""Whether this process works for another one, and which of its workers it is."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
from typing import Any

__all__ = ["is_cluster_worker", "worker_number"]


def is_cluster_worker() -> bool:
    """Whether this process is a worker of Dask or Ray, where what arrives comes from a process that waits for it."""
    ray = sys.modules.get("ray")
    on_ray = ray is not None and ray.is_initialized() and ray._private.worker.global_worker.mode == ray.WORKER_MODE
    return on_ray or bool(_dask_workers())


def worker_number() -> int | None:
    """Number of this process among the workers that were started together; None where it is no worker.

    Dask names its workers by numbers, which a worker keeps when it is started again; those of joblib and
    `multiprocessing` are counted by the process that started them. Other workers of clusters go by their process id.
    """
    workers = _dask_workers()
    named = re.fullmatch(r"(?:.*-)?(\d+)", str(workers[0].name)) if len(workers) == 1 else None
    if named:
        return int(named[1])
    identity = getattr(multiprocessing.current_process(), "_identity", ())
    if identity:
        return identity[-1]
    return os.getpid() if is_cluster_worker() else None


def _dask_workers() -> list[Any]:
    module = sys.modules.get("distributed.worker")
    found = [] if module is None else list(module.Worker._instances)
    return [worker for worker in found if worker.status.name not in ("closed", "failed")]
