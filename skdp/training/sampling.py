"""Which rows a query sees, by kind of sampler; new kinds register theirs here."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np

from skdp.contract import CyclicPoisson, FixedOrder, Poisson
from skdp.training.randomness import SecretRandomness

__all__ = ["draw"]


@singledispatch
def draw(sampler: Any, ordinal: int, n: int, randomness: SecretRandomness) -> np.ndarray | None:
    """Ascending indices of the rows that a sampler's query number `ordinal` sees; None for all of them."""
    raise TypeError(f"the torch executor does not know how to draw {type(sampler).__name__} samples")


@draw.register(Poisson)
def _(sampler: Poisson, ordinal: int, n: int, randomness: SecretRandomness) -> np.ndarray | None:
    return randomness.draw_rows(n, sampler.rate)


@draw.register(FixedOrder)
@draw.register(CyclicPoisson)
def _(sampler: FixedOrder | CyclicPoisson, ordinal: int, n: int, randomness: SecretRandomness) -> np.ndarray:
    group = randomness.group(n, sampler.groups, ordinal % sampler.groups)
    chosen = randomness.draw_rows(len(group), sampler.turn_rate)
    return np.sort(group if chosen is None else group[chosen])
