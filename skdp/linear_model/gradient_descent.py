r"""Noisy gradient descent on all rows: every loss, every penalty.

*Formal guarantee.* Each step asks for one sum of gradients, clipped to `bound` in L2 norm, which is its sensitivity
under zero-out and add-remove. T steps of multiplier :math:`z \sqrt T` compose to exactly one Gaussian release of
multiplier z, for :math:`\mu^2` adds up, however many there are. Step sizes, momentum, the proximal step and the
average of iterates are post-processing with public numbers.

As steps cost nothing by themselves, what trades signal against noise is how far they go in all: a weight that no
gradient holds back ends with noise of standard deviation :math:`\ell C / (n \mu)`, :math:`\ell` the sum of the step
sizes. The length is what brings that to a fixed number, so it grows with n and with the budget, and steps are as small
as their number allows, at most one over the curvature.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from skdp.contract import Answers, Gaussian, LinearGradient, Poisson, Query, Touch
from skdp.linear_model.coefficient_noise import descent_response
from skdp.linear_model.pace import clip_growth, pace, usual_bound
from skdp.linear_model.terms import FitFacts

__all__ = ["descend", "descent_touches"]

_STEPS = 200
_NOISELESS_STEPS = 20_000
_ENOUGH = 1e-9  # change of the coefficients, relative to them, at which a fit without noise ends
_AVERAGED = 0.5


def descent_touches(terms: FitFacts) -> tuple[Touch, ...]:
    """Price of a descent that costs what one Gaussian release at ``terms.scale`` costs."""
    if terms.scale is None:
        return (Touch("gradient", Poisson(), None, terms.steps or _NOISELESS_STEPS),)
    steps = terms.steps or _STEPS
    return (Touch("gradient", Poisson(), Gaussian((terms.scale * math.sqrt(steps),)), steps),)


def descend(
    touches: tuple[Touch, ...], terms: FitFacts
) -> Generator[Query, Answers, tuple[np.ndarray, int, np.ndarray]]:
    """Ask for gradients; returns coefficients, the number of steps, and a bound on the standard deviation of noise.

    Both arrays are of shape (outputs, columns).
    """
    (touch,) = touches
    if terms.scale is None:
        coef, steps = yield from _noiseless(touch, terms)
        return coef, steps, np.zeros_like(coef)
    usual = usual_bound(terms.loss, terms.outputs, terms.regression, terms.length)
    bound = terms.bound(usual * clip_growth(terms.signal, terms.length))
    rate, momentum = pace(
        terms.loss, terms.regression, signal=terms.signal, length=terms.length, bound=bound, steps=touch.count
    )
    coef = np.zeros((terms.outputs, terms.columns))
    ahead, mean, averaged = coef, np.zeros_like(coef), math.ceil(_AVERAGED * touch.count)
    for step in range(touch.count):
        (gradient,) = yield Query(touch, (LinearGradient(ahead, terms.loss, bound),))
        before, coef = coef, terms.penalty.prox(ahead - rate * gradient / terms.n, rate)
        ahead = coef + momentum * (coef - before)
        if step >= touch.count - averaged:
            mean += coef / averaged
    std = touch.noise.multipliers[0] * bound / terms.n
    shrinkages, which = np.unique(terms.ridge / terms.n, return_inverse=True)
    gains = np.array([descent_response(rate, momentum, touch.count, averaged, each) for each in shrinkages])
    return mean, touch.count, np.tile(std * gains[which], (terms.outputs, 1))


def _noiseless(touch: Touch, terms: FitFacts) -> Generator[Query, Answers, tuple[np.ndarray, int]]:
    """Accelerated proximal descent with restarts to the optimum, its step from the curvature that it meets."""
    smooth = math.isfinite(terms.loss.curvature)
    curvature = min(terms.loss.curvature, 1.0) * terms.length**2 / 4
    coef = ahead = np.zeros((terms.outputs, terms.columns))
    mean, weight, momentum, last = coef, 0.0, 1.0, None
    for step in range(touch.count):
        (gradient,) = yield Query(touch, (LinearGradient(ahead, terms.loss, math.inf),))
        gradient = gradient / terms.n
        if smooth and last is not None and (moved := np.linalg.norm(ahead - last[0])) > 0:
            curvature = max(curvature, float(np.linalg.norm(gradient - last[1]) / moved))
        last = ahead, gradient
        rate = 1 / curvature if smooth else 1 / (curvature * math.sqrt(step + 1))
        before, coef = coef, terms.penalty.prox(ahead - rate * gradient, rate)
        if not smooth:
            weight += rate
            mean, ahead = mean + rate / weight * (coef - mean), coef
            continue
        if ((ahead - coef) * (coef - before)).sum() > 0:
            momentum = 1.0  # it went too far
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = coef + (momentum - 1) / following * (coef - before)
        momentum = following
        if np.linalg.norm(coef - last[0]) <= _ENOUGH * max(np.linalg.norm(coef), 1e-3):
            return coef, step + 1
    return (coef if smooth else mean), touch.count
