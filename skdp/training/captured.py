"""What one backward pass yields: norms of per-record gradients, and weighted sums of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from skdp.training.clipping import total_squares
from skdp.training.rules.gradients import Gradient

__all__ = ["Captured", "exact_float32"]


class Captured:
    """Per-record gradients of one backward pass, in the form in which they are cheapest.

    Made by `PerExample.backward`.

    Examples
    --------
    >>> import torch
    >>> from skdp.training import PerExample
    >>> net = torch.nn.Linear(3, 1, bias=False)
    >>> with PerExample(net) as per_example:
    ...     captured = per_example.backward(net(torch.ones(2, 3)).sum(1))
    >>> total = [torch.zeros(1, 3, dtype=torch.float64)]
    >>> captured.add_weighted_sums(torch.tensor([1.0, 0.5]), total)
    >>> total[0].tolist()
    [[1.5, 1.5, 1.5]]
    """

    def __init__(
        self, gradients: list[Gradient], group_of: list[int], n_groups: int, batch: int, device: torch.device
    ) -> None:
        self._gradients = gradients
        self._group_of = group_of
        self._groups = [group_of[gradient.parameters[0]] for gradient in gradients]
        self._n_groups = n_groups
        self._batch = batch
        self._device = device
        self._squares: list[Tensor] | None = None
        self._ok: Tensor | None = None
        self._nulled = False
        self._wide = False

    def widen(self) -> None:
        """Take norms as they are and add up in float64, where sums do not depend on how records fall into runs.

        One record less shifts all records behind it into other runs; float32 would round all of these anew.
        """
        self._wide = True

    def seen_as(self, view: Callable[[Gradient], list[Gradient]], behind: list[int]) -> Captured:
        """The same records with other gradients; to be called before norms or sums are asked for.

        Parameters
        ----------
        view : callable
            Maps each gradient to those that stand in its place.
        behind : list of int
            For each number beyond those of the parameters that the gradients name, the parameter that it belongs to.

        Returns
        -------
        Captured
        """
        with exact_float32(self._device):
            gradients = [part for gradient in self._gradients for part in view(gradient)]
        group_of = self._group_of + [self._group_of[i] for i in behind]
        seen = Captured(gradients, group_of, self._n_groups, self._batch, self._device)
        seen._wide = self._wide
        return seen

    def squared_norms(self) -> list[Tensor]:
        """Upper bounds on squared gradient norms.

        Returns
        -------
        list of float32 tensors of shape (batch,)
            One per group of `PerExample.groups`. Exact to rounding where the gradient is an ordinary number, never
            below the truth; inf or NaN for a record whose gradient is not finite, which is then the null row.
        """
        if self._squares is None:
            squares: list[Tensor | None] = [None] * self._n_groups
            with exact_float32(self._device):
                for gradient, group in zip(self._gradients, self._groups, strict=True):
                    part, before = gradient.squared_norms(), squares[group]
                    squares[group] = part if before is None else before + part
            self._squares = [
                torch.zeros(self._batch, device=self._device) if part is None else part for part in squares
            ]
        return self._squares

    def add_weighted_sums(self, factors: Tensor | list[Tensor], out: list[Tensor]) -> None:
        """Add the sum over records of factor times gradient to `out`.

        Parameters
        ----------
        factors : tensor of shape (batch,), or a list of one per group
        out : list of contiguous tensors
            In parameter order and shape, of the type that `skdp.training.rules.sums.accumulator` names; changed in
            place.
        """
        self._null_rows()
        if self._wide:
            for gradient in self._gradients:
                gradient.change(Tensor.double)
        with exact_float32(self._device):
            if self._ok is not None:
                every = factors if isinstance(factors, list) else [factors]
                every = [torch.where(self._ok, factor, 0.0) for factor in every]
                factors = every if isinstance(factors, list) else every[0]
            if self._wide:
                factors = [f.double() for f in factors] if isinstance(factors, list) else factors.double()
            for gradient, group in zip(self._gradients, self._groups, strict=True):
                gradient.add_weighted(factors[group] if isinstance(factors, list) else factors, out)

    def _null_rows(self) -> None:
        """Take what is not finite out of the numbers themselves: a factor of zero would leave NaN."""
        if self._nulled:
            return
        self._nulled = True
        total = total_squares(self.squared_norms())
        if self._device.type == "cpu" and (not self._batch or math.isfinite(total.max())):
            return  # finite norms mean finite numbers; on an accelerator asking would stall it
        self._ok = ok = torch.isfinite(total)
        for gradient in self._gradients:
            gradient.null(ok)


def exact_float32(device: torch.device) -> Any:
    """No reduced precision: sums and norms are float32 whatever the forward pass used."""
    loose = [(backend, backend.fp32_precision) for backend in _BACKENDS[device.type == "cuda"]]
    loose = [pair for pair in loose if pair[1] not in _EXACT]
    return _full_precision(device, loose) if loose or torch.is_autocast_enabled(device.type) else _NOTHING


_NOTHING = nullcontext()
_EXACT = ("none", "ieee")
_BACKENDS = (
    (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv),
    (torch.backends.cuda.matmul, torch.backends.cudnn.conv),
)


@contextmanager
def _full_precision(device: torch.device, loose: list[tuple[Any, str]]) -> Iterator[None]:
    """Float32 products for a while."""
    try:
        for backend, _ in loose:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, before in loose:
            backend.fp32_precision = before
