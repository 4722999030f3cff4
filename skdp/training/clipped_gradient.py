"""The engine by itself: clipped gradient sums of any supported module, and the check that its rows are independent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skdp.exceptions import UnsupportedModuleError
from skdp.training.buffers import scratch_buffers
from skdp.training.clipping import clip_factors, total_squares
from skdp.training.per_example import PerExample

__all__ = ["ClippedGradient", "check_rows_independent", "clipped_gradient"]


@dataclass(frozen=True, eq=False)
class ClippedGradient:
    """What `clipped_gradient` returns; private until noise is added.

    Parameters
    ----------
    norms : float32 tensor of shape (batch,)
        Gradient norm of each record before clipping; not finite for null rows.
    sums : dict of str to float32 tensor
        By parameter name, the sum over records of the clipped gradients.

    Examples
    --------
    >>> import torch
    >>> ClippedGradient(torch.ones(2), {"weight": torch.zeros(1, 3)}).norms.shape
    torch.Size([2])
    """

    norms: Tensor
    sums: dict[str, Tensor]


def clipped_gradient(
    module: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    max_grad_norm: float = 1.0,
    clipping: str = "flat",
    sample_weight: Tensor | None = None,
) -> ClippedGradient:
    r"""Sum of per-record gradients, each clipped, from one backward pass.

    Parameters
    ----------
    module : torch.nn.Module
        Net whose records lie along the first dimension; its mode (training or evaluation) is left as it is.
    loss_fn : callable
        ``loss_fn(module(x), y)`` with one loss per record, for instance
        ``torch.nn.CrossEntropyLoss(reduction="none")``; further dimensions are summed over.
    x : tensor of shape (batch, ...)
        Inputs; the batch may be empty.
    y : tensor of shape (batch, ...)
        Targets.
    max_grad_norm : float, default=1.0
        Clip norm; ``inf`` clips nothing.
    clipping : {"flat", "automatic", "global", "per-layer"}, default="flat"
        See `clip_factors`.
    sample_weight : tensor of shape (batch,), optional
        Multiplies the losses, before clipping; weight 0 makes a null row.

    Returns
    -------
    ClippedGradient
        Per-record norms, and the clipped sum by parameter name.

    Raises
    ------
    UnsupportedModuleError
        If a layer mixes records; the message names the layer and the remedy.
    ValueError
        If the loss is not one number per record, or `max_grad_norm` or `clipping` is out of range.

    Notes
    -----
    *Formal guarantee*: if each loss is a function of its own record (see `check_rows_independent`), one record moves
    the sums, taken as one vector, by at most `max_grad_norm` :math:`(1 + 10^{-5})` in L2 norm under zero-out
    adjacency, whatever the record holds; a record whose gradient is not finite contributes exactly zero. The
    result is *not* private before noise is added.

    References
    ----------
    Bu et al., "Differentially private optimization on large model at small cost", 2023.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(2, 1, bias=False)
    >>> loss = torch.nn.MSELoss(reduction="none")
    >>> result = clipped_gradient(net, loss, torch.randn(5, 2), torch.randn(5, 1), max_grad_norm=0.1)
    >>> bool(result.sums["weight"].norm() <= 5 * 0.1 * (1 + 1e-5))
    True
    """
    if not max_grad_norm >= 0:
        raise ValueError(f"max_grad_norm={max_grad_norm!r} must be a number of at least 0")
    per_example = PerExample(module)
    with per_example:
        losses = _per_record(loss_fn(module(x), y), len(x))
        if sample_weight is not None:
            losses = losses * sample_weight
        captured = per_example.backward(losses)
    squares = captured.squared_norms()
    sums = {n: torch.zeros(p.shape, device=p.device) for n, p in per_example.parameters.items()}
    captured.add_weighted_sums(clip_factors(squares, float(max_grad_norm), clipping), list(sums.values()))
    return ClippedGradient(total_squares(squares).sqrt(), sums)


def _per_record(losses: Any, batch: int) -> Tensor:
    """Losses as (batch,), summed over further dimensions."""
    if not isinstance(losses, Tensor) or losses.dim() == 0 or len(losses) != batch:
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ValueError(
            f'the loss has shape {shape} for {batch} records; it must be one loss per record: use reduction="none"'
        )
    return losses if losses.dim() == 1 else losses.flatten(1).sum(1)


def check_rows_independent(
    module: nn.Module, loss_fn: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> None:
    """Raise unless each record's loss and gradient come from that record alone.

    Changes one row and looks whether anything of another row moves: losses, layer inputs, gradients of layer
    outputs; whether buffers move at all; whether the module writes into its input; and compares the captured gradient
    with the ordinary one. Use made-up inputs, not private rows: random ones, since a row of indices is changed to
    indices of other rows. The module's buffers and the global random state are left as they were.

    Parameters
    ----------
    module : torch.nn.Module
        In the mode in which it will be trained.
    loss_fn : callable
        ``loss_fn(module(x), y)``, one loss per record.
    x : tensor of shape (n, ...)
        Public inputs of at least three rows that differ.
    y : tensor of shape (n, ...)
        Public targets that differ.

    Raises
    ------
    UnsupportedModuleError
        If the module mixes rows, keeps statistics of them, changes them in place, or uses a parameter where it
        cannot be followed.
    ValueError
        If the loss is not one number per record, fewer than three rows are given, or `x` or `y` does not vary, so
        that nothing would be checked.

    Examples
    --------
    >>> import torch
    >>> net, loss = torch.nn.Linear(4, 1), torch.nn.MSELoss(reduction="none")
    >>> check_rows_independent(net, loss, torch.randn(5, 4), torch.randn(5, 1))
    """
    if len(x) < 3:
        raise ValueError(f"x has {len(x)} rows; at least three are needed to see whether rows mix")
    per_example = PerExample(module)
    other = _changed("x", x), _changed("y", y)
    devices = {p.device for p in per_example.parameters.values() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        # Two sizes, so that a dimension that happens to equal the number of records is found out.
        for rows in (len(x), len(x) - 1):
            _Probe(per_example, loss_fn, (x[:rows], y[:rows]), (other[0][:rows], other[1][:rows])).run()


class _Probe:
    """One comparison of a batch with the same batch but for its first row."""

    def __init__(self, per_example: PerExample, loss_fn: Any, one: tuple, other: tuple) -> None:
        self.per_example = per_example
        self.module = per_example.module
        self.loss_fn = loss_fn
        self.batches = [one, other]

    def run(self) -> None:
        losses, buffers = zip(*(self._plain(*batch) for batch in self.batches), strict=True)
        if _moved(losses[0][1:], losses[1][1:]):
            raise UnsupportedModuleError(
                "the loss of a record changes with another record: the module or the loss mixes rows (a "
                "normalisation, mean, softmax or reshape over the first dimension?); make each record's loss a "
                "function of that record alone"
            )
        # No tolerance: what moves by a little in one step moves far over a fit.
        for name in buffers[0].keys() | buffers[1].keys():
            if not _same(buffers[0].get(name), buffers[1].get(name)):
                raise UnsupportedModuleError(
                    f"buffer {name!r} changes with the records, so it would publish statistics of them; freeze it, or "
                    f"use a layer without running statistics"
                )
        self._compare_layers()
        self._compare_totals(losses[0])

    def _losses(self, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
        torch.manual_seed(seed)
        return _per_record(self.loss_fn(self.module(x), y), len(x))

    def _plain(self, x: Tensor, y: Tensor, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        before = x.clone()
        with scratch_buffers(self.module):
            losses = self._losses(x, y, seed).detach()
            buffers = dict(self.module.named_buffers())
        if not _same(x, before):
            raise UnsupportedModuleError(
                "the module changes its input in place, and with it the rows; in its forward, use the operation that "
                "returns a new tensor (x = x.div(...) for x.div_(...), inplace=False)"
            )
        return losses, buffers

    def _compare_layers(self) -> None:
        runs = []
        for x, y in self.batches:
            with scratch_buffers(self.module), self.per_example:
                runs.append(self.per_example.differentiate(self._losses(x, y)))
        for (site, grad), (other_site, other_grad) in zip(*runs, strict=False):
            pairs = [(site.inputs, other_site.inputs), (grad, other_grad)]
            if len(runs[0]) != len(runs[1]) or any(_moved(one[1:], two[1:]) for one, two in pairs):
                raise UnsupportedModuleError(
                    f"what layer {site.layer.name!r} ({type(site.layer.module).__name__}) sees of a record changes "
                    f"with another record; keep the records along the first dimension, in order, and do not mix them"
                )

    def _compare_totals(self, plain: Tensor) -> None:
        x, y = self.batches[0]
        parameters = self.per_example.parameters
        with scratch_buffers(self.module), self.per_example:
            losses = self._losses(x, y)
            usual = torch.autograd.grad(losses.sum(), list(parameters.values()), retain_graph=True, allow_unused=True)
            captured = self.per_example.backward(losses)
        if not _moved(self._plain(x, y, seed=1)[0], plain) and _moved(losses.detach(), plain):
            raise UnsupportedModuleError(
                "a layer without a rule of its own gives other values for single records than for the batch; make it "
                "treat each record alone"
            )
        sums = [torch.zeros(p.shape, device=p.device) for p in parameters.values()]
        captured.add_weighted_sums(torch.ones(len(x), device=losses.device), sums)
        scale = max((float(total.abs().max()) for total in sums if total.numel()), default=0.0)
        for name, total, expected in zip(parameters, sums, usual, strict=True):
            expected = torch.zeros_like(total) if expected is None else expected.float()
            if _moved(total, expected, scale):
                raise UnsupportedModuleError(
                    f"parameter {name!r} takes part outside of the forward pass of the layer that owns it, so its "
                    f"gradient cannot be followed per record; call the layer itself, or own the parameter where it "
                    f"is used"
                )


def _changed(name: str, values: Tensor) -> Tensor:
    """The batch with another first row: an affine image of numbers, indices that another row has in their place."""
    changed = values.clone()
    if values.is_floating_point() or values.is_complex():
        changed[0] = 1 - 2 * values[0]
    else:
        differs = (values != values[:1]).int().argmax(0, keepdim=True)  # row 0, itself, where none differs
        changed[0] = values.gather(0, differs)[0]
    if _same(changed[0], values[0]):
        raise ValueError(f"{name} does not vary, so it cannot show whether rows mix; pass random made-up values")
    return changed


def _same(one: Tensor | None, two: Tensor | None) -> bool:
    """Whether two tensors are equal, NaN to itself."""
    if one is None or two is None or one.shape != two.shape:
        return one is two
    return bool(torch.isclose(one, two, rtol=0, atol=0, equal_nan=True).all())


def _moved(one: Tensor, two: Tensor, scale: float = 0.0) -> bool:
    """Whether two tensors differ by more than rounding."""
    if one.shape != two.shape:
        return True
    one, two = one.double(), two.double()
    coarse = 1e-3 * max(scale, float(one.abs().nan_to_num().max()) if one.numel() else 0.0)
    return not torch.allclose(one, two, rtol=1e-3, atol=max(1e-3 * coarse, 1e-9), equal_nan=True)
