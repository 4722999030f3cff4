"""The torch executor: the only holder of rows, sample weights and secret noise while a net trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from skdp.contract import Answers, ClippedSum, NormBelow, Query
from skdp.training.clipping import clip_factors
from skdp.training.per_example import Captured, PerExample
from skdp.training.randomness import SecretRandomness

__all__ = ["NetModel", "PrivateRows", "TorchExecutor"]

# Norms are rounded in float32, so a clipped gradient may exceed its bound by this much; the noise covers it.
FLOAT_SLACK = 1e-5


@dataclass(frozen=True, eq=False)
class NetModel:
    """The public view of the net in training (`skdp.contract.Model`).

    Parameters
    ----------
    module : torch.nn.Module
    parameters : dict of str to torch.nn.Parameter
        The trainable ones, in order.
    device : torch.device
    """

    module: nn.Module
    parameters: dict[str, nn.Parameter]
    device: torch.device


@dataclass(frozen=True, eq=False)
class PrivateRows:
    """Everything private about a fit.

    Parameters
    ----------
    inputs : tensor of shape (n, ...)
    targets : tensor of shape (n,) or (n, n_outputs)
    weights : tensor of shape (n,) or None
        Multiplies the loss before clipping; 0 makes a row the null row.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Tensor) -> PrivateRows:
        """The given rows, copied."""
        weights = None if self.weights is None else self.weights.index_select(0, rows)
        return PrivateRows(self.inputs.index_select(0, rows), self.targets.index_select(0, rows), weights)

    def slice(self, start: int, stop: int) -> PrivateRows:
        """A run of rows, not copied."""
        weights = None if self.weights is None else self.weights[start:stop]
        return PrivateRows(self.inputs[start:stop], self.targets[start:stop], weights)


@dataclass(frozen=True, eq=False)
class Piece:
    """What one backward pass yielded for one piece of a sample."""

    captured: Captured
    squared_norms: list[Tensor]
    weights: Tensor | None


class TorchExecutor:
    """Answers gradient queries: spends, samples, computes in pieces, bounds each record, adds noise once.

    Parameters
    ----------
    model : NetModel
    rows : PrivateRows
    forward : callable
        Maps a batch of inputs to outputs; usually the module itself.
    loss : callable
        ``loss(outputs, targets)`` of shape (batch,).
    per_example : PerExample
        Hooks on the module; its parameters give the order of answers.
    spend : callable
        ``spend(touch)`` ticks the book and raises when the price list does not cover the query.
    randomness : SecretRandomness
    piece : int
        Rows per backward pass; changes memory and time, never an answer's distribution.
    """

    def __init__(
        self,
        model: NetModel,
        rows: PrivateRows,
        *,
        forward: Callable[[Tensor], Tensor],
        loss: Callable[[Tensor, Tensor], Tensor],
        per_example: PerExample,
        spend: Callable[[Any], Any],
        randomness: SecretRandomness,
        piece: int,
    ):
        self.model = model
        self.randomness = randomness
        self._rows = rows
        self._forward = forward
        self._loss = loss
        self._per_example = per_example
        self._spend = spend
        self._piece = max(1, piece)
        self._set_shapes()

    def refresh(self) -> None:
        """Take notice of parameters that a callback froze or thawed since the last epoch."""
        trainable = {name for name, p in self.model.module.named_parameters() if p.requires_grad}
        if trainable != set(self.model.parameters):
            self._per_example = PerExample(self.model.module)
            self.model = replace(self.model, parameters=self._per_example.parameters)
            self._set_shapes()

    def _set_shapes(self) -> None:
        self._shapes = [p.shape for p in self._per_example.parameters.values()]
        self._sizes = [shape.numel() for shape in self._shapes]

    def answer(self, query: Query) -> Answers:
        """Noisy values of one sample; the charge is ticked before a row is touched."""
        self._spend(query.touch)
        with self._per_example:
            bounded = [start(value, self) for value in query.values]
            for rows in self._sample(query.touch.sampler.rate):
                self._add(rows, bounded)
        noise = query.touch.noise
        multipliers = noise.multipliers if noise else (0.0,) * len(bounded)
        pairs = zip(query.values, bounded, multipliers, strict=True)
        return tuple(total.release(value.sensitivity, z, self.randomness) for value, total, z in pairs)

    def flat_views(self) -> tuple[Tensor, list[Tensor]]:
        """A zeroed flat float32 vector and its views in the shapes of the parameters."""
        flat = torch.zeros(sum(self._sizes), device=self.model.device)
        views = [v.view(s) for v, s in zip(flat.split(self._sizes), self._shapes, strict=True)]
        return flat, views

    def _sample(self, rate: float):
        """Pieces of a fresh Poisson sample; an empty sample has none."""
        chosen = self.randomness.draw_rows(len(self._rows), rate)
        if chosen is None:
            for start_row in range(0, len(self._rows), self._piece):
                yield self._rows.slice(start_row, start_row + self._piece)
            return
        index = torch.from_numpy(chosen).to(self.model.device, non_blocking=True)
        for part in index.split(self._piece) if len(index) else ():
            yield self._rows.take(part)

    def _add(self, rows: PrivateRows, totals: list) -> None:
        losses = self._loss(self._forward(rows.inputs), rows.targets)
        if rows.weights is not None:
            losses = losses * rows.weights
        captured = self._per_example.backward(losses)
        piece = Piece(captured, captured.squared_norms(), rows.weights)
        for total in totals:
            total.add(piece)


@singledispatch
def start(value: Any, executor: TorchExecutor) -> Any:
    """Running total of one value over the pieces of a sample; new kinds of values register theirs here."""
    raise TypeError(f"the torch executor has no rule for {type(value).__name__} values")


@start.register(ClippedSum)
class _GradientTotal:
    def __init__(self, value: ClippedSum, executor: TorchExecutor):
        self._value = value
        self._flat, self._views = executor.flat_views()

    def add(self, piece: Piece) -> None:
        factors = clip_factors(piece.squared_norms, self._value.bound, self._value.clipping)
        piece.captured.add_weighted_sums(factors, self._views)

    def release(self, sensitivity: Any, multiplier: float, randomness: SecretRandomness) -> list[Tensor]:
        if multiplier:
            noise = randomness.normal(self._flat.numel())
            self._flat.add_(noise.mul_(sensitivity * (multiplier * (1 + FLOAT_SLACK))))
        return self._views


@start.register(NormBelow)
class _BelowTotal:
    def __init__(self, value: NormBelow, executor: TorchExecutor):
        self._bound = value.bound
        self._total = torch.zeros((), dtype=torch.float64, device=executor.model.device)

    def add(self, piece: Piece) -> None:
        squared = torch.stack(piece.squared_norms).sum(0)
        null = ~torch.isfinite(squared)
        if piece.weights is not None:
            null |= piece.weights == 0
        half = torch.where(squared.sqrt() <= self._bound, 0.5, -0.5)
        self._total += half.masked_fill(null, 0.0).sum()

    def release(self, sensitivity: float, multiplier: float, randomness: SecretRandomness) -> Tensor:
        return self._total + randomness.normal(1)[0] * (sensitivity * multiplier)
