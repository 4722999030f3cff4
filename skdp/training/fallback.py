"""Any module, record by record: for layers without a rule.

Each record gets a view of the module's parameters of its own, so the gradient with respect to that view *is* the
record's gradient and comes out of the same backward pass. The module never sees two records together, so it cannot
mix them, and what it draws at random (dropout) is drawn once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from skdp.exceptions import UnsupportedModuleError
from skdp.training.rules.rule import written_gradients
from skdp.training.supported import trainable_parameters

if TYPE_CHECKING:
    from skdp.training.per_example import Layer, PerExample

__all__ = ["per_record_forward"]


# Which inputs of a module were once seen not to carry one row per record (a mask, say).
_SHARED: WeakKeyDictionary[nn.Module, set[int]] = WeakKeyDictionary()


class _Bare(nn.Module):
    """A module's own forward without the hooks around it, so that they run once."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.original = module.forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.original(*args, **kwargs)


def per_record_forward(per_example: PerExample, layer: Layer) -> Callable[..., Any]:
    """A forward that runs `layer` on one record at a time, vectorised where torch can.

    Memory is one gradient of the layer per record of the piece.
    """
    bare = _Bare(layer.module)

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not per_example._recording or not torch.is_grad_enabled():
            return bare.original(*args, **kwargs)
        leaves, spec = pytree.tree_flatten((args, kwargs))
        batch, batched = _batched(layer, leaves, per_example._batch)
        copies = {n: p.expand(batch, *p.shape) for n, p in trainable_parameters(layer.module).items()}
        for name, copy in copies.items():
            per_example.note(layer, written_gradients, {"own": layer.index[name]}, copy, copy)
        rows = [leaves[i] for i in batched]

        def one(own: Mapping[str, Tensor], *row: Tensor) -> Any:
            full = list(leaves)
            for i, value in zip(batched, row, strict=True):
                full[i] = value[None]
            inner_args, inner_kwargs = pytree.tree_unflatten(full, spec)
            named = {f"module.{name}": value for name, value in own.items()}
            output = functional_call(bare, named, inner_args, inner_kwargs)
            return pytree.tree_map_only(Tensor, partial(_only, layer), output)

        with per_example.paused():
            return _map(one, copies, rows, batch)

    return forward


def _batched(layer: Layer, leaves: list[Any], expected: int | None) -> tuple[int, list[int]]:
    """Number of records and which of the inputs carry them; an input that once did not never will."""
    tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.dim()]
    sizes = [len(leaves[i]) for i in tensors]
    batch = expected if expected in sizes else None
    if batch is None:
        raise UnsupportedModuleError(
            f"layer {layer.name!r} ({type(layer.module).__name__}) got inputs of {sizes} rows for {expected} "
            f"records; keep the records along the first dimension"
        )
    shared = _SHARED.setdefault(layer.module, set())
    shared.update(i for i in tensors if len(leaves[i]) != batch)
    return batch, [i for i in tensors if i not in shared]


def _only(layer: Layer, value: Tensor) -> Tensor:
    """The single record of an output."""
    if not value.dim() or len(value) != 1:
        raise UnsupportedModuleError(
            f"layer {layer.name!r} ({type(layer.module).__name__}) returns a tensor of shape {tuple(value.shape)} for "
            f"one record; records must lie along the first dimension of every output"
        )
    return value[0]


def _map(one: Callable[..., Any], copies: Mapping[str, Tensor], rows: list[Tensor], batch: int) -> Any:
    """`one` over the records: vectorised, or in a loop where a batching rule is missing."""
    if batch:
        try:
            return torch.vmap(one, randomness="different")(copies, *rows)
        except UnsupportedModuleError:
            raise
        except (RuntimeError, ValueError):
            pass  # no batching rule, data-dependent control flow, or a write to a buffer
    count = max(batch, 1)
    if not batch:  # the shapes of an empty output are those of one record of zeros
        rows = [torch.zeros(1, *row.shape[1:], dtype=row.dtype, device=row.device) for row in rows]
        copies = {name: copy.new_zeros(1, *copy.shape[1:]) for name, copy in copies.items()}
    outputs = [one({n: c[i] for n, c in copies.items()}, *(row[i] for row in rows)) for i in range(count)]
    flat, spec = zip(*map(pytree.tree_flatten, outputs), strict=True)
    stacked = [
        torch.stack(parts)[:batch] if isinstance(parts[0], Tensor) else parts[0] for parts in zip(*flat, strict=True)
    ]
    return pytree.tree_unflatten(stacked, spec[0])
