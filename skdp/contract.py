"""What a mechanism declares, asks and gets back. Nothing here ever holds a row.

A *touch* is one line of a price list: which rows a family of queries may see, how its answers are noised, and how
often it may be asked. A *charge* is the whole list. Events (and so epsilon) are derived from touches and nowhere
restated. A *query* points to a touch and names the values to be computed from one sample; an executor, the only
holder of rows and secret noise, answers it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from dp_accounting import dp_event

__all__ = [
    "ADJACENCIES",
    "Answers",
    "Book",
    "Charge",
    "ClippedSum",
    "Counts",
    "Executor",
    "Gaussian",
    "Model",
    "NormBelow",
    "Plan",
    "Poisson",
    "Public",
    "Query",
    "Spender",
    "Touch",
    "Update",
    "Value",
    "drive",
]

ADJACENCIES = ("zero-out", "replace-one", "add-remove")


# ------------------------------------------------------------------ the price list
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
class Touch:
    """One line of the price list: hashable, public, fixed before a row is read.

    Parameters
    ----------
    name : str
        Unique within its charge, for instance ``"gradient"``.
    sampler : Poisson
        Which rows a query sees.
    noise : Gaussian or None
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
    noise: Gaussian | None
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


# ------------------------------------------------------------------ queries and answers
class Value(Protocol):
    """One quantity of a query. Fields are public; `sensitivity` is L2 under zero-out."""

    @property
    def sensitivity(self) -> Any:
        """Most that one record can move the value, in L2 norm."""


@dataclass(frozen=True, eq=False)
class ClippedSum:
    """Sum over the sample of per-record gradients, each bounded in L2 norm by `bound`.

    Parameters
    ----------
    bound : float or 0-dim tensor
        Clip norm; ``inf`` leaves gradients as they are (only together with no noise).
    clipping : {"flat", "automatic", "global", "per-layer"}
        How a gradient is brought under the bound.

    Examples
    --------
    >>> ClippedSum(0.5).sensitivity
    0.5
    """

    bound: Any
    clipping: str = "flat"

    @property
    def sensitivity(self) -> Any:
        """The clip norm."""
        return self.bound


@dataclass(frozen=True, eq=False)
class NormBelow:
    """Sum over the sample of +1/2 where the gradient norm is at most `bound`, else -1/2; a null row gives 0.

    Centred at zero because the centred count moves by 1/2 where the plain one moves by 1 (Andrew et al., 2021).

    Parameters
    ----------
    bound : float or 0-dim tensor
        Clip norm that norms are compared with.

    Examples
    --------
    >>> NormBelow(1.0).sensitivity
    0.5
    """

    bound: Any
    sensitivity: float = field(default=0.5, init=False)


@dataclass(frozen=True, eq=False)
class Counts:
    """Histograms over public bins: in each of ``len(edges)`` groups a record adds 1 to at most one bin.

    Parameters
    ----------
    of : {"X", "y"}
        Which array is binned; its columns are the groups.
    edges : ndarray of shape (groups, bins - 1)
        Public inner edges of every group's bins.

    Examples
    --------
    >>> Counts("y", np.array([[0.5, 1.5]])).sensitivity
    1.0
    """

    of: str
    edges: Any

    @property
    def sensitivity(self) -> float:
        """Root of the number of groups."""
        return float(len(self.edges)) ** 0.5


@dataclass(frozen=True, eq=False)
class Query:
    """Values that are all answered from one sample of `touch`, at the model's current public weights.

    Parameters
    ----------
    touch : Touch
        The line of the price list that pays.
    values : tuple of Value
        One per noise multiplier of the touch.

    Examples
    --------
    >>> query = Query(Touch("gradient", Poisson(0.1), Gaussian((1.0,)), 10), (ClippedSum(1.0),))
    >>> query.fingerprint() == Query(query.touch, (ClippedSum(1.0),)).fingerprint()
    True
    """

    touch: Touch
    values: tuple[Value, ...]

    def fingerprint(self, weights: Mapping[str, Any] | None = None) -> str:
        """Digest of everything public about the query; transcript replay compares it between neighbours."""
        return hashlib.sha256(b"".join(_exactly((self.touch, self.values, dict(weights or {}))))).hexdigest()


def _exactly(public: Any) -> Iterator[bytes]:
    """Bytes that tell any two public values apart, where a repr rounds tensors and leaves out most of an array."""
    if hasattr(public, "detach"):
        yield str(public.dtype).encode()
        public = public.detach().cpu()
        # numpy has no bfloat16; float32 holds each of its values.
        public = (public.float() if "bfloat16" in str(public.dtype) else public).numpy()
    if isinstance(public, Mapping):
        public = sorted(public.items())
    if isinstance(public, (list, tuple)) or (isinstance(public, np.ndarray) and public.dtype == object):
        yield f"<{type(public).__name__} {len(public)}>".encode()
        for part in public:
            yield from _exactly(part)
    elif isinstance(public, (float, np.ndarray, np.generic)):
        array = np.asarray(public)
        yield f"<{array.dtype} {array.shape}>".encode() + array.tobytes()
    elif hasattr(public, "__qualname__") or not hasattr(public, "__dict__"):
        yield f"<{getattr(public, '__qualname__', repr(public))}>".encode()
    else:
        yield type(public).__qualname__.encode()
        yield from _exactly(vars(public))


Answers = tuple[Any, ...]
"""What comes back: one noisy answer per value of the query, in order (a ClippedSum's is a list of tensors)."""


@dataclass(frozen=True, eq=False)
class Update:
    """A step's outcome: gradients in parameter order, and the public standard deviation of their noise.

    Parameters
    ----------
    gradients : list of tensor
    noise_std : float or 0-dim tensor
        Of each coordinate; 0 where there is no noise.

    Examples
    --------
    >>> Update([np.zeros(3)], noise_std=0.1).noise_std
    0.1
    """

    gradients: list[Any]
    noise_std: Any = 0.0


# ------------------------------------------------------------------ who talks to whom
@dataclass(frozen=True)
class Public:
    """Everything about the data that a plan may depend on, all of it public or already paid for.

    Parameters
    ----------
    n : int
        Number of rows (declared by the user under ``"add-remove"``).
    input_shape : tuple of int
        Shape of one record.
    n_outputs : int
        Outputs of the net: 1 logit for two classes, K for more, one per target of a regression.
    task : {"binary", "multiclass", "regression"}
    adjacency : str
    unit : str
    indicators : tuple of int
        Columns known to hold only 0 and 1.

    Examples
    --------
    >>> Public(n=1000, input_shape=(8,), n_outputs=1, task="binary").adjacency
    'zero-out'
    """

    n: int
    input_shape: tuple[int, ...]
    n_outputs: int
    task: str
    adjacency: str = "zero-out"
    unit: str = "row"
    indicators: tuple[int, ...] = ()

    @property
    def indicator_mask(self) -> np.ndarray:
        """Which of the flattened columns are indicators."""
        mask = np.zeros(int(np.prod(self.input_shape)), dtype=bool)
        mask[list(self.indicators)] = True
        return mask


class Model(Protocol):
    """Public view of the net in training: no rows."""

    module: Any
    parameters: Mapping[str, Any]
    device: Any


class Plan(Protocol):
    """A frozen programme of queries; made before a row is read, holds no module and no tensor.

    `state` is a public dict that survives between steps (checkpointed); ``state["rng"]`` is the plan's own public
    generator. `step` is a generator of queries that returns an `Update`, or returns one directly when it asks
    nothing.
    """

    charge: Charge
    steps: int

    def begin(self, model: Model, state: dict) -> Generator[Query, Answers, None] | None:
        """Ask whatever is needed before the first step."""

    def step(self, model: Model, state: dict) -> Generator[Query, Answers, Update] | Update | None:
        """Ask one step's queries and return its outcome."""


@runtime_checkable
class Spender(Protocol):
    """Whatever touches private rows and can say beforehand what it will cost."""

    def privacy_charge(self, public: Any, scale: float) -> Charge:
        """Price list at a noise scale; it costs less as the scale grows."""


class Executor(Protocol):
    """The only holder of rows and secret noise: spends, samples, computes, bounds, and adds noise once."""

    def answer(self, query: Query) -> Answers:
        """Noisy values of one fresh sample."""


class Book(Protocol):
    """Where charges are reserved before a row is read and ticked off as queries are answered."""

    def reserve(self, charge: Charge, lease: int | None = None) -> Any:
        """Enter a charge, ceiling first; nothing is asked before this returns."""

    def spend(self, reservation: Any, touch: Touch) -> int:
        """Tick one query of a touch, before it is answered; its ordinal."""

    def reopen(self, reservation: Any, charge: Charge) -> Mapping[str, int]:
        """Counts to go on from after a crash: what was leased is spent."""

    def settle(self, reservation: Any) -> Any:
        """Close the reservation at what was executed."""


def drive(step: Any, answer: Callable[[Query], Answers]) -> Any:
    """Run one step to its end, sending it the answer of each query that it yields.

    Parameters
    ----------
    step : generator or object
        What `Plan.begin` or `Plan.step` returned; anything but a generator is returned as it is.
    answer : callable
        ``Executor.answer``.

    Returns
    -------
    object
        The value that the generator returned.
    """
    if not isinstance(step, Generator):
        return step
    try:
        query = next(step)
        while True:
            query = step.send(answer(query))
    except StopIteration as end:
        return end.value
