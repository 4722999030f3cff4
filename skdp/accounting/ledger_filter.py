"""A Renyi filter and odometer: privacy of charges that may each depend on the results of those before.

With orders a_1, ..., a_m and delta fixed beforehand, and R_j the sum of the Renyi divergences at order a_j of all
charges so far, the figure

    min over j of  R_j + log(1 - 1/a_j) - (log(delta / m) + log a_j) / (a_j - 1)

is an epsilon that holds at any time, however charges and that time were chosen from earlier results (the derivation is
in the user guide, *The privacy ledger*). A filter is an odometer that lets nothing pass that would lift the figure
above a ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from skdp.accounting.relations import Phases, without_noise
from skdp.accounting.renyi import ORDERS, divergences

RENYI_FILTER = "renyi-filter"
# Where no ceiling says how large epsilon will be: each order serves totals of another size.
_WITHOUT_CEILING = tuple(2.0**k for k in range(1, 9))


@dataclass(frozen=True)
class RenyiFilter:
    """Orders fixed beforehand, and the delta that they share equally.

    Parameters
    ----------
    orders : tuple of float
        Each above 1.
    delta : float
        In (0, 1).

    Examples
    --------
    >>> found = RenyiFilter((10.0,), 1e-6)
    >>> round(found.epsilon(np.array([1.0])), 3), found.epsilon(np.array([0.0]))
    (2.174, 0.0)
    """

    orders: tuple[float, ...]
    delta: float

    @classmethod
    def fixed(cls, ceiling: float | None, delta: float, order: str | float | Iterable[float] = "auto") -> RenyiFilter:
        """The filter for a ceiling, by public numbers alone.

        Parameters
        ----------
        ceiling : float or None
        delta : float
        order : "auto", float or iterable of float
            ``"auto"`` is the order that leaves most for Gaussian releases of all rows under the ceiling; without one it
            is 2, 4, ..., 256.

        Raises
        ------
        ValueError
            An order of 1 or less, or none that leaves anything under the ceiling.
        """
        if not isinstance(order, str):
            orders = tuple(float(a) for a in (order if isinstance(order, Iterable) else (order,)))
            if not orders or not all(1 < a < math.inf for a in orders):
                raise ValueError(f"order={order!r} must be 'auto', a number above 1, or several of them")
        elif order != "auto":
            raise ValueError(f"order={order!r} must be 'auto', a number above 1, or several of them")
        elif ceiling is None:
            orders = _WITHOUT_CEILING
        else:
            capacities = [ceiling - float(cls((a,), delta).gaps[0]) for a in ORDERS]
            orders = (float(ORDERS[np.argmax(np.array(capacities) / ORDERS)]),)
        found = cls(orders, delta)
        if ceiling is not None and not np.any(found.gaps < ceiling):
            raise ValueError(
                f"epsilon={ceiling!r} is so small at delta={delta!r} that a Renyi filter of order "
                f"{', '.join(f'{a:g}' for a in orders)} admits nothing; use a larger epsilon or delta, a larger order, "
                "or mode='declared'"
            )
        return found

    @property
    def gaps(self) -> np.ndarray:
        """What each order adds to its divergence to give an epsilon (Canonne, Kamath & Steinke, 2020)."""
        orders = np.array(self.orders)
        share = math.log(self.delta / len(orders))
        return np.log1p(-1 / orders) - (share + np.log(orders)) / (orders - 1)

    def divergences(self, parts: Phases, adjacency: str) -> np.ndarray:
        """Renyi divergence of an event at each order.

        Raises
        ------
        UnsupportedEventError
            The event has no Renyi bound under this adjacency.
        """
        if without_noise(parts):
            return np.full(len(self.orders), np.inf)
        return divergences(parts, adjacency, np.array(self.orders))

    def epsilon(self, spent: np.ndarray) -> float:
        """Epsilon of everything so far; `spent` is the sum of divergences at each order."""
        if not np.any(spent):
            return 0.0
        return max(0.0, float(np.min(spent + self.gaps)))
