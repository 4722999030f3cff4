"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from skdp.training.rules.gradients import Dense, Gradient

__all__ = ["Gradients", "Rule", "Tap", "pick", "written_gradients"]

Gradients = Callable[[nn.Module, Mapping[str, int], Tensor, Tensor], list[Gradient]]
"""``gradients(module, index, inputs, output_gradient)``; `index` maps own trainable names to parameter order."""

Tap = Callable[[Gradients, Mapping[str, int], Tensor, Tensor], None]
"""``tap(gradients, index, inputs, output)`` marks an output inside a rule's own forward."""


@dataclass(frozen=True)
class Rule:
    """How one layer family is served.

    Parameters
    ----------
    layers : tuple of type
        The module classes.
    parameters : tuple of str
        Names of the parameters that the rule knows; empty where `accepts` looks at them.
    gradients : callable or None
        From the layer's first input and the gradient of its output to the layer's gradients.
    forward : callable or None
        ``forward(module, index, tap, *args, **kwargs)``: the layer's own computation with its inner products
        tapped, for layers that hide several of them.
    accepts : callable or None
        Whether the rule covers this configuration of the layer.
    """

    layers: tuple[type[nn.Module], ...]
    parameters: tuple[str, ...]
    gradients: Gradients | None = None
    forward: Callable[..., Any] | None = None
    accepts: Callable[[nn.Module], bool] | None = None


def pick(index: Mapping[str, int], **names: str) -> dict[str, int]:
    """The trainable ones among a layer's parameters, under the names that a rule uses for them."""
    return {use: index[own] for use, own in names.items() if own in index}


def written_gradients(module: nn.Module, index: Mapping[str, int], inputs: Tensor, grad: Tensor) -> list[Gradient]:
    """Where every record used a copy of its own of a parameter, the copy's gradient is the record's gradient."""
    return [Dense(index["own"], grad)]
