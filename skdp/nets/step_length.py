"""How far a fit of the default net goes, and how much of it may be nonlinear: functions of public quantities."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skdp.contract import Public
from skdp.nets.pace import ADAPTIVE_SIGNAL, STEPS

__all__ = ["StepLength", "capped_signal", "count_variables", "is_paced", "nonlinear_share", "step_length"]


def capped_signal(public: Public, signal: float) -> float:
    """Signal of which more would change no automatic value: privacy noise is then far below sampling noise.

    Parameters
    ----------
    public : Public
    signal : float
        Gaussian-DP parameter of the budget times the number of rows; ``inf`` for a fit without noise.

    Returns
    -------
    float

    Examples
    --------
    >>> from skdp.contract import Public
    >>> capped_signal(Public(n=100, input_shape=(3,), n_outputs=1, task="binary"), math.inf)
    1000.0
    """
    return min(signal, 10.0 * public.n)


def nonlinear_share(public: Public, signal: float) -> float:
    """Share of the row energy that nonlinear features may take, from 0 (a linear model) to almost 1.

    Parameters
    ----------
    public : Public
    signal : float
        Gaussian-DP parameter of the budget times the number of rows.

    Returns
    -------
    float

    Examples
    --------
    >>> from skdp.contract import Public
    >>> small = Public(n=455, input_shape=(30,), n_outputs=1, task="binary")
    >>> round(nonlinear_share(small, signal=180.0), 2)
    0.02
    """
    per_variable = effective_signal(public, signal) / max(count_variables(public), 1)
    return per_variable**2 / (per_variable**2 + 40.0**2)


def effective_signal(public: Public, signal: float) -> float:
    """Signal after the sampling noise, which n rows have without any privacy: never above n."""
    return signal / math.sqrt(1 + (signal / public.n) ** 2)


@dataclass(frozen=True)
class StepLength:
    """How far a fit of the default net goes.

    Parameters
    ----------
    clip : float
        Clip norm.
    noise : float
        Standard deviation of the privacy noise that a weight without gradient ends with.
    length : float
        ``lr * steps / (1 - momentum)`` where the learning rate is not held back by stability.
    steps : int
    lr : float
        On the mean gradient.
    momentum : float
    rate : float, default=1.0
        Share of the rows in one step.
    """

    clip: float
    noise: float
    length: float
    steps: int
    lr: float
    momentum: float
    rate: float = 1.0


def step_length(public: Public, signal: float) -> StepLength:
    """Clip norm and total step length from public quantities.

    The noise in an unlearnt weight is held near one for log-odds and near a third for regression outputs
    in [-1, 1]; for classes a linear model, which has few weights, takes more. Smaller clip norms suit weak signals:
    gradients are then nearly of one length, like in a median.

    Parameters
    ----------
    public : Public
    signal : float
        Gaussian-DP parameter of the budget times the number of rows.

    Returns
    -------
    StepLength

    Examples
    --------
    >>> from skdp.contract import Public
    >>> step_length(Public(n=20000, input_shape=(8,), n_outputs=1, task="regression"), signal=4000.0).clip
    0.4
    """
    signal = capped_signal(public, signal)
    share = nonlinear_share(public, signal)
    if public.task == "regression":
        clip, noise = min(max(signal / 10000, 0.2), 0.6), 0.22 * (1 - share) + 0.35 * share
    else:
        clip = min(max(signal / 1500, 0.2), 1.0)
        noise = 2.4 * (1 - share) + (2.3 if is_paced(public, signal) else 1.2) * share
    length = noise * effective_signal(public, signal) / clip
    # Twice the inverse curvature is the stability limit without momentum; stay well below it.
    largest = 2.6 / {"regression": 1.25, "binary": 0.3, "multiclass": 0.6}[public.task]
    # A light ball wastes fewer steps on getting going; a heavy one is for lengths that it alone can reach.
    momentum = 0.95 if is_paced(public, signal) or length * 0.1 / STEPS > largest else 0.9
    return StepLength(clip, noise, length, STEPS, min(length * (1 - momentum) / STEPS, largest), momentum)


def is_paced(public: Public, signal: float) -> bool:
    """Whether released gradients are clear and unclipped enough for a classifier to adapt its steps."""
    return public.task == "binary" and signal >= ADAPTIVE_SIGNAL


def count_variables(public: Public) -> int:
    """Variables behind the columns; a categorical one is taken to have about eight categories."""
    indicators = len(public.indicators)
    return math.prod(public.input_shape) - indicators + math.ceil(indicators / 8)
