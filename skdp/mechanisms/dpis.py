"""DPIS: records take part by chance in proportion to their gradient norms, out of a Poisson sample of candidates."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from skdp.contract import Answers, Charge, Gaussian, Model, NormSum, Poisson, Public, Query, ThinnedSum, Touch, Update
from skdp.mechanisms.base import Mechanism, TrainingPlan, steps_per_epoch
from skdp.mechanisms.dp_sgd import DPSGDPlan, mean_update

__all__ = ["DPIS"]


class DPIS(Mechanism):
    r"""Importance sampling by gradient norm.

    Every step draws candidates as DP-SGD draws its sample, with probability :math:`q`. A candidate with gradient norm
    :math:`n_i` is accepted with probability :math:`\min(n_i, C)/C` and then counts with norm exactly :math:`C`. The
    sum of the accepted estimates the sum of the clipped gradients without bias; noise :math:`N(0, z^2 C^2)` is added
    and the sum is divided by the expected number of *candidates*.

    Parameters
    ----------
    adaptive_clip : bool, default=False
        Let the clip norm follow the mean gradient norm, which is released with noise. Otherwise it stays at
        ``max_grad_norm`` and nothing but the sums is released.
    kept_fraction : float, default=0.3
        With `adaptive_clip`: share of the candidates that the clip norm shall let in.
    norm_share : float, default=0.01
        With `adaptive_clip`: share of the squared signal-to-noise ratio of the training that pays for the norms.
    refresh : float, default=1.0
        With `adaptive_clip`: epochs from one release of the mean norm to the next.
    floor : float, default=0.1
        With `adaptive_clip`: the clip norm never falls below this share of ``max_grad_norm``.

    Notes
    -----
    *Formal guarantee.* Give every record a uniform number that depends on no data, and accept a candidate where its
    number is at most :math:`\min(n_i, C)/C`. Once these numbers are fixed, what a record adds to the sum of its
    candidates is a function of that record alone, of L2 norm at most :math:`C`: the step *is* a Poisson-subsampled
    Gaussian with rate :math:`q`, sensitivity :math:`C` and noise multiplier :math:`z`, at every adjacency for which
    DP-SGD is. Averaging over the numbers cannot cost more (joint convexity). The rate that counts is that of the
    candidates, :math:`q`, not the smaller one of the accepted: a record with :math:`n_i \ge C` is accepted whenever
    it is a candidate.

    With `adaptive_clip` every `refresh` epochs publish a noisy sum of :math:`\min(n_i, C_0)`,
    :math:`C_0` = ``max_grad_norm``, over a Poisson sample with rate :math:`q` of its own: sensitivity :math:`C_0`, a
    touch of its own in the charge. The clip norm is computed from what was published.

    References
    ----------
    Wei, Bao, Xiao and Yang, *DPIS: An Enhanced Mechanism for Differentially Private SGD with Importance Sampling*,
    CCS 2022.

    Examples
    --------
    >>> from skdp.contract import Public
    >>> from skdp.mechanisms import DPIS, TrainingPlan
    >>> public = Public(n=1000, input_shape=(4,), n_outputs=1, task="binary")
    >>> training = TrainingPlan(sampling_rate=0.1, steps=50, max_grad_norm=1.0)
    >>> [(touch.name, touch.count) for touch in DPIS(adaptive_clip=True).plan(public, training, 2.0).charge.touches]
    [('norms', 5), ('gradient', 50)]
    """

    sums_over_rows = True

    def __init__(
        self,
        *,
        adaptive_clip: bool = False,
        kept_fraction: float = 0.3,
        norm_share: float = 0.01,
        refresh: float = 1.0,
        floor: float = 0.1,
    ):
        self.adaptive_clip = adaptive_clip
        self.kept_fraction = kept_fraction
        self.norm_share = norm_share
        self.refresh = refresh
        self.floor = floor

    def plan(
        self, public: Public, training: TrainingPlan, scale: float | None
    ) -> DPISPlan | AdaptiveDPISPlan | DPSGDPlan:
        """Price list and the steps that spend it (see `Mechanism.plan`); without noise, plain gradient descent."""
        if training.clipping != "flat":
            remedy = (
                "; for a clip norm that adapts, DPIS(adaptive_clip=True)" if training.clipping == "adaptive" else ""
            )
            raise ValueError(
                f"clipping={training.clipping!r} does not go with mechanism=DPIS(), which accepts gradients in "
                f"proportion to min(norm, max_grad_norm): use clipping='flat'{remedy}"
            )
        for name in ("norm_share", "kept_fraction", "floor"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"DPIS({name}={getattr(self, name)!r}) must lie strictly between 0 and 1")
        if not 0 < self.refresh < float("inf"):
            raise ValueError(f"DPIS(refresh={self.refresh!r}) must be a positive number of epochs")
        sampler, steps, bound = Poisson(training.sampling_rate), training.steps, training.max_grad_norm
        divisor = training.sampling_rate * public.n

        def charged(*touches: Touch) -> dict[str, Any]:
            return {"charge": Charge(touches, public.adjacency, public.unit), "steps": steps, "divisor": divisor}

        if scale is None:
            return DPSGDPlan(**charged(Touch("gradient", sampler, None, steps)), bound=float("inf"), clipping="flat")
        if not self.adaptive_clip:
            return DPISPlan(**charged(Touch("gradient", sampler, Gaussian((scale,)), steps)), bound=bound)
        every = max(1, round(self.refresh * steps_per_epoch(training.sampling_rate)))
        releases = -(-steps // every)
        # The sum over all queries of the inverse squared multipliers is what it would be without the norms.
        gradient = Gaussian((scale * (1 - self.norm_share) ** -0.5,))
        norms = Gaussian((scale * (releases / (self.norm_share * steps)) ** 0.5,))
        return AdaptiveDPISPlan(
            **charged(Touch("norms", sampler, norms, releases), Touch("gradient", sampler, gradient, steps)),
            bound=bound,
            every=every,
            kept_fraction=self.kept_fraction,
            floor=self.floor,
        )

    def describe(self, clipping: str) -> str:
        """What a privacy statement calls it."""
        return f"DPIS, {'adaptive clip norm' if self.adaptive_clip else 'fixed clip norm'}"


@dataclass(frozen=True)
class DPISPlan:
    """DPIS at one public clip norm, where the sum of norms cancels and is not released."""

    charge: Charge
    steps: int
    divisor: float
    bound: float

    def begin(self, model: Model, state: dict) -> None:
        """Nothing to ask before the first step."""

    def step(self, model: Model, state: dict) -> Generator[Query, Answers, Update]:
        """One noisy mean gradient."""
        return self.thinned(self.bound)

    def thinned(self, bound: float) -> Generator[Query, Answers, Update]:
        """One noisy mean gradient at a clip norm."""
        touch = self.charge.touches[-1]
        (total,) = yield Query(touch, (ThinnedSum(bound),))
        return mean_update(total, self.divisor, touch.noise.multipliers[0] * bound)


@dataclass(frozen=True)
class AdaptiveDPISPlan(DPISPlan):
    """DPIS whose clip norm follows the released mean of the norms.

    The norms are always capped at the first clip norm: capped at the current one, they would pull it down for ever.
    """

    every: int
    kept_fraction: float
    floor: float

    def begin(self, model: Model, state: dict) -> None:
        """Start from the public clip norm."""
        state["clip_norm"], state["releases"] = self.bound, 0

    def step(self, model: Model, state: dict) -> Generator[Query, Answers, Update]:
        """The clip norm anew where it is due, then one noisy mean gradient."""
        norms = self.charge.touches[0]
        # What a crash forfeited is not asked for again; the clip norm then stays, and every clip norm is unbiased.
        asked = max(state["releases"], state.get("spent", {}).get(norms.name, 0))
        if state["step"] % self.every == 0 and asked < norms.count:
            (total,) = yield Query(norms, (NormSum(self.bound),))
            state["clip_norm"], state["releases"] = self.clip_norm(float(total)), asked + 1
        return (yield from self.thinned(state["clip_norm"]))

    def clip_norm(self, total: float) -> float:
        """Clip norm that lets in the wanted share of candidates, for a noisy sum that may be negative."""
        wanted = total / (self.divisor * self.kept_fraction)
        return min(max(wanted, self.floor * self.bound), self.bound)
