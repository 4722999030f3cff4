"""Privacy loss distributions by `dp_accounting`, on a grid as fine as the problem needs.

Its default grid of 1e-4 is often twenty times finer than the answer needs and sometimes far too coarse, so
the grid is refined here until the figure stands still. Every grid gives an upper bound.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from dp_accounting import dp_event
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy import optimize

from skdp.accounting.curve_step import ULP
from skdp.accounting.relations import Phases, given
from skdp.exceptions import UnsupportedEventError

_TOLERANCE = 1e-3  # refine until the figure moves by less than this share,
_POINTS = 50_000  # or until one run's loss takes so many points
_COARSEST = 0.5
_MOST_OF_ONE, _MOST_POINTS = 20_000, 2_000_000  # points of one run, which dp_accounting visits one by one, and of all


def loss_epsilon(parts: Phases, delta: float, adjacency: str, fine: bool = False) -> float:
    """Smallest epsilon at `delta`; `fine` spends up to five times the points."""
    target = delta - rounding(runs(parts))

    def figure(composed: pld.PrivacyLossDistribution) -> float:
        return _solve(lambda epsilon: float(composed.get_delta_for_epsilon(epsilon)), target)

    return _refined(parts, adjacency, figure, fine)


def loss_delta(parts: Phases, epsilon: float, adjacency: str) -> float:
    """Smallest delta at `epsilon`."""
    bound = _refined(parts, adjacency, lambda composed: float(composed.get_delta_for_epsilon(epsilon)))
    return bound + rounding(runs(parts))


def rounding(runs: int) -> float:
    """What dp_accounting's FFT may take off a delta over so many compositions; measured: at most half of it."""
    return ULP * (64 + runs)


def runs(parts: Phases) -> int:
    """How many mechanisms are composed."""
    return sum(count for _, count in parts)


def too_wide(parts: Phases, adjacency: str) -> bool:
    """Whether the losses spread over more grid points than time and memory allow, even on the coarsest grid."""
    spreads = [(*_spread(leaf, adjacency), count) for leaf, count in parts]
    composed = 20 * math.sqrt(sum(count * std**2 for std, _, count in spreads))
    one = max((high for _, high, _ in spreads), default=0.0)
    return not (one <= _MOST_OF_ONE * _COARSEST and composed <= _MOST_POINTS * _COARSEST)


def _refined(
    parts: Phases, adjacency: str, figure: Callable[[pld.PrivacyLossDistribution], float], fine: bool = False
) -> float:
    """Best of upper bounds on ever finer grids, until the figure stands still."""
    built = [(*given(leaf, adjacency, "pld"), count) for leaf, count in parts]
    spreads = [_spread(leaf, adjacency) for leaf, _ in parts]
    widest = max(high for _, high in spreads)
    typical = math.sqrt(sum(count * std**2 for (std, _), (_, count) in zip(spreads, parts, strict=True)) / runs(parts))
    interval = min(max(0.4 * typical, widest / 2000), _COARSEST)
    tolerance, points = (_TOLERANCE / 20, 5 * _POINTS) if fine else (_TOLERANCE, _POINTS)
    best = math.inf
    while True:
        each = [_loss(leaf, relation, interval).self_compose(count) for leaf, relation, count in built]
        before, best = best, min(best, figure(functools.reduce(lambda a, b: a.compose(b), each)))
        interval /= 2
        if (math.isfinite(before) and before - best <= tolerance * best) or widest / interval > points:
            return best


def _spread(leaf: dp_event.DpEvent, adjacency: str) -> tuple[float, float]:
    """Rough standard deviation and range of one run's loss; only how soon a figure is found hangs on it."""
    far = 2.0 if adjacency == "replace-one" else 1.0
    match leaf:
        case dp_event.PoissonSampledDpEvent(event=dp_event.GaussianDpEvent()):
            mu, rate = 1 / leaf.event.noise_multiplier, leaf.sampling_probability
            std = min(mu, rate * math.sqrt(math.expm1(min(mu * mu, 300.0))))
            top = float(np.logaddexp(math.log1p(-rate), math.log(rate) + 10 * mu + mu * mu / 2))
            return far * std, top + (top if far == 2 else min(-math.log1p(-rate), 10 * mu))
        case dp_event.GaussianDpEvent():
            return far / leaf.noise_multiplier, 20 * far / leaf.noise_multiplier
        case dp_event.LaplaceDpEvent():
            return far / leaf.noise_multiplier, 2 * far / leaf.noise_multiplier
        case dp_event.DiscreteLaplaceDpEvent():
            reach = far * leaf.noise_parameter * leaf.sensitivity
            return reach / 400, 2 * reach  # atoms stand still on coarse grids: begin with a fine one
        case dp_event.RandomizedResponseDpEvent():
            reach = math.log1p(leaf.num_buckets * (1 / leaf.noise_parameter - 1))
            return reach / 400, 2 * reach
        case dp_event.MixtureOfGaussiansDpEvent():
            mu = max(map(abs, leaf.sensitivities)) / leaf.standard_deviation
            return mu, 20 * mu
        case dp_event.TruncatedSubsampledGaussianDpEvent():
            inner = dp_event.GaussianDpEvent(leaf.noise_multiplier)
            plain = dp_event.PoissonSampledDpEvent(min(leaf.sampling_probability, 1 - 1e-9), inner)
            return _spread(plain, adjacency)[0], _spread(plain, "replace-one")[1]
        case dp_event.PoissonSampledDpEvent():
            reach = 1 / leaf.event.noise_multiplier
            return leaf.sampling_probability * reach, 2 * reach
    return 1.0, 20.0


def _loss(leaf: dp_event.DpEvent, relation: object, interval: float) -> pld.PrivacyLossDistribution:
    """dp_accounting's privacy loss distribution of one run."""
    grid = {"value_discretization_interval": interval}
    match leaf:
        case dp_event.GaussianDpEvent():
            return pld.from_gaussian_mechanism(leaf.noise_multiplier, neighboring_relation=relation, **grid)
        case dp_event.PoissonSampledDpEvent(event=dp_event.GaussianDpEvent()):
            return pld.from_gaussian_mechanism(
                leaf.event.noise_multiplier,
                sampling_prob=leaf.sampling_probability,
                neighboring_relation=relation,
                **grid,
            )
        case dp_event.PoissonSampledDpEvent():
            rate, scale = leaf.sampling_probability, leaf.event.noise_multiplier
            return pld.from_laplace_mechanism(scale, sampling_prob=rate, **grid)
        case dp_event.LaplaceDpEvent():
            return pld.from_laplace_mechanism(leaf.noise_multiplier, **grid)
        case dp_event.DiscreteLaplaceDpEvent():
            return pld.from_discrete_laplace_mechanism(leaf.noise_parameter, leaf.sensitivity, **grid)
        case dp_event.RandomizedResponseDpEvent():
            return pld.from_randomized_response(
                leaf.noise_parameter, leaf.num_buckets, neighboring_relation=relation, **grid
            )
        case dp_event.MixtureOfGaussiansDpEvent():
            return pld.from_mixture_gaussian_mechanism(
                leaf.standard_deviation, leaf.sensitivities, leaf.sampling_probs, **grid
            )
        case dp_event.TruncatedSubsampledGaussianDpEvent():
            return pld.from_truncated_subsampled_gaussian_mechanism(
                leaf.dataset_size,
                leaf.sampling_probability,
                leaf.truncated_batch_size,
                leaf.noise_multiplier,
                neighboring_relation=relation,
                **grid,
            )
    raise UnsupportedEventError(f"{type(leaf).__name__} has no privacy loss distribution; use accountant='rdp'")


def _solve(delta_at: Callable[[float], float], delta: float) -> float:
    """Smallest epsilon with ``delta_at(epsilon) <= delta``, rounded to the safe side."""
    if delta <= 0:
        return math.inf
    if delta_at(0.0) <= delta:
        return 0.0
    high = 1.0
    while delta_at(high) > delta:
        high *= 2
        if high > 1e9:
            return math.inf

    def excess(epsilon: float) -> float:
        return math.log(max(delta_at(epsilon), 1e-320)) - math.log(delta)

    found = optimize.brentq(excess, 0.0, high, xtol=1e-14, rtol=1e-11)
    step = max(found, 1e-6) * 1e-11
    while delta_at(found) > delta:  # brentq may stop on either side of the root
        found, step = min(found + step, high), 2 * step
    return float(found)
