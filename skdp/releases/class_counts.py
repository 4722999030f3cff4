"""How many records each class has, released once."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from skdp.contract import Answers, Counts, Gaussian, Poisson, Query, Touch

__all__ = ["class_counts_queries", "class_counts_touch"]


def class_counts_touch(multiplier: float | None) -> Touch:
    """Price of `class_counts_queries` at a noise multiplier (None: no noise)."""
    return Touch("class counts", Poisson(1.0), multiplier and Gaussian((multiplier,)), 1)


def class_counts_queries(touch: Touch, n_classes: int) -> Generator[Query, Answers, np.ndarray]:
    """Ask for the counts of classes ``0..n_classes - 1``; returns them noisy, at least 1 each."""
    edges = np.arange(n_classes - 1)[None, :] + 0.5
    (counts,) = yield Query(touch, (Counts("y", edges),))
    return np.maximum(counts[0], 1.0)
