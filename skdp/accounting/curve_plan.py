"""Where to evaluate a privacy curve: tilt, grid step and window, by saddle point and quadrature.

Estimates throughout: a wrong plan makes a bound loose, never invalid (`curve.Composition`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from skdp.accounting.curve_step import ULP, Phase, step_nodes, step_range

COARSE, FINE = 1e-4, 2e-5  # relative error in the noise that a grid may cost
MOST_POINTS = 2**16  # of one step's grid, over all phases
DOUBT = 8  # error of a coefficient of the transform, in ulp per doubling of the length; about 2 are provable
_NODES = 257
_LONG = 50_000  # points of a window beyond which gentler tilts are tried,
_GENTLER = (0.9, 0.8, 0.7, 0.6, 0.5, 0.35)  # as shares of the saddle point's,
_ROUNDING = 3e-4  # while the transform adds no more than this share of delta


class Plan(NamedTuple):
    """Where to look: tilt, grid step, window of composed losses, and how far out one step is followed."""

    tilt: float
    step: float
    low: float
    high: float
    outer_tilt: float
    tail: float
    slope: float


class Cumulants:
    """Cumulant generating function of the composed loss by quadrature."""

    def __init__(self, phases: tuple[Phase, ...], direction: str, tail: float) -> None:
        nodes = [step_nodes(rate, sigma, direction, tail, _NODES) for rate, sigma, _ in phases]
        self.losses = np.array([losses for losses, _ in nodes])
        self.log_weights = np.array([weights for _, weights in nodes])
        self.counts = np.array([[float(count)] for _, _, count in phases])
        self.rates = np.array([[rate] for rate, _, _ in phases])
        shift = 2.0 if direction == "replace" else 1.0
        self.spacing = np.array([[(2 * tail + shift / sigma) / (_NODES - 1)] for _, sigma, _ in phases])

    def tilted(self, lam: float) -> tuple[float, np.ndarray]:
        """Value at `lam`, and the tilted weights of every node."""
        exponent = self.log_weights + lam * self.losses
        peak = exponent.max(axis=1, keepdims=True)
        weights = np.exp(exponent - peak)
        total = weights.sum(axis=1, keepdims=True)
        return float((self.counts * (peak + np.log(total))).sum()), weights / total

    def moments(self, lam: float) -> tuple[float, float, float]:
        """Value, mean and variance at `lam`."""
        value, weights = self.tilted(lam)
        mean = (weights * self.losses).sum(axis=1, keepdims=True)
        variance = (weights * (self.losses - mean) ** 2).sum(axis=1, keepdims=True)
        return value, float((self.counts * mean).sum()), float((self.counts * variance).sum())

    def chernoff(self, lam: float, sign: float, budget: float, b: float) -> tuple[float, float]:
        """Smallest (K(lam + sign b) - K(lam) + budget) / b over b > 0, and that b, starting from `b`."""
        at_lam = self.tilted(lam)[0]
        low, high, best = 0.0, math.inf, (math.inf, b)
        for _ in range(40):
            value, mean, _ = self.moments(lam + sign * b)
            best = min(best, ((value - at_lam + budget) / b, b))
            if b * sign * mean - (value - at_lam) > budget:
                high = b
            else:
                low = b
            b = b / 2 if low == 0 else b * 2 if high == math.inf else math.sqrt(low * high)
            if high / max(low, 1e-9) < 1.1 or b > 1e8:
                break
        return best


def _log_delta(lam: float, value: float, variance: float, epsilon: float) -> float:
    """Saddle-point estimate of log delta."""
    spread = variance + lam**-2 + (1 + lam) ** -2
    return value - lam * epsilon - math.log(lam * (1 + lam)) - 0.5 * math.log(2 * math.pi * spread)


def _saddle(cumulants: Cumulants, epsilon: float, lam: float) -> float:
    """Tilt where the integrand of delta peaks: K'(lam) = epsilon + 1/lam + 1/(1+lam), by guarded Newton."""
    low, high = 1e-6, 1e7
    for _ in range(60):
        _, mean, variance = cumulants.moments(lam)
        gap = mean - epsilon - 1 / lam - 1 / (1 + lam)
        if gap > 0:
            high = lam
        else:
            low = lam
        slope = (variance + lam**-2 + (1 + lam) ** -2) * lam  # in log(lam)
        jump = math.exp(max(-3.0, min(3.0, -gap / slope)))
        if abs(jump - 1) < 1e-3:
            return lam
        lam = lam * jump if low < lam * jump < high else math.sqrt(low * high)
        if high / low < 1.001:
            return lam
    return lam


def _tail(phases: tuple[Phase, ...], delta: float) -> float:
    """How many standard deviations hold all but a millionth of delta over all steps."""
    steps = sum(count for _, _, count in phases)
    return float(min(max(-ndtri(max(1e-6 * delta / steps, 1e-300)), 5.0), 37.0))


def _step_size(
    phases: tuple[Phase, ...],
    direction: str,
    cumulants: Cumulants,
    lam: float,
    tail: float,
    slope: float,
    tol: float,
    epsilon: float,
) -> float:
    """Largest power of two whose grid costs at most `tol` in log noise, coarser where rounding costs more.

    Powers of two make every multiple exact and every finer grid a refinement of the coarser ones.
    """
    _, weights = cumulants.tilted(lam)
    each, size = cumulants.counts * weights, np.abs(cumulants.losses)
    allowed = 2 * tol * abs(slope) / (lam * (1 + lam))
    # masses are second differences of normal tails, rounded up: that adds about a dozen ulp / step^2 each
    steep = np.abs(np.gradient(cumulants.losses, axis=1)) / cumulants.spacing
    noise = 12 * ULP * float((each * steep * (2 * cumulants.rates * np.exp(-size) - np.expm1(-size))).sum())

    def spread(step: float) -> float:
        return float((each * np.minimum(step**2 / 6, step * size)).sum())

    step = 2.0 ** math.floor(math.log2(math.sqrt(6 * allowed / float(cumulants.counts.sum())) + 1e-300))
    while step < 1 and spread(2 * step) <= allowed:
        step *= 2
    while step < 1 and (spread(2 * step) - spread(step)) * lam * (1 + lam) / 2 < 0.75 * noise / step**2:
        step *= 2
    while epsilon > 0 and step > epsilon / 8:  # delta bends on the scale of a small epsilon
        step /= 2
    ends = [step_range(rate, sigma, direction, tail) for rate, sigma, _ in phases]
    span = sum(high - low for low, high in ends)
    while span > step * MOST_POINTS * (4 if tol < COARSE else 1):
        step *= 2
    return step


def _plan(
    phases: tuple[Phase, ...],
    direction: str,
    cumulants: Cumulants,
    lam: float,
    epsilon: float,
    delta: float,
    tol: float,
    step: float = 0.0,
) -> Plan:
    tail = _tail(phases, delta)
    value, _, variance = cumulants.moments(lam)
    slope = _slope(phases, direction, tail, lam, value)
    step = step or _step_size(phases, direction, cumulants, lam, tail, slope, tol, epsilon)
    low, high, outer = _window(cumulants, lam, variance, epsilon, delta)
    if high - low > _LONG * step:
        # few rare draws: at the saddle the tilted mass lies far apart, below it together. The price is rounding
        doubt = DOUBT * 20 * ULP * float(cumulants.counts.sum())
        chosen = lam
        for gentler in _GENTLER:
            other, _, spread = cumulants.moments(gentler * lam)
            if other - gentler * lam * epsilon - math.log(delta) + math.log(doubt) > math.log(_ROUNDING):
                break
            window = _window(cumulants, gentler * lam, spread, epsilon, delta)
            if window[1] - window[0] < 0.9 * (high - low):
                chosen, (low, high, outer) = gentler * lam, window
        lam = chosen
    while high - low > 4 * MOST_POINTS * step:
        step *= 2
    low = min(low, epsilon - 2 * step)
    return Plan(lam, step, low, max(high, epsilon + 2 * step), outer, tail, slope)


def _window(
    cumulants: Cumulants, lam: float, variance: float, epsilon: float, delta: float
) -> tuple[float, float, float]:
    """Range of composed losses to keep, and the tilt that bounds the mass above it.

    All but a millionth of delta lies below its top, and of the tilted mass above its bottom. What wraps from
    above lands at the bottom, below epsilon, where it does not count: the window may be that much shorter.
    """
    width = math.sqrt(30 / (variance + lam**-2))
    value = cumulants.tilted(lam)[0]
    budget = 13.0 + max(value - lam * epsilon - math.log(delta), 1.0)  # tilted back, that mass grows by as much
    high, outer = cumulants.chernoff(0.0, 1.0, 14.0 - math.log(delta), 1.2 * lam)
    low = -cumulants.chernoff(lam, -1.0, budget, width)[0]
    above = cumulants.chernoff(lam, 1.0, budget, width)[0]
    return low, max(high, above - max(epsilon - low, 0.0)), outer


def plan_at_epsilon(
    phases: tuple[Phase, ...],
    direction: str,
    epsilon: float,
    delta: float,
    lam: float = 1.0,
    tol: float = COARSE,
    step: float = 0.0,
) -> Plan:
    """Plan for the delta at `epsilon`, expected to be near `delta`; on a grid of `step` if one is given."""
    cumulants = Cumulants(phases, direction, _tail(phases, delta))
    return _plan(phases, direction, cumulants, _saddle(cumulants, epsilon, lam), epsilon, delta, tol, step)


def estimate(
    phases: tuple[Phase, ...], direction: str, epsilon: float, delta: float, lam: float
) -> tuple[float, float, float]:
    """Saddle-point estimate of log delta, its slope in log noise, and the tilt; no transform."""
    tail = _tail(phases, delta)
    cumulants = Cumulants(phases, direction, tail)
    lam = _saddle(cumulants, epsilon, lam)
    value, _, variance = cumulants.moments(lam)
    return _log_delta(lam, value, variance, epsilon), _slope(phases, direction, tail, lam, value), lam


def _slope(phases: tuple[Phase, ...], direction: str, tail: float, lam: float, value: float) -> float:
    """Change of log delta with log noise at a fixed tilt."""
    louder = tuple(Phase(rate, sigma * 1.001, count) for rate, sigma, count in phases)
    return (Cumulants(louder, direction, tail).tilted(lam)[0] - value) / math.log(1.001)


def plan_alike(plan: Plan, phases: tuple[Phase, ...], direction: str, epsilon: float, delta: float) -> Plan:
    """Plan for another direction with the tilt and step of `plan`."""
    cumulants = Cumulants(phases, direction, plan.tail)
    return _plan(phases, direction, cumulants, plan.tilt, epsilon, delta, COARSE, plan.step)


def plan_at_delta(phases: tuple[Phase, ...], direction: str, delta: float) -> tuple[float, Plan]:
    """Estimate of epsilon at `delta`, and the plan for evaluating delta there."""
    cumulants = Cumulants(phases, direction, _tail(phases, delta))

    def at(lam: float) -> tuple[float, float]:
        value, mean, variance = cumulants.moments(lam)
        epsilon = mean - 1 / lam - 1 / (1 + lam)
        return epsilon, _log_delta(lam, value, variance, epsilon)

    low, high = 1e-6, 1e7  # the larger the tilt, the larger epsilon and the smaller delta
    while high / low > 1.01:
        lam = math.sqrt(low * high)
        epsilon, log_delta = at(lam)
        if log_delta > math.log(delta) or epsilon < 0:
            low = lam
        else:
            high = lam
    epsilon = max(at(high)[0], 0.0)
    return epsilon, _plan(phases, direction, cumulants, _saddle(cumulants, epsilon, high), epsilon, delta, FINE)
