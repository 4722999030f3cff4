r"""The minimum of a smooth strongly convex objective of rows, by Newton steps until its gradient is tiny.

Only gradients decide how far a step goes. Values would not do: a heavy row adds a constant to them next to which the
rest is rounding.

*Why it ends, whatever the rows.* Let the loss be logistic, rows no longer than r, and the ridge
:math:`\lambda = k r^2 / 4` at least, k of `skdp.accounting.objective.ObjectiveTerms.curvature`, which is above 0.58.
The third derivative along v is at most :math:`r |v|` times the second, hence at most :math:`2 s` times the second to
the power 3/2, with :math:`s = 1 / \sqrt k < 1.32`. Let d be the Newton decrement, :math:`d^2 = g^\top H^{-1} g`. A step
p is taken as far as the slope of the objective along it is between half of what it was and 0. It takes at least
:math:`\ln(1 + a / 2) / a` of p, :math:`a = r |p| \le 2 s d`, to halve the slope, so the objective falls by
:math:`d \ln(1 + s d) / 4 s` at least: by more than 0.01 while :math:`d \ge 1/4`, which it does only so often. Below,
the whole step leaves a gradient of at most :math:`s d^2 / (1 - s d) \le d / 2` in the same norm, so d falls ever
faster.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

__all__ = ["Objective", "minimum"]

_MOST_STEPS = 200  # where nothing holds flat directions
_NEAR = 0.25  # Newton decrement below which whole steps converge
_HALVINGS = 200
_PIECE = 2**22  # numbers of weighted rows that are held at a time
_TOGETHER = 128  # rows whose gradients are added up in plain arithmetic


@dataclass(frozen=True, eq=False)
class Objective:
    """Weighted losses of rows plus a quadratic and a linear term.

    Parameters
    ----------
    rows : iterable of (ndarray of shape (m, columns), ndarray of shape (m,), ndarray of shape (m,))
        Rows, their targets and their weights; gone through once for every gradient and every matrix of curvatures.
    loss : object
        From `skdp.linear_model.losses`.
    ridge : ndarray of shape (columns,)
    linear : ndarray of shape (columns,)
    """

    rows: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]
    loss: Any
    ridge: np.ndarray
    linear: np.ndarray

    def gradient(self, coef: np.ndarray) -> np.ndarray:
        """Derivatives: (columns,)."""
        parts = [
            _sums(X, weights * self.loss.slopes((X @ coef)[:, None], targets[:, None])[:, 0])
            for X, targets, weights in self.rows
        ]
        total = np.array([math.fsum(column) for column in np.vstack(parts).T])
        return total + self.ridge * coef + self.linear

    def hessian(self, coef: np.ndarray) -> np.ndarray:
        """Second derivatives: (columns, columns)."""
        total, size = np.diag(self.ridge), max(1, _PIECE // len(coef))
        for X, targets, weights in self.rows:
            bends = weights * self.loss.bends((X @ coef)[:, None], targets[:, None])[:, 0]
            for start in range(0, len(X), size):
                rows = X[start : start + size]
                total += (rows * bends[start : start + size, None]).T @ rows
        return total


def _sums(X: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Parts of ``X.T @ factors``, of few rows each, to be added up exactly: (parts, columns).

    One product would add rows up one by one: where many of them are alike its error, which all of them decide, grows
    with the square of their number, and comes near the tolerance at a few hundred thousand.
    """
    pieces, whole = len(X) // _TOGETHER, len(X) - len(X) % _TOGETHER
    parts = factors[:whole].reshape(pieces, 1, _TOGETHER) @ X[:whole].reshape(pieces, _TOGETHER, X.shape[1])
    return np.vstack([parts[:, 0], factors[whole:] @ X[whole:]])


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
    coef = np.zeros(len(objective.ridge))
    gradient, last = objective.gradient(coef), math.inf
    held = bool((objective.ridge > 0).all())
    for _ in itertools.count() if held else range(_MOST_STEPS):
        if np.linalg.norm(gradient) <= tolerance:
            break
        solve = _solver(objective.hessian(coef), held)
        step = -solve(gradient)
        decrement = math.sqrt(max(0.0, float(-gradient @ step)))
        if not 0 < decrement or (last < _NEAR and decrement > 0.9 * last):
            break  # all that is left is rounding
        last = decrement
        found = _along(objective, coef, step, decrement, solve)
        if found is None:
            break
        coef, gradient = found
    return coef


def _solver(hessian: np.ndarray, held: bool) -> Callable[[np.ndarray], np.ndarray]:
    """What multiplies by the inverse; in units in which the diagonal is 1, for ridges may differ by any factor."""
    diagonal = np.diag(hessian)
    units = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = hessian * units * units[:, None]
    if not held:  # nothing else may hold flat directions
        scaled.flat[:: len(scaled) + 1] += 1e-12
    factor = cho_factor(scaled)
    return lambda vector: units * cho_solve(factor, units * vector)


def _along(
    objective: Objective, coef: np.ndarray, step: np.ndarray, decrement: float, solve: Callable
) -> tuple[np.ndarray, np.ndarray] | None:
    """Coefficients along a step and their gradient; None where rounding hides how far to go."""
    low, high, length = 0.0, math.inf, 1.0
    for _ in range(_HALVINGS):
        tried = coef + length * step
        gradient = objective.gradient(tried)
        slope = float(gradient @ step)
        if -(decrement**2) / 2 <= slope <= 0:
            return tried, gradient
        if decrement < _NEAR and length == 1.0 and 4 * gradient @ solve(gradient) <= decrement**2:
            return tried, gradient
        low, high = (length, high) if slope < 0 else (low, length)
        length = 2 * length if math.isinf(high) else (low + high) / 2
    return None
