"""A frozen front part of a net, run once instead of in every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from scipy import sparse

from skdp.exceptions import UnsupportedModuleError
from skdp.training import PrivateRows
from skdp.training.sparse_rows import SparseRows

__all__ = ["check_precomputed", "precomputed"]

_CACHE_BYTES = 4 * 2**30
# Features of sparse rows are dense, so that only a small table of them is worth keeping.
_SPARSE_BYTES = 2**28
_MOSTLY_ZERO = 0.05
_ROWS = 8192


def precomputed(module: Any, rows: PrivateRows) -> tuple[Callable, PrivateRows]:
    """Run a frozen, record-wise front part once instead of in every step, where its output fits into memory.

    Features of sparse rows are kept sparse where they mostly are, by what the front makes of made-up rows.
    """
    if not getattr(module, "precompute_features", False):
        return module, rows
    inputs = rows.inputs
    dense = isinstance(inputs, torch.Tensor)
    with torch.no_grad():
        none = module.features(inputs[:0])
        small = len(rows) * none.shape[1:].numel() * none.element_size() <= (_CACHE_BYTES if dense else _SPARSE_BYTES)
        if not small and (dense or not _stays_sparse(module.features, inputs)):
            return module, rows
        pieces = map(module.features, inputs.split(_ROWS))
        if small:
            features, start = none.new_empty((len(rows), *none.shape[1:])), 0
            for piece in pieces:
                features[start : start + len(piece)] = piece
                start += len(piece)
        else:
            kept = [sparse.csr_array(piece.cpu().numpy()) for piece in pieces]
            features = SparseRows(sparse.vstack(kept, format="csr"), device=inputs.device)
    return module.head, PrivateRows(features, rows.targets, rows.weights)


def _stays_sparse(features: Callable, inputs: SparseRows) -> bool:
    """Whether rows with a single entry have hardly more features."""
    made_up = inputs.new_zeros((4, *inputs.shape[1:]))
    made_up[range(4), [k * (inputs.shape[1] - 1) // 3 for k in range(4)]] = 1.0
    return bool((features(made_up) != 0).float().mean() <= _MOSTLY_ZERO)


def check_precomputed(module: Any) -> None:
    """Refuse a front part that would train but is run only once."""
    if not getattr(module, "precompute_features", False):
        return
    trainable = [name for name, p in module.features.named_parameters() if p.requires_grad]
    if trainable:
        raise UnsupportedModuleError(
            f"module={type(module).__name__} has precompute_features=True, but the parameters {trainable} of its "
            "features train; call features.requires_grad_(False), or leave precompute_features out"
        )
    drawing = [name for name, layer in module.features.named_modules() if getattr(layer, "p", 0) and layer.training]
    if drawing:
        raise UnsupportedModuleError(
            f"module={type(module).__name__} has precompute_features=True, but the layers {drawing} of its features "
            "drop units at random, which would be drawn once for the whole fit; call features.eval(), or leave "
            "precompute_features out"
        )
