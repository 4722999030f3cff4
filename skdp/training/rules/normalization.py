"""Layer, group, instance and root-mean-square normalisation within a record."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from skdp.training.rules.gradients import Dense, Gradient
from skdp.training.rules.rule import Rule

__all__ = ["NORMALIZATIONS"]


def _layer_norm(module: nn.LayerNorm, inputs: Tensor) -> Tensor:
    return F.layer_norm(inputs, module.normalized_shape, None, None, module.eps)


def _rms_norm(module: nn.RMSNorm, inputs: Tensor) -> Tensor:
    return F.rms_norm(inputs, module.normalized_shape, None, module.eps)


def _group_norm(module: nn.GroupNorm, inputs: Tensor) -> Tensor:
    return F.group_norm(inputs, module.num_groups, None, None, module.eps)


def _instance_norm(module: nn.Module, inputs: Tensor) -> Tensor:
    return F.group_norm(inputs, module.num_features, None, None, module.eps)


def _gradients(normalise, channels_last: bool):
    """Weight gradients sum the normalised input times the output gradient over positions, biases the latter."""

    def gradients(module: nn.Module, index: Mapping[str, int], inputs: Tensor, grad: Tensor) -> list[Gradient]:
        grad = grad.float()
        results = {"bias": grad} if "bias" in index else {}
        if "weight" in index:
            results["weight"] = normalise(module, inputs.float()) * grad
        return [Dense(index[name], _over_positions(module, v, channels_last)) for name, v in results.items()]

    return gradients


def _over_positions(module: nn.Module, values: Tensor, channels_last: bool) -> Tensor:
    """Sum over positions: (batch, ..., *normalized_shape) or (batch, channels, ...) -> (batch, numbers)."""
    if not channels_last:
        return values.flatten(2).sum(2) if values.dim() > 2 else values
    size = math.prod(module.normalized_shape)
    positions = values[0].numel() // size if len(values) else 1
    return values.reshape(len(values), size) if positions == 1 else values.reshape(-1, positions, size).sum(1)


NORMALIZATIONS = (
    Rule((nn.LayerNorm,), ("weight", "bias"), _gradients(_layer_norm, True)),
    Rule((nn.RMSNorm,), ("weight",), _gradients(_rms_norm, True)),
    Rule((nn.GroupNorm,), ("weight", "bias"), _gradients(_group_norm, False)),
    Rule(
        (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        ("weight", "bias"),
        _gradients(_instance_norm, False),
    ),
)
