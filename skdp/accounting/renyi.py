"""Renyi differential privacy by `dp_accounting`: looser than the PLD, for events that have no PLD."""

from __future__ import annotations

import logging
import math

import numpy as np
from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant

from skdp.accounting.relations import Phases, given

# few of the fractional orders, whose series are slow, and large ones for tiny epsilons
ORDERS = np.concatenate(
    [
        1 + np.geomspace(1e-3, 0.1, 5),
        np.arange(1.2, 11, 0.2),
        np.arange(11, 64),
        2.0 ** np.arange(6, 13, 0.5) // 1,
    ]
)

# dp_accounting adds up logarithms of binomials in double precision. At huge noise a step's moment is less than what is
# lost there, and its curve reads 0: every step pays for the rounding instead.
_LOG_MOMENT_ERROR = 1e-11
# Where the divergence of a run is lost in rounding, dp_accounting's bound on selections takes the logarithm of 0.
_NEXT_TO_NOTHING = dp_event.GaussianDpEvent(1e6)


def divergences(parts: Phases, adjacency: str, orders: np.ndarray = ORDERS) -> np.ndarray:
    """Renyi divergence at each order: an upper bound, infinite where there is no noise or a series diverges."""
    curve = np.zeros(len(orders))
    for leaf, count in parts:
        event, relation = given(leaf, adjacency, "rdp")
        if isinstance(event, dp_event.RepeatAndSelectDpEvent):
            runs = dp_event.ComposedDpEvent([event.event, _NEXT_TO_NOTHING])
            event = dp_event.RepeatAndSelectDpEvent(runs, event.mean, event.shape)
        curve += _quietly(event, relation, count, orders) + count * _LOG_MOMENT_ERROR / (orders - 1)
    return np.where(np.isnan(curve), np.inf, curve)


def _quietly(event: dp_event.DpEvent, relation: object, count: int, orders: np.ndarray) -> np.ndarray:
    """dp_accounting's curve; orders that do not converge are logged and left out there, which is safe."""
    logger = logging.getLogger("absl")
    logger.addFilter(_silence)
    try:
        with np.errstate(all="ignore"):
            return RdpAccountant(orders, relation).compose(event, count).rdp
    finally:
        logger.removeFilter(_silence)


def _silence(record: logging.LogRecord) -> bool:
    return "_compute_log_a_frac" not in str(record.msg)


def renyi_epsilon(parts: Phases, delta: float, adjacency: str) -> float:
    """Conversion of Canonne, Kamath & Steinke (2020), and of total variation for very large delta."""
    if delta == 0:
        return math.inf
    return from_curve(divergences(parts, adjacency), ORDERS, delta)


def from_curve(curve: np.ndarray, orders: np.ndarray, delta: float) -> float:
    """The same conversion of a curve."""
    if np.any(delta**2 >= -np.expm1(-curve)):
        return 0.0
    bounds = curve + np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    return max(0.0, float(np.min(bounds)))


def renyi_delta(parts: Phases, epsilon: float, adjacency: str) -> float:
    """The same conversion the other way round."""
    curve = divergences(parts, adjacency)
    logs = (ORDERS - 1) * (curve - epsilon + np.log1p(-1 / ORDERS)) - np.log(ORDERS)
    return min(math.exp(min(0.0, float(np.min(logs)))), math.sqrt(-math.expm1(-float(np.min(curve)))))
