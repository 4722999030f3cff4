"""A Renyi filter and odometer: privacy of charges that may each depend on the results of those before.

With orders a_1, ..., a_m and shares s_1 + ... + s_m <= 1 of delta fixed beforehand, and R_j the sum of the Renyi
divergences at order a_j of all charges so far, the figure

    min over j of  R_j + log(1 - 1/a_j) - (log(s_j delta) + log a_j) / (a_j - 1)

is an epsilon that holds at any time, however charges and that time were chosen from earlier results (the derivation is
in the user guide, *The privacy ledger*). A filter is an odometer that lets nothing pass that would lift the figure
above a ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from skdp.accounting.checks import is_real
from skdp.accounting.relations import Phases, without_noise
from skdp.accounting.renyi import ORDERS, divergences

RENYI_FILTER = "renyi-filter"
# Each order serves totals of another size; beside one that suits a ceiling they get this share of delta.
_ALL_SIZES = tuple(2.0**k for k in range(1, 9))
_BESIDE = 0.1

Orders = tuple[tuple[float, float], ...]


def are_sound(orders: Orders) -> bool:
    """Whether all are above 1, with positive shares of delta that sum up to at most 1."""
    pairs = all(len(pair) == 2 and all(map(is_real, pair)) for pair in orders)
    return pairs and all(1 < a < math.inf and s > 0 for a, s in orders) and sum(s for _, s in orders) <= 1 + 1e-9


@dataclass(frozen=True)
class RenyiFilter:
    """Orders fixed beforehand, with their shares of delta.

    Parameters
    ----------
    orders : tuple of (float, float)
        Each above 1; the shares sum up to at most 1.
    delta : float
        In (0, 1).

    Examples
    --------
    >>> found = RenyiFilter(((10.0, 1.0),), 1e-6)
    >>> round(found.epsilon(np.array([1.0])), 3), found.epsilon(np.array([0.0]))
    (2.174, 0.0)
    """

    orders: Orders
    delta: float

    @classmethod
    def fixed(cls, ceiling: float | None, delta: float, order: str | float | Iterable[float] = "auto") -> RenyiFilter:
        """The filter for a ceiling, by public numbers alone.

        Parameters
        ----------
        ceiling : float or None
        delta : float
        order : "auto", float or iterable of float
            Given orders share delta equally. ``"auto"`` gives 2, 4, ..., 256 a tenth of delta under a ceiling, the rest
            to the order that leaves most for Gaussian releases of all rows; all of it where there is no ceiling.

        Raises
        ------
        ValueError
            An order of 1 or less, or none that leaves anything under the ceiling.
        """
        if order is None or (isinstance(order, str) and order != "auto"):
            raise ValueError(f"order={order!r} must be 'auto', a number above 1, or several of them")
        if not isinstance(order, str):
            orders = _shared(order if isinstance(order, Iterable) else (order,), 1.0)
            if not orders or not are_sound(orders):
                raise ValueError(f"order={order!r} must be 'auto', a number above 1, or several of them")
        elif ceiling is None:
            orders = _shared(_ALL_SIZES, 1.0)
        else:
            capacities = [ceiling - float(cls(((a, 1 - _BESIDE),), delta).gaps[0]) for a in ORDERS]
            best = float(ORDERS[np.argmax(np.array(capacities) / ORDERS)])
            orders = ((best, 1 - _BESIDE), *_shared((a for a in _ALL_SIZES if a != best), _BESIDE))
        found = cls(orders, delta)
        if ceiling is not None and not np.any(found.gaps < ceiling):
            raise ValueError(
                f"epsilon={ceiling!r} is so small at delta={delta!r} that a Renyi filter of order "
                f"{', '.join(f'{a:g}' for a, _ in orders)} admits nothing; use a larger epsilon or delta, a larger "
                "order, or mode='declared'"
            )
        return found

    @property
    def _alphas(self) -> np.ndarray:
        return np.array([a for a, _ in self.orders], dtype=float)

    @property
    def gaps(self) -> np.ndarray:
        """What each order adds to its divergence to give an epsilon (Canonne, Kamath & Steinke, 2020)."""
        alphas = self._alphas
        logs = np.log([share * self.delta for _, share in self.orders])
        return np.log1p(-1 / alphas) - (logs + np.log(alphas)) / (alphas - 1)

    def divergences(self, parts: Phases, adjacency: str) -> np.ndarray:
        """Renyi divergence of an event at each order.

        Raises
        ------
        UnsupportedEventError
            The event has no Renyi bound under this adjacency.
        """
        if without_noise(parts):
            return np.full(len(self.orders), np.inf)
        return divergences(parts, adjacency, self._alphas)

    def epsilon(self, spent: np.ndarray) -> float:
        """Epsilon of everything so far; `spent` is the sum of divergences at each order."""
        if not np.any(spent):
            return 0.0
        return max(0.0, float(np.min(spent + self.gaps)))


def _shared(orders: Iterable[float], share: float) -> Orders:
    orders = list(orders)
    return tuple((float(a), share / len(orders)) for a in orders)
