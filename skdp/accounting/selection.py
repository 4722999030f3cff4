"""Runs of a private selection that differ in their price list: what each must not exceed."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from dp_accounting import dp_event

from skdp.accounting.relations import phases
from skdp.accounting.renyi import ORDERS, divergences, from_curve
from skdp.contract import Charge
from skdp.exceptions import CalibrationError

__all__ = ["Ceiling", "ceiling_of"]

_PRECISE = 1e-3  # relative width at which the search for a run's noise ends
_MOST_NOISE = 1e9


class Ceiling:
    """Renyi divergence that no run of a selection exceeds, at the two orders on which its claim rests.

    Parameters
    ----------
    orders : ndarray of shape (2,)
    divergences : ndarray of shape (2,)
    adjacency : str

    Notes
    -----
    A run that draws its candidate at random and then spends that candidate's price list has, at every order, at most
    the largest divergence of the lists. The bound on the selection uses the divergence of a run at two orders only, so
    lists below those of the reference at these two cost no more than the reference does.

    Examples
    --------
    >>> Ceiling(np.array([4.0, 8.0]), np.array([0.02, 0.04]), "zero-out").gaussian
    10.0
    """

    def __init__(self, orders: np.ndarray, divergences: np.ndarray, adjacency: str):
        self.orders = orders
        self.divergences = divergences
        self.adjacency = adjacency

    @property
    def gaussian(self) -> float:
        """Smallest noise multiplier of one full-batch Gaussian release below the ceiling (zero-out or add-remove)."""
        return float(np.sqrt(self.orders / (2 * self.divergences)).max())

    def scale(self, charge_at: Callable[[float], Charge]) -> float:
        """Smallest noise scale, to a tenth of a percent, at which a price list stays below the ceiling.

        Parameters
        ----------
        charge_at : callable
            From a scale to the `Charge`.

        Returns
        -------
        float

        Raises
        ------
        CalibrationError
            No scale is large enough.
        """

        def below(scale: float) -> bool:
            parts = phases(charge_at(scale).event())
            return bool((divergences(parts, self.adjacency, self.orders) <= self.divergences).all())

        high = 1.0
        while not below(high):
            high *= 2
            if high > _MOST_NOISE:
                raise CalibrationError("no noise brings this candidate below what the search has paid for one run")
        low = high / 2
        while low > 1 / _MOST_NOISE and below(low):
            low, high = low / 2, low
        while high / low > 1 + _PRECISE:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if below(middle) else (middle, high)
        return high


def ceiling_of(charge: Charge, epsilon: float, delta: float) -> Ceiling:
    """The ceiling on runs of a charge that is one private selection.

    Parameters
    ----------
    charge : Charge
        With one touch, whose noise is a `skdp.contract.Selection`.
    epsilon, delta : float
        What the selection is certified to cost at most.

    Returns
    -------
    Ceiling

    Raises
    ------
    CalibrationError
        No two orders show that the selection costs no more than `epsilon`.
    """
    event = charge.event()
    selection = next(leaf for leaf, _ in phases(event))

    @cache
    def claim(one: float, two: float) -> float:
        orders = np.array(sorted({one, two}))
        return from_curve(divergences(((selection, 1),), charge.adjacency, orders), orders, delta)

    whole = divergences(((selection, 1),), charge.adjacency)
    bounds = whole + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    best = float(ORDERS[np.nanargmin(bounds)])
    other = min((float(order) for order in ORDERS), key=lambda order: claim(best, order))
    if claim(best, other) > epsilon * (1 + 1e-9):
        raise CalibrationError(
            f"the claim of epsilon={epsilon:g} for this search rests on more than two Renyi orders; use another "
            "distribution of the number of trials"
        )
    orders = np.array([best, other])
    run = dp_event.ComposedDpEvent([touch.event() for touch in charge.touches[0].noise.touches])
    return Ceiling(orders, divergences(phases(run), charge.adjacency, orders), charge.adjacency)
