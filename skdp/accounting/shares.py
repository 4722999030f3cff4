"""How much of a budget one of several price lists takes."""

from __future__ import annotations

import math

from skdp.accounting.relations import gaussian_phases, leaves
from skdp.contract import Charge

__all__ = ["squared_signal"]


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
    return sum(
        count * (scale / z) ** 2 * (1.0 if rate == 1 else rate**2 * (math.e - 1))
        for phase in phases if phase for rate, z, count in phase
    )  # fmt: skip
