"""Losses of linear models: values, slopes in the outputs, and how steep and how curved they get."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logsumexp, softmax

__all__ = [
    "CLASSIFICATION", "REGRESSION", "Absolute", "Hinge", "Huber", "Logistic", "Multinomial", "Poisson", "Squared",
    "SquaredHinge", "resolve_loss",
]  # fmt: skip


@dataclass(frozen=True)
class Logistic:
    """``log(1 + exp(-t z))`` for targets t of -1 and 1 in each output; outputs add up.

    Attributes
    ----------
    slope_bound : float
        Largest slope of one output; inf where there is none.
    curvature : float
        Largest second derivative; inf where the loss has a kink.

    Examples
    --------
    >>> loss = Logistic()
    >>> loss.values(np.zeros((1, 1)), np.ones((1, 1))).round(3).tolist(), loss.slopes(np.zeros((1, 1)), np.ones((1, 1)))
    ([0.693], array([[-0.5]]))
    """

    slope_bound = 1.0
    curvature = 0.25

    def values(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Loss of each row: (n,)."""
        return np.logaddexp(0, -targets * outputs).sum(axis=1)

    def slopes(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Derivative of each row's loss by its outputs: (n, k)."""
        return -targets * expit(-targets * outputs)

    def bends(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Second derivative of each row's loss by each of its outputs: (n, k)."""
        return expit(outputs) * expit(-outputs)


@dataclass(frozen=True)
class Multinomial:
    """Cross-entropy of the softmax of the outputs; targets are 1 for the class of a row and 0 for the others."""

    slope_bound = math.sqrt(2)
    curvature = 0.5

    def values(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Loss of each row: (n,)."""
        return logsumexp(outputs, axis=1) - (targets * outputs).sum(axis=1)

    def slopes(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Derivative of each row's loss by its outputs: (n, k)."""
        return softmax(outputs, axis=1) - targets


@dataclass(frozen=True)
class Hinge:
    """``max(0, 1 - t z)`` for targets t of -1 and 1 in each output; outputs add up."""

    slope_bound = 1.0
    curvature = math.inf

    def values(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Loss of each row: (n,)."""
        return np.maximum(0.0, 1 - targets * outputs).sum(axis=1)

    def slopes(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Derivative of each row's loss by its outputs: (n, k)."""
        return np.where(targets * outputs < 1, -targets, 0.0)


@dataclass(frozen=True)
class SquaredHinge:
    """``max(0, 1 - t z) ** 2`` for targets t of -1 and 1 in each output; outputs add up."""

    slope_bound = math.inf
    curvature = 2.0

    def values(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Loss of each row: (n,)."""
        return np.square(np.maximum(0.0, 1 - targets * outputs)).sum(axis=1)

    def slopes(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Derivative of each row's loss by its outputs: (n, k)."""
        return -2 * targets * np.maximum(0.0, 1 - targets * outputs)


@dataclass(frozen=True)
class Squared:
    """``(z - t) ** 2 / 2``; outputs add up."""

    slope_bound = math.inf
    curvature = 1.0

    def values(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Loss of each row: (n,)."""
        return np.square(outputs - targets).sum(axis=1) / 2

    def slopes(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Derivative of each row's loss by its outputs: (n, k)."""
        return outputs - targets


@dataclass(frozen=True)
class Huber:
    """Squared loss up to a residual of `scale` and linear beyond; outputs add up.

    Parameters
    ----------
    scale : float
        In units of the targets as they are trained on, which are mapped to [-1, 1]. It is fixed: estimating it, as
        `sklearn.linear_model.HuberRegressor` does, would cost budget.

    Examples
    --------
    >>> Huber(0.1).slopes(np.array([[0.05, 3.0]]), np.zeros((1, 2))).tolist()
    [[0.05, 0.1]]
    """

    scale: float = 0.1

    @property
    def slope_bound(self) -> float:
        """The scale."""
        return self.scale

    curvature = 1.0

    def values(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Loss of each row: (n,)."""
        residuals = np.abs(outputs - targets)
        near = np.minimum(residuals, self.scale)
        return (near**2 / 2 + self.scale * (residuals - near)).sum(axis=1)

    def slopes(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Derivative of each row's loss by its outputs: (n, k)."""
        return np.clip(outputs - targets, -self.scale, self.scale)


@dataclass(frozen=True)
class Absolute:
    """``|z - t|``; outputs add up."""

    slope_bound = 1.0
    curvature = math.inf

    def values(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Loss of each row: (n,)."""
        return np.abs(outputs - targets).sum(axis=1)

    def slopes(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Derivative of each row's loss by its outputs: (n, k)."""
        return np.sign(outputs - targets)


@dataclass(frozen=True)
class Poisson:
    """``exp(z) - t z`` for counts t in units of their largest possible value; outputs add up.

    Above z = 0, where the predicted mean would exceed the largest count, the exponential goes on as its second-order
    expansion, so that the loss stays convex and its curvature at most 1.
    """

    slope_bound = math.inf
    curvature = 1.0

    def values(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Loss of each row: (n,)."""
        over = np.maximum(outputs, 0.0)
        return (np.exp(outputs - over) + over + over**2 / 2 - targets * outputs).sum(axis=1)

    def slopes(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Derivative of each row's loss by its outputs: (n, k)."""
        over = np.maximum(outputs, 0.0)
        return np.exp(outputs - over) + over - targets


CLASSIFICATION = {"log_loss": Logistic(), "hinge": Hinge(), "squared_hinge": SquaredHinge()}
REGRESSION = {"squared_error": Squared(), "huber": Huber(), "absolute_error": Absolute(), "poisson": Poisson()}


def resolve_loss(loss, task: str):
    """The loss that a name stands for; a loss is taken as it is.

    Parameters
    ----------
    loss : str or Huber
    task : {"binary", "multiclass", "regression"}

    Returns
    -------
    object

    Raises
    ------
    ValueError
    """
    known = REGRESSION if task == "regression" else CLASSIFICATION
    if isinstance(loss, Huber) and task == "regression":
        if not 0 < loss.scale < math.inf:
            raise ValueError(f"loss={loss!r}: scale must be positive and finite")
        return loss
    if loss not in known:
        raise ValueError(f"loss={loss!r} must be one of {', '.join(map(repr, known))} for this estimator")
    return Multinomial() if loss == "log_loss" and task == "multiclass" else known[loss]
