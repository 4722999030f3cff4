"""Certified upper bounds on delta(epsilon) of composed Poisson-subsampled Gaussians, in milliseconds.

One step's privacy loss is put on a grid such that it dominates the true one (connect the dots), tilted by
``exp(lam * loss)`` so that the tail that makes delta carries most of the mass, composed by one FFT, and tilted
back with bounds for everything that the FFT loses. Tilt and grid are free: any pair gives a valid bound, a
planned pair a tight one. Steps that no sampling amplifies have a closed form.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy import fft

from skdp.accounting import curve_gaussian
from skdp.accounting.curve_plan import (
    DOUBT,
    FINE,
    MOST_POINTS,
    Plan,
    plan_alike,
    plan_at_delta,
    plan_at_epsilon,
)
from skdp.accounting.curve_step import LOSS_CEILING, ULP, Phase, step_masses


def merge(phases: Iterable[tuple[float, float, int]]) -> tuple[Phase, ...]:
    """Equal phases added up, all full-batch Gaussians as one: the same curve from fewer convolutions."""
    precision, counts = 0.0, {}
    for rate, multiplier, count in phases:
        if count == 0:
            continue
        if 1 - rate < 1e-9:  # rounding the rate up is safe, and log(1 - rate) stays accurate
            precision += count / multiplier**2
        else:
            counts[rate, multiplier] = counts.get((rate, multiplier), 0) + count
    merged = [Phase(rate, multiplier, count) for (rate, multiplier), count in sorted(counts.items())]
    return (*merged, Phase(1.0, precision**-0.5, 1)) if precision else tuple(merged)


def directions(adjacency: str) -> tuple[str, ...]:
    """Pairs of outputs to compare; the curve of the relation is the largest of theirs."""
    return ("replace",) if adjacency == "replace-one" else ("remove", "add")


def log_never_sampled(phases: Iterable[Phase]) -> float:
    """Log of the probability that no release sees a given row."""
    return math.fsum(count * math.log1p(-rate) if rate < 1 else -math.inf for rate, _, count in phases)


def ever_sampled(phases: Iterable[Phase]) -> float:
    """Probability that some release sees a given row, which bounds delta at any epsilon."""
    return -math.expm1(log_never_sampled(phases))


def full_batches(phases: Iterable[Phase]) -> bool:
    """Whether every release sees every row, for which delta has a closed form."""
    return all(rate == 1 for rate, _, _ in phases)


# ------------------------------------------------------------------ the bound
class Composition:
    """Composed privacy loss of `phases` in one direction, tilted, on a grid; `delta` bounds from above.

    Nothing in `plan` needs to be right: a poor plan gives a loose bound, never a wrong one.
    """

    def __init__(self, phases: tuple[Phase, ...], direction: str, plan: Plan) -> None:
        lam, step = plan.tilt, plan.step
        self.plan = plan
        self._first = math.floor(plan.low / step)
        length = math.ceil(plan.high / step) - self._first + 2
        n = fft.next_fast_len(min(max(length, 16), 16 * MOST_POINTS), real=True)
        eta = DOUBT * ULP * math.log2(n)
        log_size, angle = np.zeros(n // 2 + 1), np.zeros(n // 2 + 1)  # of the product of all spectra
        log_ceiling = np.zeros(n // 2 + 1)  # of the true coefficient: every factor may be larger by eta
        doubt = np.zeros(n // 2 + 1)  # relative error of the product in units of eta
        base, self._value, outer, infinite, steps, stretch = 0, 0.0, 0.0, 0.0, 0, 0.0
        for rate, sigma, count in phases:
            way = "remove" if rate == 1 and direction == "add" else direction
            first, masses, beyond = step_masses(rate, sigma, way, step, plan.tail)
            losses = (first + np.arange(len(masses))) * step
            with np.errstate(divide="ignore"):
                logs = np.log(masses)
            exponent = logs + lam * losses
            peak = exponent.max()
            tilted = np.exp(exponent - peak)
            total = tilted.sum()
            self._value += count * (peak + math.log(total))
            exponent += (plan.outer_tilt - lam) * losses
            outer_peak = exponent.max()
            outer += count * (outer_peak + math.log(np.exp(exponent - outer_peak).sum()))
            infinite += count * beyond
            steps += count
            stretch += count * (8 + lam * (abs(losses[0]) + abs(losses[-1])))
            base += count * first
            spectrum = fft.rfft(_fold(tilted / total, n))
            size = np.abs(spectrum)
            with np.errstate(divide="ignore"):
                log_size += count * np.log(size)
            angle += count * np.angle(spectrum)
            log_ceiling += count * np.log(size + eta)
            doubt += count / (size + eta)
        keep = log_ceiling > -60.0
        power = np.zeros(n // 2 + 1, dtype=complex)
        power[keep] = np.exp(log_size[keep] + 1j * angle[keep])
        # rounding, per bin: eta in each coefficient through the power, the way back, and what was dropped
        error = (8 * eta * float((np.exp(log_ceiling[keep]) * doubt[keep]).sum()) + 2 * eta) / n + math.exp(-60.0)
        cyclic = np.maximum(fft.irfft(power, n), 0.0) + error
        self._tilted = np.roll(cyclic, (base - self._first) % n)  # entry j holds the loss (first + j) * step
        self._n, self._steps = n, steps
        self._slack = 1 + ULP * stretch  # relative rounding of the tilted masses
        top = (self._first + n - 1) * step
        self._lost = infinite + math.exp(min(outer - plan.outer_tilt * top, 0.0))

    def delta(self, epsilon: float) -> float:
        """Upper bound on delta at `epsilon`."""
        lam, step = self.plan.tilt, self.plan.step
        epsilon -= 1e-13 * (1 + abs(epsilon)) + 2e-15 * self._steps  # rounding of the losses
        start = max(math.floor(epsilon / step) + 1 - self._first, 0)
        if start >= self._n:
            return min(1.0, self._lost * self._slack)
        gap = (self._first + np.arange(start, self._n)) * step - epsilon
        total = float(np.dot(self._tilted[start:], np.exp(-lam * gap) * -np.expm1(-gap)))
        exponent = self._value - lam * epsilon
        if start == 0 or exponent > LOSS_CEILING:  # the window misses epsilon: nothing can be said
            return 1.0
        return min(1.0, (math.exp(exponent) * total + self._lost) * self._slack)


def _fold(masses: np.ndarray, n: int) -> np.ndarray:
    """Masses modulo `n`: a window shorter than one step's range only wraps."""
    if len(masses) <= n:
        return np.pad(masses, (0, n - len(masses)))
    return np.pad(masses, (0, -len(masses) % n)).reshape(-1, n).sum(axis=0)


# ------------------------------------------------------------------ curves
def gaussian_mu(phases: tuple[Phase, ...], adjacency: str) -> float:
    """Means of the one Gaussian that full-batch releases amount to, in standard deviations."""
    mu = math.sqrt(math.fsum(count / sigma**2 for _, sigma, count in phases))
    return 2 * mu if adjacency == "replace-one" else mu


def most_added(phases: tuple[Phase, ...], epsilon: float) -> float:
    """Bound on delta in direction "add", where a step loses at most -log(1 - rate)."""
    return -math.expm1(min(0.0, epsilon + log_never_sampled(phases)))


def bound_like(phases: tuple[Phase, ...], direction: str, epsilon: float, delta: float, plan: Plan) -> float:
    """Bound on delta with tilt and grid of `plan`; for "add" with its own where these give over `delta`."""
    if direction == "add" and most_added(phases, epsilon) <= delta:
        return most_added(phases, epsilon)
    alike = plan_alike(plan, phases, direction, epsilon, delta)
    bound = Composition(phases, direction, alike).delta(epsilon)
    if bound > delta and direction == "add":
        own = plan_at_epsilon(phases, direction, epsilon, delta, plan.tilt)
        bound = min(bound, Composition(phases, direction, own).delta(epsilon))
    return bound


def delta_bound(phases: tuple[Phase, ...], epsilon: float, adjacency: str) -> float:
    """Upper bound on delta of merged phases."""
    if not phases or math.isinf(epsilon):
        return 0.0
    if full_batches(phases):
        return min(1.0, math.exp(curve_gaussian.log_delta(gaussian_mu(phases, adjacency), epsilon)))
    first, *rest = directions(adjacency)
    bound, guess = ever_sampled(phases), 1e-6
    for _ in range(5):
        plan = plan_at_epsilon(phases, first, epsilon, guess, tol=FINE)
        bound, before = min(bound, Composition(phases, first, plan).delta(epsilon)), guess
        guess = min(max(bound, 1e-290), 0.5)
        if 0.1 < guess / before < 10:
            break
    return max(
        [
            bound,
            *(min(bound_like(phases, way, epsilon, bound, plan), ever_sampled(phases)) for way in rest),
        ]
    )


def epsilon_bound(phases: tuple[Phase, ...], delta: float, adjacency: str) -> float:
    """Upper bound on epsilon of merged phases."""
    if not phases:
        return 0.0
    if full_batches(phases):
        return curve_gaussian.smallest_epsilon(gaussian_mu(phases, adjacency), delta)
    if ever_sampled(phases) <= delta:
        return 0.0
    first, *rest = directions(adjacency)
    epsilon, plan = _smallest_epsilon(phases, first, delta)
    for way in rest:
        if bound_like(phases, way, epsilon, delta, plan) > delta:
            epsilon = max(epsilon, min(_smallest_epsilon(phases, way, delta)[0], -log_never_sampled(phases)))
    return epsilon


def _smallest_epsilon(phases: tuple[Phase, ...], direction: str, delta: float) -> tuple[float, Plan]:
    """Where the bound of one direction meets `delta`, replanned there until it stands still."""
    epsilon, plan = plan_at_delta(phases, direction, delta)
    best = math.inf
    for _ in range(12):
        epsilon = _crossing(Composition(phases, direction, plan), epsilon, delta)
        before, best = best, min(best, epsilon)
        if epsilon == 0 or best > 0.999 * before:
            break
        epsilon = epsilon if math.isfinite(epsilon) else 2 * plan.high
        plan = plan_at_epsilon(phases, direction, epsilon, delta, plan.tilt, FINE)
    return best, plan


def _crossing(composed: Composition, epsilon: float, delta: float) -> float:
    """Smallest epsilon at which this bound is at most `delta`, by bisection around `epsilon`."""
    if composed.delta(0.0) <= delta:
        return 0.0
    width = max(0.02 * epsilon, 1 / composed.plan.tilt, 1e-9)
    low, high = max(epsilon - width, 0.0), epsilon + width
    for _ in range(60):
        if composed.delta(high) <= delta:
            break
        low, high, width = high, high + width, 2 * width
    else:
        return math.inf
    while low > 0 and composed.delta(low) <= delta:
        low, high, width = max(low - width, 0.0), low, 2 * width
    while high - low > 1e-6 * high + 1e-12:
        middle = (low + high) / 2
        low, high = (low, middle) if composed.delta(middle) <= delta else (middle, high)
    return high
