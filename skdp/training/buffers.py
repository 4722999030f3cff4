"""Buffers of a module, kept as they were while rows pass through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

__all__ = ["iterating_parametrizations", "scratch_buffers"]


@contextmanager
def scratch_buffers(module: nn.Module) -> Iterator[None]:
    """Run the module on copies of its buffers, thrown away at the end: nothing about rows stays in a buffer.

    Neither statistics of the rows, nor a count of the passes, which tells how many rows there were. Buffers that the
    forward pass registers, replaces or resizes are undone as well.
    """
    owners = list(module.modules())
    originals = [owner._buffers.copy() for owner in owners]
    copies: dict[int, torch.Tensor] = {}
    for owner, own in zip(owners, originals, strict=True):
        for name, buffer in own.items():
            if buffer is not None:
                if id(buffer) not in copies:  # a buffer that two layers share stays shared
                    copies[id(buffer)] = buffer.detach().clone()
                owner._buffers[name] = copies[id(buffer)]
    try:
        yield
    finally:
        for owner, own in zip(owners, originals, strict=True):
            if own or owner._buffers:
                owner._buffers.clear()
                owner._buffers.update(own)


def iterating_parametrizations(module: nn.Module) -> list[tuple[nn.Module, str]]:
    """Layers and names of parameters whose parametrization has buffers: it iterates on the weight (spectral norm)."""
    return [
        (layer, name)
        for layer in module.modules()
        if is_parametrized(layer)
        for name, chain in layer.parametrizations.items()
        if any(True for _ in chain.buffers())
    ]
