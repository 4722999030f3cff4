"""A private selection from a random number of runs: what it costs, and what a run of another price must not exceed."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from dp_accounting import dp_event

from skdp.accounting.checks import event_delta
from skdp.accounting.relations import phases
from skdp.accounting.renyi import ORDERS, divergences, from_curve
from skdp.contract import Charge, Poisson, Selection, Touch
from skdp.exceptions import CalibrationError

__all__ = ["Ceiling", "ceiling_of", "selection_charge"]

_PRECISE = 1e-3  # relative width at which the search for a run's noise ends
_MOST_NOISE = 1e9


def selection_charge(run: Charge, mean: float, shape: float | None) -> Charge:
    r"""Price of a random number of runs, of which the best one is shown and nothing else.

    Parameters
    ----------
    run : Charge
        The most that one run costs.
    mean : float
        Expected number of runs, at least 1.
    shape : float or None
        Of its distribution, as in `skdp.contract.Selection`.

    Returns
    -------
    Charge
        With one touch, and `mean` times the failure probability of a run.

    Notes
    -----
    *Formal guarantee* (zero-out), where runs may show values that few rows have. Let :math:`D'` be :math:`D` with one
    row nulled, :math:`M` a run, and :math:`\delta_f` the ``delta_fail`` of `run`. As proved for
    `skdp.releases.discovery_queries`, there are :math:`G`, which is :math:`M(D)` without the values that :math:`D`
    alone has, and :math:`H`, which is :math:`M(D')` with those values added as they come in :math:`M(D)`, such that

    - :math:`M(D)` is within :math:`\delta_f` in total variation of :math:`G`, and :math:`M(D')` of :math:`H`,
    - the Renyi divergences of the touches bound :math:`G` and :math:`M(D')`, and :math:`M(D)` and :math:`H`, in both
      directions: in each pair the same values are counted, with the same Gaussian noise, and what is asked later has
      the same price whatever they are.

    :math:`A[\cdot]` selects from :math:`K` independent runs. Papernot and Steinke bound a selection for any two
    distributions of a run whose divergences are bounded both ways. So at the :math:`(\varepsilon, \delta')` which
    their bound gives, the selections from :math:`G` and from :math:`M(D')` are close, and those from :math:`M(D)` and
    from :math:`H`. Runs can be coupled one by one, and :math:`K` is independent of all of them: the selections from
    :math:`M(D)` and :math:`G` differ with probability :math:`1 - E[(1 - \delta_f)^K] \le E[K]\,\delta_f` at most,
    and so do those from :math:`M(D')` and :math:`H`. Hence in both directions

    .. math::

        P[A[M(D)] \in S] &\le P[A[G] \in S] + E[K]\,\delta_f
            \le e^\varepsilon P[A[M(D')] \in S] + \delta' + E[K]\,\delta_f, \\
        P[A[M(D')] \in S] &\le P[A[H] \in S] + E[K]\,\delta_f
            \le e^\varepsilon P[A[M(D)] \in S] + \delta' + E[K]\,\delta_f .

    By way of :math:`G` alone, the last term of the second line would have a factor :math:`e^\varepsilon`.

    References
    ----------
    Papernot and Steinke, *Hyperparameter Tuning with Renyi Differential Privacy*, ICLR 2022, theorems 2 and 6.

    Examples
    --------
    >>> from skdp.contract import Gaussian
    >>> run = Charge((Touch("column categories", Poisson(), Gaussian((20.0,)), 1),), delta_fail=1e-8)
    >>> selection_charge(run, 10.0, 1.0).delta_fail
    1e-07
    """
    noise = Selection(run.touches, float(mean), shape)
    return Charge((Touch("search", Poisson(), noise, 1),), run.adjacency, run.unit, mean * run.delta_fail)


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
        What the selection is certified to cost at most, `charge.delta_fail` included.

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
    budget = event_delta(delta, charge.delta_fail)

    @cache
    def claim(one: float, two: float) -> float:
        orders = np.array(sorted({one, two}))
        return from_curve(divergences(((selection, 1),), charge.adjacency, orders), orders, budget)

    whole = divergences(((selection, 1),), charge.adjacency)
    bounds = whole + np.log1p(-1 / ORDERS) - (math.log(budget) + np.log(ORDERS)) / (ORDERS - 1)
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
