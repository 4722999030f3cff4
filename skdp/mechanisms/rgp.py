"""RGP: gradients of weight matrices are released through two thin public carriers each, and put together afterwards."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from skdp.contract import CLIPPINGS, Answers, CarrierSum, Charge, Gaussian, Model, Poisson, Public, Query, Touch, Update
from skdp.contract.whole_numbers import is_whole
from skdp.exceptions import UnsupportedModuleError
from skdp.mechanisms.base import Mechanism, TrainingPlan
from skdp.mechanisms.dp_sgd import DPSGD, DPSGDPlan

__all__ = ["RGP"]

CARRIERS = ("both", "left")
WEIGHTS = (
    (nn.Linear, "weight"),
    (nn.Conv1d | nn.Conv2d | nn.Conv3d, "weight"),
    (nn.MultiheadAttention, "in_proj_weight"),
)


class RGP(Mechanism):
    r"""Reparametrised gradient perturbation: noise on low-rank parts of the gradient instead of on all of it.

    Before each step every large weight :math:`W` (a convolution's as outputs times patch) gets two public carriers, a
    :math:`L` with `rank` orthonormal columns and a :math:`R` with `rank` orthonormal rows, by one power iteration on
    what training has changed in :math:`W` so far. Of each record's gradient :math:`\nabla_W` only
    :math:`\nabla_W R^\top` and :math:`L^\top\nabla_W` are computed, clipped together with all other parameters'
    gradients, summed and noised. The step is :math:`\nabla_W R^\top R + L L^\top\nabla_W - L L^\top\nabla_W R^\top R`
    of the noisy sums: the gradient's projection on rows in the span of :math:`R` or columns in that of :math:`L`.

    Parameters
    ----------
    rank : int, default=8
        Columns of a carrier. A weight keeps its ordinary gradient where one of its sides is at most twice the rank;
        so do biases, normalizations, embeddings, grouped convolutions, recurrent layers, and weights that are tied or
        parametrised.
    carriers : {"both", "left"}, default="both"
        "left" releases :math:`\nabla_W R^\top` alone and steps by :math:`\nabla_W R^\top R`, which has half the noise
        and loses more of the gradient.
    warm_up : float, default=0.1
        Share of the steps, from the first on, whose carriers come from the weight itself because there is little
        history yet. After that they come from the weight minus its initial value, a copy of which is kept; 1 never
        uses the history. Where either has too low a rank, random carriers fill in.

    Notes
    -----
    *Formal guarantee.* Carriers are computed from released weights and the plan's public generator, so they are
    public. Given them, a record's contribution is a function of that record alone, of joint L2 norm at most the clip
    norm :math:`C` over all its parts. A step is thus a Poisson-subsampled Gaussian with sensitivity :math:`C` under
    zero-out adjacency, exactly as in `DPSGD`: same event, same noise multiplier, all adjacencies. What puts the parts
    together is post-processing. Without noise (``epsilon=inf``) there is nothing to gain, and the steps are plain ones.

    References
    ----------
    Yu, Zhang, Chen, Yin, Liu, *Large Scale Private Learning via Low-rank Reparametrization*, ICML 2021.

    Examples
    --------
    >>> from skdp.contract import Public
    >>> from skdp.mechanisms import RGP, TrainingPlan
    >>> public = Public(n=1000, input_shape=(64,), n_outputs=1, task="binary")
    >>> plan = RGP(rank=4).plan(public, TrainingPlan(sampling_rate=0.1, steps=50, max_grad_norm=1.0), scale=2.0)
    >>> plan.charge.touches[0].count
    50
    """

    sums_over_rows = True

    def __init__(self, *, rank: int = 8, carriers: str = "both", warm_up: float = 0.1):
        self.rank = rank
        self.carriers = carriers
        self.warm_up = warm_up

    def plan(self, public: Public, training: TrainingPlan, scale: float | None) -> RGPPlan | DPSGDPlan:
        """Price list of one touch, and the step that spends it (see `Mechanism.plan`)."""
        if not is_whole(self.rank):
            raise ValueError(f"RGP(rank={self.rank!r}) must be a whole number of at least 1")
        if self.carriers not in CARRIERS:
            raise ValueError(f"RGP(carriers={self.carriers!r}) must be one of {', '.join(map(repr, CARRIERS))}")
        if not 0 <= self.warm_up <= 1:
            raise ValueError(f"RGP(warm_up={self.warm_up!r}) must be a share of the steps, between 0 and 1")
        if training.clipping not in CLIPPINGS:
            names = ", ".join(map(repr, CLIPPINGS))
            raise ValueError(f"clipping={training.clipping!r} does not go with RGP, which knows {names}")
        if scale is None:
            return DPSGD().plan(public, training, None)
        touch = Touch("gradient", Poisson(training.sampling_rate), Gaussian((scale,)), training.steps)
        return RGPPlan(
            charge=Charge((touch,), public.adjacency, public.unit),
            steps=training.steps,
            divisor=training.sampling_rate * public.n,
            bound=training.max_grad_norm,
            clipping=training.clipping,
            rank=int(self.rank),
            both=self.carriers == "both",
            warm_steps=round(self.warm_up * training.steps),
        )

    def prepare(self, module: nn.Module, public: Public) -> nn.Module:
        """The module as it is; refused where the rank leaves no weight to give carriers (see `Mechanism.prepare`)."""
        weights = dict(_weights(module))
        if any(is_lazy(weight) or _fits(weight, self.rank) for weight in weights.values()):
            return module
        remedy = "use mechanism='dp-sgd', or a net with large layers that train, such as module='mlp' or 'cnn'"
        largest = ""
        if weights:
            name = max(weights, key=lambda name: min(_sides(weights[name])))
            rows, columns = _sides(weights[name])
            layer = type(module.get_submodule(name.rpartition(".")[0])).__name__
            largest = f"; the largest here is {name!r} ({layer}, {rows} x {columns})"
            possible = (min(rows, columns) - 1) // 2
            remedy = f"use RGP(rank={possible}) or less, or mechanism='dp-sgd'" if possible else remedy
        raise UnsupportedModuleError(
            f"RGP(rank={self.rank}) would leave every weight of module={type(module).__name__} as it is, because it "
            f"serves linear, convolution and attention layers both of whose sides are longer than {2 * self.rank}"
            f"{largest}; {remedy}"
        )

    def describe(self, clipping: str) -> str:
        """What a privacy statement calls it."""
        return f"RGP of rank {self.rank}, carriers: {self.carriers}, {clipping} clipping"


@dataclass(frozen=True)
class RGPPlan:
    """Steps along carriers that the released weights give."""

    charge: Charge
    steps: int
    divisor: float
    bound: float
    clipping: str
    rank: int
    both: bool
    warm_steps: int

    def begin(self, model: Model, state: dict) -> None:
        """Remember where the weights start; public, and needed once the warm-up is over."""
        state["initial"] = {}
        if self.warm_steps < self.steps:
            state["initial"] = {name: weight.detach().clone() for name, weight in self._served(model)}

    def step(self, model: Model, state: dict) -> Generator[Query, Answers, Update]:
        """One noisy mean gradient, as far as the carriers reach."""
        (touch,) = self.charge.touches
        carriers = {name: self._carriers(name, weight, state) for name, weight in self._served(model)}
        (parts,) = yield Query(touch, (CarrierSum(self.bound, self.clipping, carriers),))
        behind = iter(parts[len(model.parameters) :])
        gradients = []
        for (name, parameter), part in zip(model.parameters.items(), parts, strict=False):
            if name in carriers:
                left, right = carriers[name]
                matrix = reconstruct(part, None if left is None else next(behind).flatten(1), left, right)
                part = matrix.view(parameter.shape)
            gradients.append(part)
        torch._foreach_mul_(gradients, 1.0 / self.divisor)
        std = touch.noise.multipliers[0] * self.bound / self.divisor
        return Update(gradients, NoiseLevels(std, {n: p.shape for n, p in model.parameters.items()}, carriers))

    def _served(self, model: Model) -> list[tuple[str, nn.Parameter]]:
        """The weights that have carriers, by name, among those that train."""
        found = dict(_weights(model.module))
        return [(name, p) for name, p in model.parameters.items() if name in found and _fits(p, self.rank)]

    def _carriers(self, name: str, weight: Tensor, state: dict) -> tuple[Tensor | None, Tensor]:
        direction = weight.detach()
        if state["step"] >= self.warm_steps:
            # A weight that was thawed on the way has a history from now on.
            direction = direction - state["initial"].setdefault(name, direction.clone()).to(direction)
        left, right = power_iteration(direction.flatten(1).float(), self.rank, state["rng"])
        return (left if self.both else None), right


@dataclass(frozen=True, eq=False)
class NoiseLevels(Sequence):
    """Standard deviation of every coordinate of every gradient, made where an optimizer asks for it.

    A coordinate (i, j) of (I - L L^T) X R + L Y, for standard normal X and Y, has variance (1 - l_i) r_j + l_i, with
    the squared norms l_i of row i of L and r_j of column j of R. Neighbouring coordinates are correlated.

    Parameters
    ----------
    std : float
        Of each coordinate of a noisy part.
    shapes : mapping of str to torch.Size
    carriers : mapping of str to tuple
        As in `CarrierSum`.
    """

    std: float
    shapes: Mapping[str, torch.Size]
    carriers: Mapping[str, tuple[Tensor | None, Tensor]]

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, i: int) -> float | Tensor:
        name = list(self.shapes)[i]
        if name not in self.carriers:
            return self.std
        left, right = self.carriers[name]
        columns = right.square().sum(0)
        rows = columns.new_zeros(self.shapes[name][0]) if left is None else left.square().sum(1)
        variance = torch.outer((1 - rows).clamp_(min=0), columns).add_(rows[:, None])
        return variance.sqrt_().mul_(self.std).view(self.shapes[name])


def reconstruct(onto_right: Tensor, onto_left: Tensor | None, left: Tensor | None, right: Tensor) -> Tensor:
    """What the parts dW R^T (out, r) and L^T dW (r, in) tell of dW (out, in): its projection."""
    if left is None:
        return onto_right @ right
    return torch.addmm(left @ (onto_left - (left.mT @ onto_right) @ right), onto_right, right)


def power_iteration(direction: Tensor, rank: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Carriers of a public matrix (out, in): orthonormal columns (out, r) and orthonormal rows (r, in)."""
    left = _orthonormal(direction @ _normal(rng, direction, direction.shape[1], rank), rng)
    return left, _orthonormal(direction.mT @ left, rng).mT


def _orthonormal(columns: Tensor, rng: np.random.Generator) -> Tensor:
    """Orthonormal columns with the same span; random directions stand in for what it lacks."""
    basis, triangle = torch.linalg.qr(columns)
    sizes = triangle.diagonal().abs()
    found = sizes > sizes.max() * max(columns.shape) * torch.finfo(columns.dtype).eps
    if found.all():
        return basis
    return torch.linalg.qr(torch.where(found, basis, _normal(rng, columns, *columns.shape)))[0]


def _normal(rng: np.random.Generator, like: Tensor, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(like)


def _weights(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Weights that can have carriers, by name, whatever their size; a tied one has no layer of its own."""
    uses = Counter(id(p) for layer in module.modules() for p in layer._parameters.values())
    for name, layer in module.named_modules():
        for kind, own in WEIGHTS:
            weight = layer._parameters.get(own) if isinstance(layer, kind) else None
            if weight is not None and uses[id(weight)] == 1 and getattr(layer, "groups", 1) == 1:
                yield f"{name}.{own}".strip("."), weight


def _sides(weight: Tensor) -> tuple[int, int]:
    """Rows and columns of a weight as a matrix."""
    return len(weight), math.prod(weight.shape[1:])


def _fits(weight: Tensor, rank: int) -> bool:
    """Whether carriers of this rank are thin beside the weight, which trains."""
    return weight.requires_grad and min(_sides(weight)) > 2 * rank
