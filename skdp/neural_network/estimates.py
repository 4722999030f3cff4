"""What is estimated privately before a model is trained: ranges of columns and targets, and class counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skdp.contract import Public, Touch, drive
from skdp.exceptions import CalibrationError
from skdp.neural_network.problem import Problem, as_columns
from skdp.releases import ArrayExecutor, bounds_queries, class_counts_queries

__all__ = ["Estimates", "check_target_bounds", "estimate_arrays", "release_estimates"]

# A bin that holds every row must stand out of the noise of all bins, for which about five deviations are needed.
_ROWS_PER_NOISE = 10


@dataclass
class Estimates:
    """What was released before training, or given as public; arrays by column.

    Parameters
    ----------
    feature_bounds : ndarray of shape (n_features, 2) or None
    target_bounds : ndarray of shape (n_targets, 2) or None
    class_weights : ndarray of shape (n_classes,) or None
    warnings : list of str
    indicators : tuple of int
        Columns of 0 and 1; their bounds are (-1, 1), which leaves them as they are.
    around_zero : tuple of int
        Columns that may be such, or hold small counts; their bounds are as far on either side of 0, which stays 0: most
        rows are there, and at -1 they would all be long, and shortened for it.
    reused : tuple of str
        What an earlier fit found out and paid for, by its name in the programme.
    """

    feature_bounds: np.ndarray | None = None
    target_bounds: np.ndarray | None = None
    class_weights: np.ndarray | None = None
    warnings: list[str] = field(default_factory=list)
    indicators: tuple[int, ...] = ()
    around_zero: tuple[int, ...] = ()
    reused: tuple[str, ...] = ()


def estimate_arrays(problem: Problem) -> dict[str, np.ndarray]:
    """The arrays that estimates are about, for an `ArrayExecutor`."""
    return {"X": problem.inputs, "y": as_columns(problem.targets).astype(np.float64)}


def check_target_bounds(touches: tuple[Touch, ...] | None, public: Public, epsilon: float | None) -> None:
    """Refuse, from public numbers and before anything is spent, a range of y that noise is sure to hide.

    Parameters
    ----------
    touches : tuple of Touch or None
        That will look for the range, if any.
    public : Public
    epsilon : float or None

    Raises
    ------
    CalibrationError
    """
    if touches is None or touches[0].noise is None:
        return
    noise = touches[0].noise.combined * public.n_outputs**0.5
    if public.n < _ROWS_PER_NOISE * noise:
        raise CalibrationError(
            f"y_bounds=None: {public.n} rows cannot show the range of y under noise of standard deviation "
            f"{noise:.3g} at epsilon={epsilon}; nothing was spent. Pass y_bounds=(low, high) with "
            "public bounds, which cost nothing"
        )


def release_estimates(
    given: Estimates,
    touches: Mapping[str, tuple[Touch, ...]],
    problem: Problem,
    executor: ArrayExecutor,
    names: Sequence[Any] | None,
) -> Estimates:
    """Ask for whatever there are touches for, and add it to what was given as public.

    Parameters
    ----------
    given : Estimates
    touches : mapping of str to tuple of Touch
        By what they estimate.
    problem : Problem
    executor : ArrayExecutor
        That holds `estimate_arrays`.
    names : sequence or None
        Of the columns, for warnings.

    Returns
    -------
    Estimates

    Raises
    ------
    ValueError
        Noise hides the range of y.
    """
    n = problem.public.n
    if "feature bounds" in touches:
        groups = problem.inputs.shape[1]
        ranges = drive(bounds_queries(touches["feature bounds"], "X", groups, n), executor.answer)
        given.feature_bounds = ranges.bounds.copy()
        given.feature_bounds[ranges.indicator] = -1.0, 1.0
        given.feature_bounds[ranges.from_zero, 0] = -ranges.bounds[ranges.from_zero, 1]
        given.indicators = tuple(np.flatnonzero(ranges.indicator).tolist())
        given.around_zero = tuple(np.flatnonzero(ranges.from_zero).tolist())
        doubt = ranges.doubt(range(groups) if names is None else names)
        if doubt:
            remedy = "; pass feature_bounds with public (low, high) per column"
            given.warnings.append(f"feature_bounds='private': {doubt}{remedy}")
    if "target bounds" in touches:
        groups = problem.public.n_outputs
        ranges = drive(bounds_queries(touches["target bounds"], "y", groups, n), executor.answer)
        given.target_bounds = ranges.bounds
        if not ranges.found.all():
            raise ValueError(
                f"y_bounds=None: noise hides the range of {int((~ranges.found).sum())} of {groups} targets, and a "
                "model fitted to a guess would be useless; the budget of the estimates is spent. Pass "
                "y_bounds=(low, high) with public bounds, which cost nothing"
            )
        if ranges.weak.any():
            given.warnings.append(
                "y_bounds=None: noise lets the range of y be seen only in part, so it may be too wide or too "
                "narrow; pass y_bounds=(low, high) with public bounds"
            )
    if "class counts" in touches:
        (touch,) = touches["class counts"]
        counts = drive(class_counts_queries(touch, len(problem.classes)), executor.answer)
        given.class_weights = counts.sum() / (len(counts) * counts)
    return given
