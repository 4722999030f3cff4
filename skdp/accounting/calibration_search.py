"""Search for the smallest noise whose certified bound on delta meets the target."""

from __future__ import annotations

import math
from typing import NamedTuple

from skdp.accounting.calibration_family import Family
from skdp.accounting.curve import Composition, bound_like, directions, ever_sampled, full_batches
from skdp.accounting.curve_gaussian import largest_mu
from skdp.accounting.curve_plan import MOST_POINTS, Plan, estimate, plan_alike, plan_at_epsilon
from skdp.accounting.curve_step import Phase, step_range

LEAST_MULTIPLIER = 0.05  # of sampled releases; below it a loss of 200 and more is one draw away

_WORTH = 1e-3  # gain in log noise for which a found scale is searched again on a finer grid
_MOST = 1e9


class Found(NamedTuple):
    """A scale whose delta is bounded, and the plan of the bound (None for a closed form)."""

    scale: float
    plan: Plan | None


def smallest_scale(family: Family, adjacency: str, epsilon: float, delta: float) -> Found | None:
    """Smallest scale whose bound on delta at `epsilon` is at most `delta`; None when none is."""
    if full_batches(family.at(1.0)):
        return _full_batch(family, adjacency, epsilon, delta)
    floor = LEAST_MULTIPLIER / min(sigma for _, sigma, _ in family.scaling)
    if ever_sampled(family.at(1.0)) <= delta:
        return Found(floor, None)  # whether a row takes part at all is rarer than delta
    start = _start(family, adjacency, epsilon, delta, floor)
    best: Found | None = None
    for direction in directions(adjacency) if start is not None else ():
        if best is not None and _also_holds(best, family.at(best.scale), direction, epsilon, delta):
            continue
        found = _solve(family, direction, epsilon, delta, best.scale if best else start, floor)
        if found is None:
            return None
        best = found if best is None or found.scale > best.scale else best
    return best


def _also_holds(found: Found, phases: tuple[Phase, ...], direction: str, epsilon: float, delta: float) -> bool:
    """Whether the second direction meets the target as well.

    "remove" dominates "add" in every single step, which does not carry over to compositions: look.
    """
    return bound_like(phases, direction, epsilon, delta, found.plan) <= delta


def _largest_mu(adjacency: str, epsilon: float, delta: float) -> float:
    """Of a Gaussian at zero-out sensitivity; another row in its place moves a sum twice as far."""
    return largest_mu(epsilon, delta) / (2 if adjacency == "replace-one" else 1)


def _full_batch(family: Family, adjacency: str, epsilon: float, delta: float) -> Found | None:
    mu = _largest_mu(adjacency, epsilon, delta)
    left = mu * mu - sum(count / sigma**2 for _, sigma, count in family.fixed)
    if left <= 1e-12 * mu * mu:
        return None
    precision = math.fsum(count / sigma**2 for _, sigma, count in family.scaling)
    return Found(math.sqrt(precision / left) * (1 + 4e-16), None)


def _start(family: Family, adjacency: str, epsilon: float, delta: float, floor: float) -> float | None:
    """Scale at which the central limit (Dong et al., 2022) meets the target, within a factor of two or so."""
    mu = _largest_mu(adjacency, epsilon, delta)

    def variance(phases: tuple[Phase, ...]) -> float:
        return math.fsum(
            count * (sigma**-2 if q == 1 else q * q * math.expm1(min(sigma**-2, 600.0))) for q, sigma, count in phases
        )

    low, high = math.log(floor), math.log(floor) + 60.0
    if variance(family.fixed) > 4 * mu * mu:
        return None
    while high - low > 1e-3:
        middle = (low + high) / 2
        if variance(family.at(math.exp(middle))) > mu * mu:
            low = middle
        else:
            high = middle
    return math.exp(high)


def _saddle_scale(
    family: Family, direction: str, epsilon: float, delta: float, scale: float, floor: float
) -> tuple[float, float]:
    """Improve the start by the saddle-point estimate of delta, which costs no transform; with the tilt."""
    goal, low, high, lam = math.log(delta), floor, math.inf, 1.0
    for _ in range(20):
        value, slope, lam = estimate(family.at(scale), direction, epsilon, delta, lam)
        miss, slope = value - goal, min(slope, -1e-3)
        low, high = (scale, high) if miss > 0 else (low, scale)
        following = scale * math.exp(max(-0.7, min(0.7, -miss / slope)))
        if not low <= following <= high:
            following = math.sqrt(low * high) if high < math.inf else low
        moved, scale = abs(math.log(following / scale)), following
        if moved < 5e-3:
            break
    return scale, lam


def _solve(family: Family, direction: str, epsilon: float, delta: float, scale: float, floor: float) -> Found | None:
    """Secant on log scale with certified bounds; only a scale whose own bound holds is returned."""
    scale, lam = _saddle_scale(family, direction, epsilon, delta, scale, floor)
    plan = plan_at_epsilon(family.at(scale), direction, epsilon, delta, lam)
    found = _secant(family, direction, epsilon, delta, plan, scale, floor)
    if found is None or found.scale <= floor * 1.0001:
        return found
    # where the saddle point misleads (few rare jumps), so may the grid that was planned with it
    phases = family.at(found.scale)
    if abs(estimate(phases, direction, epsilon, delta, found.plan.tilt)[0] - math.log(delta)) < 0.3:
        return found
    ends = [step_range(rate, sigma, direction, plan.tail) for rate, sigma, _ in phases]
    if sum(high - low for low, high in ends) > MOST_POINTS * found.plan.step / 4:
        return found
    finer = plan_alike(found.plan._replace(step=found.plan.step / 4), phases, direction, epsilon, delta)
    gain = math.log(delta / max(Composition(phases, direction, finer).delta(epsilon), 1e-300))
    if gain < _WORTH * abs(found.plan.slope):
        return found
    again = _secant(family, direction, epsilon, delta, finer, found.scale, floor, 0.25)
    return again if again is not None and again.scale < found.scale else found


def _secant(
    family: Family,
    direction: str,
    epsilon: float,
    delta: float,
    plan: Plan,
    scale: float,
    floor: float,
    finer: float = 1.0,
) -> Found | None:
    goal, planned = math.log(delta), scale
    low, high, best = 0.0, math.inf, None
    slope, last, step = min(plan.slope, -1e-3), None, plan.step
    for _ in range(40):
        phases = family.at(scale)
        if abs(math.log(scale / planned)) > 0.02:
            plan, planned, last = plan_at_epsilon(phases, direction, epsilon, delta, plan.tilt), scale, None
            step = plan.step * finer
            plan = plan._replace(step=step)
        elif scale != planned:
            plan = plan_at_epsilon(phases, direction, epsilon, delta, plan.tilt, step=step)
        bound = Composition(phases, direction, plan).delta(epsilon)
        miss = math.log(max(bound, 1e-300)) - goal
        if last is not None and last[0] != scale:
            secant = (miss - last[1]) / math.log(scale / last[0])
            slope = secant if secant < -1e-3 else slope
        if miss <= 0:
            high, best = scale, Found(scale, plan._replace(slope=slope))
            if miss >= -1e-4 * abs(slope) or scale <= floor * 1.0001:
                break
        else:
            low = scale
        last = (scale, miss)
        following = scale * math.exp(max(-0.5, min(0.5, -(miss + 4e-5 * abs(slope)) / slope)))
        following = max(following, floor)
        if not low < following < high:
            following = math.sqrt(low * high) if low and high < math.inf else scale * (2.0 if miss > 0 else 0.5)
        if high / max(low, 1e-300) < 1 + 1e-6 or following > _MOST * floor:
            break
        scale = following
    return best
