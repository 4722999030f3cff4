"""Privacy loss of one Poisson-subsampled Gaussian step: exact masses on a grid, and nodes to plan with.

One step adds N(0, sigma^2) to a sum in which a row of size 1 takes part with probability q. In units of the
zero-out sensitivity the pairs (upper, lower) of output densities are

- ``"remove"``:  ((1-q) N(0) + q N(1),  N(0)),
- ``"add"``:     (N(0),  (1-q) N(0) + q N(1)),
- ``"replace"``: ((1-q) N(0) + q N(1),  (1-q) N(0) + q N(-1)).

The user guide page "Calibrating the noise" derives every bound used here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

ULP = 2.0**-52
LOSS_CEILING = 600.0  # larger losses are called infinite: exp() must not overflow


class Phase(NamedTuple):
    """`count` Gaussian releases, each on a fresh Poisson sample.

    Parameters
    ----------
    rate : float
        Sampling rate in (0, 1].
    multiplier : float
        Standard deviation over L2 zero-out sensitivity.
    count : int
        Number of releases.
    """

    rate: float
    multiplier: float
    count: int


class StepMasses(NamedTuple):
    """Masses of one step's privacy loss at ``(first + arange(len(masses))) * step``, and at infinity."""

    first: int
    masses: np.ndarray
    infinite: float


def loss_at(rate: float, sigma: float, x: np.ndarray, direction: str) -> np.ndarray:
    """Privacy loss at output `x` of the pair "remove" (of which "add" is the mirror image) or "replace"."""
    if rate == 1:
        return 2 * x / sigma**2 if direction == "replace" else (x - 0.5) / sigma**2
    plus = np.log1p(rate * np.expm1(np.minimum((2 * x - 1) / (2 * sigma**2), 700.0)))
    if direction != "replace":
        return plus
    return plus - np.log1p(rate * np.expm1(np.minimum((-2 * x - 1) / (2 * sigma**2), 700.0)))


def _where_loss_is(rate: float, sigma: float, loss: np.ndarray, direction: str) -> np.ndarray:
    """Output at which the loss equals `loss`; -inf below the smallest loss."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if direction == "replace":
            # exp(x/s^2) = w exp(loss/2) with w - 1/w = 2 sinh(loss/2) / c and c = q exp(-1/2s^2) / (1-q)
            if rate == 1:
                return sigma**2 * loss / 2
            log_c = math.log(rate) - math.log1p(-rate) - 1 / (2 * sigma**2)
            half = np.abs(loss) / 2
            log_sinh = half + np.log(-np.expm1(-2 * half) / 2) - log_c
            tail = np.where(log_sinh > 30, log_sinh + math.log(2), np.arcsinh(np.exp(np.minimum(log_sinh, 30))))
            return sigma**2 * np.sign(loss) * (half + tail)
        if rate == 1:
            return sigma**2 * loss + 0.5
        ratio = _ratio(rate, loss)
        return np.where(ratio > 0, sigma**2 * np.log(np.maximum(ratio, 0)) + 0.5, -np.inf)


def _ratio(rate: float, loss: np.ndarray) -> np.ndarray:
    """N(1) density over N(0) density where the loss of "remove" equals `loss`."""
    return np.exp(loss) if rate == 1 else 1 + np.expm1(loss) / rate


def _between(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal mass of each interval between sorted edges, and a bound on its rounding error."""
    tail = ndtr(-np.abs(z))  # always the smaller tail: relative precision in both
    left, right = tail[:-1], tail[1:]
    below, above = z[1:] <= 0, z[:-1] >= 0
    mass = np.where(below, right - left, np.where(above, left - right, 1.0 - left - right))
    # ndtr goes through exp(-z^2/2): measured 2.5 ulp below 1, 5.3 at 2, 14 at 4, 36 at 6, 50 at 8, 80 at 11
    error = ULP * (4 + 1.25 * np.minimum(z * z, 1600.0)) * tail
    return np.maximum(mass, 0.0), np.maximum(error[:-1], error[1:]) + np.where(below | above, 0.0, 2 * ULP)


def step_range(rate: float, sigma: float, direction: str, tail: float) -> tuple[float, float]:
    """Losses of "remove" or "replace" outside of which each component has at most the mass beyond `tail`."""
    low = -tail * sigma - (1.0 if direction == "replace" else 0.0)
    ends = loss_at(rate, sigma, np.array([low, 1 + tail * sigma]), direction)
    return float(max(ends[0], -LOSS_CEILING)), float(min(ends[1], LOSS_CEILING))


def step_masses(rate: float, sigma: float, direction: str, step: float, tail: float) -> StepMasses:
    """Connect-the-dots masses of one step, each rounded up: they dominate the true privacy loss.

    The mass in a cell [a, b] moves to its two ends such that the cell keeps its mass under both densities.
    Losses below the grid move up to its lowest point, losses above it to infinity.
    """
    low, high = step_range(rate, sigma, direction, tail)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    loss = np.arange(first, last + 1) * step
    x = _where_loss_is(rate, sigma, loss, direction)
    zero, zero_error = _between(x / sigma)
    one, one_error = _between((x - 1) / sigma)
    if direction == "replace":
        # upper end q A1 - q e^a A_-1 - (1-q) expm1(a) A0, lower end its mirror; both over 1 - e^-h
        minus, minus_error = _between((x + 1) / sigma)
        grow, bend = rate * np.exp(loss), (1 - rate) * np.expm1(loss)
        up = rate * one - grow[:-1] * minus - bend[:-1] * zero
        down = grow[1:] * minus + bend[1:] * zero - rate * one
        error = rate * one_error + grow[1:] * minus_error
        error += np.maximum(np.abs(bend[:-1]), np.abs(bend[1:])) * zero_error
    else:
        # q (A1 - r_a A0) with r = 1 + expm1(a)/q, negative in the cell of log(1-q): it must stay so
        ratio = _ratio(rate, loss)
        up = rate * (one - ratio[:-1] * zero)
        down = rate * (ratio[1:] * zero - one)
        error = rate * (one_error + np.maximum(np.abs(ratio[:-1]), np.maximum(ratio[1:], 1.0)) * zero_error)
    shrink = (1 + 8 * ULP) / -math.expm1(-step)
    up = (np.maximum(up, 0.0) + error) * shrink
    down = (np.maximum(down, 0.0) + error) * shrink
    masses = np.zeros(len(loss))
    if direction == "add":  # seen from the other side, the mass p(l) at l is e^-l p(l) at -l
        fade = np.exp(-loss[1:])
        masses[1:] += up * fade
        masses[:-1] += down * fade
        masses = masses[::-1].copy()
        masses[0] += ndtr(-x[-1] / sigma) * (1 + 1e-12)
        return StepMasses(-last, masses, float(ndtr(x[0] / sigma)) * (1 + 1e-12))
    masses[1:] += up
    masses[:-1] += down * math.exp(-step)
    masses[0] += ((1 - rate) * ndtr(x[0] / sigma) + rate * ndtr((x[0] - 1) / sigma)) * (1 + 1e-12)
    above = (1 - rate) * ndtr(-x[-1] / sigma) + rate * ndtr((1 - x[-1]) / sigma)
    return StepMasses(first, masses, float(above) * (1 + 1e-12))


def step_nodes(rate: float, sigma: float, direction: str, tail: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Privacy losses at `count` outputs with the logarithms of their quadrature weights, for planning."""
    shift = 1 / sigma
    z = np.linspace(-tail - (shift if direction == "replace" else 0.0), tail + shift, count)
    losses = loss_at(rate, sigma, z * sigma, "replace" if direction == "replace" else "remove")
    log_weights = -z * z / 2 + math.log((z[1] - z[0]) / math.sqrt(2 * math.pi))
    if direction == "add":
        return -losses, log_weights
    return losses, log_weights + loss_at(rate, sigma, z * sigma, "remove")
