"""The private step: per-example norms and weighted sums, clipping, sampling, noise, and the loop around them."""

from __future__ import annotations

from skdp.training import carriers  # noqa: F401 -- registers what the executor does for a CarrierSum
from skdp.training.clipped_gradient import ClippedGradient, clipped_gradient
from skdp.training.clipping import clip_factors
from skdp.training.engine import Engine, TailAverage, check_callbacks
from skdp.training.executor import NetModel, PrivateRows, TorchExecutor
from skdp.training.independence import check_rows_independent
from skdp.training.per_example import Captured, PerExample
from skdp.training.pieces import rows_per_pass
from skdp.training.randomness import SecretRandomness
from skdp.training.split import SplitNet, clip_rows
from skdp.training.thinning import thinning_factors
from skdp.training.totals import noisy_activations

__all__ = [
    "Captured",
    "ClippedGradient",
    "Engine",
    "NetModel",
    "PerExample",
    "PrivateRows",
    "SecretRandomness",
    "SplitNet",
    "TailAverage",
    "TorchExecutor",
    "check_callbacks",
    "check_rows_independent",
    "clip_factors",
    "clip_rows",
    "clipped_gradient",
    "noisy_activations",
    "rows_per_pass",
    "thinning_factors",
]
