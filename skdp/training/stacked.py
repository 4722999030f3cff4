"""Several fits of one small architecture whose passes run as one.

A step on a handful of rows is mostly the time that Python and torch take to start some hundred operations. Here each
operation serves all fits: weights lie in one tensor with a leading dimension for the fits, and so do their samples.
What has to be a fit's own stays its own: every fit ticks its own book, draws its own rows and its own noise from its
own generators, exactly as it would alone, and clips its own records at its own norm. A row in the samples of two fits
is in each of them by a draw of its own, so their charges compose like those of separate fits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

from skdp.contract import Answers, ClippedSum, Gaussian, Poisson, Query
from skdp.exceptions import PlanViolationError
from skdp.training.captured import Captured
from skdp.training.chain import chain_of
from skdp.training.clipping import clip_factors
from skdp.training.executor import PrivateRows, TorchExecutor, add_noise, check_noise, shaped
from skdp.training.rules.gradients import Outer
from skdp.training.rules.sums import accumulator, add_products_of_each
from skdp.training.sampling import draw

__all__ = ["StackedExecutor", "architecture", "stackable_queries"]


def architecture(executor: TorchExecutor) -> Hashable | None:
    """What two executors must agree in so that their passes can be stacked; None where nothing can be.

    Parameters
    ----------
    executor : TorchExecutor

    Returns
    -------
    hashable or None
        None for anything but chains of linear layers and activations on the processor, all of them trained, and for
        neighbours of different length.
    """
    stages = chain_of(executor._forward)
    if stages is None or executor.model.device.type != "cpu" or executor._widens:
        return None
    trained = list(executor._per_example.parameters.values())
    own = [p for stage in stages if isinstance(stage, nn.Linear) for p in (stage.weight, stage.bias) if p is not None]
    if [*map(id, trained)] != [*map(id, own)] or any(p.dtype != torch.float32 for p in own):
        return None
    rows, loss = executor._rows, executor.model.loss
    if rows.inputs.dtype != torch.float32 or not isinstance(rows.inputs, Tensor):
        return None
    shapes = tuple(
        (tuple(field.shape[1:]), field.dtype)
        for field in (rows.inputs, rows.targets, rows.squares)
        if field is not None
    )
    return type(loss), shapes, rows.squares is None, tuple(map(repr, stages))


def stackable_queries(query: Query) -> bool:
    """Whether a stacked executor can answer a query: one clipped sum over a Poisson sample of part of the rows."""
    touch = query.touch
    one = len(query.values) == 1 and type(query.values[0]) is ClippedSum
    sampled = isinstance(touch.sampler, Poisson) and touch.sampler.rate < 1
    return one and sampled and (touch.noise is None or type(touch.noise) is Gaussian)


@dataclass(frozen=True, eq=False)
class _Linear:
    """One linear layer of all nets: weight (nets, p, d), bias (nets, 1, p), and its place among all parameters."""

    weight: Tensor
    bias: Tensor | None
    position: int

    def __call__(self, values: Tensor) -> Tensor:
        """From (nets, rows, d) to (nets, rows, p)."""
        return (
            torch.bmm(values, self.weight.mT) if self.bias is None else torch.baddbmm(self.bias, values, self.weight.mT)
        )

    def gradient(self, inputs: Tensor, grad: Tensor) -> _OuterOfEach:
        """Of every record with respect to its own net's layer."""
        parameters = (self.position,) if self.bias is None else (self.position, self.position + 1)
        return _OuterOfEach(parameters, grad, inputs)


class _OuterOfEach(Outer):
    """Outer products (nets, rows, p) times (nets, rows, d) of records of several nets, summed up for each net."""

    def __init__(self, parameters: tuple[int, ...], left: Tensor, right: Tensor) -> None:
        super().__init__(parameters, left.flatten(0, 1), right.flatten(0, 1))
        self._shape = left.shape[:2]

    def add_weighted(self, factors: Tensor, out: list[Tensor]) -> None:
        left = (self.left * factors[:, None]).unflatten(0, self._shape)
        add_products_of_each(left, self.right.unflatten(0, self._shape), out[self.parameters[0]])
        if self.bias:
            total = out[self.parameters[1]]
            add_products_of_each(left, left.new_ones(*self._shape, 1), total[:, :, None])


class _Pool:
    """The rows of all fits in one table, each distinct table once, and a null row behind them."""

    def __init__(self, executors: Sequence[TorchExecutor]) -> None:
        tables: list[PrivateRows] = []
        which = []
        for executor in executors:
            known = (i for i, table in enumerate(tables) if _same(table, executor._rows))
            found = next(known, len(tables))
            if found == len(tables):
                tables.append(executor._rows)
            which.append(found)
        starts = np.cumsum([0, *map(len, tables)])
        self.offsets = [int(starts[i]) for i in which]
        self.null = int(starts[-1])
        weights = [torch.ones(len(table)) if table.weights is None else table.weights for table in tables]
        self._rows = PrivateRows(
            _with_null([table.inputs for table in tables]),
            _with_null([table.targets for table in tables]),
            _with_null(weights),
            None if tables[0].squares is None else _with_null([table.squares for table in tables]),
        )
        for executor, offset in zip(executors, self.offsets, strict=True):
            executor._rows = self._rows.slice(offset, offset + len(executor._rows))

    def take(self, index: Tensor) -> PrivateRows:
        """The rows of an index of shape (nets, rows), one after the other."""
        return self._rows.take(index.reshape(-1))


def _with_null(parts: list[Tensor]) -> Tensor:
    return torch.cat([*parts, torch.zeros_like(parts[0][:1])])


def _same(one: PrivateRows, two: PrivateRows) -> bool:
    """Whether two tables hold the same; a few rows tell most that do not apart."""
    if one is two:
        return True
    pairs = [(getattr(one, field.name), getattr(two, field.name)) for field in fields(PrivateRows)]
    if any((a is None) != (b is None) for a, b in pairs):
        return False
    pairs = [(a, b) for a, b in pairs if a is not None]
    return all(torch.equal(a[:8], b[:8]) for a, b in pairs) and all(torch.equal(a, b) for a, b in pairs)


class StackedExecutor:
    """Answers one query of each of several fits at a time.

    Parameters
    ----------
    executors : list of TorchExecutor
        One per fit, of equal `architecture`. Their nets' parameters become views of `weights`, and their rows views of
        one table.

    Attributes
    ----------
    weights : float32 tensor of shape (fits, parameters)
        All nets' parameters in order, one net a row; change it in place.

    Notes
    -----
    *Formal guarantee.* The answer to a fit's query has the distribution that its own executor's would have, given the
    weights, and is independent of the others' (up to float32 rounding, which `SUM_SLACK` covers in any order of adding
    up at most 128 records at a time): every fit draws from its own generators. Samples are padded with null rows to the
    longest and never cut; what does not fit into memory at once is processed in more pieces.

    Examples
    --------
    >>> from skdp.contract import Gaussian, Touch
    >>> from skdp.training import NetModel, PerExample, SecretRandomness
    >>> cpu, rows = torch.device("cpu"), PrivateRows(torch.randn(50, 2), torch.randn(50, 1))
    >>> def alone():
    ...     net = nn.Linear(2, 1)
    ...     return TorchExecutor(
    ...         NetModel(net, dict(net.named_parameters()), cpu, lambda out, target: (out - target).square().sum(1)),
    ...         rows, forward=net, per_example=PerExample(net), spend=lambda touch: 0,
    ...         randomness=SecretRandomness(cpu), piece=16)
    >>> stack = StackedExecutor([alone(), alone()])
    >>> query = Query(Touch("gradient", Poisson(0.2), Gaussian((1.0,)), 1), (ClippedSum(1.0),))
    >>> [[part.shape for part in total] for (total,) in stack.answer([query, query])]
    [[torch.Size([1, 2]), torch.Size([1])], [torch.Size([1, 2]), torch.Size([1])]]
    """

    def __init__(self, executors: Sequence[TorchExecutor]) -> None:
        self._executors = list(executors)
        first = self._executors[0]
        self._shapes = first.shapes
        self._groups = first._per_example
        self._loss = first.model.loss
        self.weights = torch.stack([_flat(e._per_example.parameters.values()) for e in self._executors])
        for executor, row in zip(self._executors, self.weights, strict=True):
            for parameter, view in zip(
                executor._per_example.parameters.values(), shaped(row, self._shapes), strict=True
            ):
                parameter.data = view
        self._pool = _Pool(self._executors)
        self._totals = torch.zeros(self.weights.shape, dtype=accumulator(first.model.device))
        self._views = self._of_each(self._totals)
        self._chain = self._stack(chain_of(first._forward))
        self._piece = max(1, min(e._piece for e in self._executors) // len(self._executors))

    def _of_each(self, flat: Tensor) -> list[Tensor]:
        """Views of (nets, parameters), one (nets, ...) per parameter."""
        parts = flat.split([shape.numel() for shape in self._shapes], dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _stack(self, stages: list[nn.Module]) -> list[Callable[[Tensor], Tensor]]:
        """The chain on inputs of shape (nets, rows, ...)."""
        chain: list[Callable[[Tensor], Tensor]] = []
        parameters, position = self._of_each(self.weights), 0
        for stage in stages:
            if isinstance(stage, nn.Linear):
                bias = None if stage.bias is None else parameters[position + 1][:, None]
                chain.append(_Linear(parameters[position], bias, position))
                position += 1 if bias is None else 2
            else:
                chain.append(_flatten if isinstance(stage, nn.Flatten) else stage)
        return chain

    def answer(self, queries: Sequence[Query]) -> list[Answers]:
        """Noisy values of one sample for each fit; every charge is ticked before a row is touched.

        Parameters
        ----------
        queries : list of Query
            One per fit, in order; all of one kind of clipping.

        Returns
        -------
        list of Answers
        """
        pairs = list(zip(self._executors, queries, strict=True))
        if not all(map(stackable_queries, queries)) or len({query.values[0].clipping for query in queries}) > 1:
            raise PlanViolationError(
                "fits are stacked where each asks for one clipped sum over a Poisson sample of part of its rows, all "
                "with the same clipping"
            )
        for query in queries:
            check_noise(query)
        ordinals = [executor._spend(query.touch) for executor, query in pairs]
        chosen = [
            draw(query.touch.sampler, ordinal, len(executor._rows), executor.randomness)
            for (executor, query), ordinal in zip(pairs, ordinals, strict=True)
        ]
        self._totals.zero_()
        bounds = torch.tensor([float(query.values[0].bound) for query in queries])
        self._add(self._padded(chosen), bounds, queries[0].values[0].clipping)
        for (executor, query), total in zip(pairs, self._totals, strict=True):
            noise = query.touch.noise
            multiplier = noise.multipliers[0] if noise else 0.0
            add_noise(total, query.values[0].sensitivity, multiplier, executor.randomness)
        return [(shaped(total, self._shapes),) for total in self._totals.float()]

    def _padded(self, chosen: list[np.ndarray]) -> Tensor:
        """Places in the pool of every fit's sample, with null rows up to the longest: (nets, rows)."""
        index = np.full((len(chosen), max(map(len, chosen))), self._pool.null)
        for row, rows, offset in zip(index, chosen, self._pool.offsets, strict=True):
            np.add(rows, offset, out=row[: len(rows)])
        return torch.from_numpy(index)

    def _add(self, index: Tensor, bounds: Tensor, clipping: str) -> None:
        """Add the clipped gradients of the rows of an index to the totals."""
        for part in index.split(self._piece, dim=1) if index.shape[1] else ():
            captured = self._capture(self._pool.take(part), part.shape)
            each = bounds.repeat_interleave(part.shape[1])
            factors = clip_factors(captured.squared_norms(), each, clipping)
            captured.add_weighted_sums(factors, self._views)

    def _capture(self, rows: PrivateRows, shape: torch.Size) -> Captured:
        """Forward and backward pass of all nets, each on its own rows."""
        values = rows.inputs.unflatten(0, shape)
        squares = rows.squares
        given: list[tuple[_Linear, Tensor, Tensor | None]] = []
        outputs: list[Tensor] = []
        for stage in self._chain:
            if isinstance(stage, _Linear):
                given.append((stage, values.detach(), squares))
                values = stage(values)
                # The first layer's output is where gradients begin; weights have none.
                outputs.append(values if values.requires_grad else values.requires_grad_())
            else:
                values = stage(values)
            squares = squares if stage is _flatten else None
        losses = self._loss(values.flatten(0, 1), rows.targets) * rows.weights
        grads = torch.autograd.grad(losses, outputs, torch.ones_like(losses))
        gradients = []
        for (stage, inputs, known), grad in zip(given, grads, strict=True):
            gradients.append(stage.gradient(inputs, grad))
            gradients[-1].right_squares = known
        groups = self._groups
        return Captured(gradients, groups._group_of, len(groups.groups), len(losses), losses.device)


def _flat(parameters: Sequence[Tensor]) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in parameters])


def _flatten(values: Tensor) -> Tensor:
    """(nets, rows, ...) to (nets, rows, d)."""
    return values.flatten(2)
