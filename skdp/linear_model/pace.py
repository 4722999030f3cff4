"""Clip norm and total step length of descents, from public numbers alone."""

from __future__ import annotations

from typing import Any

from skdp.linear_model.losses import Multinomial

__all__ = ["clip_growth", "pace", "usual_bound"]

# Noise of a weight that nothing holds back, in log-odds and in units of half the range of y.
_NOISE, _NOISE_OF_REGRESSION = 0.3, 0.4
# Clip norm over the length of rows times the largest slope: gradients of rows that are well predicted are short.
_CLIP, _CLIP_OF_REGRESSION = 0.8, 0.2
_LARGEST_MOMENTUM = 0.95
# Most of what a clip norm grows where noise is weak. On tables of people more of it costs nothing there.
_MOST_GROWTH = 3.0


def usual_bound(loss: Any, outputs: int, regression: bool, length: float) -> float:
    """Clip norm of gradients.

    Parameters
    ----------
    loss : object
        From `skdp.linear_model.losses`.
    outputs : int
    regression : bool
    length : float
        L2 norm that few rows exceed.

    Returns
    -------
    float
    """
    # A slope that few rows exceed; targets are within [-1, 1] or one-hot.
    slope = min(loss.slope_bound, 2.0) * (1.0 if isinstance(loss, Multinomial) else outputs**0.5)
    return (_CLIP_OF_REGRESSION if regression else _CLIP) * slope * length


def clip_growth(signal: float, length: float, start: float = 400.0) -> float:
    """Factor of a clip norm: clipping biases a model however many rows there are, noise does so less and less.

    Rows are longer than is usual where a dozen flags are often 1: coefficients were half as large again as they should
    be, whatever the budget.

    Parameters
    ----------
    signal : float
        As in `pace`.
    length : float
        L2 norm that few rows exceed.
    start : float
        Of signal over length, from where on it grows.

    Returns
    -------
    float

    Examples
    --------
    >>> clip_growth(400.0, 2.0), clip_growth(12_800.0, 2.0), clip_growth(1e9, 2.0)
    (1.0, 2.0, 3.0)
    """
    return min(max(signal / length / start, 1.0) ** 0.25, _MOST_GROWTH)


def pace(loss: Any, regression: bool, *, signal: float, length: float, bound: float, steps: int) -> tuple[float, float]:
    """Step size and momentum whose total length the noise allows.

    Parameters
    ----------
    loss : object
    regression : bool
    signal : float
        Gaussian-DP parameter of the training times the number of rows, after the noise that sampling has anyway.
    length : float
    bound : float
        Clip norm.
    steps : int

    Returns
    -------
    tuple of float
        Steps are at most one over the curvature of rows of that length; momentum makes up for what is missing.
    """
    total = (_NOISE_OF_REGRESSION if regression else _NOISE) * signal / bound
    largest = 1 / (min(loss.curvature, 2.0) * length**2)
    rate = min(total / steps, largest)
    return rate, min(max(1 - rate * steps / total, 0.0), _LARGEST_MOMENTUM)
