"""A zero linear head on frozen features, and how far such a head should go."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from skdp.contract import Public
from skdp.nets.step_length import StepLength, capped_signal, effective_signal

__all__ = ["FrozenFeatures", "full_batch_steps", "sampled_steps", "zero_linear"]

_MOST_STEPS = 400


class FrozenFeatures(nn.Module):
    """``head(features(x))``, where only the head is trained.

    Parameters
    ----------
    features : nn.Module
        Frozen and record-wise, so that it is run once for a whole fit.
    head : nn.Module
    """

    precompute_features = True

    def __init__(self, features: nn.Module, head: nn.Module):
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of shape (batch, n_outputs)."""
        return self.head(self.features(x))


def zero_linear(width: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear layer of zeros: the first prediction is the prior, and costs nothing."""
    layer = nn.Linear(width, outputs, bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    return layer


def full_batch_steps(
    public: Public, signal: float, clip: float, noise: float, momentum: float, least: int, rate: float = math.inf
) -> StepLength:
    """Steps of a linear head on features of norm one.

    Features of norm one turn noise of standard deviation z in every weight into noise z in the output, however many
    they are; so the length that leaves that noise does not depend on their number. Full batches cost the same
    whatever their number, so there are as many steps as keep each of them stable.

    Parameters
    ----------
    public : Public
    signal : float
        Gaussian-DP parameter of the budget times the number of rows.
    clip : float
        Clip norm.
    noise : float
        Standard deviation of the privacy noise that a weight without gradient ends with.
    momentum : float
        Heavy ball.
    least : int
        Number of steps at least.
    rate : float, default=inf
        Largest learning rate: a longer way takes more steps.

    Returns
    -------
    StepLength
    """
    length = noise * effective_signal(public, capped_signal(public, signal)) / clip
    steps = min(_MOST_STEPS, max(least, math.ceil(length * (1 - momentum) / rate)))
    return StepLength(clip, noise, length, steps, length * (1 - momentum) / steps, momentum)


def sampled_steps(
    public: Public, signal: float, clip: float, noise: float, momentum: float, steps: int, batch: int
) -> StepLength:
    """A number of steps of a linear head on features of norm one, each on a sample of the rows.

    Parameters
    ----------
    public : Public
    signal : float
        Gaussian-DP parameter of the budget times the number of rows.
    clip : float
        Clip norm.
    noise : float
        Standard deviation of the privacy noise that a weight without gradient ends with: to the budget, steps on
        samples are worth what as many full batches are.
    momentum : float
        Heavy ball.
    steps : int
    batch : int
        Expected number of rows in a step.

    Returns
    -------
    StepLength
    """
    length = noise * effective_signal(public, capped_signal(public, signal)) / clip
    return StepLength(clip, noise, length, steps, length * (1 - momentum) / steps, momentum, batch / public.n)
