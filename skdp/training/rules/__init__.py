"""One rule per layer family: how to get per-record gradients from a layer's inputs and its output's gradient.

A rule serves exactly the layers it was written for: a subclass that overrides ``forward``, carries parameters of its
own or is parametrized gets none, and is run by `skdp.training.fallback` instead.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from skdp.training.rules.attention import ATTENTION
from skdp.training.rules.convolution import CONVOLUTION
from skdp.training.rules.embedding import EMBEDDING, EMBEDDING_BAG
from skdp.training.rules.linear import LINEAR
from skdp.training.rules.normalization import NORMALIZATIONS
from skdp.training.rules.recurrent import RECURRENT
from skdp.training.rules.rule import Rule

__all__ = ["Rule", "find_rule"]

_RULES: tuple[Rule, ...] = (LINEAR, CONVOLUTION, EMBEDDING, EMBEDDING_BAG, *NORMALIZATIONS, ATTENTION, RECURRENT)
_BY_TYPE: dict[type[nn.Module], Rule] = {kind: rule for rule in _RULES for kind in rule.layers}


def find_rule(module: nn.Module) -> Rule | None:
    """The rule for `module`, or None when only the fallback is sure to be right."""
    for kind in type(module).__mro__:
        rule = _BY_TYPE.get(kind)
        if rule is None:
            continue
        same = type(module).forward is kind.forward and "forward" not in vars(module)
        known = not rule.parameters or set(module._parameters) <= set(rule.parameters)
        fits = rule.accepts is None or rule.accepts(module)
        alone = rule.forward is not None or not module._modules
        return rule if same and known and alone and fits and not is_parametrized(module) else None
    return None
