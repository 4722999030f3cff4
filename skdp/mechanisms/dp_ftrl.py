"""DP-FTRL: DP-SGD whose noise is correlated over steps, so that much of it cancels in the iterates."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

from torch import nn

from skdp.contract import (
    Answers,
    Charge,
    Correlated,
    CyclicPoisson,
    FixedOrder,
    Gaussian,
    Model,
    Poisson,
    Public,
    Query,
    Sampler,
    Touch,
    Update,
)
from skdp.contract.whole_numbers import is_whole
from skdp.exceptions import UnsupportedModuleError
from skdp.mechanisms.base import Mechanism, TrainingPlan, batches_per_epoch, steps_per_epoch
from skdp.mechanisms.dp_sgd import DPSGDPlan
from skdp.mechanisms.factorisation import coefficients, noise_levels, prefix_error

__all__ = ["DPFTRL"]

_SAMPLINGS = ("fixed-order", "cyclic-poisson")
_MOST_AUTOMATIC_BANDS = 64
_MOST_BYTES = 4 * 2**30  # of remembered noise
_CLOSE = 1.02  # to the least error: fewer bands than that are less to remember


class DPFTRL(Mechanism):
    r"""Differentially private follow-the-regularized-leader with banded matrix factorisation (BandMF).

    A step publishes a sum of clipped gradients like DP-SGD, but its noise takes back part of the noise of the last
    `bands` - 1 steps (`skdp.contract.Correlated`), so that the *sums* of gradients, on which the iterates depend, carry
    less of it. That needs a row's turns to be at least `bands` steps apart.

    Parameters
    ----------
    bands : int or "auto", default="auto"
        How many steps the noise is correlated over; 1 is independent noise. ``"auto"`` takes what has the least root
        mean squared error of prefix sums at the noise that the budget asks for, at most 64: public numbers only. Within
        2 % of the least, fewer bands are preferred.
    sampling : {"fixed-order", "cyclic-poisson"}, default="fixed-order"
        ``"fixed-order"``: ``ceil(n / batch_size)`` batches of equal size, in one random order for all epochs; nothing
        is amplified. ``"cyclic-poisson"``: the rows are split once into as many groups as there are bands (or more,
        with ``bands="auto"``), and each step draws a Poisson sample from the next group, with an expected
        `batch_size` rows.

    Notes
    -----
    *Formal guarantee.* With noise multiplier :math:`z`, :math:`T` steps under zero-out adjacency cost what
    :math:`\lceil T/s \rceil` full-batch Gaussians of that multiplier cost, with :math:`s` the steps per epoch
    (``"fixed-order"``), or :math:`\lceil T/b \rceil` Gaussians on Poisson samples at :math:`b` times the sampling rate
    (``"cyclic-poisson"`` with :math:`b` groups). `skdp.contract.Correlated` has the derivation. The order and the
    groups depend on the number of rows only, so ``adjacency="add-remove"`` is refused.

    The executor remembers `bands` - 1 noise vectors of the size of the net, 4 bytes per number. They are secret, so a
    fit whose rows take turns cannot be resumed, and `skdp.callbacks.FitCheckpoint` is refused.

    References
    ----------
    Kairouz et al., *Practical and Private (Deep) Learning Without Sampling or Shuffling*, ICML 2021. Choquette-Choo et
    al., *(Amplified) Banded Matrix Factorization: A unified approach to private training*, NeurIPS 2023.

    Examples
    --------
    >>> from skdp.contract import Public
    >>> from skdp.mechanisms import DPFTRL, TrainingPlan
    >>> public = Public(n=1000, input_shape=(4,), n_outputs=1, task="binary")
    >>> plan = DPFTRL().plan(public, TrainingPlan(sampling_rate=0.1, steps=50, max_grad_norm=1.0), scale=2.0)
    >>> (touch,) = plan.charge.touches
    >>> touch.sampler, len(touch.noise.coefficients), touch.event().count
    (FixedOrder(steps_per_epoch=10), 10, 5)
    """

    def __init__(self, *, bands: int | str = "auto", sampling: str = "fixed-order"):
        self.bands = bands
        self.sampling = sampling

    def plan(self, public: Public, training: TrainingPlan, scale: float | None) -> CorrelatedPlan:
        """Price list of one touch, and the step that spends it (see `Mechanism.plan`)."""
        self._check(public, training)
        bands, sampler = self._choose(training, scale)
        column = coefficients(bands, max(bands, training.steps))
        noise = None
        if scale is not None:
            noise = Gaussian((scale,)) if bands == 1 else Correlated((scale,), column)
        touch = Touch("gradient", sampler, noise, training.steps)
        return CorrelatedPlan(
            charge=Charge((touch,), public.adjacency, public.unit),
            steps=training.steps,
            divisor=sampler.rate * public.n,
            bound=math.inf if scale is None else training.max_grad_norm,
            clipping="flat" if scale is None else training.clipping,
            column=column,
        )

    def prepare(self, module: nn.Module, public: Public) -> nn.Module:
        """The net itself, unless the noise to be remembered is too much (see `Mechanism.prepare`)."""
        size = sum(p.numel() for p in module.parameters() if p.requires_grad)
        bands = _MOST_AUTOMATIC_BANDS if self.bands == "auto" else self.bands
        if 4 * size * (bands - 1) > _MOST_BYTES:
            most = 1 + _MOST_BYTES // (4 * size)
            raise UnsupportedModuleError(
                f"DPFTRL(bands={self.bands!r}) remembers up to {bands - 1} noise vectors of {size} parameters of "
                f"module={type(module).__name__}, which is more than {_MOST_BYTES >> 30} GiB; use at most "
                f"bands={most}, or freeze layers"
            )
        return module

    def describe(self, clipping: str) -> str:
        """What a privacy statement calls it."""
        return f"DP-FTRL ({self.sampling}), {clipping} clipping"

    # -------------------------------------------------------------- choices
    def _check(self, public: Public, training: TrainingPlan) -> None:
        if self.sampling not in _SAMPLINGS:
            raise ValueError(f"DPFTRL(sampling={self.sampling!r}) must be one of {', '.join(map(repr, _SAMPLINGS))}")
        if self.bands != "auto" and not is_whole(self.bands):
            raise ValueError(f"DPFTRL(bands={self.bands!r}) must be 'auto' or a whole number of at least 1")
        if public.adjacency == "add-remove":
            raise ValueError(
                "mechanism=DPFTRL() cannot serve adjacency='add-remove': one row more would move other rows to other "
                "batches; use adjacency='zero-out' or 'replace-one', or mechanism='dp-sgd'"
            )
        if training.clipping == "adaptive":
            raise ValueError(
                "mechanism=DPFTRL() cannot serve clipping='adaptive': noise takes back earlier noise, which had the "
                "scale of an earlier clip norm; use clipping='flat', or mechanism='dp-sgd'"
            )
        limit = self._limit(training.sampling_rate)
        if self.bands != "auto" and self.bands > limit:
            raise ValueError(
                f"DPFTRL(bands={self.bands}, sampling={self.sampling!r}) is more than {limit}, which is how many steps "
                f"a row's turns are apart with batches of {training.sampling_rate:.3g} of all rows; use fewer bands or "
                "a smaller batch_size"
            )

    def _limit(self, rate: float) -> int:
        """Most steps that a row's turns can be apart."""
        if self.sampling == "fixed-order":
            return steps_per_epoch(rate)
        return max(1, math.floor(batches_per_epoch(rate)))

    def _choose(self, training: TrainingPlan, scale: float | None) -> tuple[int, Poisson | FixedOrder | CyclicPoisson]:
        """Bands and sampler."""
        rate, steps, fixed = training.sampling_rate, training.steps, self.sampling == "fixed-order"
        limit = self._limit(rate)
        if self.bands != "auto" or scale is None:
            bands = 1 if self.bands == "auto" else int(self.bands)
            return bands, _sampler(rate, limit if fixed else bands, fixed)
        # Powers of two, and the most that there can be; more groups than bands are wider apart than need be.
        counts = [*(2**k for k in range(limit.bit_length()) if 2**k < limit), limit]
        errors = {}
        for count in counts:
            bands = min(count, steps, _MOST_AUTOMATIC_BANDS)
            sampler = _sampler(rate, limit if fixed else count, fixed)
            noise = 1.0 if fixed else self._affordable(training, sampler)
            errors[bands, sampler] = noise * prefix_error(coefficients(bands, steps), steps)
        return next(choice for choice, error in errors.items() if error <= _CLOSE * min(errors.values()))

    @staticmethod
    def _affordable(training: TrainingPlan, sampler: Sampler) -> float:
        """Noise multiplier that the budget asks for."""
        if training.affordable is None:
            raise ValueError(
                "DPFTRL(bands='auto', sampling='cyclic-poisson') weighs amplification against correlation at a "
                "budget, and there is none: pass epsilon= instead of noise_multiplier=, or bands= as a number"
            )
        return training.affordable(sampler.turn_rate, sampler.turns(training.steps))


def _sampler(rate: float, groups: int, fixed: bool) -> Poisson | FixedOrder | CyclicPoisson:
    """With one group, what DP-SGD has."""
    if groups == 1:
        return Poisson(rate)
    return FixedOrder(groups) if fixed else CyclicPoisson(rate, groups)


@dataclass(frozen=True)
class CorrelatedPlan(DPSGDPlan):
    """DP-SGD's steps, whose noise has a level of its own in each."""

    column: tuple[float, ...]

    def step(self, model: Model, state: dict) -> Generator[Query, Answers, Update]:
        """One mean gradient with correlated noise."""
        update = yield from super().step(model, state)
        level = noise_levels(self.column, self.steps)[state["step"]]
        return Update(update.gradients, update.noise_std * float(level))
