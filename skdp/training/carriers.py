"""Clipped sums of gradients that are seen through thin public matrices: what the executor does for a `CarrierSum`.

No gradient of a weight that has carriers is written out. A linear layer's gradient is the sum over positions of g a^T,
with its inputs a and the gradients g of its outputs, so its two parts are the sums of g (R a)^T and of (L^T g) a^T.
These are the gradients of two thinner layers, and their norms and sums are taken as those of any layer: what is squared
is what is summed. A convolution is the same with patches for inputs.
"""

from __future__ import annotations

from torch import Size, Tensor

from skdp.contract import CarrierSum
from skdp.training.captured import Captured
from skdp.training.executor import GradientTotal, TorchExecutor, start
from skdp.training.rules.convolution import Convolved
from skdp.training.rules.gradients import Dense, Gradient, Outer

__all__ = ["CarrierTotal", "carrier_gradients"]


@start.register(CarrierSum)
class CarrierTotal(GradientTotal):
    """Running sum of a `CarrierSum`."""

    def __init__(self, value: CarrierSum, executor: TorchExecutor):
        names, shapes = list(executor.model.parameters), list(executor.shapes)
        self._carriers: dict[int, tuple[Size, int, Tensor | None, Tensor]] = {}
        self._behind: list[int] = []  # whose second part each of those behind the parameters is
        for i in sorted(map(names.index, value.carriers)):
            left, right = value.carriers[names[i]]
            whole, shapes[i] = shapes[i], Size((shapes[i][0], len(right)))
            self._carriers[i] = whole, len(shapes), left, right
            if left is not None:
                shapes.append(Size((left.shape[1], *whole[1:])))
                self._behind.append(i)
        super().__init__(value, executor, shapes)

    def seen(self, captured: Captured) -> Captured:
        """Gradients with respect to the carriers, where there are any."""
        return captured.seen_as(self._through_carriers, self._behind)

    def _through_carriers(self, gradient: Gradient) -> list[Gradient]:
        found = self._carriers.get(gradient.parameters[0])
        return [gradient] if found is None else carrier_gradients(gradient, *found)


def carrier_gradients(
    gradient: Gradient, whole: Size, second: int, left: Tensor | None, right: Tensor
) -> list[Gradient]:
    """Per-record gradients of a weight, and with it of its bias, seen through carriers.

    Parameters
    ----------
    gradient : Gradient
        Of the weight, the first of its parameters.
    whole : torch.Size
        Shape of the weight.
    second : int
        What L^T dW is called; dW R^T keeps the name of the weight.
    left : tensor of shape (out, r) or None
    right : tensor of shape (r, in)
    """
    both = left is not None
    if type(gradient) is Outer:
        parts: list[Gradient] = [Outer(gradient.parameters, gradient.left, gradient.right @ right.mT)]
        if both:
            parts.append(Outer((second,), gradient.left @ left, gradient.right))
            parts[-1].right_squares = gradient.right_squares
        return parts
    if type(gradient) is Convolved and gradient.module.groups == 1:
        parts = [Outer(gradient.parameters, gradient.grad.flatten(2).mT, gradient.through(right))]
        return [*parts, gradient.onto(left, second)] if both else parts
    parts = []
    for part in gradient.split():  # one that comes written out: of a layer without a rule, or a convolution used twice
        if part.parameters[0] != gradient.parameters[0]:
            parts.append(part)
            continue
        matrix = part.dense(whole).flatten(2)
        parts.append(Dense(part.parameters[0], matrix @ right.mT))
        if both:
            parts.append(Dense(second, left.mT @ matrix))
    return parts
