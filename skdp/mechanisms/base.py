"""What every mechanism shares: a specification that draws up a plan, and the training part of a recipe."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from sklearn.base import BaseEstimator
from torch import nn

from skdp.contract import Plan, Public

__all__ = ["Mechanism", "TrainingPlan", "batches_per_epoch", "steps_per_epoch"]


def batches_per_epoch(rate: float) -> float:
    """Batches that hold all rows together, a whole number where rounding alone stands in its way."""
    count = 1 / rate
    return round(count) if abs(count - round(count)) < 1e-9 * count else count


def steps_per_epoch(rate: float) -> int:
    """Steps after which every row was expected to take part once."""
    return max(1, math.ceil(batches_per_epoch(rate)))


@dataclass(frozen=True)
class TrainingPlan:
    """The resolved numbers of a fit, all public: what a mechanism needs to draw up its plan.

    Parameters
    ----------
    sampling_rate : float
        Probability of a row to take part in a step.
    steps : int
        Number of optimizer steps.
    max_grad_norm : float
        Clip norm (the initial one where it adapts).
    clipping : {"flat", "automatic", "global", "per-layer", "adaptive"}
    affordable : callable, optional
        ``affordable(rate, count)`` is the noise multiplier at which the whole budget pays for so many Gaussian
        answers on Poisson samples at this rate, for choices between price lists. None where the noise was given, and
        not the budget.

    Examples
    --------
    >>> TrainingPlan(sampling_rate=0.1, steps=50, max_grad_norm=1.0).clipping
    'flat'
    """

    sampling_rate: float
    steps: int
    max_grad_norm: float
    clipping: str = "flat"
    affordable: Callable[[float, int], float] | None = None


class Mechanism(BaseEstimator, ABC):
    """A specification of private training; carries only its own parameters, no state and no data.

    Attributes
    ----------
    default_module : None or str
        What ``module=None`` stands for; None is the default net for tables.
    labels_are_public : bool
        Whether `Model.targets` holds the labels: then `taken_as_public` has to say so.
    weighs_rows : bool
        Whether sample weights other than 0 reach training.
    sums_over_rows : bool
        Whether every answer is a sum over rows that are drawn independently, so that several processes, each with some
        of the rows, can train together.
    """

    default_module = None
    labels_are_public = False
    weighs_rows = True
    sums_over_rows = False

    @abstractmethod
    def plan(self, public: Public, training: TrainingPlan, scale: float | None) -> Plan:
        """Draw up the price list and the programme of queries.

        Parameters
        ----------
        public : Public
            What may be known about the data.
        training : TrainingPlan
            Rate, steps, clipping.
        scale : float or None
            Every noise multiplier is proportional to it, so the cost falls as it grows; None is no noise.

        Returns
        -------
        Plan

        Raises
        ------
        ValueError
            For parameters, or an adjacency, that the mechanism cannot serve; nothing is spent then.
        """

    def prepare(self, module: nn.Module, public: Public) -> nn.Module:
        """The net as this mechanism trains it and as it predicts afterwards.

        Called before anything is spent, and again whenever the fitted net is rebuilt.

        Parameters
        ----------
        module : torch.nn.Module
            Freshly built, of its own: it may be changed in place.
        public : Public

        Returns
        -------
        torch.nn.Module

        Raises
        ------
        UnsupportedModuleError
            For a net that this mechanism cannot train, with the layer and the remedy.
        """
        return module

    def describe(self, clipping: str) -> str:
        """What a privacy statement calls it."""
        return f"{type(self).__name__}, {clipping} clipping"

    def weakness(self, public: Public, scale: float | None) -> str:
        """Why, from public numbers, a fit at this noise multiplier will learn nearly nothing; empty where it may."""
        return ""

    def taken_as_public(self) -> tuple[str, ...]:
        """What the guarantee does not cover, in words, for the statement."""
        return ()
