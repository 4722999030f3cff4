"""DP-SGD: clipped gradient sums of Poisson samples with Gaussian noise, fixed or adaptive clip norm."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import torch

from skdp.contract import (
    CLIPPINGS,
    Answers,
    Charge,
    ClippedSum,
    Gaussian,
    Model,
    NormBelow,
    Poisson,
    Public,
    Query,
    Touch,
    Update,
)
from skdp.mechanisms.base import Mechanism, TrainingPlan

__all__ = ["DPSGD"]


class DPSGD(Mechanism):
    r"""Differentially private stochastic gradient descent.

    Every step draws a Poisson sample, sums the per-record gradients after bringing each under the clip norm
    :math:`C`, adds :math:`N(0, z^2 C^2)` to every coordinate and divides by the *expected* batch size.

    Parameters
    ----------
    target_quantile : float, default=0.9
        With ``clipping="adaptive"``: the fraction of records whose gradients shall stay unclipped. Where it is
        less than the share of a frequent class, that class sets the clip norm and the others' gradients are cut
        down to it: probabilities then drift towards the frequent class.
    clip_learning_rate : float, default=0.2
        With ``clipping="adaptive"``: step length of the geometric update of the clip norm.
    count_share : float, default=0.01
        With ``clipping="adaptive"``: share of the squared signal-to-noise ratio of a step that pays for the
        noisy fraction of unclipped records.
    switch_at : float or None, default=None
        Share of the steps, in (0, 1), after which `late_max_grad_norm` and `late_clipping` take over; None never
        switches. It depends on no data and is free: the noise multiplier, hence the cost, stays as it is.
    late_max_grad_norm : float or None, default=None
        Clip norm :math:`C'` after the switch; None keeps ``max_grad_norm``. Updates are scaled by :math:`C/C'` from
        then on, so that the learning rate in units of the clip norm, and the noise in an update, stay.
    late_clipping : {"flat", "automatic", "global", "per-layer"} or None, default=None
        How gradients are brought under :math:`C'`; None keeps ``clipping``.

    Notes
    -----
    *Formal guarantee.* Under zero-out adjacency a step is a Poisson-subsampled Gaussian with L2 sensitivity
    :math:`C` and noise multiplier :math:`z`. With adaptive clipping the sum (multiplier :math:`z_g`) and the
    centred count of unclipped records (sensitivity 1/2, multiplier :math:`z_b`) come from one sample and cost
    one Gaussian with :math:`z^{-2} = z_g^{-2} + z_b^{-2}`. After a switch the sensitivity is :math:`C'` and the noise
    :math:`N(0, z^2 C'^2)`: the same event. When it happens depends on no data.

    References
    ----------
    Abadi et al., *Deep Learning with Differential Privacy*, CCS 2016. Andrew et al., *Differentially Private
    Learning with Adaptive Clipping*, NeurIPS 2021. Bu et al., *Automatic Clipping*, NeurIPS 2023.

    Examples
    --------
    >>> from skdp.contract import Public
    >>> from skdp.mechanisms import DPSGD, TrainingPlan
    >>> public = Public(n=1000, input_shape=(4,), n_outputs=1, task="binary")
    >>> plan = DPSGD().plan(public, TrainingPlan(sampling_rate=0.1, steps=50, max_grad_norm=1.0), scale=2.0)
    >>> plan.charge.touches[0].count
    50
    """

    sums_over_rows = True

    def __init__(
        self,
        *,
        target_quantile: float = 0.9,
        clip_learning_rate: float = 0.2,
        count_share: float = 0.01,
        switch_at: float | None = None,
        late_max_grad_norm: float | None = None,
        late_clipping: str | None = None,
    ):
        self.target_quantile = target_quantile
        self.clip_learning_rate = clip_learning_rate
        self.count_share = count_share
        self.switch_at = switch_at
        self.late_max_grad_norm = late_max_grad_norm
        self.late_clipping = late_clipping

    def plan(self, public: Public, training: TrainingPlan, scale: float | None) -> DPSGDPlan | AdaptivePlan | Switched:
        """Price list of one touch, and the step that spends it (see `Mechanism.plan`)."""
        self._check(training.clipping)
        sampler = Poisson(training.sampling_rate)
        divisor = training.sampling_rate * public.n

        def charged(noise: Gaussian | None) -> dict[str, Any]:
            touch = Touch("gradient", sampler, noise, training.steps)
            charge = Charge((touch,), public.adjacency, public.unit)
            return {"charge": charge, "steps": training.steps, "divisor": divisor}

        if scale is None:
            return DPSGDPlan(**charged(None), bound=float("inf"), clipping="flat")
        if training.clipping != "adaptive":
            plan = DPSGDPlan(**charged(Gaussian((scale,))), bound=training.max_grad_norm, clipping=training.clipping)
            return plan if self.switch_at is None else self._switched(plan)
        multipliers = (scale * (1 - self.count_share) ** -0.5, scale * self.count_share**-0.5)
        return AdaptivePlan(
            **charged(Gaussian(multipliers)),
            initial_bound=training.max_grad_norm,
            target_quantile=self.target_quantile,
            clip_learning_rate=self.clip_learning_rate,
        )

    def describe(self, clipping: str) -> str:
        """What a privacy statement calls it."""
        words = super().describe(clipping)
        if self.switch_at is None:
            return words
        norm = "" if self.late_max_grad_norm is None else f" at clip norm {self.late_max_grad_norm:g}"
        return f"{words}; after {self.switch_at:.0%} of the steps {self.late_clipping or clipping}{norm}"

    def _switched(self, early: DPSGDPlan) -> Switched:
        bound = self.late_max_grad_norm or early.bound
        late = replace(
            early,
            bound=bound,
            clipping=self.late_clipping or early.clipping,
            divisor=early.divisor * bound / early.bound,
        )
        return Switched(early, late, at=round(self.switch_at * early.steps))

    def _check(self, clipping: str) -> None:
        for name in ("target_quantile", "count_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"DPSGD({name}={getattr(self, name)!r}) must lie strictly between 0 and 1")
        if not self.clip_learning_rate > 0:
            raise ValueError(f"DPSGD(clip_learning_rate={self.clip_learning_rate!r}) must be positive")
        at, norm, late = self.switch_at, self.late_max_grad_norm, self.late_clipping
        if late is not None and late not in CLIPPINGS:
            raise ValueError(f"DPSGD(late_clipping={late!r}) must be None or one of {', '.join(map(repr, CLIPPINGS))}")
        if norm is not None and not 0 < norm < float("inf"):
            raise ValueError(f"DPSGD(late_max_grad_norm={norm!r}) must be None or a positive finite clip norm")
        if at is not None and not 0 < at < 1:
            raise ValueError(f"DPSGD(switch_at={at!r}) must be None or a share of the steps strictly between 0 and 1")
        if (at is None) != (norm is None and late is None):
            raise ValueError(
                f"DPSGD(switch_at={at!r}, late_max_grad_norm={norm!r}, late_clipping={late!r}): a switch needs "
                "switch_at and at least one of the other two; leave all at None for none"
            )
        if at is not None and clipping == "adaptive":
            raise ValueError(
                f"clipping='adaptive' moves the clip norm by itself and does not go with DPSGD(switch_at={at!r}): use "
                "another clipping, or switch_at=None"
            )


@dataclass(frozen=True)
class DPSGDPlan:
    """DP-SGD at one public clip norm."""

    charge: Charge
    steps: int
    divisor: float
    bound: float
    clipping: str

    def begin(self, model: Model, state: dict) -> None:
        """Nothing to ask before the first step."""

    def step(self, model: Model, state: dict) -> Generator[Query, Answers, Update]:
        """One noisy mean gradient."""
        (touch,) = self.charge.touches
        (total,) = yield Query(touch, (ClippedSum(self.bound, self.clipping),))
        multiplier = touch.noise.multipliers[0] if touch.noise else 0.0
        return mean_update(total, self.divisor, multiplier * self.bound if multiplier else 0.0)


@dataclass(frozen=True)
class Switched:
    """One plan for the first steps and another for the rest, on one charge."""

    early: DPSGDPlan
    late: DPSGDPlan
    at: int

    @property
    def charge(self) -> Charge:
        """Of both."""
        return self.early.charge

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.early.steps

    def begin(self, model: Model, state: dict) -> None:
        """Nothing to ask before the first step."""

    def step(self, model: Model, state: dict) -> Generator[Query, Answers, Update]:
        """A step of the plan whose turn it is."""
        return (self.early if state["step"] < self.at else self.late).step(model, state)


@dataclass(frozen=True)
class AdaptivePlan:
    """DP-SGD whose clip norm follows a quantile of the gradient norms, at a charged price."""

    charge: Charge
    steps: int
    divisor: float
    initial_bound: float
    target_quantile: float
    clip_learning_rate: float

    def begin(self, model: Model, state: dict) -> None:
        """Start from the public clip norm."""
        state["clip_norm"] = torch.tensor(self.initial_bound, device=model.device)

    def step(self, model: Model, state: dict) -> Generator[Query, Answers, Update]:
        """One noisy mean gradient, and the clip norm of the next step."""
        (touch,) = self.charge.touches
        bound = state["clip_norm"]
        total, below = yield Query(touch, (ClippedSum(bound), NormBelow(bound)))
        # The count is centred, so an empty sample reads as one half; the divisor is public as ever. Noise moves the
        # clip norm either way alike.
        above = (below / self.divisor + 0.5 - self.target_quantile).clamp(-1, 1)
        moved = bound * torch.exp(-self.clip_learning_rate * above).to(bound)
        state["clip_norm"] = moved.clamp(1e-6 * self.initial_bound, 1e6 * self.initial_bound)
        # A step is in units of the clip norm in force, as the learning rate was in units of the initial one.
        return mean_update(total, self.divisor * bound / self.initial_bound, touch.noise.multipliers[0] * bound)


def mean_update(total: list[Any], divisor: float, std: Any) -> Update:
    """The released sum over the public divisor, in place: nobody else holds it."""
    torch._foreach_mul_(total, 1.0 / divisor)
    return Update(total, std / divisor)
