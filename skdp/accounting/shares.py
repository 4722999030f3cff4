"""How much of a budget one of several price lists takes, and one of its lines."""

from __future__ import annotations

import math
from collections.abc import Iterable

from skdp.accounting.queries import QueryLine
from skdp.accounting.relations import gaussian_phases, leaves
from skdp.contract import Charge

__all__ = ["line_shares", "squared_signal"]


def squared_signal(charge: Charge, scale: float) -> float:
    """Squared Gaussian-DP parameter of a charge made at a noise scale, as if made at scale 1.

    Of T queries at multiplier z and rate q that is, in the Gaussian limit, q^2 T (exp(1/z^2) - 1); evaluated at a fixed
    z of 1 for subsampled queries, so that multipliers chosen from it stay proportional to the scale. Noise of other
    kinds has a price of its own, which does not follow the scale, and counts as nothing.

    Parameters
    ----------
    charge : Charge
    scale : float
        That it was made at.

    Returns
    -------
    float

    Examples
    --------
    >>> from skdp.contract import Gaussian, Poisson, Touch
    >>> squared_signal(Charge((Touch("sum", Poisson(), Gaussian((20.0,)), 4),)), scale=10.0)
    1.0
    """
    phases = [gaussian_phases([leaf]) for leaf in leaves(charge.event())]
    return sum(_signal(rate, z / scale, count) for phase in phases if phase for rate, z, count in phase)


def line_shares(lines: Iterable[QueryLine]) -> list[float | None]:
    """Share of the squared signal that each line of a price list takes.

    Parameters
    ----------
    lines : iterable of QueryLine

    Returns
    -------
    list of float or None
        In [0, 1]; None for lines without Gaussian noise, whose price is on another scale.

    Examples
    --------
    >>> line_shares([QueryLine("mean", 2.0, 1.0, 1, 1), QueryLine("gradient", 2.0, 1.0, 3, 3)])
    [0.25, 0.75]
    """
    signals = [_signal(*line.phase("planned")) if line.noise_multiplier else None for line in lines]
    total = math.fsum(signal for signal in signals if signal is not None)
    return [None if signal is None else signal / total if total else 0.0 for signal in signals]


def _signal(rate: float, multiplier: float, count: int) -> float:
    return count / multiplier**2 * (1.0 if rate == 1 else rate**2 * (math.e - 1))
