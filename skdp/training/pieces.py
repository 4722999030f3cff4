"""How many records go through the net at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from skdp.training.buffers import scratch_buffers

__all__ = ["CANNOT_TAKE", "made_up_records", "extreme_rows", "made_up_rows", "rows_per_pass", "tried_on"]

# What torch and Python raise where a module is given rows that it was not made for.
CANNOT_TAKE = (RuntimeError, ValueError, IndexError, TypeError)
# On a processor, what a pass keeps for its backward half should stay in the cache; an accelerator wants large passes.
KEPT_BYTES = 20 << 20
KEPT_BYTES_DEVICE = 80 << 20
LEAST_ROWS = 16


def made_up_records(shape: tuple[int, ...], vocabulary: int | None = None) -> Tensor:
    """Four records that differ: numbers, or tokens of a vocabulary, also among few of them."""
    own = torch.Generator().manual_seed(0)
    if vocabulary is None:
        return torch.rand((4, *shape), generator=own)
    shift = torch.arange(4).reshape(4, *[1] * len(shape))
    return (torch.randint(vocabulary, (4, *shape), generator=own) + shift) % vocabulary


@contextmanager
def tried_on(module: nn.Module, shape: tuple[int, ...]) -> Iterator[None]:
    """Around a first pass of made-up rows: a module that cannot take them is named, with their shape.

    Parameters
    ----------
    module : torch.nn.Module
    shape : tuple of int
        Of one record.

    Raises
    ------
    ValueError
        In the place of whatever the pass raised.
    """
    try:
        yield
    except CANNOT_TAKE as error:
        raise ValueError(f"module={type(module).__name__} cannot take rows of shape {tuple(shape)}: {error}") from error


def extreme_rows(x: Tensor) -> Iterator[Tensor]:
    """Rows in the place of `x` that a module may be given and that ordinary ones do not resemble.

    Huge ones of either sign, zeros, rows of one number, and copies of one row. Of tokens, those of `x` in other places
    and alone.

    Parameters
    ----------
    x : tensor of shape (n, ...)

    Yields
    ------
    tensor of shape (n, ...)
    """
    if x.is_floating_point():
        for size in (1e3, -1e3, 1e6, -1e6, 1e30, 0.0):
            yield x * size
        yield torch.full_like(x, float(x.mean()))
    else:
        yield x[:, :1].expand_as(x) if x.ndim > 1 else x.flip(0)
    yield x[-1:].expand_as(x).clone()


def made_up_rows(inputs: Tensor, count: int) -> Tensor:
    """Random rows (tokens: zeros) of the shape and type of `inputs`, whose numbers are not looked at."""
    rows = inputs.new_zeros((count, *inputs.shape[1:]))
    if rows.is_floating_point():
        rows = torch.rand(rows.shape, generator=torch.Generator().manual_seed(0)).to(rows)
    return rows


def rows_per_pass(forward: Callable[[Tensor], Tensor], inputs: Tensor) -> int:
    """Rows of one forward and backward pass, from what torch keeps of a made-up row.

    Parameters
    ----------
    forward : callable
        Maps a batch of inputs to outputs; usually the module.
    inputs : tensor of shape (n, ...)
        Only its shape, type and device are looked at.

    Returns
    -------
    int

    Examples
    --------
    >>> rows_per_pass(nn.Sequential(nn.Linear(1000, 10), nn.ReLU(), nn.Linear(10, 1)), torch.zeros(5, 1000)) > 1000
    True
    """
    own: set[int] = set()
    if isinstance(forward, nn.Module):
        own = {t.untyped_storage().data_ptr() for t in (*forward.parameters(), *forward.buffers())}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    two = made_up_rows(inputs, 2)
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    kept_as_it_was = scratch_buffers(forward) if isinstance(forward, nn.Module) else nullcontext()
    with torch.random.fork_rng(devices=devices), kept_as_it_was, saved_tensors_hooks(count, lambda tensor: tensor):
        outputs = forward(two)
    del outputs  # until here torch keeps what was counted
    per_row = sum(kept.values()) / 2 + two[0].numel() * two.element_size()
    allowed = KEPT_BYTES if inputs.device.type == "cpu" else KEPT_BYTES_DEVICE
    return max(LEAST_ROWS, int(allowed / max(1, per_row)))
