"""Per-record losses and the maps from raw outputs to predictions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ClassLoss", "SquaredLoss", "class_probabilities"]


class ClassLoss(nn.Module):
    """Cross-entropy of each record; one logit for two classes counts as the second class's."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses of shape (batch,)."""
        outputs = outputs.float()
        if outputs.ndim == 1 or outputs.shape[1] == 1:
            logits = outputs.reshape(-1)
            return functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
        return functional.cross_entropy(outputs, targets, reduction="none")


class SquaredLoss(nn.Module):
    """Half the squared error of each record, summed over targets."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses of shape (batch,)."""
        residual = outputs.float().reshape(targets.shape) - targets
        return 0.5 * residual.square().reshape(len(targets), -1).sum(1)


def class_probabilities(outputs: Tensor) -> Tensor:
    """float64 probabilities of shape (batch, n_classes) from logits."""
    outputs = outputs.double()
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        positive = torch.sigmoid(outputs.reshape(-1))
        return torch.stack([1 - positive, positive], dim=1)
    return torch.softmax(outputs, dim=1)
