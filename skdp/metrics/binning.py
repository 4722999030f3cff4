"""Bins of predicted probabilities: how often what was predicted came out, and how sure the predictions were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["BinnedCurve", "check_bins", "inner_edges"]


@dataclass(frozen=True, eq=False)
class BinnedCurve:
    """Weights, outcomes and predictions summed up within bins; what every calibration error is made of.

    Parameters
    ----------
    edges : ndarray of shape (n_bins + 1,)
        From 0 to 1; a prediction on an edge lies in the upper bin, 1 in the last.
    weight : ndarray of shape (n_bins,)
        Sum of weights.
    came_out : ndarray of shape (n_bins,)
        Weight of what came out as predicted.
    predicted : ndarray of shape (n_bins,)
        Weighted sum of predicted probabilities.
    """

    edges: np.ndarray
    weight: np.ndarray
    came_out: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(
        cls, predicted: np.ndarray, outcome: np.ndarray, weight: np.ndarray, n_bins: int, strategy: str
    ) -> BinnedCurve:
        """Sum up one predicted probability per row and whether it came out."""
        edges = inner_edges(predicted, n_bins, strategy)
        bins = np.searchsorted(edges, predicted, side="right")

        def summed(values: np.ndarray) -> np.ndarray:
            return np.bincount(bins, values, minlength=n_bins)

        return cls(np.r_[0.0, edges, 1.0], summed(weight), summed(weight * outcome), summed(weight * predicted))

    @property
    def gaps(self) -> np.ndarray:
        """Frequency less mean prediction of each bin, times its weight."""
        return self.came_out - self.predicted

    @property
    def error(self) -> float:
        """Mean absolute gap, bins weighted by what lies in them."""
        return float(np.abs(self.gaps).sum() / self.weight.sum())

    @property
    def largest_error(self) -> float:
        """Largest absolute gap of a bin with any weight."""
        full = self.weight > 0
        return float(np.abs(self.gaps[full] / self.weight[full]).max())


def check_bins(n_bins: int, strategy: str = "uniform") -> int:
    """`n_bins` as an int, or ValueError where it or the strategy is impossible."""
    if isinstance(n_bins, bool) or int(n_bins) != n_bins or n_bins < 1:
        raise ValueError(f"n_bins={n_bins!r} must be a whole number of at least 1")
    if strategy not in ("uniform", "quantile"):
        raise ValueError(f"strategy={strategy!r} must be 'uniform' or 'quantile'")
    return int(n_bins)


def inner_edges(predicted: np.ndarray, n_bins: int, strategy: str) -> np.ndarray:
    """Edges between bins, so that every prediction up to and including 1 has a bin."""
    inner = np.arange(1, n_bins) / n_bins
    return inner if strategy == "uniform" else np.quantile(predicted, inner)
