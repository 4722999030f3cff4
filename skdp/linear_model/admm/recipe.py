"""Numbers of a private ADMM that the user left at ``"auto"``, from public quantities only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Pace", "draw_pace"]

ROUNDS = 100
# Momentum wastes no budget, for rounds of full batches cost no more together than one release; it saves messages.
MOMENTUM = 0.9
# Standard deviation of the privacy noise that a weight without gradient would end with, in units of log-odds (of the
# range of the targets): above it, steps are shortened.
WEIGHT_NOISE = {"classification": 0.4, "regression": 0.1}
# Where residuals have no bound, records with residuals above this share of the targets' range are shortened.
RESIDUAL = 0.5
# With less signal than this, shorter gradients are the smaller harm.
CLEAR_SIGNAL, SHORTEST = 1000.0, 0.5
# Norm that the coefficients of the best model are taken to have, for the schedules whose theory asks for it.
RADIUS = 3.0


@dataclass(frozen=True)
class Pace:
    """Clip norm and step sizes.

    Parameters
    ----------
    clip : float
    rho, curvature, growth, momentum : float
        As in `Terms`.
    """

    clip: float
    rho: float
    curvature: float
    growth: float
    momentum: float


def draw_pace(
    loss: Any,
    task: str,
    *,
    norm: float,
    columns: int,
    rows: int,
    multipliers: Sequence[float],
    rounds: int,
    sampling_rate: float = 1.0,
    clip: float | str = "auto",
    rho: float | str = "auto",
    momentum: float | str = "auto",
    schedule: str = "auto",
) -> Pace:
    r"""Clip norm and step sizes of all sites.

    The common model moves like gradient descent with the learning rate :math:`1/(N(\rho + 1/\eta))`. It is the largest
    stable one, unless the noise in a weight would get too large by it. Half of :math:`\rho + 1/\eta` goes to either.

    Parameters
    ----------
    loss : object
    task : {"binary", "multiclass", "regression"}
    norm : float
        Usual norm of a row, the intercept included.
    columns : int
        Number of coefficients of one output.
    rows : int
        Of all sites.
    multipliers : sequence of float
        Noise multiplier of each site; 0 is no noise.
    rounds : int
    sampling_rate : float
    clip, rho, momentum : float or "auto"
    schedule : {"auto", "smooth", "sqrt"}
        "auto" is constant for losses without kinks, and "sqrt" for others. "smooth" adds to the curvature what grows
        with noise and the root of the round; "sqrt" shrinks steps with the root of the round.

    Returns
    -------
    Pace

    Examples
    --------
    >>> from skdp.linear_model.losses import Logistic
    >>> pace = draw_pace(Logistic(), "binary", norm=2.0, columns=4, rows=10000, multipliers=[1.0], rounds=100)
    >>> pace.clip, pace.rho, pace.curvature
    (2.0, 0.5, 0.5)
    """
    sites = len(multipliers)
    total = math.sqrt(math.fsum(z * z for z in multipliers)) / (sampling_rate * rows)  # noise in units of the clip norm
    if clip == "auto":
        steepest = loss.slope_bound if math.isfinite(loss.slope_bound) else RESIDUAL
        signal = math.inf if total == 0 else math.sqrt(rounds) / total
        clip = norm * steepest * min(max(signal / CLEAR_SIGNAL, SHORTEST), 1.0) if total else math.inf
    noise = total * clip if total else 0.0
    schedule = ("auto" if math.isfinite(loss.curvature) else "sqrt") if schedule == "auto" else schedule
    momentum = (MOMENTUM if schedule == "auto" else 0.0) if momentum == "auto" else float(momentum)
    growth = 0.0
    if schedule == "sqrt":
        steepest = min(clip, norm * loss.slope_bound)
        growth = math.sqrt(2 * (steepest**2 + columns * noise**2)) / RADIUS
        slowest = 1e-3 * growth
    else:
        slowest = loss.curvature * norm**2
        if schedule == "smooth":
            growth = noise * math.sqrt(columns) / RADIUS
        elif noise:
            kind = "regression" if task == "regression" else "classification"
            allowed = WEIGHT_NOISE[kind] * (1 - momentum) / (noise * math.sqrt(rounds))
            slowest = max(slowest, 1 / allowed)
    slowest, growth = slowest / sites, growth / sites
    if rho == "auto":
        rho = slowest / 2 if schedule != "sqrt" else growth
        return Pace(clip, rho, slowest - rho if schedule != "sqrt" else slowest, growth, momentum)
    return Pace(clip, float(rho), max(slowest - rho, slowest / 10), growth, momentum)
