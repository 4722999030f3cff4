"""Automatic training numbers of the default net: pure functions from public quantities to values."""

from __future__ import annotations

from dataclasses import dataclass

from skdp.contract import Public
from skdp.nets.step_length import StepLength, step_length

__all__ = ["Recipe", "auto_recipe", "full_batches"]

_FULL_BATCH_ROWS = 65536


@dataclass(frozen=True)
class Recipe:
    """Training numbers of one fit.

    Parameters
    ----------
    sampling_rate : float
        Chance of a row to take part in a step; 1 is a full batch.
    steps : int
    lr : float
        Learning rate on the mean gradient.
    momentum : float
        Heavy ball.
    max_grad_norm : float
        Clip norm; the initial one where it adapts.
    average : float
        Share of the last steps whose iterates are averaged.
    """

    sampling_rate: float
    steps: int
    lr: float
    momentum: float
    max_grad_norm: float
    average: float


def auto_recipe(public: Public, signal: float) -> Recipe:
    """Training numbers for `skdp.nets.TabularNet`.

    A full-batch fit is one Gaussian release whatever its number of steps, so only the total step length
    ``lr * steps / (1 - momentum)`` trades signal against noise (see `skdp.nets.step_length`). Steps
    are as few as a stable learning rate allows.

    Parameters
    ----------
    public : Public
    signal : float
        Gaussian-DP parameter of the budget times the number of rows.

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError
        When `signal` is not a positive number.

    Examples
    --------
    >>> from skdp.contract import Public
    >>> recipe = auto_recipe(Public(n=20000, input_shape=(8,), n_outputs=1, task="regression"), signal=4000.0)
    >>> recipe.sampling_rate, recipe.max_grad_norm
    (1.0, 0.4)
    """
    if not signal > 0:
        raise ValueError(f"signal={signal!r} must be positive: the budget's mu times the number of rows")
    return full_batches(public, step_length(public, signal))


def full_batches(public: Public, go: StepLength) -> Recipe:
    """Steps of a given total length, in full batches or the largest that are not too slow, or as they say."""
    return Recipe(min(go.rate, _FULL_BATCH_ROWS / public.n), go.steps, go.lr, go.momentum, go.clip, 0.5)
