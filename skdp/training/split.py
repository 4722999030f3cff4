"""A net in two parts: a frozen front whose activations are released, and the rest, which trains on the release."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from skdp.exceptions import UnsupportedModuleError
from skdp.training.independence import REMEMBERS
from skdp.training.pieces import CANNOT_TAKE, extreme_rows, made_up_records, tried_on
from skdp.training.supported import check_supported
from skdp.training.threads import worthwhile_threads

__all__ = ["SplitNet", "clip_rows"]

# What the layer's output is replaced by in this thread; a hook that stays on the layer looks it up.
_CHANGE: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar("_CHANGE", default=None)
_MOST_DIRECTIONS = 512  # with more activations than this all directions are stretched alike


class _Reached(BaseException):
    """Ends a forward pass at the layer; no error, so that no forward of a user's catches it."""


def clip_rows(activations: Tensor, bound: Any) -> Tensor:
    """Rows brought under an L2 norm; one that is not finite becomes zeros.

    Parameters
    ----------
    activations : tensor of shape (batch, width)
    bound : float or 0-dim tensor
        ``inf`` leaves finite rows as they are.

    Returns
    -------
    tensor of shape (batch, width)

    Examples
    --------
    >>> clip_rows(torch.tensor([[3.0, 4.0], [0.0, 0.5], [float("nan"), 1.0]]), 1.0)
    tensor([[0.6000, 0.8000],
            [0.0000, 0.5000],
            [0.0000, 0.0000]])
    """
    norms = torch.linalg.vector_norm(activations, dim=1, keepdim=True, dtype=torch.float64)
    finite = torch.isfinite(norms)
    factors = torch.where(finite, (bound / norms).clamp(max=1.0), 0.0)
    # In float64, for the factor of a huge row is less than float32 can tell apart.
    return (torch.where(finite, activations, 0.0).double() * factors).to(activations.dtype)


class SplitNet(nn.Module):
    """A net whose `layer` sees to it that each record's output there is clipped, and can be replaced.

    Parameters
    ----------
    net : torch.nn.Module
    layer : str or None
        Qualified name of the submodule whose output is released; None is the input of the net.
    input_shape : tuple of int
        Of one record.
    bound : float or "auto", default="auto"
        L2 norm of a record's activations; ``"auto"`` is the root of a third of their number, the root mean square
        norm of numbers spread evenly over [-1, 1].
    vocabulary : int or None, default=None
        Number of tokens, where records are tokens.

    Attributes
    ----------
    width : int
        Number of activations of a record.
    max_norm : float
        The bound that was asked for.
    bound, scale, center, gain : tensors
        Clip norm; what activations are divided by before they go on; and the map `center + (a - center) @ gain` of
        activations without noise (see `follow_noise`). Buffers, so that they travel with the weights.

    Raises
    ------
    UnsupportedModuleError
        If what runs up to the layer trains or mixes records, the layer does not run exactly once, or the output
        depends on the input by another way than through the layer.
    ValueError
        If there is no such layer, or the net cannot take such records.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3).requires_grad_(False), nn.Tanh(), nn.Linear(3, 1))
    >>> split = SplitNet(net, "1", (4,), bound=1.0)
    >>> x = torch.randn(5, 4)
    >>> split.activations(x).shape
    torch.Size([5, 3])
    >>> torch.equal(split(x), split.rest(clip_rows(split.activations(x), 1.0)))
    True
    """

    def __init__(
        self,
        net: nn.Module,
        layer: str | None,
        input_shape: tuple[int, ...],
        bound: float | str = "auto",
        vocabulary: int | None = None,
    ):
        super().__init__()
        check_supported(net)
        self.net, self.layer = net, layer
        self._zero = torch.zeros((1, *input_shape), dtype=torch.int64 if vocabulary else torch.float32)
        for part in net.modules():  # a net that was split before, perhaps at another layer
            for key in [key for key, hook in part._forward_hooks.items() if hook is _gate]:
                del part._forward_hooks[key]
        if layer is not None:
            self._find().register_forward_hook(_gate)
        with torch.random.fork_rng(devices=[]), _evaluating(net):
            self._shape = self._checked(input_shape, made_up_records(input_shape, vocabulary))
        self.width = math.prod(self._shape)
        self.max_norm = math.sqrt(self.width / 3) if bound == "auto" else float(bound)
        self.register_buffer("bound", torch.tensor(self.max_norm))
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("center", torch.zeros(self.width))
        self.register_buffer("gain", torch.eye(self.width) if self.width <= _MOST_DIRECTIONS else torch.tensor(1.0))

    @torch.no_grad()
    def follow_noise(self, released: Tensor, std: float, rescale: bool = True) -> None:
        r"""Prepare for training on `released` and for predicting without noise: post-processing of the release.

        Noise in the inputs flattens what a net learns from them: a linear model's slope comes out too small by the
        factor :math:`\lambda/(\lambda+\sigma^2)` in a direction of variance :math:`\lambda`. Predictions, whose inputs
        have no noise, make up for it by stretching them by the inverse (regression calibration). Where noise hides
        :math:`\lambda`, its upper end is taken, so that nothing is stretched more than the release gives reason to.

        Parameters
        ----------
        released : tensor of shape (n, width)
        std : float
            Of the noise on each number.
        rescale : bool, default=True
            Whether activations are divided by the noise, where that is more than 1, before they go on.
        """
        if not std:
            return
        if rescale and self.scale == 1:  # else the weights were made for another scale, by an earlier fit
            # Much noise would drive units into saturation and the learning rate out of bounds; little leaves all as is.
            self.scale.fill_(max(1.0, std))
        n, noise = len(released), std**2
        self.center.copy_(released.double().mean(0))
        per_row = (self.width if self.gain.ndim else 1 / self.width) / n
        unsure = noise * (
            2 * math.sqrt(per_row) + per_row
        )  # how far noise alone may spread variances (Marchenko-Pastur)
        centered = released - self.center
        if not self.gain.ndim:
            signal = max(0.0, float(centered.double().square().mean()) - noise) + unsure
            self.gain.fill_(1 + noise / signal)
            return
        total, directions = torch.linalg.eigh((centered.T @ centered).double() / n)
        signal = (total - noise).clamp(min=0.0) + unsure
        self.gain.copy_(directions * (1 + noise / signal) @ directions.T)

    # ------------------------------------------------------------------ the two parts
    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the net, with the same clipping as in training and without noise."""
        if self.layer is None:
            return self.rest(self._stretched(x))
        return self._run(x, lambda output: self._onwards(self._stretched(output)))

    @torch.no_grad()
    def activations(self, x: Tensor) -> Tensor:
        """Un-clipped float32 activations of each record, (batch, width), with the front in evaluation mode."""
        with _evaluating(self.net):
            return self._front(x).reshape(len(x), -1).float()

    def rest(self, activations: Tensor) -> Tensor:
        """Outputs of the net when the layer gives these activations; no record takes part."""
        onwards = self._onwards(activations)
        if self.layer is None:
            return self.net(onwards)
        if type(self.net) is nn.Sequential and self.layer in self.net._modules:
            for part in list(self.net)[list(self.net._modules).index(self.layer) + 1 :]:
                onwards = part(onwards)
            return onwards
        made_up = self._zero.to(activations.device).expand(len(activations), *self._zero.shape[1:])
        return self._run(made_up, lambda output: onwards)

    def _stretched(self, output: Tensor) -> Tensor:
        """Clipped activations without noise, on the scale on which those with noise trained the rest."""
        beyond = clip_rows(output.reshape(len(output), -1).float(), self.bound) - self.center
        return self.center + (beyond @ self.gain if self.gain.ndim else beyond * self.gain)

    def _onwards(self, activations: Tensor) -> Tensor:
        return (activations / self.scale).view(-1, *self._shape).to(self._dtype)

    def _front(self, x: Tensor) -> Tensor:
        if self.layer is None:
            return x

        def stop(output: Tensor) -> Tensor:
            raise _Reached(output)

        try:
            self._run(x, stop)
        except _Reached as reached:
            return reached.args[0]
        raise UnsupportedModuleError(f"layer={self.layer!r} did not run in the forward pass")

    def _run(self, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        token = _CHANGE.set(change)
        try:
            return self.net(x)
        finally:
            _CHANGE.reset(token)

    # ------------------------------------------------------------------ checks, on made-up records
    def _find(self) -> nn.Module:
        layers = {name: layer for name, layer in self.net.named_modules() if name}
        if self.layer not in layers:
            raise ValueError(
                f"layer={self.layer!r} is not in module={type(self.net).__name__}; it has "
                f"{', '.join(map(repr, layers)) or 'no layers'}, and layer=None stands for its input"
            )
        return layers[self.layer]

    def _checked(self, input_shape: tuple[int, ...], x: Tensor) -> tuple[int, ...]:
        """Shape of one record's output at the layer, once the split is known to be sound."""
        if self.layer is None:
            if not x.is_floating_point():
                raise UnsupportedModuleError(
                    "layer=None would release the tokens themselves, which noise makes into no tokens; name the "
                    "embedding, with frozen public weights, as layer="
                )
            self._dtype = x.dtype
            return tuple(input_shape)
        seen: list[Any] = []
        with tried_on(self.net, input_shape):
            # Copied, since what follows may write into it.
            self._run(x, lambda output: seen.append(output.clone() if isinstance(output, Tensor) else output) or output)
        if len(seen) != 1:
            raise UnsupportedModuleError(
                f"layer={self.layer!r} runs {len(seen)} times in one forward pass, and has to run once for a record's "
                "activations to be one release; name a layer through which everything goes once"
            )
        (output,) = seen
        if not isinstance(output, Tensor) or not output.is_floating_point() or len(output) != len(x):
            raise UnsupportedModuleError(
                f"layer={self.layer!r} gives {_described(output)} for {len(x)} rows; name a layer that gives one "
                "tensor of floating point numbers with the rows along its first dimension"
            )
        self._check_frozen(output)
        self._check_records(x, output)
        self._check_the_only_way(x, output)
        self._dtype = output.dtype
        return tuple(output.shape[1:])

    def _check_frozen(self, output: Tensor) -> None:
        trainable = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        if not output.requires_grad or not trainable:
            return
        gradients = torch.autograd.grad(output.sum(), list(trainable.values()), allow_unused=True, retain_graph=True)
        names = [name for name, g in zip(trainable, gradients, strict=True) if g is not None]
        if names:
            raise UnsupportedModuleError(
                f"the parameters {names} run before layer={self.layer!r} and would train: their gradient would be a "
                "function of raw rows, so that updating them is not post-processing of what was released. Freeze them "
                "(.requires_grad_(False)) with public or pre-trained weights, use skdp.nets.RandomProjection as the "
                "front, name an earlier layer, or train with mechanism='dp-sgd'"
            )

    @torch.no_grad()
    def _check_records(self, x: Tensor, output: Tensor) -> None:
        """A record's output must not change with rows beside it, before it in a batch, or in batches before."""
        with worthwhile_threads(lambda: self._front(x.clone())):
            self._check_one_record(x, output[:1])

    def _check_one_record(self, x: Tensor, own: Tensor) -> None:
        one, alone = x[:1], self._front(x[:1].clone())
        for other in (x[1:], x.flip(0)[:-1], *extreme_rows(x[1:])):
            found = [alone]
            with suppress(*CANNOT_TAKE):  # such rows may be no input for this front, and then tell nothing
                found += [self._front(torch.cat([one, other]))[:1], self._front(torch.cat([other, one]))[-1:]]
                self._front(other.clone())
            if not all(_same(output, own) for output in found):
                raise UnsupportedModuleError(
                    f"what layer={self.layer!r} gives for a record changes with the other records of its batch (or at "
                    "random); the front has to treat each record alone"
                )
            if not _same(self._front(one.clone()), own):
                raise UnsupportedModuleError(REMEMBERS.format(f"what layer={self.layer!r} gives for a record"))

    def _check_the_only_way(self, x: Tensor, output: Tensor) -> None:
        fixed = torch.rand(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
        watched = x.detach().clone().requires_grad_(x.is_floating_point())
        one = self._run(watched, lambda output: fixed.clone())
        two = self._run(torch.zeros_like(x), lambda output: fixed.clone())
        around = not _same(one, two)
        if watched.requires_grad and isinstance(one, Tensor) and one.requires_grad:
            # Last layers often start at zero and hide in numbers what the graph shows.
            around |= torch.autograd.grad(one.sum(), watched, allow_unused=True)[0] is not None
        if around:
            raise UnsupportedModuleError(
                f"the output depends on the input by another way than through layer={self.layer!r} (a skip connection "
                "around it?), so what is released there is not all that is needed; name a layer through which "
                "everything goes, or layer=None"
            )


def _gate(layer: nn.Module, inputs: Any, output: Any) -> Any:
    change = _CHANGE.get()
    return None if change is None else change(output)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, so that nothing is dropped from a release."""
    training = [layer for layer in module.modules() if layer.training]
    for layer in training:
        layer.training = False
    try:
        yield
    finally:
        for layer in training:
            layer.training = True


def _same(one: Any, two: Any) -> bool:
    return isinstance(one, Tensor) and torch.allclose(one, two, rtol=1e-4, atol=1e-6, equal_nan=True)


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of {output.dtype} and shape {tuple(output.shape)}"
    return f"a {type(output).__name__}"
