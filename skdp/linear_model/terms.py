"""What a central solver of a linear model is given: everything public about one fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdp.linear_model.losses import REGRESSION
from skdp.linear_model.penalties import Penalty

__all__ = ["FitFacts", "row_length"]

_MOST_COLUMNS = 10_000  # whose second moments take 800 MB


@dataclass(frozen=True, eq=False)
class FitFacts:
    """Public facts of one fit: what is to be least, and how long rows are.

    Parameters
    ----------
    n : int
        Public number of rows.
    outputs : int
        Rows of coefficients.
    columns : int
        Columns of coefficients, that of the intercept included.
    loss : object
        From `skdp.linear_model.losses`.
    penalty : Penalty
    length : float
        L2 norm that few rows exceed, as `skdp.linear_model.rows.usual_length` expects it; NaN where it is not known.
    max_grad_norm : float or None
        Bound of what one row adds where the user set it.
    scale : float or None
        Noise multiplier of one release that costs as much as the training; None is no noise.
    steps : int or None
        Number of steps where the user set it.
    """

    n: int
    outputs: int
    columns: int
    loss: Any
    penalty: Penalty
    length: float
    max_grad_norm: float | None = None
    scale: float | None = None
    steps: int | None = None

    @property
    def regression(self) -> bool:
        """Whether targets are numbers."""
        return type(self.loss) in {type(loss) for loss in REGRESSION.values()}

    @property
    def ridge(self) -> np.ndarray:
        """Curvature of the penalty in each column, for the sum of losses."""
        ridge = np.full(self.columns, self.n * self.penalty.alpha * (1 - self.penalty.l1))
        ridge[self.columns - self.penalty.free :] = 0.0
        return ridge

    @property
    def signal(self) -> float:
        """Gaussian-DP parameter of the training times the number of rows, after the noise that sampling has anyway."""
        if self.scale is None:
            return math.inf
        return self.n / math.hypot(1.0, self.scale)

    @property
    def too_wide(self) -> str:
        """Why no solver can have a matrix of all pairs of columns, empty where it can."""
        if self.columns <= _MOST_COLUMNS:
            return ""
        return f"it takes a matrix of {self.columns} times {self.columns} numbers; at most {_MOST_COLUMNS:,} columns"

    def bound(self, automatic: float) -> float:
        """The bound of what one row adds: none without noise, the user's, or the solver's own."""
        if self.scale is None:
            return math.inf
        return automatic if self.max_grad_norm is None else self.max_grad_norm


def row_length(columns: int, indicators: int, fit_intercept: bool) -> float:
    """L2 norm that few rows exceed, from public facts alone.

    A column of numbers in [-1, 1] adds a half to the square (a third where they are spread evenly); of indicators one
    in eight is 1. On five tables of people, loans, stays, blocks and wines, this was 1 to 1.5 times the median square.

    Parameters
    ----------
    columns : int
        Without the intercept's.
    indicators : int
        How many of them hold 0 and 1.
    fit_intercept : bool

    Returns
    -------
    float

    Examples
    --------
    >>> row_length(6, 0, True)
    2.0
    """
    return math.sqrt(max((columns - indicators) / 2 + indicators / 8 + bool(fit_intercept), 0.125))
