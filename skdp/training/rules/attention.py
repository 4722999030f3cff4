"""Multi-head attention: the layer's own computation with its four projections tapped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.parametrize import is_parametrized

from skdp.exceptions import UnsupportedModuleError
from skdp.training.rules.gradients import Gradient
from skdp.training.rules.linear import linear_gradients
from skdp.training.rules.rule import Rule, Tap, pick, written_gradients

__all__ = ["ATTENTION"]

_NAMES = ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight", "bias_k", "bias_v")


def _forward(
    module: nn.MultiheadAttention,
    index: Mapping[str, int],
    tap: Tap,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    if query.dim() != 3:
        raise UnsupportedModuleError(
            f"MultiheadAttention got a query of shape {tuple(query.shape)}; give it (batch, positions, features)"
        )
    if is_causal and attn_mask is None:
        raise ValueError("is_causal=True is a hint about attn_mask; pass the mask too")
    projected = _project(module, index, tap, query, key, value)
    projected, extra = _extend(module, index, tap, projected)
    q, k, v = (t.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for t in projected)
    mask = _mask(module, attn_mask, key_padding_mask, q)
    mask = mask if mask is None else F.pad(mask, (0, extra))
    dropout = module.dropout if module.training else 0.0
    weights = None
    if need_weights:
        scores = (q / math.sqrt(q.shape[-1])) @ k.mT
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        weights = F.dropout(weights, dropout) if dropout else weights
        mixed = weights @ v
        weights = weights.mean(1) if average_attn_weights else weights
    elif is_causal and key_padding_mask is None and not extra:
        mixed = F.scaled_dot_product_attention(q, k, v, None, dropout, is_causal=True)
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout)
    mixed = mixed.transpose(1, 2).flatten(2)
    output = F.linear(mixed, module.out_proj.weight, module.out_proj.bias)
    tap(linear_gradients, pick(index, weight="out_proj.weight", bias="out_proj.bias"), mixed, output)
    return output, weights


def _project(module: nn.MultiheadAttention, index: Mapping[str, int], tap: Tap, *inputs: Tensor) -> list[Tensor]:
    """Queries, keys and values (batch, positions, features), tapped."""
    weight, bias = module.in_proj_weight, module.in_proj_bias
    if weight is not None and inputs[0] is inputs[1] is inputs[2]:
        together = F.linear(inputs[0], weight, bias)
        tap(linear_gradients, pick(index, weight="in_proj_weight", bias="in_proj_bias"), inputs[0], together)
        return list(together.chunk(3, dim=-1))
    names = ["in_proj_weight"] * 3 if weight is not None else [f"{n}_proj_weight" for n in "qkv"]
    weights = weight.chunk(3) if weight is not None else [getattr(module, name) for name in names]
    biases = [None] * 3 if bias is None else bias.chunk(3)
    outputs = []
    for part in range(3):
        output = F.linear(inputs[part], weights[part], biases[part])
        own = pick(index, weight=names[part], bias="in_proj_bias")
        tap(partial(_third, part, weight is not None), own, inputs[part], output)
        outputs.append(output)
    return outputs


def _extend(
    module: nn.MultiheadAttention, index: Mapping[str, int], tap: Tap, projected: list[Tensor]
) -> tuple[list[Tensor], int]:
    """Keys and values with the positions that the layer itself adds, and the number of these."""
    queries, *rest = projected
    extra = 0
    if module.bias_k is not None:
        for i, name in enumerate(("bias_k", "bias_v")):
            own = getattr(module, name).expand(len(queries), 1, -1)  # every record sees a copy of its own
            tap(written_gradients, pick(index, own=name), own, own)
            rest[i] = torch.cat([rest[i], own], dim=1)
        extra += 1
    if module.add_zero_attn:
        rest = [F.pad(part, (0, 0, 0, 1)) for part in rest]
        extra += 1
    return [queries, *rest], extra


def _third(
    part: int, packed: bool, module: nn.Module, index: Mapping[str, int], inputs: Tensor, grad: Tensor
) -> list[Gradient]:
    """One of three projections whose biases, and if packed whose weights, lie in one parameter."""
    width = grad.shape[-1]
    padded = F.pad(grad, (part * width, (2 - part) * width))
    if packed:
        return linear_gradients(module, index, inputs, padded)
    weight = linear_gradients(module, pick(index, weight="weight"), inputs, grad) if "weight" in index else []
    bias = linear_gradients(module, pick(index, bias="bias"), inputs, padded) if "bias" in index else []
    return weight + bias


def _mask(module: nn.MultiheadAttention, attention: Any, padding: Any, q: Tensor) -> Tensor | None:
    """What is added to the scores (batch, heads, queries, keys), or None."""
    masks = []
    if attention is not None:
        own = attention.dim() == 3  # one mask per record and head
        masks.append(attention.unflatten(0, (-1, module.num_heads)) if own else attention)
    if padding is not None:
        masks.append(padding[:, None, None, :])
    masks = [
        torch.zeros_like(mask, dtype=q.dtype).masked_fill_(mask, -math.inf) if mask.dtype == torch.bool else mask
        for mask in masks
    ]
    return sum(masks) if masks else None


def _accepts(module: nn.MultiheadAttention) -> bool:
    output = module.out_proj
    return type(output) is NonDynamicallyQuantizableLinear and not is_parametrized(output)


ATTENTION = Rule((nn.MultiheadAttention,), _NAMES, forward=_forward, accepts=_accepts)
