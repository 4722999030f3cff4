"""Samplers: which rows a query sees, and how often any one row comes to its turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dp_accounting import dp_event

__all__ = ["CyclicPoisson", "FixedOrder", "Poisson", "Sampler"]

_ROUNDING = 1e-9


class Sampler:
    """Which rows a query sees, by turns: query t can see only the rows of group t mod `groups`.

    The rows are split into groups once, in a random order that depends on their number alone. A row takes part in its
    group's turn with probability `turn_rate`, so of all rows an expected share of `rate` does.

    Examples
    --------
    >>> isinstance(Poisson(0.1), Sampler)
    True
    """

    rate: float
    groups: int

    @property
    def turn_rate(self) -> float:
        """Probability of a row to take part when it is the turn of its group."""
        if self.groups == 1:
            return self.rate
        rate = self.rate * self.groups
        return 1.0 if rate > 1 - _ROUNDING else rate

    def turns(self, count: int) -> int:
        """Most turns that a row has in the first `count` queries."""
        return -(-count // self.groups)

    def event(self, inner: dp_event.DpEvent, count: int) -> dp_event.DpEvent:
        """The first `count` queries, each answered with `inner`: to any one row, only its own turns matter."""
        one = inner if self.turn_rate == 1 else dp_event.PoissonSampledDpEvent(self.turn_rate, inner)
        return dp_event.SelfComposedDpEvent(one, self.turns(count))


@dataclass(frozen=True)
class Poisson(Sampler):
    """Every row takes part independently with probability `rate`; at rate 1 every row always does.

    Parameters
    ----------
    rate : float
        Sampling rate in (0, 1].

    Examples
    --------
    >>> Poisson(0.1).event(dp_event.GaussianDpEvent(1.0), 5).count
    5
    """

    rate: float = 1.0
    groups: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate={self.rate!r} must lie in (0, 1]; use rate=1.0 for full batches")


@dataclass(frozen=True)
class FixedOrder(Sampler):
    """Batches of equal size (to one row) in an order that is drawn once and kept for all epochs.

    Which rows are in which batch depends on the number of rows alone, so nothing is amplified, and a row takes part
    exactly once in `steps_per_epoch` queries.

    Parameters
    ----------
    steps_per_epoch : int
        Number of batches.

    Notes
    -----
    *Formal guarantee.* Zero-out and replace-one neighbours have the same number of rows, hence the same order. In the
    first k queries a row takes part at most ``ceil(k / steps_per_epoch)`` times; the other answers do not depend on it
    but through earlier answers, so only those compose. Under add-remove one row more would move the others.

    Examples
    --------
    >>> FixedOrder(100).event(dp_event.GaussianDpEvent(1.0), 250).count
    3
    """

    steps_per_epoch: int

    def __post_init__(self) -> None:
        if not self.steps_per_epoch >= 1 or int(self.steps_per_epoch) != self.steps_per_epoch:
            raise ValueError(f"steps_per_epoch={self.steps_per_epoch!r} must be a whole number, at least 1")

    @property
    def rate(self) -> float:
        """Share of the rows in one batch."""
        return 1 / self.steps_per_epoch

    @property
    def groups(self) -> int:
        """Every batch is a group, whose rows all take part in its turn."""
        return self.steps_per_epoch

    @property
    def turn_rate(self) -> float:
        """Every row takes part in its turn."""
        return 1.0


@dataclass(frozen=True)
class CyclicPoisson(Sampler):
    """Poisson samples from groups that take turns: query t draws from group t mod `groups`.

    Parameters
    ----------
    rate : float
        Expected share of *all* rows in one query; in its group's turn a row is drawn with ``rate * groups``.
    groups : int
        Number of groups, at most 1 / `rate`; 1 is `Poisson`.

    Notes
    -----
    *Formal guarantee.* To a row, k queries are at most ``ceil(k / groups)`` Poisson samples at rate ``rate * groups``
    (Choquette-Choo et al., *(Amplified) Banded Matrix Factorization*, NeurIPS 2023). Zero-out and replace-one only.

    Examples
    --------
    >>> sampler = CyclicPoisson(0.01, groups=4)
    >>> sampler.turn_rate, sampler.turns(1000)
    (0.04, 250)
    """

    rate: float
    groups: int

    def __post_init__(self) -> None:
        if not self.groups >= 1 or int(self.groups) != self.groups:
            raise ValueError(f"groups={self.groups!r} must be a whole number, at least 1")
        if not 0 < self.rate * self.groups <= 1 + _ROUNDING:
            raise ValueError(
                f"rate={self.rate!r} with groups={self.groups} must be above 0 and at most 1 / groups, for one group's "
                "rows are drawn at rate * groups; use fewer groups or a smaller rate"
            )
