"""Calibration by bisection with any accountant: slow, for what the search of Poisson Gaussians cannot take."""

from __future__ import annotations

import math
from collections.abc import Callable

from skdp.accounting import accountants
from skdp.accounting.calibration_search import LEAST_MULTIPLIER
from skdp.contract import Charge
from skdp.exceptions import CalibrationError

_PRECISE = 5e-4  # relative width at which the bisection ends
_MOST_NOISE = 1e9


def any_event(
    charge_at: Callable[[float], Charge], charge: Charge, epsilon: float, delta: float
) -> tuple[float, float, str]:
    """For mechanisms other than Poisson Gaussians: whatever accountant bounds the event."""
    for touch in charge.touches:
        if touch.count and touch.noise is None:
            raise CalibrationError(
                f"touch {touch.name!r} adds no noise, so no scale gives epsilon={epsilon!r}; give it noise or ask "
                "for epsilon=inf"
            )
    return bisect(charge_at, epsilon, delta, "auto")


def bisect(
    charge_at: Callable[[float], Charge], epsilon: float, delta: float, accountant: str
) -> tuple[float, float, str]:
    """Scale within the target, certified epsilon and accountant."""

    def cost(scale: float) -> float:
        charge = charge_at(scale)
        return accountants.epsilon(charge.event(), delta, charge.adjacency, accountant)

    high = 1.0
    while cost(high) > epsilon:
        # What follows the scale costs next to nothing at the largest, and the rest costs what it costs at any.
        if high == 1 and (least := cost(_MOST_NOISE)) > epsilon:
            raise CalibrationError(
                f"epsilon={epsilon!r}, delta={delta!r} is out of reach: a scale of {_MOST_NOISE:.0e} still costs "
                f"{least:.4g}{_fixed(charge_at)}; raise epsilon or ask for fewer queries"
            )
        high *= 2
    low = high / 2
    while low > LEAST_MULTIPLIER and cost(low) <= epsilon:
        low, high = low / 2, low
    while high / low > 1 + _PRECISE:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if cost(middle) <= epsilon else (middle, high)
    charge = charge_at(high)
    name = accountants.which_accountant(charge.event(), charge.adjacency, accountant, delta)
    return high, cost(high), name


def _fixed(charge_at: Callable[[float], Charge]) -> str:
    """Names of the touches whose noise no scale changes, for a message."""
    pairs = zip(charge_at(1.0).touches, charge_at(2.0).touches, strict=True)
    names = [repr(one.name) for one, two in pairs if one.count and one == two]
    if not names:
        return ""
    return f", which is the price of {', '.join(names)} (give them more noise; for labels, a smaller label_epsilon)"
