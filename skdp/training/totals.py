"""Answers that are no sum: what every row releases by itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skdp.contract import Activations, Labels
from skdp.exceptions import PlanViolationError
from skdp.training.executor import Piece, TorchExecutor, start
from skdp.training.randomness import SecretRandomness
from skdp.training.split import clip_rows

__all__ = ["noisy_activations"]

# A clipped norm is rounded in float32, so it may pass its bound by this much; the noise covers it.
CLIP_SLACK = 1e-5


def noisy_activations(clipped: Tensor, std: float, randomness: SecretRandomness) -> Tensor:
    """Clipped rows with noise of standard deviation `std` on each number; as they are where it is 0.

    Parameters
    ----------
    clipped : tensor of shape (n, width)
    std : float
    randomness : SecretRandomness

    Returns
    -------
    float32 tensor of shape (n, width)
    """
    if not std:
        return clipped.float()
    noise = randomness.normal(clipped.numel()).double().view_as(clipped).mul_(std * (1 + CLIP_SLACK))
    return noise.add_(clipped).float()


class _EveryRow:
    """Collects one entry per row; the answer has as many as there are rows, or it would tell who was sampled."""

    def __init__(self, executor: TorchExecutor):
        self._n = len(executor._rows)
        self._parts: list[Tensor] = []

    def _all(self) -> Tensor:
        rows = torch.cat(self._parts)
        if len(rows) != self._n:
            raise PlanViolationError(f"{len(rows)} of {self._n} rows were sampled for a release of every row")
        return rows


@start.register(Activations)
class _ActivationsTotal(_EveryRow):
    def __init__(self, value: Activations, executor: TorchExecutor):
        super().__init__(executor)
        self._bound, self._module = value.bound, executor.model.module

    def add(self, piece: Piece) -> None:
        clipped = clip_rows(self._module.activations(piece.rows.inputs), self._bound)
        self._parts.append(clipped.masked_fill(piece.rows.null[:, None], 0.0))

    def release(self, sensitivity: float, multiplier: float, randomness: SecretRandomness) -> Tensor:
        return noisy_activations(self._all(), multiplier and multiplier * sensitivity, randomness)


@start.register(Labels)
class _LabelsTotal(_EveryRow):
    """A negative label stands for the null row until it is answered."""

    def __init__(self, value: Labels, executor: TorchExecutor):
        super().__init__(executor)
        self._classes = value.classes

    def add(self, piece: Piece) -> None:
        self._parts.append(piece.rows.targets.masked_fill(piece.rows.null, -1))

    def release(self, sensitivity: float, noise_parameter: float, randomness: SecretRandomness) -> Tensor:
        labels = self._all()
        lot, other = randomness.array_uniform((2, len(labels)))
        drawn = np.minimum((other * self._classes).astype(np.int64), self._classes - 1)
        answers = np.where((lot < noise_parameter) | (labels < 0).cpu().numpy(), drawn, labels.cpu().numpy())
        return torch.from_numpy(answers).to(labels.device)
