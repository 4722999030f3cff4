"""Embedding tables and bags of embeddings: only the rows that a record names have a gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skdp.exceptions import UnsupportedModuleError
from skdp.training.rules.gradients import Gradient, Rows
from skdp.training.rules.rule import Gradients, Rule

__all__ = ["EMBEDDING", "EMBEDDING_BAG"]


def _rows(module: nn.Module, index: Mapping[str, int], indices: Tensor, grad: Tensor) -> list[Gradient]:
    """Table rows named by indices (batch, ...), each with its output gradient (batch, ..., d)."""
    indices = indices.reshape(len(indices), indices[0].numel() if len(indices) else 0)
    values = grad.reshape(*indices.shape, grad.shape[-1])
    if module.padding_idx is not None:
        values = values.masked_fill((indices == module.padding_idx)[..., None], 0)
    return [Rows(index["weight"], indices, values)]


EMBEDDING = Rule((nn.Embedding,), ("weight",), _rows)


def _bag_forward(module: nn.EmbeddingBag, index: Mapping[str, int], tap: Any, *args: Any, **kwargs: Any) -> Tensor:
    """The bag's own forward, tapped with its indices laid out as one row per record."""
    names = ("input", "offsets", "per_sample_weights")
    given = dict(zip(names, args, strict=False)) | kwargs
    output = nn.EmbeddingBag.forward(module, **given)
    indices, offsets, weights = (given.get(name) for name in names)
    if indices.dim() == 1:
        indices, weights = _padded_bags(indices, offsets, weights, module.include_last_offset)
    else:
        weights = torch.ones_like(indices, dtype=output.dtype) if weights is None else weights
    counts = indices >= 0
    if module.padding_idx is not None:
        counts = counts & (indices != module.padding_idx)
    weights = torch.where(counts, weights.detach(), 0)
    if module.mode == "mean":
        weights = weights / counts.sum(1, keepdim=True).clamp(min=1)
    tap(_bag_gradients(weights), index, indices.clamp(min=0), output)
    return output


def _bag_gradients(weights: Tensor) -> Gradients:
    """Each index of a record gets the record's output gradient times its weight: (batch, T)."""

    def gradients(module: nn.Module, index: Mapping[str, int], indices: Tensor, grad: Tensor) -> list[Gradient]:
        values = torch.where(weights[..., None] == 0, 0, weights[..., None].float() * grad[:, None].float())
        return [Rows(index["weight"], indices, values)]

    return gradients


def _padded_bags(indices: Tensor, offsets: Tensor | None, weights: Tensor | None, last: bool) -> tuple[Tensor, Tensor]:
    """Bags in one run of indices, as rows (batch, longest bag) filled up with -1, and their weights."""
    if offsets is None:
        raise UnsupportedModuleError("an EmbeddingBag with 1-D input needs offsets, one per record")
    weights = torch.ones_like(indices, dtype=torch.get_default_dtype()) if weights is None else weights
    stops = offsets[1:] if last else torch.cat([offsets[1:], offsets.new_tensor([len(indices)])])
    starts = offsets[:-1] if last else offsets
    lengths = stops - starts
    longest = int(lengths.max()) if len(lengths) else 0
    place = torch.arange(longest, device=indices.device)
    inside = place < lengths[:, None]
    source = (starts[:, None] + place).clamp(max=max(len(indices) - 1, 0))
    if not len(indices):
        return indices.new_full((len(starts), longest), -1), weights.new_zeros(len(starts), longest)
    return torch.where(inside, indices[source], -1), torch.where(inside, weights[source], 0)


EMBEDDING_BAG = Rule((nn.EmbeddingBag,), ("weight",), forward=_bag_forward)
