"""The minimum of a smooth strongly convex objective of rows, by Newton steps until its gradient is tiny."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

__all__ = ["Objective", "minimum"]

_MOST_STEPS = 200
_PIECE = 2**22  # numbers of weighted rows that are held at a time


@dataclass(frozen=True, eq=False)
class Objective:
    """Weighted losses of rows plus a quadratic and a linear term.

    Parameters
    ----------
    X : ndarray of shape (n, columns)
    targets : ndarray of shape (n,)
    weights : ndarray of shape (n,)
    loss : object
        From `skdp.linear_model.losses`.
    ridge : ndarray of shape (columns,)
    linear : ndarray of shape (columns,)
    """

    X: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    loss: Any
    ridge: np.ndarray
    linear: np.ndarray

    def value(self, coef: np.ndarray) -> float:
        """The objective."""
        losses = self.loss.values((self.X @ coef)[:, None], self.targets[:, None])
        return float(self.weights @ losses + (self.ridge * coef / 2 + self.linear) @ coef)

    def gradient(self, coef: np.ndarray) -> np.ndarray:
        """Its gradient: (columns,)."""
        slopes = self.loss.slopes((self.X @ coef)[:, None], self.targets[:, None])[:, 0]
        return self.X.T @ (self.weights * slopes) + self.ridge * coef + self.linear

    def hessian(self, coef: np.ndarray) -> np.ndarray:
        """Its second derivatives: (columns, columns)."""
        bends = self.weights * self.loss.bends((self.X @ coef)[:, None], self.targets[:, None])[:, 0]
        total, size = np.diag(self.ridge), max(1, _PIECE // self.X.shape[1])
        for start in range(0, len(self.X), size):
            rows = self.X[start : start + size]
            total += (rows * bends[start : start + size, None]).T @ rows
        return total


def minimum(objective: Objective, tolerance: float) -> np.ndarray:
    """Where the objective is least, or as near to it as rounding lets Newton's method come.

    Parameters
    ----------
    objective : Objective
    tolerance : float
        Norm of the gradient at which it stops.

    Returns
    -------
    ndarray of shape (columns,)
    """
    coef = np.zeros(objective.X.shape[1])
    value, gradient = objective.value(coef), objective.gradient(coef)
    for _ in range(_MOST_STEPS):
        norm = float(np.linalg.norm(gradient))
        if norm <= tolerance:
            break
        hessian = objective.hessian(coef)
        # Without noise nothing may hold flat directions.
        hessian.flat[:: len(hessian) + 1] += 1e-12 * max(float(np.trace(hessian)) / len(hessian), 1e-300)
        step, length = -cho_solve(cho_factor(hessian), gradient), 1.0
        while length > 1e-10:
            tried = coef + length * step
            new_value, new_gradient = objective.value(tried), objective.gradient(tried)
            # Near the minimum values differ by less than their rounding, and gradients still tell.
            if new_value <= value + 1e-4 * length * float(gradient @ step) or np.linalg.norm(new_gradient) < norm / 2:
                break
            length /= 2
        else:
            break
        coef, value, gradient = tried, new_value, new_gradient
    return coef
