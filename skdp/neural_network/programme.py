"""Everything about a fit that is decided before a row is read: the numbers, the price list, the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from skdp.accounting import Calibration, calibrate, noise_multiplier
from skdp.accounting.shares import squared_signal
from skdp.contract import Charge, Plan, Public, Touch
from skdp.mechanisms import Mechanism, TrainingPlan, resolve_mechanism
from skdp.nets import resolve_module
from skdp.neural_network.recipe import Recipe
from skdp.neural_network.settings import resolve_settings, steps_per_epoch
from skdp.releases import bounds_touches, class_counts_touch

__all__ = ["Programme", "draw_up", "given_settings"]

# Shares of the squared signal that pay for estimates made before training.
SHARES = {"feature bounds": 0.04, "target bounds": 0.04, "class counts": 0.02}


@dataclass(frozen=True)
class Programme:
    """A fit before it starts.

    Parameters
    ----------
    public : Public
    settings : Recipe
    signal : float
        Gaussian-DP parameter of the budget times n.
    spec : object
        Module specification.
    mechanism : Mechanism
    plan : Plan
        The mechanism's programme of queries.
    estimates : dict of str to tuple of Touch
        Touches of the releases made before training, by what they estimate.
    charge : Charge
        Everything that this fit may spend.
    epsilon, delta : float
        The budget; epsilon is ``inf`` for a fit without noise.
    scale : float or None
        Noise multiplier of a training step.
    certificate : Calibration or None
        Accountant's word that the charge stays within the budget, where it was calibrated.
    """

    public: Public
    settings: Recipe
    signal: float
    spec: Any
    mechanism: Mechanism
    plan: Plan
    estimates: dict[str, tuple[Touch, ...]]
    charge: Charge
    epsilon: float | None
    delta: float
    scale: float | None
    certificate: Calibration | None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return steps_per_epoch(self.settings.sampling_rate)

    def knowing(self, indicators: tuple[int, ...], given: dict[str, Any]) -> Programme:
        """The programme once it is known which columns are indicators; the price list stays as it is."""
        public = replace(self.public, indicators=indicators)
        fixed = {name: getattr(self.settings, name) for name in ("sampling_rate", "steps", "max_grad_norm")}
        settings = resolve_settings(public, self.signal / public.n, self.spec, given | fixed, None)
        return replace(self, public=public, settings=settings)


def draw_up(
    estimator: Any, public: Public, delta: float, estimates: tuple[str, ...], *, scale: float | None = None
) -> Programme:
    """Resolve every ``"auto"``, calibrate the noise and write the price list.

    Parameters
    ----------
    estimator : DPClassifier or DPRegressor
        Its public parameters.
    public : Public
    delta : float
        Already resolved.
    estimates : tuple of str
        Keys of `SHARES` to be released before training.
    scale : float, optional
        Noise multiplier of a training step, in the place of what the budget asks for. Everything else still follows
        from the estimator's own budget, so that the price lists at two scales differ in their noise alone.
    """

    def affordable(rate: float, count: int) -> float:
        return noise_multiplier(estimator.epsilon, delta, sampling_rate=rate, steps=count, adjacency=public.adjacency)

    epochs = None if estimator.max_epochs == "auto" else estimator.max_epochs
    given = given_settings(estimator, public)
    mu = signal_to_noise(estimator, delta, given.get("sampling_rate", 1.0), epochs, public.adjacency)
    mechanism = resolve_mechanism(estimator.mechanism)
    module = mechanism.default_module if estimator.module is None else estimator.module
    spec = resolve_module(module, public.input_shape)
    settings = resolve_settings(public, mu, spec, given, epochs, estimator.clipping)
    if estimator.epsilon is None:
        # What is paid for stays as it is; the rest follows from what this noise is worth in these very steps.
        paid = {"sampling_rate": settings.sampling_rate, "steps": settings.steps}
        mu = gaussian_limit(estimator.noise_multiplier, **paid)
        settings = resolve_settings(public, mu, spec, given | paid, None, estimator.clipping)
    training = TrainingPlan(
        settings.sampling_rate,
        settings.steps,
        settings.max_grad_norm,
        estimator.clipping,
        None if math.isinf(estimator.epsilon or math.inf) else affordable,
    )

    def at(scale: float | None) -> tuple[Plan, dict[str, tuple[Touch, ...]], Charge]:
        plan = mechanism.plan(public, training, scale)
        touches = {name: _touches(name, _estimate_multiplier(name, plan.charge, scale)) for name in estimates}
        extra = tuple(touch for group in touches.values() for touch in group)
        return plan, touches, Charge(extra + plan.charge.touches, public.adjacency, plan.charge.unit)

    certificate = None
    if scale is not None:
        scale = float(scale)
    elif estimator.epsilon is None:
        scale = float(estimator.noise_multiplier)
    elif not math.isinf(estimator.epsilon):
        certificate = calibrate(lambda scale: at(scale)[2], estimator.epsilon, delta)
        scale = certificate.scale
    plan, touches, charge = at(scale)
    return Programme(
        public=public,
        settings=settings,
        signal=mu * public.n,
        spec=spec,
        mechanism=mechanism,
        plan=plan,
        estimates=touches,
        charge=charge,
        epsilon=estimator.epsilon,
        delta=delta,
        scale=scale,
        certificate=certificate,
    )


def signal_to_noise(estimator: Any, delta: float, rate: float, epochs: int | None, adjacency: str) -> float:
    """Zero-out Gaussian-DP parameter of the whole budget: 1 over the noise multiplier of one release that spends it."""
    if estimator.epsilon is None:
        # A first guess, of a hundred steps where their number is automatic.
        steps = 100 if epochs is None else epochs * steps_per_epoch(rate)
        return gaussian_limit(estimator.noise_multiplier, rate, steps)
    if math.isinf(estimator.epsilon):
        return math.inf
    return 1 / noise_multiplier(estimator.epsilon, delta, adjacency=adjacency)


def gaussian_limit(noise_multiplier: float, sampling_rate: float, steps: int) -> float:
    """Gaussian-DP parameter that many steps come close to (Bu, Dong, Long and Su, 2020)."""
    inverse_square = float(noise_multiplier) ** -2
    each = inverse_square if sampling_rate == 1 else math.expm1(min(inverse_square, 50.0))
    return sampling_rate * math.sqrt(steps * each)


def given_settings(estimator: Any, public: Public) -> dict[str, Any]:
    """What the user fixed, by field of `Recipe`."""
    names = ("lr", "max_grad_norm", "average")
    given = {name: getattr(estimator, name) for name in names if getattr(estimator, name) != "auto"}
    if estimator.batch_size != "auto":
        given["sampling_rate"] = min(1.0, estimator.batch_size / public.n)
    return given


def _touches(name: str, multiplier: float | None) -> tuple[Touch, ...]:
    if name == "class counts":
        return (class_counts_touch(multiplier),)
    # Two histograms share what one estimate may cost.
    return bounds_touches(name, multiplier and multiplier * math.sqrt(2))


def _estimate_multiplier(name: str, training: Charge, scale: float | None) -> float | None:
    """Multiplier of one release whose squared signal is a given share of the training's."""
    if scale is None:
        return None
    return scale / math.sqrt(SHARES[name] * squared_signal(training, scale))
