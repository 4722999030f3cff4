"""The price list: what a mechanism declares before a row is read, and the event that it amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from dp_accounting import dp_event

ADJACENCIES = ("zero-out", "replace-one", "add-remove")


@dataclass(frozen=True)
class Poisson:
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

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate={self.rate!r} must lie in (0, 1]; use rate=1.0 for full batches")

    def event(self, inner: dp_event.DpEvent, count: int) -> dp_event.DpEvent:
        """`count` independent samples, each answered with `inner`."""
        one = inner if self.rate == 1 else dp_event.PoissonSampledDpEvent(self.rate, inner)
        return dp_event.SelfComposedDpEvent(one, count)


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussian noise on each value of a query.

    Parameters
    ----------
    multipliers : tuple of float
        One noise multiplier per value: standard deviation over L2 zero-out sensitivity.

    Examples
    --------
    >>> round(Gaussian((2.0, 2.0)).combined, 3)
    1.414
    """

    multipliers: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.multipliers or not all(z > 0 and np.isfinite(z) for z in self.multipliers):
            raise ValueError(f"multipliers={self.multipliers!r} must be positive and finite, one per value")

    @property
    def combined(self) -> float:
        """The single multiplier whose Gaussian costs what answering all values of one sample costs."""
        return float(sum(z**-2 for z in self.multipliers) ** -0.5)

    def event(self, sampler: Poisson, count: int) -> dp_event.DpEvent:
        """`count` queries, each on a fresh sample."""
        return sampler.event(dp_event.GaussianDpEvent(self.combined), count)


@dataclass(frozen=True)
class Response:
    """Randomised response: the class of each row, or with probability `noise_parameter` one drawn from all alike.

    A null row has no class, and answers with one drawn from all alike.

    Parameters
    ----------
    noise_parameter : float
        In (0, 1].
    classes : int
        At least 2.

    Notes
    -----
    *Formal guarantee.* A class is kept with probability :math:`1 - p + p/k`, any other is answered with :math:`p/k`.
    The odds of an answer differ by at most their ratio between two classes (replace-one), and by less between a class
    and the null row (zero-out). Every row answers, so their number is public and there is no bound under add-remove.

    Examples
    --------
    >>> round(Response.at(1.0, 2).noise_parameter, 3)
    0.538
    """

    noise_parameter: float
    classes: int

    def __post_init__(self) -> None:
        if not 0 < self.noise_parameter <= 1 or self.classes < 2:
            raise ValueError(f"{self} needs a noise_parameter in (0, 1] and at least 2 classes")

    @classmethod
    def at(cls, epsilon: float, classes: int) -> Response:
        """The response whose odds differ by exactly the factor ``exp(epsilon)`` between two classes."""
        return cls(float(classes / (np.exp(epsilon) + classes - 1)), classes)

    @property
    def multipliers(self) -> tuple[float, ...]:
        """The noise parameter of its one value."""
        return (self.noise_parameter,)

    @property
    def combined(self) -> None:
        """No Gaussian costs what this does."""

    def event(self, sampler: Poisson, count: int) -> dp_event.DpEvent:
        """`count` responses of all rows."""
        return sampler.event(dp_event.RandomizedResponseDpEvent(self.noise_parameter, self.classes), count)


@dataclass(frozen=True)
class Touch:
    """One line of the price list: hashable, public, fixed before a row is read.

    Parameters
    ----------
    name : str
        Unique within its charge, for instance ``"gradient"``.
    sampler : Poisson
        Which rows a query sees.
    noise : Gaussian, Response or None
        How answers are noised; None is no noise, whose epsilon is infinite.
    count : int
        How many queries may be asked.

    Examples
    --------
    >>> touch = Touch("gradient", Poisson(0.01), Gaussian((1.0,)), 1000)
    >>> touch.event(executed=10).count
    10
    """

    name: str
    sampler: Poisson
    noise: Gaussian | Response | None
    count: int

    def __post_init__(self) -> None:
        if self.count < 0 or int(self.count) != self.count:
            raise ValueError(f"touch {self.name!r}: count={self.count!r} must be a whole number of queries")

    def event(self, executed: int | None = None) -> dp_event.DpEvent:
        """Event of the first `executed` queries (all of them when None); monotone in `executed`."""
        count = self.count if executed is None else executed
        if not 0 <= count <= self.count:
            raise ValueError(f"touch {self.name!r}: executed={count} lies outside 0..{self.count}")
        if count == 0:
            return dp_event.NoOpDpEvent()
        if self.noise is None:
            return dp_event.NonPrivateDpEvent()
        return self.noise.event(self.sampler, count)


@dataclass(frozen=True)
class Charge:
    """A whole price list with the relation that its guarantee is about.

    Parameters
    ----------
    touches : tuple of Touch
    adjacency : {"zero-out", "replace-one", "add-remove"}
    unit : str
        What one neighbour differs in, in words: ``"row"`` unless a unit column was given.
    delta_fail : float
        Probability mass added to delta outside the event (thresholds that may fail).
    split : str
        How the rows came to this spender, in words; empty when it saw all of them.

    Examples
    --------
    >>> touch = Touch("gradient", Poisson(0.01), Gaussian((1.0,)), 1000)
    >>> charge = Charge((touch,)) + Charge((Touch("bounds", Poisson(), Gaussian((20.0,)), 1),))
    >>> len(charge.event().events), len(charge.event({"bounds": 1}).events)
    (2, 1)
    """

    touches: tuple[Touch, ...]
    adjacency: str = "zero-out"
    unit: str = "row"
    delta_fail: float = 0.0
    split: str = ""

    def __post_init__(self) -> None:
        if self.adjacency not in ADJACENCIES:
            raise ValueError(f"adjacency={self.adjacency!r} must be one of {', '.join(ADJACENCIES)}")
        names = [touch.name for touch in self.touches]
        if len(set(names)) != len(names):
            raise ValueError(f"touch names must be unique within a charge, got {names}")

    def __add__(self, other: Charge) -> Charge:
        """The two lists as one; both must speak of the same adjacency and unit."""
        if (self.adjacency, self.unit) != (other.adjacency, other.unit):
            raise ValueError(
                f"cannot add charges of different relations: {self.adjacency!r} per {self.unit} and "
                f"{other.adjacency!r} per {other.unit}"
            )
        split = self.split if self.split == other.split else f"{self.split}; {other.split}".strip("; ")
        return Charge(
            self.touches + other.touches, self.adjacency, self.unit, self.delta_fail + other.delta_fail, split
        )

    def event(self, executed: Mapping[str, int] | None = None) -> dp_event.DpEvent:
        """Composed event, of `executed` counts by touch name or of everything declared."""
        counts = {} if executed is None else executed
        events = [t.event(None if executed is None else counts.get(t.name, 0)) for t in self.touches]
        return dp_event.ComposedDpEvent([e for e in events if not isinstance(e, dp_event.NoOpDpEvent)])
