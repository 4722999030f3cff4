"""The price list: what a mechanism declares before a row is read, and the event that it amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from dp_accounting import dp_event

ADJACENCIES = ("zero-out", "replace-one", "add-remove")

_ROUNDING = 1e-9


class Sampler:
    """Which rows a query sees, by turns: query t can see only the rows of group t mod `groups`.

    The rows are split into groups once, in a random order that depends on their number alone. A row takes part in its
    group's turn with probability `turn_rate`, so of all rows an expected share of `rate` does.
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

    def event(self, sampler: Sampler, count: int) -> dp_event.DpEvent:
        """The first `count` queries of a sampler."""
        return sampler.event(dp_event.GaussianDpEvent(self.combined), count)


@dataclass(frozen=True)
class Correlated:
    r"""Gaussian noise that takes back part of the earlier noise of the same touch.

    With :math:`z_t` independent and standard normal, the noise of query t over multiplier times sensitivity is
    :math:`w_t = (z_t - c_1 w_{t-1} - \dots - c_{b-1} w_{t-b+1}) / c_0`. In other words :math:`w = C^{-1} z` with
    the banded lower triangular Toeplitz matrix :math:`C` of the coefficients.

    Parameters
    ----------
    multipliers : tuple of one float
        Standard deviation of :math:`z` over L2 zero-out sensitivity; the touch answers one value, whose sensitivity
        is the same in all queries.
    coefficients : tuple of float
        :math:`c_0 > 0, c_1, \dots`, with squares that sum up to at most 1.

    Notes
    -----
    *Formal guarantee.* Let :math:`G` be the exact answers, one a row, and :math:`\sigma` multiplier times
    sensitivity. From the published :math:`G + \sigma w` one computes :math:`CG + \sigma z` and back, so publishing
    either is the same. :math:`C` is lower triangular, so queries may depend on earlier answers (Denisov et al.,
    2022). A record that takes part in steps :math:`t_1, \dots, t_k` moves :math:`CG` by the sum of the outer
    products of the columns :math:`C_{\cdot t_i}` with vectors no longer than the sensitivity :math:`S`. Its turns
    are at least `groups` steps apart, and with at most that many bands its columns share no row of :math:`C`. So
    the squared norms add up, to at most :math:`k S^2`, because no column is longer than the coefficients (the last
    ones are cut off, hence shorter). That is what :math:`k` independent Gaussian answers cost: one Gaussian of
    multiplier :math:`z / \sqrt k`. A prefix of the answers needs the same rows of :math:`C` and no others, so it is
    priced alike. If the record is drawn at random in its turns, the blocks of rows that its columns fill are
    :math:`k` Poisson-subsampled Gaussians, each given all earlier ones.

    References
    ----------
    Denisov, McMahan, Rush, Smith, Thakurta, *Improved Differential Privacy for SGD via Optimal Private Linear
    Operators on Adaptive Streams*, NeurIPS 2022. Choquette-Choo et al., *(Amplified) Banded Matrix Factorization: A
    unified approach to private training*, NeurIPS 2023.

    Examples
    --------
    >>> noise = Correlated((4.0,), (0.8, 0.6))
    >>> noise.event(FixedOrder(10), 25)
    SelfComposedDpEvent(event=GaussianDpEvent(noise_multiplier=4.0), count=3)
    """

    multipliers: tuple[float, ...]
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.multipliers) != 1 or not 0 < self.multipliers[0] < np.inf:
            raise ValueError(f"multipliers={self.multipliers!r} must hold one positive finite number")
        squares = sum(c * c for c in self.coefficients)
        if not (self.coefficients and self.coefficients[0] > 0 and squares <= 1 + _ROUNDING):
            raise ValueError(
                f"coefficients={self.coefficients!r} must start with a positive number, and their squares may sum up "
                f"to at most 1, not {squares:g}; divide them by the root of that"
            )

    @property
    def combined(self) -> float:
        """The multiplier whose Gaussian costs what one turn of a row costs."""
        return self.multipliers[0]

    def check(self, sampler: Sampler) -> None:
        """Refuse a sampler that may bring a row back while its earlier noise is still being taken back.

        Parameters
        ----------
        sampler : Sampler

        Raises
        ------
        ValueError
        """
        if len(self.coefficients) > sampler.groups:
            raise ValueError(
                f"{len(self.coefficients)} bands of correlated noise need turns of a row that are at least as many "
                f"steps apart, but those of {sampler} may be {sampler.groups}; use fewer bands"
            )

    def event(self, sampler: Sampler, count: int) -> dp_event.DpEvent:
        """The first `count` answers; `ValueError` where a row may come back too early."""
        self.check(sampler)
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
    sampler : Poisson, FixedOrder or CyclicPoisson
        Which rows a query sees.
    noise : Gaussian, Correlated, Response or None
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
    sampler: Sampler
    noise: Gaussian | Correlated | Response | None
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
