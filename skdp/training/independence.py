"""The check that a module treats its records independently, tried on made-up rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from skdp.exceptions import UnsupportedModuleError
from skdp.training.buffers import scratch_buffers
from skdp.training.clipped_gradient import one_loss_each, zero_sums
from skdp.training.per_example import PerExample
from skdp.training.pieces import CANNOT_TAKE, extreme_rows
from skdp.training.threads import worthwhile_threads

__all__ = ["check_rows_independent"]

_MIXES = (
    "the loss of a record changes with another record: the module or the loss mixes rows (a normalisation, mean, "
    "maximum, softmax or reshape over the first dimension?); make each record's loss a function of that record alone"
)
REMEMBERS = (
    "{} changes with the rows that the module was given before: it keeps something of them (in an attribute?); make "
    "its forward a function of its input and its parameters alone"
)


def check_rows_independent(
    module: nn.Module, loss_fn: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> None:
    """Raise unless each record's loss and gradient come from that record alone.

    Changes each row in turn, a little and by far, runs each row alone, and runs rows after other ones, and looks
    whether anything of another row moves: losses, layer inputs, gradients of layer outputs; whether buffers move at
    all; whether the module writes into its input; and compares the captured gradient with the ordinary one. Use made-
    up inputs, not private rows: random ones, since a row of indices is changed to indices of other rows. The module's
    buffers and the global random state are left as they were. Rows are not run alone where the module draws at random
    in other ways than by dropout layers.

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
        If the module mixes rows, keeps statistics of them, changes them in place, cannot take a single row, or uses
        a parameter where it cannot be followed.
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
    looked_up = any(isinstance(layer, nn.Embedding | nn.EmbeddingBag) for layer in module.modules())
    # They show a maximum, a clamp or a weak mean over the batch, which ordinary rows may not.
    extremes = list(extreme_rows(x)) if x.is_floating_point() and not looked_up else []
    devices = {p.device for p in per_example.parameters.values() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)), _threads_for(module, x):
        # Two sizes, so that a dimension that happens to equal the number of records is found out, and a third for what
        # a module does with many.
        for rows, changed in ((len(x), range(len(x))), (len(x) - 1, (0,)), (3 * len(x), (0, len(x), 3 * len(x) - 1))):
            batch = [torch.cat([part] * 3)[:rows] for part in (x, y)]
            probe = _Probe(per_example, loss_fn, batch)
            for row in changed:
                other = _changed("x", batch[0], row), _changed("y", batch[1], row)
                probe.compare_with(other, row)
                for extreme in extremes if rows == len(x) else ():
                    changed_batch = batch[0].clone()
                    changed_batch[row] = extreme[row]
                    probe.compare_with((changed_batch, other[1]), row, may_fail=True)
            if rows == len(x):
                for before in [*extremes, x.flip(0)]:
                    probe.compare_after((before, y))
            probe.compare_totals()
        with _without_dropout(module):
            _Probe(per_example, loss_fn, [x, y]).compare_with_rows_alone()


@contextmanager
def _threads_for(module: nn.Module, x: Tensor) -> Iterator[None]:
    """As many threads as passes of these few rows are worth, which is mostly one."""

    def one_pass() -> None:
        with torch.no_grad(), scratch_buffers(module), suppress(*CANNOT_TAKE):
            module(x.clone())

    with worthwhile_threads(one_pass) if x.device.type == "cpu" else nullcontext():
        yield


@contextmanager
def _without_dropout(module: nn.Module) -> Iterator[None]:
    """The module with its dropout layers switched off: what they draw depends on the size of the batch."""
    kinds = {_DropoutNd: "p", nn.MultiheadAttention: "dropout", nn.RNNBase: "dropout"}
    found = [(layer, name) for layer in module.modules() for kind, name in kinds.items() if isinstance(layer, kind)]
    before = [getattr(layer, name) for layer, name in found]
    try:
        for layer, name in found:
            setattr(layer, name, 0.0)
        yield
    finally:
        for (layer, name), value in zip(found, before, strict=True):
            setattr(layer, name, value)


class _Probe:
    """Comparisons of one batch with others, and of its gradients with those that torch computes."""

    def __init__(self, per_example: PerExample, loss_fn: Any, batch: list[Tensor]) -> None:
        self.per_example = per_example
        self.module = per_example.module
        self.loss_fn = loss_fn
        self.batch = batch
        self.losses, self.buffers = self._plain(*batch)
        self.sites = self._sites(*batch)
        captured = [tensor for site, grad in self.sites for tensor in (site.inputs, grad)]
        coarse = any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in captured)
        self.rounding = 0.05 if coarse else 1e-3

    def compare_with(self, other: tuple[Tensor, Tensor], row: int, may_fail: bool = False) -> None:
        """Nothing but one row may differ from what it is in a batch with another such row."""
        try:
            losses, buffers = self._plain(*other)
            sites = self._sites(*other)
        except CANNOT_TAKE as error:
            if may_fail and not isinstance(error, UnsupportedModuleError):
                return  # a row that is no input for this module tells nothing
            raise
        others = [i for i in range(len(self.losses)) if i != row]
        if _moved(self.losses[others], losses[others]):
            raise UnsupportedModuleError(_MIXES)
        # No tolerance: what moves by a little in one step moves far over a fit.
        for name in self.buffers.keys() | buffers.keys():
            if not _same(self.buffers.get(name), buffers.get(name)):
                raise UnsupportedModuleError(
                    f"buffer {name!r} changes with the records, so it would publish statistics of them; freeze it, or "
                    f"use a layer without running statistics"
                )
        self._compare_sites(sites, others, others)

    def compare_after(self, before: tuple[Tensor, Tensor]) -> None:
        """The batch must be what it is whatever the module was given before."""
        self._run_before(before)
        if _moved(self.losses, self._plain(*self.batch)[0]):
            raise UnsupportedModuleError(REMEMBERS.format("the loss of a record"))
        rows = list(range(len(self.losses)))
        self._run_before(before)
        self._compare_sites(self._sites(*self.batch), rows, rows)

    def _run_before(self, before: tuple[Tensor, Tensor]) -> None:
        try:
            self._plain(*before)
        except CANNOT_TAKE as error:
            if isinstance(error, UnsupportedModuleError):
                raise

    def compare_with_rows_alone(self) -> None:
        """Each row must be what it is in a batch of its own."""
        if _moved(self._plain(*self.batch, seed=1)[0], self.losses):
            return  # it draws at random, and in a smaller batch something else
        for row in range(len(self.losses)):
            here = [row]
            alone = tuple(part[here] for part in self.batch)
            try:
                losses, sites = self._plain(*alone)[0], self._sites(*alone)
            except CANNOT_TAKE as error:
                raise UnsupportedModuleError(
                    f"the module or the loss cannot take a single record, which a random sample may be: {error} "
                    "(a squeeze() that also removes the dimension of the records?)"
                ) from error
            if _moved(self.losses[here], losses, float(self.losses.abs().max()), self.rounding):
                raise UnsupportedModuleError(_MIXES)
            self._compare_sites(sites, here, [0], self.rounding)

    def _compare_sites(self, others: list, here: list[int], there: list[int], tolerance: float = 1e-3) -> None:
        for (site, grad), (other_site, other_grad) in zip(self.sites, others, strict=False):
            pairs = [(grad, other_grad)]
            if site.inputs.shape[1:] == other_site.inputs.shape[1:]:  # bags are filled up to the longest of a batch
                pairs.append((site.inputs, other_site.inputs))
            if len(self.sites) != len(others) or any(
                _moved(one[here], two[there], _size(one), tolerance) for one, two in pairs
            ):
                raise UnsupportedModuleError(
                    f"what layer {site.layer.name!r} ({type(site.layer.module).__name__}) sees of a record changes "
                    f"with another record; keep the records along the first dimension, in order, and do not mix them"
                )

    def _sites(self, x: Tensor, y: Tensor) -> list:
        """What every call of a layer is given, and the gradients of what it gives."""
        with scratch_buffers(self.module), self.per_example:
            return self.per_example.differentiate(self._losses(x, y))

    def _losses(self, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
        # torch.manual_seed writes down a stack trace for every kind of accelerator, which takes longer than the pass.
        (torch.default_generator if x.device.type == "cpu" else torch).manual_seed(seed)
        return one_loss_each(self.loss_fn(self.module(x), y), len(x))

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

    def compare_totals(self) -> None:
        """What is captured must add up to the ordinary gradient."""
        x, y = self.batch
        parameters = self.per_example.parameters
        with scratch_buffers(self.module), self.per_example:
            losses = self._losses(x, y)
            usual = torch.autograd.grad(losses.sum(), list(parameters.values()), retain_graph=True, allow_unused=True)
            captured = self.per_example.backward(losses)
        if not _moved(self._plain(x, y, seed=1)[0], self.losses) and _moved(losses.detach(), self.losses):
            raise UnsupportedModuleError(
                "a layer without a rule of its own gives other values for single records than for the batch; make it "
                "treat each record alone"
            )
        sums = list(zero_sums(parameters).values())
        captured.add_weighted_sums(torch.ones(len(x), device=losses.device), sums)
        scale = max(map(_size, sums), default=0.0)
        for name, total, expected in zip(parameters, sums, usual, strict=True):
            expected = torch.zeros_like(total) if expected is None else expected.float()
            if _moved(total, expected, scale, self.rounding):
                raise UnsupportedModuleError(
                    f"parameter {name!r} takes part outside of the forward pass of the layer that owns it, so its "
                    f"gradient cannot be followed per record; call the layer itself, or own the parameter where it "
                    f"is used"
                )


def _changed(name: str, values: Tensor, row: int) -> Tensor:
    """The batch with one other row: an affine image of numbers, indices that another row has in their place."""
    changed = values.clone()
    if values.is_floating_point() or values.is_complex():
        changed[row] = 1 - 2 * values[row]
    else:
        differs = (values != values[row]).int().argmax(0, keepdim=True)  # the first, itself or equal, where none does
        changed[row] = values.gather(0, differs)[0]
    if _same(changed[row], values[row]):
        raise ValueError(f"{name} does not vary, so it cannot show whether rows mix; pass random made-up values")
    return changed


def _same(one: Tensor | None, two: Tensor | None) -> bool:
    """Whether two tensors are equal, NaN to itself."""
    if one is None or two is None or one.shape != two.shape:
        return one is two
    return bool(torch.isclose(one, two, rtol=0, atol=0, equal_nan=True).all())


def _size(values: Tensor) -> float:
    """Largest finite magnitude."""
    return float(values.abs().nan_to_num(posinf=0.0).max()) if values.numel() else 0.0


def _moved(one: Tensor, two: Tensor, scale: float = 0.0, tolerance: float = 1e-3) -> bool:
    """Whether two tensors differ by more than rounding, by the size of their numbers or of others beside them."""
    if one.shape != two.shape:
        return True
    one, two = one.double(), two.double()
    least = max(tolerance**2 * max(scale, _size(one)), 1e-9)
    return not torch.allclose(one, two, rtol=tolerance, atol=least, equal_nan=True)
