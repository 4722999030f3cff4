"""Values that are asked of linear models beside their gradients: second moments, and a perturbed minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["GramSum", "PerturbedMinimum"]


@dataclass(frozen=True, eq=False)
class GramSum:
    r"""Sum over the sample of :math:`x x^\top`, each row first brought under `bound` in L2 norm.

    Parameters
    ----------
    bound : float
        Largest L2 norm of a row; ``inf`` leaves rows as they are (only together with no noise).

    Notes
    -----
    Rows are the array "X"; where there is an array "weight", a row counts as :math:`\sqrt w x`. The answer is the upper
    triangle of the matrix as a vector, entries off the diagonal times :math:`\sqrt 2`, so that its L2 norm is the
    Frobenius norm of the matrix: that of one row is :math:`|x|^2 \le` ``bound ** 2``.

    Examples
    --------
    >>> GramSum(2.0).sensitivity
    4.0
    >>> GramSum.unpacked(np.array([1.0, 2**0.5, 3.0])).round(6).tolist()
    [[1.0, 1.0], [1.0, 3.0]]
    """

    bound: float

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise ValueError(f"GramSum(bound={self.bound!r}) must be positive")

    @property
    def sensitivity(self) -> float:
        """The square of the bound."""
        return self.bound**2

    @staticmethod
    def packed(matrix: np.ndarray) -> np.ndarray:
        """The upper triangle of a symmetric matrix as a vector of the same norm."""
        i, j = np.triu_indices(len(matrix))
        return matrix[i, j] * np.where(i == j, 1.0, 2**0.5)

    @staticmethod
    def unpacked(packed: np.ndarray) -> np.ndarray:
        """The symmetric matrix of such a vector."""
        columns = int((8 * len(packed) + 1) ** 0.5) // 2
        i, j = np.triu_indices(columns)
        matrix = np.zeros((columns, columns))
        matrix[i, j] = matrix[j, i] = packed / np.where(i == j, 1.0, 2**0.5)
        return matrix


@dataclass(frozen=True, eq=False)
class PerturbedMinimum:
    r"""Where a loss over all rows, plus a quadratic and a *random linear* term, is least.

    The noise is within the objective, so the answer is no value plus noise. What it costs is nevertheless that of one
    Gaussian release at the touch's multiplier: see `skdp.accounting.objective.objective_terms`, which says how much
    noise and curvature that takes.

    Parameters
    ----------
    loss : object
        Public, and a dataclass of public values, with ``values``, ``slopes`` and ``bends`` of outputs of shape (m, 1),
        convex, with slopes of one sign at each target, at most ``slope_bound``, and bends of at most ``curvature``.
    output : int
        Column of "y" that holds the targets.
    bound : float
        Largest L2 norm of a row's gradient. *Rows* are shortened until it holds: clipped gradients have no convex loss.
        ``inf`` leaves rows as they are (only together with no noise).
    ridge : ndarray of shape (columns,)
        Curvature that the penalty has in each column, for the *sum* of losses. Where privacy takes more, there is more.

    Notes
    -----
    Rows are the array "X"; where there is an array "weight", it multiplies losses. The answer has shape (columns,).

    Examples
    --------
    >>> PerturbedMinimum(None, 0, 2.0, np.zeros(3)).sensitivity
    2.0
    """

    loss: Any
    output: int
    bound: float
    ridge: Any

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise ValueError(f"PerturbedMinimum(bound={self.bound!r}) must be positive")

    @property
    def sensitivity(self) -> float:
        """The bound: most that one record can move the gradient of the objective."""
        return self.bound
