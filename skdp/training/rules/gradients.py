"""Per-record gradients in the cheapest form that still gives their norms and one weighted sum.

Three forms exist: `Outer` (a sum over positions of outer products, never multiplied out unless that is cheaper),
`Rows` (rows of a table picked by index) and `Dense` (written out, for parameters of few numbers). All of them speak
of every record of the piece at once, the first dimension.

Norms are upper bounds. A float32 square underflows to zero below 1e-23, and a Gram sum may cancel down to its own
rounding error; both are covered by additive slack, so that no gradient passes a clip norm unseen. What overflows
becomes inf or NaN, and such a record is the null row.
"""

# ruff: noqa: D102 -- the overrides are documented in Gradient
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from skdp.training.rules.sums import add_products, add_rows

__all__ = [
    "Dense",
    "Gradient",
    "Outer",
    "Rows",
    "gram_is_cheaper",
    "gram_squares",
    "merge",
    "null_records",
    "row_squares",
]

TINY = torch.finfo(torch.float32).tiny  # what one float32 square can lose by underflow
WRITTEN_BYTES = 1 << 28  # of written-out gradients of one layer, before memory decides
RUN = 512  # numbers that a float32 norm adds up one after the other; over long runs its rounding error grows
PASS_COST = 16  # multiplications that cost as much as writing and reading one number of a gradient
GRAM_RUN = 8 * RUN
DRIFT = torch.finfo(torch.float32).eps / 8  # what a product of rows of equal numbers loses, per number of a row
GRAM_SLACK = 4 * torch.finfo(torch.float32).eps  # relative to the sum of the products' magnitudes, squared


def row_squares(values: Tensor, plus: float = 0.0) -> Tensor:
    """Sum of squares of each record, never under-reported by underflow, plus a constant: (batch, d) -> (batch,)."""
    size = values.shape[1]
    if values.stride(1) != 1:
        return values.square().sum(1).add_(plus + TINY * size)  # the norm of what lies apart is not even vectorised
    if size <= 4 * RUN:
        return torch.linalg.vector_norm(values, dim=1).square_().add_(plus + TINY * size)
    # A plain sum adds pairwise, a norm does not: for equal numbers it would lose 7e-4 of a million squares.
    whole = size - size % RUN
    squares = torch.linalg.vector_norm(values[:, :whole].unflatten(1, (-1, RUN)), dim=2).square_().sum(1)
    if whole < size:
        squares += torch.linalg.vector_norm(values[:, whole:], dim=1).square_()
    return squares.add_(plus + TINY * size)


def null_records(ok: Tensor, values: Tensor) -> Tensor:
    """`values` with the records that are not `ok` set to zero: (batch,), (batch, ...) -> (batch, ...)."""
    return torch.where(ok.view(-1, *[1] * (values.dim() - 1)), values, 0)


def gram_is_cheaper(batch: int, positions: int, outputs: int, inputs: int) -> bool:
    """Whether norms come cheaper from two Gram matrices over positions than from written-out gradients.

    Written out costs a product, three passes over its result and memory; the Gram form costs its two matrices and
    the product of the weighted sum.
    """
    size = outputs * inputs
    if 4 * batch * size > WRITTEN_BYTES:
        return 2 * positions * positions <= size
    return positions * positions * (outputs + inputs) <= PASS_COST * size


def gram_squares(left: Tensor, right: Tensor, bias: bool) -> Tensor:
    """Squared norms of sums of outer products, and of the bias: (batch, T, p), (batch, T, d) -> (batch,)."""
    positions, outputs = left.shape[1:]
    inputs = right.shape[2]
    left, right = _gram(left), _gram(right)
    if bias:
        right = right.add_(1)  # the bias is a weight whose input is one at every position
    # The traces bound the magnitudes of what is summed, so this covers cancellation and underflow at once; what the
    # products of the weighted sum round off is of the same size.
    least = positions * TINY / GRAM_SLACK
    traces = [m.diagonal(dim1=1, dim2=2).sum(1).add_(least * n) for m, n in ((left, outputs), (right, inputs))]
    terms = left.flatten(1).mul_(right.flatten(1))
    squares = terms.sum(1).clamp_(min=0).addcmul_(traces[0], traces[1], value=GRAM_SLACK)
    return squares.add_(terms.abs_().sum(1), alpha=DRIFT * (min(outputs, GRAM_RUN) + min(inputs, GRAM_RUN)))


def _gram(values: Tensor) -> Tensor:
    """Products of all pairs of positions, added up pairwise over long rows: (batch, T, d) -> (batch, T, T)."""
    size = values.shape[2]
    if size <= GRAM_RUN:
        return torch.bmm(values, values.mT)
    return _gram(values[:, :, : size // 2]).add_(_gram(values[:, :, size // 2 :]))


class Gradient:
    """Gradient of every record with respect to `parameters` (indices in parameter order)."""

    parameters: tuple[int, ...]

    def squared_norms(self) -> Tensor:
        """Upper bound on each record's squared norm over all `parameters`: float32 (batch,)."""
        raise TypeError(f"{type(self).__name__} reports no norms")

    def add_weighted(self, factors: Tensor, out: list[Tensor]) -> None:
        """Add the sum over records of factor times gradient to ``out[i]`` (float64) for each i of `parameters`."""
        raise TypeError(f"{type(self).__name__} cannot be summed")

    def change(self, how: Callable[[Tensor], Tensor]) -> None:
        """Replace the numbers of all records, the first dimension of each tensor, by what `how` makes of them."""
        raise TypeError(f"{type(self).__name__} cannot be changed")

    def null(self, ok: Tensor) -> None:
        """Make the records that are not `ok` (bool, (batch,)) null rows."""
        self.change(lambda values: null_records(ok, values))

    def split(self) -> list[Gradient]:
        """The same gradient as one object per parameter."""
        return [self]

    def dense(self, shape: torch.Size) -> Tensor:
        """The gradient written out: (batch, *shape); only for a single parameter."""
        raise TypeError(f"{type(self).__name__} cannot be written out")


class Dense(Gradient):
    """Gradients written out: values (batch, ...)."""

    def __init__(self, parameter: int, values: Tensor) -> None:
        self.parameters = (parameter,)
        self.values = values.float().flatten(1) if values.dim() > 1 else values.float()[:, None]

    def squared_norms(self) -> Tensor:
        return row_squares(self.values)

    def add_weighted(self, factors: Tensor, out: list[Tensor]) -> None:
        add_products(factors[:, None], self.values, out[self.parameters[0]].view(1, -1))

    def change(self, how: Callable[[Tensor], Tensor]) -> None:
        self.values = how(self.values)

    def dense(self, shape: torch.Size) -> Tensor:
        return self.values.view(-1, *shape)


class Outer(Gradient):
    """Sum over positions of outer products: left (batch, T, p) times right (batch, T, d), or both without T.

    With a second parameter, the bias, its gradient is the sum over positions of `left`.
    """

    def __init__(self, parameters: tuple[int, ...], left: Tensor, right: Tensor) -> None:
        self.parameters = parameters
        self.left = left.float()
        self.right = right.float()
        self.bias = len(parameters) == 2
        self.written: list[Dense] | None = None
        self.right_squares: Tensor | None = None

    def squared_norms(self) -> Tensor:
        if self.left.dim() == 2:
            known, one = self.right_squares, float(self.bias)
            right = row_squares(self.right, plus=one) if known is None else known + one
            return row_squares(self.left).mul_(right)
        if not gram_is_cheaper(*self.left.shape, self.right.shape[2]):
            self.written = self._write()
            return sum(part.squared_norms() for part in self.written)
        return gram_squares(self.left, self.right, self.bias)

    def _write(self) -> list[Dense]:
        weight = Dense(self.parameters[0], torch.bmm(self.left.mT, self.right))
        return [weight, Dense(self.parameters[1], self.left.sum(1))] if self.bias else [weight]

    def add_weighted(self, factors: Tensor, out: list[Tensor]) -> None:
        if self.written is not None:
            for part in self.written:
                part.add_weighted(factors, out)
            return
        left, right = self.left, self.right
        column = factors[:, None] if left.dim() == 2 else factors[:, None, None]
        if self.bias or left.shape[-1] <= right.shape[-1]:
            left = left * column
        else:
            right = right * column
        positions = left.shape[1] if left.dim() == 3 else 1
        if left.dim() == 3:
            left, right = left.flatten(0, 1), right.flatten(0, 1)
        add_products(left, right, out[self.parameters[0]], positions)
        if self.bias:
            add_rows(left, out[self.parameters[1]], positions)

    def change(self, how: Callable[[Tensor], Tensor]) -> None:
        if self.written is None:
            self.left, self.right = how(self.left), how(self.right)
        for part in self.written or ():
            part.change(how)

    def split(self) -> list[Gradient]:
        if not self.bias:
            return [self]
        left = self.left if self.left.dim() == 2 else self.left.sum(1)
        return [Outer(self.parameters[:1], self.left, self.right), Dense(self.parameters[1], left)]

    def dense(self, shape: torch.Size) -> Tensor:
        left, right = _with_positions(self.left), _with_positions(self.right)
        return torch.bmm(left.mT, right).view(-1, *shape)


class Rows(Gradient):
    """Rows of a table, picked by index: row indices (batch, T) and what each gets, values (batch, T, d).

    A value that must not count (padding) is zero. Rows that a record names twice are added before the norm.
    """

    def __init__(self, parameter: int, indices: Tensor, values: Tensor) -> None:
        self.parameters = (parameter,)
        self.indices = indices
        self.values = values.float()

    def squared_norms(self) -> Tensor:
        self._gather()
        return row_squares(self.values.flatten(1))

    def _gather(self) -> None:
        """Add up the values of equal indices within each record, at the first of them after sorting."""
        records, positions, width = self.values.shape
        if positions < 2 or not records:
            return
        self.indices, order = self.indices.sort(dim=1)
        fresh = torch.ones_like(self.indices)
        fresh[:, 1:] = self.indices[:, 1:] != self.indices[:, :-1]
        starts = torch.arange(positions, device=fresh.device).mul(fresh).cummax(dim=1).values
        offset = torch.arange(records, device=fresh.device)[:, None] * positions
        inverse = torch.empty_like(order).scatter_(1, order, starts + offset)
        self.values = torch.ops.aten.embedding_dense_backward(
            self.values.reshape(-1, width), inverse.view(-1), records * positions, -1, False
        ).view(records, positions, width)

    def add_weighted(self, factors: Tensor, out: list[Tensor]) -> None:
        table = out[self.parameters[0]]
        width = table.shape[-1]
        values = (self.values * factors[:, None, None]).view(-1, width)
        table.view(-1, width).index_add_(0, self.indices.reshape(-1), values.to(table.dtype))

    def change(self, how: Callable[[Tensor], Tensor]) -> None:
        self.values = how(self.values)

    def dense(self, shape: torch.Size) -> Tensor:
        full = self.values.new_zeros(len(self.values), *shape)
        return full.scatter_add_(1, self.indices[..., None].expand_as(self.values), self.values)


def _with_positions(values: Tensor) -> Tensor:
    """(batch, d) as (batch, 1, d); anything with positions as it is."""
    return values[:, None] if values.dim() == 2 else values


def merge(gradients: list[Gradient], shapes: list[torch.Size]) -> list[Gradient]:
    """One gradient per parameter (or weight and bias pair), summed over the places where it was used."""
    used = [parameter for gradient in gradients for parameter in gradient.parameters]
    if len(used) == len(set(used)):
        return gradients
    seen: dict[int, set[tuple[int, ...]]] = {}
    for gradient in gradients:
        for parameter in gradient.parameters:
            seen.setdefault(parameter, set()).add(gradient.parameters)
    shared: dict[tuple[int, ...], list[Gradient]] = {}
    for gradient in gradients:
        whole = all(len(seen[parameter]) == 1 for parameter in gradient.parameters)
        for part in [gradient] if whole else gradient.split():
            shared.setdefault(part.parameters, []).append(part)
    return [_add(parts, shapes) for parts in shared.values()]


def _add(parts: list[Gradient], shapes: list[torch.Size]) -> Gradient:
    """The sum of gradients with respect to the same parameters."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if all(type(part) is Outer for part in parts):
        left = torch.cat([_with_positions(part.left) for part in parts], dim=1)
        right = torch.cat([_with_positions(part.right) for part in parts], dim=1)
        return Outer(first.parameters, left, right)
    if all(type(part) is Rows for part in parts):
        indices = torch.cat([part.indices for part in parts], dim=1)
        return Rows(first.parameters[0], indices, torch.cat([part.values for part in parts], dim=1))
    if {type(part) for part in parts} == {Outer, Rows} and len(first.parameters) == 1:
        sides = [[part for part in parts if type(part) is kind] for kind in (Outer, Rows)]
        return Tied(*(_add(side, shapes) for side in sides))
    single = [part for whole in parts for part in whole.split()]
    if len(first.parameters) > 1:  # the same pair in different forms: written out, one parameter at a time
        return Several([_add([p for p in single if p.parameters == (i,)], shapes) for i in first.parameters])
    shape = shapes[first.parameters[0]]
    return Dense(first.parameters[0], sum(part.dense(shape) for part in single))


class Tied(Gradient):
    """One table that is both looked up and multiplied with: an embedding tied to an output layer."""

    def __init__(self, outer: Outer, rows: Rows) -> None:
        self.parameters = rows.parameters
        self.outer, self.rows = outer, rows
        outer.left, outer.right = _with_positions(outer.left), _with_positions(outer.right)

    def squared_norms(self) -> Tensor:
        outer, rows = self.outer, self.rows
        squares = outer.squared_norms() + rows.squared_norms()
        left, right, positions = outer.left, outer.right, outer.left.shape[1]
        picked = left.gather(2, rows.indices[:, None, :].expand(-1, positions, -1))
        cross = (picked * torch.bmm(right, rows.values.mT)).sum((1, 2))
        # Both may cancel to nothing; the slack bounds what was rounded, as in the Gram form.
        size = row_squares(left.flatten(1)) * row_squares(right.flatten(1))
        size += rows.values.shape[1] * row_squares(rows.values.flatten(1))
        return (squares + 2 * cross).clamp_(min=0).add_(size, alpha=2 * GRAM_SLACK)

    def add_weighted(self, factors: Tensor, out: list[Tensor]) -> None:
        self.outer.add_weighted(factors, out)
        self.rows.add_weighted(factors, out)

    def change(self, how: Callable[[Tensor], Tensor]) -> None:
        self.outer.change(how)
        self.rows.change(how)


class Several(Gradient):
    """Gradients of different parameters that are reported together."""

    def __init__(self, parts: list[Gradient]) -> None:
        self.parts = parts
        self.parameters = tuple(index for part in parts for index in part.parameters)

    def squared_norms(self) -> Tensor:
        return sum(part.squared_norms() for part in self.parts)

    def add_weighted(self, factors: Tensor, out: list[Tensor]) -> None:
        for part in self.parts:
            part.add_weighted(factors, out)

    def change(self, how: Callable[[Tensor], Tensor]) -> None:
        for part in self.parts:
            part.change(how)

    def split(self) -> list[Gradient]:
        return self.parts
