"""How many trials a private search has: truncated negative binomial or Poisson numbers.

Papernot and Steinke, *Hyperparameter Tuning with Renyi Differential Privacy*, ICLR 2022, definition 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

__all__ = ["draw_trials", "gamma_of", "probabilities"]


def draw_trials(secret: np.random.Generator, mean: float, shape: float | None) -> int:
    """Number of trials: Poisson, or truncated negative binomial by inversion."""
    if shape is None:
        return int(secret.poisson(mean))
    uniform, total = 1 - secret.random(), 0.0
    for count, probability in probabilities(mean, shape):
        total += probability
        if uniform <= total or probability < 1e-18 and total > 0.5:
            return count
    raise AssertionError("probabilities never end")


def probabilities(mean: float, shape: float) -> Iterator[tuple[int, float]]:
    """Counts from 1 and their probabilities."""
    gamma = gamma_of(mean, shape)
    if gamma == 1:
        yield 1, 1.0
        return
    first = (
        (1 - gamma) / math.log(1 / gamma) if shape == 0 else shape * (1 - gamma) / math.expm1(-shape * math.log(gamma))
    )
    count, probability = 1, first
    while True:
        yield count, probability
        probability *= (1 - gamma) * (count + shape) / (count + 1)
        count += 1


def gamma_of(mean: float, shape: float) -> float:
    """Parameter of the truncated negative binomial distribution with this mean, by bisection on its logarithm."""

    def expected(log_gamma: float) -> float:
        # 1 / gamma - 1 over the logarithm of 1 / gamma, or over (1 - gamma ** shape) / shape, without cancellation
        odds = math.expm1(-log_gamma)
        return odds / -log_gamma if shape == 0 else shape * odds / -math.expm1(shape * log_gamma)

    if mean == 1:
        return 1.0
    low, high = -700.0, -1e-12
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(middle) > mean else (low, middle)
    return math.exp(high)
