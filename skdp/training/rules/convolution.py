"""Convolutions in one, two and three dimensions, with groups, stride, dilation and every padding mode."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skdp.training.rules.gradients import Dense, Gradient, gram_is_cheaper, gram_squares, row_squares
from skdp.training.rules.rule import Rule
from skdp.training.rules.sums import RUN, add_products, add_rows

__all__ = ["CONVOLUTION"]

PATCH_BYTES = 1 << 21  # of input patches laid out at a time: what stays in the cache of a core
PATCH_BYTES_DEVICE = 1 << 28
SHORT_RUN = 32  # numbers that are too few to copy at full speed
ENOUGH_CHANNELS = 6  # for torch's own grouped convolution to be faster than products of patches
GROUPED_CHANNELS = 512  # of all records together that go into one grouped convolution


class Convolved(Gradient):
    """Gradient of a convolution: inputs (batch, channels, ...), output gradients (batch, outputs, ...).

    A convolution is a linear layer whose positions are the patches of its input.
    """

    def __init__(self, parameters: tuple[int, ...], module: nn.Module, inputs: Tensor, grad: Tensor) -> None:
        self.parameters = parameters
        self.module = module
        self.weight = module.weight.detach()  # of which only the shape counts
        self.bias = len(parameters) == 2
        self.padding = module.padding
        inputs = inputs.float()
        if isinstance(module.padding, str) or module.padding_mode != "zeros":
            mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
            inputs = F.pad(inputs, module._reversed_padding_repeated_twice, mode=mode)
            self.padding = (0,) * len(module.kernel_size)
        self.inputs = inputs
        self.grad = grad.float()
        self.written: list[Gradient] | None = None

    def squared_norms(self) -> Tensor:
        weight, positions = self.weight, math.prod(self.grad.shape[2:])
        outputs = len(weight) // self.module.groups
        if len(self.grad) and gram_is_cheaper(len(self.grad), positions, outputs, weight[0].numel()):
            return self._gram_squares(positions)
        self.written = self._write()
        return sum(part.squared_norms() for part in self.written)

    def _leftover(self) -> list[bool]:
        """Per dimension, whether some of the input is read by no patch."""
        m = self.module
        geometry = zip(self.inputs.shape[2:], m.kernel_size, m.stride, m.dilation, self.padding, strict=True)
        return [s > k or (n + 2 * p - d * (k - 1) - 1) % s > p for n, k, s, d, p in geometry]

    def _gram_squares(self, positions: int) -> Tensor:
        parts = [gram_squares(left.mT, patches, self.bias) for left, patches in self._pieces(positions)]
        return self._with_unread(torch.cat(parts).view(-1, self.module.groups).sum(1))

    def _with_unread(self, squares: Tensor) -> Tensor:
        """NaN where it stands in a pixel that no patch reads, since it may still enter the sum as 0 * NaN."""
        return squares + 0 * self.inputs.flatten(1).sum(1) if any(self._leftover()) else squares

    def _pieces(self, positions: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Output gradients (n, outputs, positions) and patches (n, positions, width), a few records at a time.

        Each record counts once per group. Patches have their channels last and reuse one piece of memory.
        """
        inputs, groups = self.inputs, self.module.groups
        if any(self.padding):
            inputs = F.pad(inputs, [p for p in reversed(self.padding) for _ in range(2)])
        inputs = inputs.unflatten(1, (groups, -1)).flatten(0, 1).movedim(1, -1).contiguous()
        grad = self.grad.reshape(len(inputs), -1, positions)
        width = self.weight[0].numel()
        limit = PATCH_BYTES if inputs.device.type == "cpu" else PATCH_BYTES_DEVICE
        step = max(1, limit // (4 * max(1, positions * width)))
        space = inputs.new_empty(min(step, len(inputs)), positions, width)
        for start in range(0, len(inputs), step):
            piece = self._windows(inputs[start : start + step])
            patches = space[: len(piece)]
            patches.view(piece.shape).copy_(piece)
            yield grad[start : start + step], patches

    def _windows(self, inputs: Tensor) -> Tensor:
        """What each output position sees: (n, *sizes, channels) -> (n, *positions, *kernel, channels), a view."""
        m, n = self.module, len(self.module.kernel_size)
        axes = list(zip(m.kernel_size, m.stride, m.dilation, strict=True))

        def slide(values: Tensor, axis: int, i: int) -> Tensor:
            size, stride, dilation = axes[i]
            return values.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]

        if n > 1 and axes[-1][0] * inputs.shape[-1] < SHORT_RUN:
            # Sliding along the last axis first makes all further kernel axes one contiguous run to copy.
            last = slide(inputs, n, n - 1)
            last = last.permute(0, n, *range(1, n), n + 2, n + 1).contiguous()
            for i in range(n - 1):
                last = slide(last, 2 + i, i)
            return last.permute(0, *range(2, n + 1), 1, *range(n + 3, 2 * n + 2), n + 1, n + 2)
        for i in range(n):
            inputs = slide(inputs, 1 + i, i)
        return inputs.permute(0, *range(1, n + 1), *range(n + 2, 2 * n + 2), n + 1)

    def _write(self) -> list[Gradient]:
        """The gradients themselves: what is squared for the norm is what is added up.

        Where positions cancel, two ways to compute one gradient differ by more than the gradient.
        """
        channels, groups = self.weight.shape[1], self.module.groups
        if self.grad.device.type == "cpu" and (channels >= ENOUGH_CHANNELS or groups > 1):
            parts: list[Gradient] = [self._grouped_weight()]
        else:
            parts = [_ChannelsLast(self.parameters[0], self.weight.shape, *self._written_weight())]
        if self.bias:
            parts.append(Dense(self.parameters[1], self.grad.flatten(2).sum(2)))
        return parts

    def _grouped_weight(self) -> Written:
        """The gradient (batch, numbers of the weight) as torch writes it: a group of one convolution each."""
        weight, batch = self.weight, len(self.grad)
        values, squares = self.grad.new_empty(batch, weight.numel()), self.grad.new_zeros(batch)
        n = max(1, GROUPED_CHANNELS // self.inputs.shape[1])
        for start in range(0, batch, n):
            grad, inputs = self.grad[start : start + n], self.inputs[start : start + n]
            shape = grad.new_empty(len(grad) * len(weight), *weight.shape[1:])
            one = [t.reshape(1, -1, *t.shape[2:]) for t in (grad, inputs)]
            part = values[start : start + n]
            part.copy_(_weight_gradient(*one, shape, self, len(grad) * self.module.groups).view(part.shape))
            squares[start : start + n] = row_squares(part)  # while it is in the cache
        return Written(self.parameters[0], values, self._with_unread(squares))

    def _written_weight(self) -> tuple[Tensor, Tensor]:
        """The gradient (batch, outputs, *kernel, channels), and squared norms taken while it is in the cache."""
        outputs, channels, *kernel = self.weight.shape
        batch, groups = len(self.grad), self.module.groups
        written = self.grad.new_empty(batch * groups, outputs // groups, math.prod(kernel) * channels)
        squares = [written.new_zeros(0)]
        start = 0
        for left, patches in self._pieces(math.prod(self.grad.shape[2:])) if batch else ():
            piece = written[start : start + len(left)]
            torch.bmm(left, patches, out=piece)
            squares.append(row_squares(piece.flatten(1)))
            start += len(left)
        return written.view(batch, outputs, *kernel, channels), torch.cat(squares).view(batch, groups).sum(1)

    def add_weighted(self, factors: Tensor, out: list[Tensor]) -> None:
        if self.written is not None:
            for part in self.written:
                part.add_weighted(factors, out)
            return
        grad = self.grad * factors.view(-1, *[1] * (self.grad.dim() - 1))
        weight, groups = self.weight, self.module.groups
        total = out[self.parameters[0]]
        records = max(1, int(RUN / math.prod(grad.shape[2:]) ** 0.5))
        for part, inputs in zip(grad.split(records), self.inputs.split(records), strict=True):
            total.add_(_weight_gradient(part, inputs, weight.to(part.dtype), self, groups))
        if self.bias:
            add_rows(grad.flatten(2).sum(2), out[self.parameters[1]])

    def change(self, how: Callable[[Tensor], Tensor]) -> None:
        if self.written is None:
            self.inputs, self.grad = how(self.inputs), how(self.grad)
        for part in self.written or ():
            part.change(how)

    def through(self, right: Tensor) -> Tensor:
        """Patches seen through `right` (r, width): (batch, positions, r), by a convolution with r outputs."""
        m, n = self.module, len(self.padding)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
        kernel = right.view(-1, *self.weight.shape[1:])
        return convolve(self.inputs, kernel, None, m.stride, self.padding, m.dilation).flatten(2).mT

    def onto(self, left: Tensor, parameter: int) -> Convolved:
        """The gradient of the weight, multiplied from the left by the transpose of `left` (outputs, r)."""
        thin = copy.copy(self)
        thin.parameters, thin.bias = (parameter,), False
        thin.weight = left.new_zeros(left.shape[1], *self.weight.shape[1:])
        thin.grad = (left.mT @ self.grad.flatten(2)).unflatten(2, self.grad.shape[2:])
        return thin

    def split(self) -> list[Gradient]:
        return self._write()

    def dense(self, shape: torch.Size) -> Tensor:
        return self._written_weight()[0].movedim(-1, 2)


class Written(Dense):
    """Gradients written out whose squared norms are known."""

    def __init__(self, parameter: int, values: Tensor, squares: Tensor) -> None:
        super().__init__(parameter, values)
        self.squares = squares

    def squared_norms(self) -> Tensor:
        return self.squares


class _ChannelsLast(Written):
    """A convolution's weight gradient, written out as (batch, outputs, *kernel, channels)."""

    def __init__(self, parameter: int, shape: torch.Size, values: Tensor, squares: Tensor) -> None:
        super().__init__(parameter, values, squares)
        self.shape = (shape[0], *shape[2:], shape[1])

    def add_weighted(self, factors: Tensor, out: list[Tensor]) -> None:
        total = torch.zeros(1, self.values.shape[1], dtype=out[self.parameters[0]].dtype, device=self.values.device)
        add_products(factors[:, None], self.values, total)
        out[self.parameters[0]].add_(total.view(self.shape).movedim(-1, 1))

    def dense(self, shape: torch.Size) -> Tensor:
        return self.values.view(-1, *self.shape).movedim(-1, 2)


def _weight_gradient(grad: Tensor, inputs: Tensor, weight: Tensor, how: Convolved, groups: int) -> Tensor:
    """Torch's own weight gradient of a convolution; of `weight`, only the shape counts."""
    module, n = how.module, len(how.padding)
    return torch.ops.aten.convolution_backward(
        grad,
        inputs,
        weight,
        None,
        module.stride,
        how.padding,
        module.dilation,
        False,
        (0,) * n,
        groups,
        (False, True, False),
    )[1]


def _gradients(module: nn.Module, index: Mapping[str, int], inputs: Tensor, grad: Tensor) -> list[Gradient]:
    if "weight" not in index:
        return [Dense(index["bias"], grad.float().flatten(2).sum(2))]
    parameters = tuple(index[name] for name in ("weight", "bias") if name in index)
    return [Convolved(parameters, module, inputs, grad)]


CONVOLUTION = Rule((nn.Conv1d, nn.Conv2d, nn.Conv3d), ("weight", "bias"), _gradients)
