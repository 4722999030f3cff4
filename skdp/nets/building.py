"""From a specification to a module, without touching torch's global generator."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.utils import check_random_state
from torch import nn

from skdp.contract import Public

__all__ = ["build_module"]


def build_module(spec: Any, public: Public, signal: float, random_state: Any) -> nn.Module:
    """The module of a specification, initialised from `random_state`."""
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spec.build(public, signal)
