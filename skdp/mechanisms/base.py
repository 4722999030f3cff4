"""What every mechanism shares: a specification that draws up a plan, and the training part of a recipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sklearn.base import BaseEstimator

from skdp.contract import Plan, Public

__all__ = ["Mechanism", "TrainingPlan"]


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

    Examples
    --------
    >>> TrainingPlan(sampling_rate=0.1, steps=50, max_grad_norm=1.0).clipping
    'flat'
    """

    sampling_rate: float
    steps: int
    max_grad_norm: float
    clipping: str = "flat"


class Mechanism(BaseEstimator, ABC):
    """A specification of private training; carries only its own parameters, no state and no data."""

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
        """
