"""From parameters and public facts to the terms of all sites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from skdp.accounting import calibrate
from skdp.linear_model.admm.recipe import ROUNDS, draw_pace
from skdp.linear_model.admm.terms import Terms, rounds_charge
from skdp.linear_model.rows import linear_arrays, linear_rows, usual_length
from skdp.neural_network.problem import Problem
from skdp.releases.row_pieces import ShiftedRows, StreamedRows

__all__ = ["agree", "arrays_for", "multiplier_for", "rounds_of", "squared_norms"]


def rounds_of(estimator: Any) -> int:
    """Number of rounds."""
    return ROUNDS if estimator.rounds == "auto" else int(estimator.rounds)


def multiplier_for(estimator: Any, epsilon: float | None, delta: float) -> float | None:
    """Noise multiplier of a site with a budget for all rounds; None is no noise."""
    if epsilon is None:
        return float(estimator.noise_multiplier)
    if math.isinf(epsilon):
        return None
    rounds, rate = rounds_of(estimator), float(estimator.sampling_rate)
    return calibrate(lambda scale: rounds_charge(scale, rounds, rate, estimator.adjacency), epsilon, delta).scale


def agree(
    estimator: Any,
    problem: Problem,
    *,
    delta: float,
    rows: Sequence[int],
    multipliers: Sequence[float | None],
    norm: float | None = None,
) -> Terms:
    """The terms that sites with these facts come to, each by itself.

    Parameters
    ----------
    estimator : DPADMMClassifier or DPADMMRegressor
        Its parameters.
    problem : Problem
        Only its public facts are looked at, and whether rows are sparse.
    delta : float
        Already resolved.
    rows : sequence of int
        Public number of rows of each site.
    multipliers : sequence of float or None
        Noise multiplier of each site.
    norm : float, optional
        Usual norm of a row, where it is known because no site adds noise.

    Returns
    -------
    Terms

    Raises
    ------
    ValueError
        For parameters that make no sense.
    """
    public = problem.public
    loss, penalty = estimator._loss(public.task), estimator._penalty()
    classes = problem.classes
    bounds = estimator._given_feature_bounds(public)
    targets = None if classes is not None else estimator._given_target_bounds(public.n_outputs)
    weights = None if classes is None else estimator._class_weights(classes)
    # Relative to the largest: what is above 1 would mostly be lost to clipping. The optimum stays where it is.
    heaviest = 1.0 if weights is None else float(weights.max())
    intercept = bool(estimator.fit_intercept)
    silent = not any(multipliers)
    columns = getattr(estimator, "feature_names_in_", range(public.input_shape[0]))
    numbers = draw_pace(
        loss,
        public.task,
        norm=usual_length(problem.inputs, bounds, len(public.indicators), intercept) if norm is None else norm,
        columns=public.input_shape[0] + intercept,
        outputs=public.n_outputs,
        rows=sum(rows),
        multipliers=[multiplier or 0.0 for multiplier in multipliers],
        rounds=rounds_of(estimator),
        sampling_rate=float(estimator.sampling_rate),
        clip=estimator.max_grad_norm,
        rho=estimator.rho,
        momentum=estimator.momentum,
        schedule=estimator.schedule,
    )
    average = estimator.average
    if average == "auto":
        average = 0.0 if silent and math.isfinite(loss.curvature) else 0.5
    return Terms(
        columns=tuple(map(str, columns)),
        task=public.task,
        outputs=public.n_outputs,
        rows=sum(rows),
        sites=len(rows),
        classes=None if classes is None else tuple(classes.tolist()),
        loss=estimator.loss if isinstance(estimator.loss, str) else "huber",
        huber_scale=getattr(loss, "scale", 0.1),
        alpha=penalty.alpha / heaviest,
        l1=penalty.l1,
        fit_intercept=intercept,
        feature_bounds=_pairs(bounds),
        target_bounds=_pairs(targets),
        class_weights=None if weights is None else tuple((weights / heaviest).tolist()),
        rounds=rounds_of(estimator),
        sampling_rate=float(estimator.sampling_rate),
        average=float(average),
        adjacency=public.adjacency,
        delta=delta,
        loudest=max((multiplier or 0.0 for multiplier in multipliers), default=0.0) or 1.0,
        **vars(numbers),
    )


def arrays_for(problem: Problem, terms: Terms) -> dict[str, np.ndarray]:
    """Private rows as sites train on them."""
    weights = None if terms.class_weights is None else np.array(terms.class_weights)
    return linear_arrays(
        problem,
        terms.loss_function,
        feature_bounds=terms.bounds("feature_bounds"),
        target_bounds=terms.bounds("target_bounds"),
        fit_intercept=terms.fit_intercept,
        class_weights=weights,
    )


def squared_norms(estimator: Any, problem: Problem) -> float:
    """Sum of the squared norms of rows: where nothing is private, steps may be stable for rows of any size."""
    X = linear_rows(problem.inputs, estimator._given_feature_bounds(problem.public), bool(estimator.fit_intercept))
    if isinstance(X, ShiftedRows):
        return float(np.square(X.lengths()).sum())
    parts = X.contents() if isinstance(X, StreamedRows) else (X,)
    return sum(float(np.einsum("ij,ij->", part, part)) for part in parts)


def _pairs(bounds: np.ndarray | None) -> tuple[tuple[float, float], ...] | None:
    return None if bounds is None else tuple(map(tuple, bounds.tolist()))
