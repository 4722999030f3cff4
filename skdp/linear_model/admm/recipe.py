"""Numbers of a private ADMM that the user left at ``"auto"``, from public quantities only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skdp.linear_model.pace import clip_growth, pace, usual_bound

__all__ = ["Pace", "draw_pace"]

ROUNDS = 100
# Of losses without kinks in a fit without noise. Momentum saves messages: rounds of full batches cost no budget.
MOMENTUM = 0.9
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
    outputs: int = 1,
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
    stable one, unless the noise in a weight would get too large by it; see `skdp.linear_model.pace`. Half of
    :math:`\rho + 1/\eta` goes to either.

    Parameters
    ----------
    loss : object
    task : {"binary", "multiclass", "regression"}
    norm : float
        Usual norm of a row, the intercept included.
    columns : int
        Number of coefficients of one output.
    outputs : int
    rows : int
        Of all sites.
    multipliers : sequence of float
        Noise multiplier of each site; 0 is no noise.
    rounds : int
    sampling_rate : float
    clip, rho, momentum : float or "auto"
    schedule : {"auto", "smooth", "sqrt"}
        "auto" is constant, but for losses with kinks in a fit without noise, whose steps have to shrink. "smooth" adds
        to the curvature what grows with noise and the root of the round; "sqrt" shrinks steps with the root of the
        round.

    Returns
    -------
    Pace

    Examples
    --------
    >>> from skdp.linear_model.losses import Logistic
    >>> found = draw_pace(Logistic(), "binary", norm=2.0, columns=4, rows=1000, multipliers=[10.0], rounds=100)
    >>> found.clip, found.rho, found.curvature
    (1.6, 0.5, 0.5)
    """
    sites, regression = len(multipliers), task == "regression"
    # Noise of the sum of all sites in one round, and of all rounds together, in units of the clip norm.
    each = math.sqrt(math.fsum(z * z for z in multipliers)) / sampling_rate
    whole = each / math.sqrt(rounds)
    signal = rows / math.hypot(1.0, whole)
    if clip == "auto":
        clip = usual_bound(loss, outputs, regression, norm) * clip_growth(signal, norm) if each else math.inf
    loudness = each * clip / rows * math.sqrt(outputs * columns) if each else 0.0  # of the mean gradient in one round
    if schedule == "auto" and not math.isfinite(loss.curvature) and not each:
        schedule = "sqrt"
    own, growth = 0.0, 0.0
    if schedule == "sqrt":
        steepest = min(clip, usual_bound(loss, outputs, False, norm))
        growth = math.sqrt(2 * (steepest**2 + loudness**2)) / RADIUS
        slowest = 1e-3 * growth
    elif schedule == "smooth" or not each:
        slowest = min(loss.curvature, 2.0) * norm**2
        growth = loudness / RADIUS
        own = MOMENTUM if schedule == "auto" else 0.0
    else:
        rate, own = pace(loss, regression, signal=signal, length=norm, bound=clip, steps=rounds)
        slowest = 1 / rate
    momentum = own if momentum == "auto" else float(momentum)
    slowest, growth = slowest / sites, growth / sites
    if rho == "auto":
        rho = growth if schedule == "sqrt" else slowest / 2
        return Pace(clip, rho, slowest if schedule == "sqrt" else slowest - rho, growth, momentum)
    return Pace(clip, float(rho), max(slowest - rho, slowest / 10), growth, momentum)
