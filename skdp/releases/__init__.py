"""Noisy statistics of arrays, each a charged Gaussian release."""

from __future__ import annotations

from skdp.releases.arrays import ArrayExecutor
from skdp.releases.bounds import bounds_queries, bounds_touches
from skdp.releases.class_counts import class_counts_queries, class_counts_touch
from skdp.releases.discovery import discovery_queries, discovery_touch
from skdp.releases.moments import Moments, moments_queries, moments_touch
from skdp.releases.quantiles import NoisyCDF, quantile_queries, quantile_touches
from skdp.releases.spending import Spending

__all__ = [
    "ArrayExecutor",
    "Moments",
    "NoisyCDF",
    "Spending",
    "bounds_queries",
    "bounds_touches",
    "class_counts_queries",
    "class_counts_touch",
    "discovery_queries",
    "discovery_touch",
    "moments_queries",
    "moments_touch",
    "quantile_queries",
    "quantile_touches",
]
