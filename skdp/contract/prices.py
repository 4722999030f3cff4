"""The price list: what a mechanism declares before a row is read, and the event that it amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dp_accounting import dp_event

from skdp.contract.noises import Correlated, Gaussian, Response, Selection
from skdp.contract.samplers import Sampler

__all__ = ["ADJACENCIES", "FEATURE_ROW", "PERSON", "Charge", "Touch"]

# The unit of a mechanism that takes labels as public: only the other columns are protected.
FEATURE_ROW = "feature row"
# The unit of what composes several sites that a person may have rows at.
PERSON = "person"
ADJACENCIES = ("zero-out", "replace-one", "add-remove")


@dataclass(frozen=True)
class Touch:
    """One line of the price list: hashable, public, fixed before a row is read.

    Parameters
    ----------
    name : str
        Unique within its charge, for instance ``"gradient"``.
    sampler : Poisson, FixedOrder or CyclicPoisson
        Which rows a query sees.
    noise : Gaussian, Correlated, Response, Selection or None
        How answers are noised; None is no noise, whose epsilon is infinite.
    count : int
        How many queries may be asked.

    Examples
    --------
    >>> from skdp.contract import Gaussian, Poisson
    >>> touch = Touch("gradient", Poisson(0.01), Gaussian((1.0,)), 1000)
    >>> touch.event(executed=10).count
    10
    """

    name: str
    sampler: Sampler
    noise: Gaussian | Correlated | Response | Selection | None
    count: int

    def __post_init__(self) -> None:
        if self.count < 0 or int(self.count) != self.count:
            raise ValueError(f"touch {self.name!r}: count={self.count!r} must be a whole number of queries")
        if isinstance(self.noise, Correlated):
            self.noise.check(self.sampler)

    @property
    def resumable(self) -> bool:
        """Whether a stopped fit can go on: groups of rows, and earlier noise, are secrets that are stored nowhere."""
        return self.sampler.groups == 1

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
        What one neighbour differs in, in words: ``"row"`` unless a unit column was given, ``"feature row"`` where
        labels are taken as public.
    delta_fail : float
        Probability mass added to delta outside the event (thresholds that may fail).
    split : str
        How the rows came to this spender, in words; empty when it saw all of them.

    Examples
    --------
    >>> from skdp.contract import Gaussian, Poisson
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
        if self.adjacency == "add-remove":
            for touch in self.touches:
                if touch.sampler.groups > 1 or isinstance(touch.noise, Response):
                    what = touch.sampler if touch.sampler.groups > 1 else touch.noise
                    raise ValueError(
                        f"adjacency='add-remove': touch {touch.name!r} has {what}, which says nothing about data sets "
                        "of different length; use adjacency='zero-out' or 'replace-one'"
                    )

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
