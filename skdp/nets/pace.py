"""Step lengths that follow the signal seen in released gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["ADAPTIVE_SIGNAL", "STEPS", "INTERCEPT", "PaceKeeper"]

ADAPTIVE_SIGNAL = 1800.0
STEPS = 110
INTERCEPT = 0.5
_FIRST = 0.3
_START = 0.4
_SLOWEST = 0.4
_BLIND = 0.5
_PER_DEVIANCE = 3.3


class PaceKeeper(nn.Module):
    """Scales the steps of a net that starts at zero by the share of deviance that its first steps explained.

    A classifier whose labels are noisy should stop early; one whose labels are clear should go far. What the
    loss gained over the first 30 % of the steps is the path integral of the gradient, and the base rates are
    in the first gradient of the constant feature. Both are functions of released numbers, so the choice costs
    no privacy.

    Parameters
    ----------
    weight : Tensor of shape (n_outputs, width)
        Of the linear layer whose steps are scaled; its last column belongs to the constant feature.
    gradient_noise : float
        Standard deviation of the noise in one released mean gradient.
    reserve : float
        How much farther the steps would have to go for the whole length, where stability holds them back.
    """

    def __init__(self, weight: Tensor, gradient_noise: float, reserve: float = 1.0):
        super().__init__()
        self.gradient_noise = gradient_noise
        self.reserve = reserve
        self.first = int(_FIRST * STEPS)
        # Buffers, so that a fit that is resumed goes on at its pace.
        for name in ("weight", "gradient", "moved"):
            self.register_buffer(name, torch.zeros_like(weight, requires_grad=False))
        for name, start in (("gain", 0.0), ("rate", 0.0), ("factor", _START)):
            self.register_buffer(name, torch.tensor(start))
        self.register_buffer("base_rates", torch.full((max(len(weight), 2),), 1 / max(len(weight), 2)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def shorten(self, weight: Tensor) -> float:
        """Scale the step just taken, in place, and return the factor."""
        gradient = weight.grad
        if gradient is None:
            # The engine keeps its gradients to itself: go at a pace that suits most tables.
            weight.copy_(torch.lerp(self.weight, weight, _BLIND))
            return _BLIND
        if self.steps == 0:
            self._begin(weight, gradient)
        elif self.steps <= self.first:
            # The last gradient's noise went into the move: take its expected part out of the trapezoid rule.
            noise = 0.5 * self.rate * self.factor * weight.numel() * self.gradient_noise**2
            self.gain -= 0.5 * ((gradient + self.gradient) * self.moved).sum() + noise
        if self.steps == self.first:
            relative = min(max(_PER_DEVIANCE * self.deviance_explained(), _SLOWEST) * self.reserve, 1.0)
            self.factor.fill_(min((relative - _START * _FIRST) / (1 - _FIRST), 1.0))
        self.gradient.copy_(gradient)
        weight.copy_(torch.lerp(self.weight, weight, self.factor))
        self.steps += 1
        return float(self.factor)

    def remember(self, weight: Tensor) -> None:
        """Keep the weights that the next step starts from."""
        self.moved.copy_(weight - self.weight)
        self.weight.copy_(weight)

    def deviance_explained(self) -> float:
        """Share of the labels' entropy that the first steps explained, as far as noise lets one see."""
        entropy = -(self.base_rates * self.base_rates.log()).sum()
        known = math.log(len(self.base_rates)) - entropy
        return float((self.gain - known) / entropy)

    def _begin(self, weight: Tensor, gradient: Tensor) -> None:
        """Learning rate and base rates from the first move and gradient, taken at zero weights."""
        self.rate.fill_(float((-weight * gradient).sum() / gradient.square().sum().clamp_min(1e-30)))
        shares = 1 / len(self.base_rates) - gradient[:, -1] / INTERCEPT
        if len(shares) == 1:
            shares = torch.cat([shares, 1 - shares])
        shares = shares.clamp(0.02, 0.98)
        self.base_rates.copy_(shares / shares.sum())
