"""The torch executor: the only holder of rows, sample weights and secret noise while a net trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from skdp.contract import Answers, ClippedSum, Correlated, Labels, NormBelow, Query, Response, Touch
from skdp.distributed import Ranks
from skdp.exceptions import PlanViolationError, UnsupportedModuleError
from skdp.training.buffers import iterating_parametrizations, scratch_buffers
from skdp.training.clipping import clip_factors, total_squares
from skdp.training.correlated import CorrelatedNoise
from skdp.training.lazy_rows import LazyRows
from skdp.training.mapped_rows import MappedRows
from skdp.training.per_example import Captured, PerExample
from skdp.training.pieces import made_up_rows
from skdp.training.randomness import SecretRandomness
from skdp.training.rules.gradients import row_squares
from skdp.training.rules.sums import accumulator
from skdp.training.sampling import draw
from skdp.training.sum_total import SumTotal, add_noise
from skdp.training.supported import trainable_parameters

__all__ = ["NetModel", "PrivateRows", "TorchExecutor"]

_SQUARED_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class NetModel:
    """The public view of the net in training (`skdp.contract.Model`).

    Parameters
    ----------
    module : torch.nn.Module
    parameters : dict of str to torch.nn.Parameter
        The trainable ones, in order.
    device : torch.device
    loss : callable
        ``loss(outputs, targets)`` of shape (batch,).
    class_weights : tensor of shape (n_classes,) or None
        Public or released; for mechanisms whose steps see no row that they could weigh.
    targets : tensor of shape (n, ...) or None
        Only where the mechanism takes the labels as public.

    Examples
    --------
    >>> net = nn.Linear(2, 1)
    >>> loss = nn.MSELoss(reduction="none")
    >>> NetModel(net, dict(net.named_parameters()), torch.device("cpu"), loss).parameters.keys()
    dict_keys(['weight', 'bias'])
    """

    module: nn.Module
    parameters: dict[str, nn.Parameter]
    device: torch.device
    loss: Callable[[Tensor, Tensor], Tensor]
    class_weights: Tensor | None = None
    targets: Tensor | None = None


def shaped(flat: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    """Views of a flat vector."""
    parts = flat.split([math.prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


@dataclass(frozen=True, eq=False)
class PrivateRows:
    """Everything private about a fit.

    Parameters
    ----------
    inputs : tensor or LazyRows of shape (n, ...)
    targets : tensor of shape (n,) or (n, n_outputs)
    weights : tensor of shape (n,) or None
        Multiplies the loss before clipping; 0 makes a row the null row.
    squares : tensor of shape (n,) or None
        Squared norm of each row of a table, so that a first linear layer need not compute it in every step.

    Examples
    --------
    >>> rows = PrivateRows(torch.zeros(5, 2), torch.zeros(5))
    >>> len(rows), len(rows.take(torch.tensor([0, 3])))
    (5, 2)
    """

    inputs: Tensor | LazyRows
    targets: Tensor
    weights: Tensor | None = None
    squares: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def null(self) -> Tensor:
        """Which rows have a weight of zero: bool (n,)."""
        if self.weights is None:
            return torch.zeros(len(self), dtype=torch.bool, device=self.inputs.device)
        return self.weights == 0

    def squared(self) -> PrivateRows:
        """The same rows with their squared norms, where they are a table of float32 numbers."""
        table = self.inputs.ndim == 2 and self.inputs.dtype == torch.float32
        if not table or isinstance(self.inputs, MappedRows):  # those would have to be read through
            return self
        if isinstance(self.inputs, Tensor):
            return replace(self, squares=row_squares(self.inputs))
        return replace(self, squares=torch.cat([row_squares(piece) for piece in self.inputs.split(_SQUARED_AT_ONCE)]))

    def take(self, rows: Tensor) -> PrivateRows:
        """The given rows, copied."""
        return self._each(lambda tensor: tensor.index_select(0, rows))

    def slice(self, start: int, stop: int) -> PrivateRows:
        """A run of rows, not copied."""
        return self._each(lambda tensor: tensor[start:stop])

    def _each(self, part: Callable[[Tensor], Tensor]) -> PrivateRows:
        fields = (self.inputs, self.targets, self.weights, self.squares)
        return PrivateRows(*[None if field is None else part(field) for field in fields])


class Piece:
    """One piece of a sample, and what a backward pass on it yields, run where a value asks for it.

    Parameters
    ----------
    rows : PrivateRows
    capture : callable
        Runs the pass on the rows.
    """

    def __init__(self, rows: PrivateRows, capture: Callable[[PrivateRows], Captured]):
        self.rows = rows
        self._capture = capture

    @cached_property
    def captured(self) -> Captured:
        """Per-record gradients."""
        return self._capture(self.rows)

    @cached_property
    def norms(self) -> Tensor:
        """Upper bounds on gradient norms: (batch,)."""
        return total_squares(self.captured.squared_norms()).sqrt()

    @property
    def null(self) -> Tensor:
        """Null rows, also those whose gradient is not finite: bool (batch,)."""
        return self.rows.null | ~torch.isfinite(self.norms)


class TorchExecutor:
    """Answers gradient queries: spends, samples, computes in pieces, bounds each record, adds noise once.

    Parameters
    ----------
    model : NetModel
    rows : PrivateRows
    forward : callable
        Maps a batch of inputs to outputs; usually the module itself.
    per_example : PerExample
        Hooks on the module, or on the part of it that `forward` runs; its parameters give the order of answers.
    spend : callable
        ``spend(touch)`` ticks the book and raises when the price list does not cover the query.
    randomness : SecretRandomness
    piece : int
        Rows per backward pass; changes memory and time, never an answer's distribution.
    shifting : bool, default=False
        Whether a neighbour has another number of rows (add-remove), so that the rows behind the one that is missing
        fall into other runs of a sum: products are then added up in float64.
    ranks : Ranks or None
        The processes whose rows are summed over together with these; None for none.

    Notes
    -----
    *Formal guarantee.* With `ranks`, every row is drawn on the rank that holds it, by a generator of its own, so the
    union of the draws is a Poisson sample of all rows. A row moves the partial sum of its own rank alone, by at most
    the bound, and the noise on the sum over the ranks is that of one process.

    Examples
    --------
    >>> from skdp.contract import Gaussian, Poisson, Touch
    >>> net, cpu = nn.Linear(2, 1), torch.device("cpu")
    >>> per_example = PerExample(net)
    >>> executor = TorchExecutor(
    ...     NetModel(net, per_example.parameters, cpu, lambda outputs, targets: (outputs - targets).square().sum(1)),
    ...     PrivateRows(torch.randn(50, 2), torch.randn(50, 1)), forward=net,
    ...     per_example=per_example, spend=lambda touch: 0, randomness=SecretRandomness(cpu), piece=16)
    >>> (total,) = executor.answer(Query(Touch("gradient", Poisson(0.2), Gaussian((1.0,)), 1), (ClippedSum(1.0),)))
    >>> [part.shape for part in total]
    [torch.Size([1, 2]), torch.Size([1])]
    """

    def __init__(
        self,
        model: NetModel,
        rows: PrivateRows,
        *,
        forward: Callable[[Tensor], Tensor],
        per_example: PerExample,
        spend: Callable[[Any], Any],
        randomness: SecretRandomness,
        piece: int,
        shifting: bool = False,
        ranks: Ranks | None = None,
    ):
        self.model = model
        self.ranks = ranks
        self.randomness = randomness
        self._rows = rows.squared()
        self._forward = forward
        self._per_example = per_example
        self._spend = spend
        self._piece = max(1, piece)
        self._streams: dict[Touch, CorrelatedNoise] = {}
        self._widens = shifting and accumulator(model.device) == torch.float64
        self._iterating = iterating_parametrizations(model.module)

    def follow_frozen_parameters(self) -> None:
        """Take notice of parameters that a callback froze or thawed since the last epoch."""
        trainable = trainable_parameters(self.model.module)
        if trainable.keys() != self.model.parameters.keys():
            self._per_example = PerExample(self._per_example.module)
            self.model = replace(self.model, parameters=trainable)

    def answer(self, query: Query) -> Answers:
        """Noisy values of one sample; the charge is ticked before a row is touched.

        The module's buffers come out as they went in: only bounded and noisy values leave.
        """
        check_noise(query)
        ordinal = self._spend(query.touch)
        source = self._noise_of(query, ordinal)
        with scratch_buffers(self.model.module), self._per_example, self.randomness.net_draws():
            bounded = [start(value, self) for value in query.values]
            self._check_sums(query, bounded)
            for rows in self._sample(query.touch, ordinal):
                self._add(rows, bounded)
        with torch.no_grad():
            for layer, name in self._iterating:
                getattr(layer, name)  # one iteration, on the weight alone, however many pieces there were
        noise = query.touch.noise
        multipliers = noise.multipliers if noise else (0.0,) * len(bounded)
        pairs = zip(query.values, bounded, multipliers, strict=True)
        return tuple(total.release(value.sensitivity, z, source) for value, total, z in pairs)

    def _check_sums(self, query: Query, bounded: list) -> None:
        """Refuse, where rows lie on several ranks, what no sum over ranks gives."""
        others = [v for v, total in zip(query.values, bounded, strict=True) if not isinstance(total, SumTotal)]
        if self.ranks is not None and (others or isinstance(query.touch.noise, Correlated)):
            what = f"{type(others[0]).__name__} values" if others else "correlated noise"
            raise PlanViolationError(f"touch {query.touch.name!r}: {what} cannot be shared by several processes")

    def rehearse(self, rows: int) -> None:
        """Compute a clipped sum of made-up rows, one piece at most, and throw it away.

        Spends nothing and looks at no row.
        """
        rows = min(rows, self._piece)
        fields = (self._rows.targets, self._rows.weights, self._rows.squares)
        others = [None if field is None else field.new_zeros((rows, *field.shape[1:])) for field in fields]
        made_up = PrivateRows(made_up_rows(self._rows.inputs, rows), *others)
        with scratch_buffers(self.model.module), self._per_example, self.randomness.net_draws():
            self._add(made_up.take(torch.arange(rows, device=self.model.device)), [start(ClippedSum(1.0), self)])

    @property
    def shapes(self) -> list[torch.Size]:
        """Of the parameters, in order."""
        return [p.shape for p in self._per_example.parameters.values()]

    def flat_views(self, shapes: list[torch.Size] | None = None) -> tuple[Tensor, list[Tensor]]:
        """A zeroed flat vector for sums and its views in the given shapes, or those of the parameters."""
        shapes = self.shapes if shapes is None else shapes
        size, device = sum(map(math.prod, shapes)), self.model.device
        flat = torch.zeros(size, dtype=accumulator(device), device=device)
        return flat, shaped(flat, shapes)

    def _noise_of(self, query: Query, ordinal: int) -> Any:
        """Where the noise of a query comes from."""
        touch = query.touch
        if not isinstance(touch.noise, Correlated):
            return self.randomness
        if touch not in self._streams:
            self._streams[touch] = CorrelatedNoise(touch.noise, self.randomness)
        self._streams[touch].check(query, ordinal)
        return self._streams[touch]

    def _sample(self, touch: Touch, ordinal: int):
        """Pieces of the sample of the touch's query number `ordinal`; an empty sample has none."""
        chosen = draw(touch.sampler, ordinal, len(self._rows), self.randomness)
        if chosen is None:
            size = self._even_piece(len(self._rows))
            for start_row in range(0, len(self._rows), size):
                yield self._rows.slice(start_row, start_row + size)
            return
        index = torch.from_numpy(chosen).to(self.model.device, non_blocking=True)
        for part in index.split(self._even_piece(len(index))) if len(index) else ():
            yield self._rows.take(part)

    def _even_piece(self, rows: int) -> int:
        """Rows of each pass, so that the last has about as many as the others."""
        passes = max(1, math.ceil(rows / self._piece))
        return max(1, math.ceil(rows / passes))

    def _add(self, rows: PrivateRows, totals: list) -> None:
        piece = Piece(rows, self._capture)
        for total in totals:
            total.add(piece)

    def _capture(self, rows: PrivateRows) -> Captured:
        """Forward and backward pass on a piece of the rows."""
        self._per_example.input_squares = rows.squares
        version = rows.inputs._version
        outputs = self._forward(rows.inputs)
        if rows.inputs._version != version:
            raise UnsupportedModuleError(
                "the module changes its input in place, and with it the rows for all later steps; in its forward, use "
                "the operation that returns a new tensor (x = x.div(...) for x.div_(...), inplace=False)"
            )
        losses = self.model.loss(outputs, rows.targets)
        if rows.weights is not None:
            losses = losses * rows.weights
        captured = self._per_example.backward(losses)
        if self._widens:
            captured.widen()
        return captured


def check_noise(query: Query) -> None:
    """Refuse values that the noise of the touch is not made for: they would be noised otherwise than is paid for."""
    noise = query.touch.noise
    for value in query.values:
        if noise is not None and isinstance(noise, Response) != isinstance(value, Labels):
            raise PlanViolationError(
                f"touch {query.touch.name!r}: {type(noise).__name__} noise does not answer {type(value).__name__}; "
                "labels go with Response, all other values with Gaussian or Correlated noise"
            )


@singledispatch
def start(value: Any, executor: TorchExecutor) -> Any:
    """Running total of one value over the pieces of a sample; new kinds of values register theirs here."""
    raise TypeError(f"the torch executor has no rule for {type(value).__name__} values")


@start.register(ClippedSum)
class GradientTotal(SumTotal):
    """Clipped sum of gradients; a subclass may sum other shapes, and see other gradients in what was captured."""

    def __init__(self, value: ClippedSum, executor: TorchExecutor, shapes: list[torch.Size] | None = None):
        self._value = value
        self._shapes = executor.shapes if shapes is None else shapes
        flat, self._views = executor.flat_views(self._shapes)
        super().__init__(flat, executor, torch.float32)

    def seen(self, captured: Captured) -> Captured:
        """What is summed, of what a pass captured."""
        return captured

    def add(self, piece: Piece) -> None:
        """Take in the records of a piece, each under the bound."""
        captured = self.seen(piece.captured)
        factors = clip_factors(captured.squared_norms(), self._value.bound, self._value.clipping)
        captured.add_weighted_sums(factors, self._views)

    def add_noise(self, part: Tensor, sensitivity: Any, multiplier: float, randomness: SecretRandomness) -> None:
        """Noise a run of the flat sum."""
        add_noise(part, sensitivity, multiplier, randomness)

    def answer(self, released: Tensor) -> list[Tensor]:
        """One tensor per parameter."""
        return shaped(released, self._shapes)


@start.register(NormBelow)
class _BelowTotal(SumTotal):
    def __init__(self, value: NormBelow, executor: TorchExecutor):
        self._bound = value.bound
        device = executor.model.device
        # Released as it is summed: the low bits of a float32 number would narrow down what it was added to.
        super().__init__(torch.zeros(1, dtype=accumulator(device), device=device), executor, accumulator(device))

    def add(self, piece: Piece) -> None:
        half = torch.where(piece.norms <= self._bound, 0.5, -0.5)
        self._numbers += half.masked_fill(piece.null, 0.0).sum()

    def add_noise(self, part: Tensor, sensitivity: float, multiplier: float, randomness: SecretRandomness) -> None:
        part += float(randomness.array_normal((1,))[0]) * (sensitivity * multiplier)
