"""Who talks to whom: what a plan may know and gives back, the roles around it, and how a step is run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from skdp.contract.prices import Charge, Touch
from skdp.contract.queries import Answers, Query


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
    vocabulary : int or None
        Number of tokens that the net looks up, where records are tokens.
    columns : tuple of (str, str)
        Name of every column and what its declared type says, where rows come as a table.

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
    vocabulary: int | None = None
    columns: tuple[tuple[str, str], ...] = ()

    @property
    def indicator_mask(self) -> np.ndarray:
        """Which of the flattened columns are indicators."""
        mask = np.zeros(int(np.prod(self.input_shape)), dtype=bool)
        mask[list(self.indicators)] = True
        return mask


@dataclass(frozen=True, eq=False)
class Update:
    """A step's outcome: gradients in parameter order, and the public standard deviation of their noise.

    Parameters
    ----------
    gradients : list of tensor
    noise_std : float or 0-dim tensor, or a sequence of them or of tensors
        Of each coordinate; 0 where there is no noise. Where coordinates differ, one entry per gradient, a number or a
        tensor of its shape.

    Examples
    --------
    >>> Update([np.zeros(3)], noise_std=0.1).noise_std
    0.1
    """

    gradients: list[Any]
    noise_std: Any = 0.0


class Model(Protocol):
    """Public view of the net in training: no rows. `loss` maps outputs and targets to one number per record.

    `class_weights` are public or released; `targets` is None unless the mechanism takes the labels as public.
    """

    module: Any
    parameters: Mapping[str, Any]
    device: Any
    loss: Callable[[Any, Any], Any]
    class_weights: Any
    targets: Any


class Plan(Protocol):
    """A frozen programme of queries; made before a row is read, holds no module and no tensor.

    `state` is a public dict that survives between steps (checkpointed); ``state["rng"]`` is the plan's own public
    generator, ``state["step"]`` the number of finished steps. In a resumed fit ``state["spent"]`` says, by touch name,
    how many queries were spent or forfeited when it went on. `step` is a generator of queries that returns an `Update`,
    or returns one directly when it asks nothing. A plan whose steps are no clipped gradients has
    `rehearse(model, state)` as well, which runs one and changes nothing.
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

    def privacy_charge(self, public: Any, scale: float | None) -> Charge:
        """Price list at a noise scale; it costs less as the scale grows, and None is no noise."""


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
