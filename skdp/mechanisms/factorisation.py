r"""Banded Toeplitz factorisations of prefix sums: which noise correlation makes noisy iterates least wrong.

After t steps of gradient descent the iterate depends on the sum of the first t noisy gradients. With noise
:math:`w = C^{-1} z` the errors of these sums are :math:`A C^{-1} z`, where :math:`A` is the lower triangular matrix of
ones. All matrices here are lower triangular Toeplitz matrices, given by their first columns.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.optimize import minimize
from scipy.signal import lfilter

__all__ = ["coefficients", "noise_levels", "prefix_error"]

# Longer horizons change the coefficients little and take time in proportion.
_HORIZON = 8192


@lru_cache(maxsize=512)
def coefficients(bands: int, steps: int) -> tuple[float, ...]:
    r"""First column of the banded :math:`C` with the least mean squared error of `steps` prefix sums.

    Minimises :math:`\lVert c \rVert^2 \lVert A C^{-1} \rVert_F^2` by L-BFGS, from the first `bands` coefficients of
    :math:`(1-x)^{-1/2}`, which are optimal without a limit on the bands (Fichtenberger et al., 2023).

    Parameters
    ----------
    bands : int
        Number of coefficients, at most `steps`.
    steps : int

    Returns
    -------
    tuple of float
        Of length 1 as a vector.

    Examples
    --------
    >>> [round(c, 2) for c in coefficients(4, 400)]
    [0.62, 0.5, 0.45, 0.41]
    """
    if bands == 1:
        return (1.0,)
    length = min(steps, _HORIZON)
    weights = 1 - np.arange(length) / length  # prefix sum t holds the first t coefficients of A / C
    odd = 2 * np.arange(1, bands) - 1
    start = np.cumprod(odd / (odd + 1))

    def log_error(tail: np.ndarray) -> tuple[float, np.ndarray]:
        column = np.concatenate([[1.0], tail])
        sums = np.cumsum(_inverse(column, length))
        weighted = weights * sums
        error, norm = weighted @ sums, column @ column
        change = lfilter([1.0], column, sums)  # minus the derivative of the sums by c_j, shifted by j
        slope = np.array([weighted[j:] @ change[: length - j] for j in range(1, bands)])
        return np.log(error * norm), 2 * (tail / norm - slope / error)

    # Within these bounds nothing grows so fast that it overflows.
    found = minimize(log_error, start, jac=True, method="L-BFGS-B", bounds=[(0.0, s**0.1) for s in start])
    best = min((start, found.x), key=lambda tail: log_error(tail)[0])
    column = np.concatenate([[1.0], best])
    return tuple((column / np.sqrt(column @ column)).tolist())


def _inverse(column: np.ndarray, length: int) -> np.ndarray:
    """First column of the inverse."""
    impulse = np.zeros(length)
    impulse[0] = 1.0
    return lfilter([1.0], column, impulse)


@lru_cache(maxsize=512)
def prefix_error(column: tuple[float, ...], steps: int) -> float:
    """Root mean squared error of `steps` prefix sums, in units of the standard deviation of z.

    Parameters
    ----------
    column : tuple of float
    steps : int

    Returns
    -------
    float

    Examples
    --------
    >>> [round(prefix_error(coefficients(bands, 400), 400), 1) for bands in (1, 4, 16)]
    [14.2, 7.4, 4.3]
    """
    sums = np.cumsum(_inverse(np.array(column), steps))
    return float(np.sqrt((1 - np.arange(steps) / steps) @ np.square(sums)))


@lru_cache(maxsize=32)
def noise_levels(column: tuple[float, ...], steps: int) -> np.ndarray:
    """Standard deviation of the noise of each step, in units of that of z: lengths of the rows of the inverse.

    Parameters
    ----------
    column : tuple of float
    steps : int

    Returns
    -------
    ndarray of shape (steps,)
    """
    return np.sqrt(np.cumsum(np.square(_inverse(np.array(column), steps))))
