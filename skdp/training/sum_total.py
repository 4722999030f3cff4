"""How a sum over rows is released: with noise once, after all ranks have added up theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from skdp.training.randomness import SecretRandomness
from skdp.training.rules.sums import SUM_SLACK

if TYPE_CHECKING:
    from skdp.training.executor import TorchExecutor

__all__ = ["FLOAT_SLACK", "SumTotal", "add_noise"]

# Norms and sums are rounded in float32, so a record may move a sum by this much more than its bound; the noise covers
# it.
FLOAT_SLACK = 1e-5 + SUM_SLACK


def add_noise(flat: Tensor, sensitivity: Any, multiplier: float, randomness: SecretRandomness) -> None:
    """Noise a clipped sum in place: standard deviation `multiplier` times `sensitivity`, and what rounding may add."""
    if multiplier:
        noise = randomness.normal(flat.numel()).mul_(sensitivity * (multiplier * (1 + FLOAT_SLACK)))
        flat.add_(noise.to(flat.device))


class SumTotal:
    """A sum over rows, and how it is released: with noise once, after all ranks have added up theirs.

    Parameters
    ----------
    numbers : tensor of shape (k,)
        Zeros, to which rows are added in place.
    executor : TorchExecutor
    released : torch.dtype
        Of the answer.
    """

    def __init__(self, numbers: Tensor, executor: TorchExecutor, released: torch.dtype):
        self._numbers, self._ranks, self._released = numbers, executor.ranks, released

    def release(self, sensitivity: Any, multiplier: float, randomness: SecretRandomness) -> Any:
        """The sum with noise, once."""

        def noise(part: Tensor) -> None:
            if multiplier:
                self.add_noise(part, sensitivity, multiplier, randomness)

        if self._ranks is None:
            noise(self._numbers)
            return self.answer(self._numbers.to(self._released))
        return self.answer(self._ranks.release(self._numbers, noise, self._released))

    def add_noise(self, part: Tensor, sensitivity: Any, multiplier: float, randomness: SecretRandomness) -> None:
        """Noise some of the numbers in place."""
        raise NotImplementedError

    def answer(self, released: Tensor) -> Any:
        """The released numbers in the form in which the plan gets them."""
        return released[0]
