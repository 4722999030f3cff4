r"""Objective perturbation: the minimum of the objective with a random linear term.

*Formal guarantee.* For the logistic loss of one output the minimum costs one Gaussian release at the touch's
multiplier, approximate minima included; `skdp.accounting.objective` has the proof and the noise and curvature that it
takes. A record's loss has slopes of one sign at its label, and its row is shortened so that the gradient is at most
`bound`. More than two classes are one against the rest, K minima with independent noise, which compose to one Gaussian
of multiplier z where each has :math:`z \sqrt K`. The l2 penalty counts as curvature; where it is less than privacy
takes, and for the intercept, there is more.

Whether the minimum was found at all is an event outside the guarantee; an `ArithmeticError` says that it was not. Data
cannot bring it about in exact arithmetic: `skdp.releases.minimum` has the proof. Rounding can in principle where the
gradient's own exceeds a millionth of the bound, which for rows made up for the purpose goes as :math:`10^{-16} n^{3/2}`
and so takes more than a million rows.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from skdp.accounting.objective import objective_terms
from skdp.contract import Answers, Gaussian, PerturbedMinimum, Poisson, Query, Touch
from skdp.linear_model.coefficient_noise import minimum_noise
from skdp.linear_model.losses import Logistic
from skdp.linear_model.terms import Terms

__all__ = ["minimise", "minimum_touches", "refuse_minimum"]

# Row length over the usual one.
_LENGTH = 0.9


def refuse_minimum(terms: Terms) -> str:
    """Why the objective cannot be perturbed, empty where it can."""
    if not isinstance(terms.loss, Logistic):
        return f"loss {type(terms.loss).__name__} has slopes of either sign, or kinks; its guarantee is for 'log_loss'"
    if terms.penalty.alpha and terms.penalty.l1:
        return "penalties with absolute values have kinks; use penalty='l2'"
    return terms.too_wide


def minimum_touches(terms: Terms) -> tuple[Touch, ...]:
    """Price of all minima, which is that of one Gaussian release at ``terms.scale``."""
    noise = terms.scale and Gaussian((terms.scale * math.sqrt(terms.outputs),))
    return (Touch("minimum", Poisson(), noise, terms.outputs),)


def minimise(touches: tuple[Touch, ...], terms: Terms) -> Generator[Query, Answers, tuple[np.ndarray, int, np.ndarray]]:
    """Ask for the minima; returns coefficients, 1, and a bound on the standard deviation of their noise.

    Both arrays are of shape (outputs, columns).
    """
    (touch,) = touches
    bound = terms.bound(_LENGTH * terms.length * terms.loss.slope_bound)
    coef = np.empty((terms.outputs, terms.columns))
    for output in range(terms.outputs):
        (coef[output],) = yield Query(touch, (PerturbedMinimum(terms.loss, output, bound, terms.ridge),))
    return coef, 1, np.tile(_noise(touch, terms, bound), (terms.outputs, 1))


def _noise(touch: Touch, terms: Terms, bound: float) -> np.ndarray:
    if touch.noise is None:
        return np.zeros(terms.columns)
    found = objective_terms(touch.noise.multipliers[0])
    least = found.curvature * terms.loss.curvature * (bound / terms.loss.slope_bound) ** 2
    return minimum_noise(found.noise * bound, np.maximum(terms.ridge, least))
