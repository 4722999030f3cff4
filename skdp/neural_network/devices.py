"""Where a fit runs."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from skdp.distributed import current
from skdp.worker_process import worker_number

__all__ = ["resolve_device"]

# Below this many multiply-adds a step, starting GPU kernels takes longer than a processor needs for the work.
_WORTH_A_GPU = 2e8


def resolve_device(device: Any, programme: Any, problem: Any) -> torch.device:
    """The torch device that ``device=`` stands for.

    "auto" and "cuda" give every worker process a GPU by its number, "cuda:1" is that one in all of them.

    Raises
    ------
    ValueError
        For a device that is not there.
    """
    if device == "auto":
        width = int(np.prod(problem.inputs.shape[1:]))
        batch = programme.settings.sampling_rate * programme.public.n
        spatial = problem.inputs.ndim > 2
        work = batch * width * (1000 if spatial else 100)
        if not torch.cuda.is_available() or work < _WORTH_A_GPU:
            return torch.device("cpu")
        if current() is not None:
            return torch.device("cuda", torch.cuda.current_device())  # `process_group` gave each rank its own
        number = worker_number()
        return torch.device("cuda", (os.getpid() if number is None else number) % torch.cuda.device_count())
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} must be 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(chosen.type, False):
        found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise ValueError(f"device={device!r} is not there: found {', '.join(found)}; use device='auto'")
    number = worker_number()
    if chosen.type == "cuda" and chosen.index is None and number is not None and current() is None:
        return torch.device("cuda", number % torch.cuda.device_count())
    return chosen
