"""Linear layers with any number of positions."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from skdp.training.rules.gradients import Dense, Gradient, Outer
from skdp.training.rules.rule import Rule

__all__ = ["LINEAR", "linear_gradients"]


def linear_gradients(module: nn.Module, index: Mapping[str, int], inputs: Tensor, grad: Tensor) -> list[Gradient]:
    """Outer products of inputs (batch, ..., d) and output gradients (batch, ..., p), summed over positions."""
    if inputs.dim() > 2:
        inputs, grad = inputs.flatten(1, -2), grad.flatten(1, -2)
        if inputs.shape[1] == 1:
            inputs, grad = inputs[:, 0], grad[:, 0]
    if "weight" not in index:
        return [Dense(index["bias"], grad if grad.dim() == 2 else grad.float().sum(1))]
    return [Outer(tuple(index[name] for name in ("weight", "bias") if name in index), grad, inputs)]


LINEAR = Rule((nn.Linear,), ("weight", "bias"), linear_gradients)
