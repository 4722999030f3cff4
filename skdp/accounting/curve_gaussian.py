"""The exact privacy curve of full-batch Gaussian releases (Balle and Wang, 2018), inverted in microseconds.

Composed Gaussians are one Gaussian whose means lie ``mu = (sum multiplier ** -2) ** 0.5`` standard deviations
apart, and delta(epsilon) = Phi(a) - exp(epsilon) Phi(a - mu) with a = mu/2 - epsilon/mu. Both terms share the
factor exp(-a^2/2), which is taken out, so that delta keeps its relative precision far into the tail.
"""

from __future__ import annotations

import math

from scipy.special import erfc, erfcx, ndtri

from skdp.accounting.curve_step import ULP

_ROOT = math.sqrt(2.0)
_FAR = -1e7


def log_delta(mu: float, epsilon: float) -> float:
    """Log of delta at `epsilon`, rounded up."""
    return _terms(mu, epsilon)[0]


def _terms(mu: float, epsilon: float) -> tuple[float, float, float]:
    """Log of delta rounded up, d log delta / d log mu, and d log delta / d epsilon."""
    a = mu / 2 - epsilon / mu
    if a < _FAR:  # the first term alone, which is an upper bound; squares would overflow sooner or later
        return -a * a / 2, -a * (mu - a), a / mu
    far = erfcx((mu - a) / _ROOT)
    if a < 0:
        near = erfcx(-a / _ROOT)
        exponent, difference = -a * a / 2, near - far
    else:
        near = erfc(-a / _ROOT)
        exponent, difference = 0.0, near - math.exp(-a * a / 2) * far
        far *= math.exp(-a * a / 2)
    if difference <= 0:  # the two terms agree to all digits
        difference = ULP * near
    value = exponent + math.log(difference / 2)
    by_mu = mu * math.sqrt(2 / math.pi) * math.exp(-a * a / 2 - exponent) / difference
    doubt = 16 * ULP * (near / difference * (1 + a * a) + abs(value))
    above = exponent + math.log(near / 2) + 16 * ULP * (1 + a * a)  # Phi(a) alone, where the difference drowns
    return float(min(value + doubt, above)), float(by_mu), float(-far / difference)


def largest_mu(epsilon: float, delta: float) -> float:
    """Largest mean separation whose delta at `epsilon` is at most `delta`."""
    goal, z = math.log(delta), float(ndtri(delta))
    root = math.sqrt(z * z + 2 * epsilon)
    y = math.log(2 * epsilon / (root - z)) if z < 0 else math.log(root + z)  # where Phi(a) = delta: delta is less
    for _ in range(100):
        value, slope, _ = _terms(math.exp(y), epsilon)
        jump = max(-1.0, min(1.0, (goal - value) / max(slope, 1e-3)))
        y += jump
        if abs(jump) < 1e-13:
            break
    mu = math.exp(y)
    nudge = 1e-13
    while log_delta(mu, epsilon) > goal:
        mu *= 1 - nudge
        nudge = min(2 * nudge, 0.5)
    return mu


def smallest_epsilon(mu: float, delta: float) -> float:
    """Smallest epsilon >= 0 at which delta is at most `delta`."""
    goal = math.log(delta)
    if mu == 0 or log_delta(mu, 0.0) <= goal:
        return 0.0
    epsilon = max(mu * mu / 2 - float(ndtri(delta)) * mu, 0.0)  # where Phi(a) = delta: delta is less
    for _ in range(100):
        value, _, slope = _terms(mu, epsilon)
        following = max(epsilon + (value - goal) / max(-slope, 1e-300), 0.0)
        settled = abs(following - epsilon) <= 1e-14 * (1 + epsilon)
        epsilon = following
        if settled:
            break
    nudge = 1e-14
    while log_delta(mu, epsilon) > goal:
        epsilon += nudge * (1 + epsilon)
        nudge *= 2
    return float(epsilon)
