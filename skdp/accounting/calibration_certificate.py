"""Second opinion on a calibrated scale: the figure that a privacy statement may quote.

The search trusts our own bound; the guarantee rests, in this order, on the closed form (no sampling), on
`dp_accounting`'s privacy loss distribution, on our own bound where rounding in the former is not small beside
delta (checked against it at a delta that it resolves), and on Renyi differential privacy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from dp_accounting.pld import privacy_loss_distribution as pld

from skdp.accounting.curve import (
    bound_like,
    directions,
    epsilon_bound,
    ever_sampled,
    full_batches,
    gaussian_mu,
)
from skdp.accounting.curve_gaussian import log_delta, smallest_epsilon
from skdp.accounting.curve_plan import MOST_POINTS, Plan
from skdp.accounting.curve_step import Phase, step_range
from skdp.accounting.pld import rounding
from skdp.accounting.relations import RELATIONS

_RESOLVED = 0.02  # rounding of dp_accounting's FFT, as a share of delta, up to which its PLD is the certificate
_AGREE = 0.01  # how far below dp_accounting's our bound may lie on the same grid before it is not trusted


class Verdict(NamedTuple):
    """`epsilon` is certified, or infinite: then `ratio` is certified delta over the target."""

    epsilon: float
    accountant: str
    ratio: float = 1.0


def _rounding(phases: tuple[Phase, ...]) -> float:
    return rounding(sum(count for _, _, count in phases))


def resolves(phases: tuple[Phase, ...], delta: float) -> bool:
    """Whether that rounding is small beside `delta`."""
    return _rounding(phases) <= _RESOLVED * delta


def margin(phases: tuple[Phase, ...], delta: float) -> float:
    """What a certificate by dp_accounting adds to a delta that our bound has found on the same grid."""
    closed = full_batches(phases) or ever_sampled(phases) <= delta
    if closed or not resolves(phases, delta):
        return 0.0
    return _rounding(phases) + 4e-6 * delta


def certify(phases: tuple[Phase, ...], adjacency: str, epsilon: float, delta: float, plan: Plan | None) -> Verdict:
    """Whether `phases` are (epsilon, delta) for `adjacency`, by the strongest means that can tell."""
    if full_batches(phases):
        return _closed_form(phases, adjacency, epsilon, delta)
    if ever_sampled(phases) <= delta:
        return Verdict(0.0, "analytic")
    if resolves(phases, delta):
        return _by_pld(phases, adjacency, epsilon, delta, plan)
    if agrees(phases, adjacency, plan):
        bound = max(bound_like(phases, way, epsilon, delta, plan) for way in directions(adjacency))
        return Verdict(epsilon if bound <= delta else math.inf, "tilted-pld", bound / delta)
    return Verdict(math.inf, "none")


def _closed_form(phases: tuple[Phase, ...], adjacency: str, epsilon: float, delta: float) -> Verdict:
    mu = gaussian_mu(phases, adjacency)
    excess = log_delta(mu, epsilon) - math.log(delta)
    if excess > 0:
        return Verdict(math.inf, "analytic", math.exp(min(excess, 700.0)))
    return Verdict(min(smallest_epsilon(mu, delta), epsilon), "analytic")


def points(phases: tuple[Phase, ...], adjacency: str, step: float, tail: float) -> float:
    """Grid points that dp_accounting visits, one by one, to build the phases."""
    ways = directions(adjacency)
    ends = [step_range(rate, sigma, ways[0], tail) for rate, sigma, _ in phases]
    return len(ways) * sum(high - low for low, high in ends) / step


def composed_pld(phases: tuple[Phase, ...], adjacency: str, step: float, delta: float) -> pld.PrivacyLossDistribution:
    """dp_accounting's composed PLD on a grid of `step`, truncated at a millionth of `delta`."""
    steps, whole = sum(count for _, _, count in phases), None
    for rate, sigma, count in phases:
        one = pld.from_gaussian_mechanism(
            standard_deviation=sigma,
            value_discretization_interval=step,
            log_mass_truncation_bound=min(math.log(1e-6 * delta / steps), -10.0),
            sampling_prob=rate,
            neighboring_relation=RELATIONS[adjacency],
        )
        run = one if count == 1 else one.self_compose(count, tail_mass_truncation=1e-6 * delta)
        whole = run if whole is None else whole.compose(run, tail_mass_truncation=0)
    return whole


def _by_pld(phases: tuple[Phase, ...], adjacency: str, epsilon: float, delta: float, plan: Plan) -> Verdict:
    step, allowance = plan.step, _rounding(phases)
    while True:
        composed = composed_pld(phases, adjacency, step, delta)

        def at(epsilon: float, composed: pld.PrivacyLossDistribution = composed) -> float:
            return float(composed.get_delta_for_epsilon(epsilon)) + allowance

        ratio = at(epsilon) / delta
        if ratio <= 1:
            return Verdict(_lower(at, epsilon, delta, plan.tilt), "pld", ratio)
        # our bound holds on this grid in the direction it was planned for: a large miss is the other one's
        if ratio < 1.2 or points(phases, adjacency, step / 4, plan.tail) > 4 * MOST_POINTS:
            return Verdict(math.inf, "pld", ratio)
        step /= 4


def _lower(at, epsilon: float, delta: float, tilt: float) -> float:  # noqa: ANN001 - a local closure
    """A smaller epsilon whose delta still is at most `delta`: a few secant steps from the safe side."""
    value = at(epsilon)
    slope = tilt
    for _ in range(6):
        room = math.log(delta / value) if value > 0 else 1.0
        lower = max(epsilon - 0.98 * room / slope, 0.0)
        if epsilon - lower <= 1e-9 * (1 + epsilon):
            break
        there = at(lower)
        if there > delta:
            slope *= 2
            continue
        if there > value > 0:
            slope = math.log(there / value) / (epsilon - lower)
        epsilon, value = lower, there
    return epsilon


def agrees(phases: tuple[Phase, ...], adjacency: str, plan: Plan) -> bool:
    """Whether our bound and dp_accounting's agree on this composition at a delta that the latter resolves.

    On equal grids they bound the same masses. Coarser ones do as well, and dp_accounting's second differences
    lose fewer digits there.
    """
    delta = min(_rounding(phases) / (_RESOLVED / 10), 0.1)
    epsilon = epsilon_bound(phases, delta, adjacency)
    for coarser in (4, 16):
        alike = plan._replace(step=coarser * plan.step)
        theirs = float(composed_pld(phases, adjacency, alike.step, delta).get_delta_for_epsilon(epsilon))
        ours = max(bound_like(phases, way, epsilon, delta, alike) for way in directions(adjacency))
        if ours >= (1 - _AGREE) * theirs:
            return True
    return False
