r"""Objective perturbation: the minimum of the objective with a random linear term.

*Formal guarantee.* For the logistic loss of one output the minimum costs one Gaussian release at the touch's
multiplier, approximate minima included; `skdp.accounting.objective` has the proof and the noise and curvature that it
takes. A record's loss has slopes of one sign at its label, and its row is shortened so that the gradient is at most
`bound`. More than two classes are one against the rest, K minima with independent noise, which compose to one Gaussian
of multiplier z where each has :math:`z \sqrt K`. The l2 penalty counts as curvature; where it is less than privacy
takes, and for the intercept, there is more.

Whether the minimum was found at all is an event outside the guarantee; an `ArithmeticError` says that it was not. Data
cannot bring it about in exact arithmetic: `skdp.releases.minimum` has the proof. Nor can they by rounding, up to four
million rows; more are refused. A gradient may be a millionth of the bound then. Adding up n rows is off by
:math:`1.4 \cdot 10^{-14} n` of the bound at most, 6e-8 there. Coefficients, of norm
:math:`\sqrt{2 n \ln 2 / \lambda}` at most but for the noise, can be written to one part in :math:`10^{16}`, next to a
curvature of :math:`n / 4`: that goes as :math:`n^{3/2}`, and came to 1e-8 at most at one and four million rows that
were made up for the purpose.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from skdp.accounting.objective import objective_terms
from skdp.contract import Answers, Gaussian, PerturbedMinimum, Poisson, Query, Touch
from skdp.linear_model.coefficient_noise import minimum_noise
from skdp.linear_model.losses import Logistic
from skdp.linear_model.pace import clip_growth
from skdp.linear_model.terms import FitFacts

__all__ = ["minimise", "minimum_touches", "refuse_minimum"]

# Row length over the usual one, and the signal over it from where on longer rows are let through: the curvature that
# privacy takes grows with the square of their length.
_LENGTH, _SIGNAL = 0.9, 2000.0
# Rows up to which rounding cannot keep the minimum from being found.
_MOST_ROWS = 4_000_000


def refuse_minimum(terms: FitFacts) -> str:
    """Why the objective cannot be perturbed, empty where it can."""
    if not isinstance(terms.loss, Logistic):
        return f"loss {type(terms.loss).__name__} has slopes of either sign, or kinks; its guarantee is for 'log_loss'"
    if terms.penalty.alpha and terms.penalty.l1:
        return "penalties with absolute values have kinks; use penalty='l2'"
    if terms.n > _MOST_ROWS:
        return f"of {terms.n} rows, more than {_MOST_ROWS}, rounding may hide the minimum, which would tell about rows"
    return terms.too_wide


def minimum_touches(terms: FitFacts) -> tuple[Touch, ...]:
    """Price of all minima, which is that of one Gaussian release at ``terms.scale``."""
    noise = terms.scale and Gaussian((terms.scale * math.sqrt(terms.outputs),))
    return (Touch("minimum", Poisson(), noise, terms.outputs),)


def minimise(
    touches: tuple[Touch, ...], terms: FitFacts
) -> Generator[Query, Answers, tuple[np.ndarray, int, np.ndarray]]:
    """Ask for the minima; returns coefficients, 1, and a bound on the standard deviation of their noise.

    Both arrays are of shape (outputs, columns).
    """
    (touch,) = touches
    length = _LENGTH * terms.length * clip_growth(terms.signal, terms.length, _SIGNAL)
    bound = terms.bound(length * terms.loss.slope_bound)
    coef = np.empty((terms.outputs, terms.columns))
    for output in range(terms.outputs):
        (coef[output],) = yield Query(touch, (PerturbedMinimum(terms.loss, output, bound, terms.ridge),))
    return coef, 1, np.tile(_noise(touch, terms, bound), (terms.outputs, 1))


def _noise(touch: Touch, terms: FitFacts, bound: float) -> np.ndarray:
    if touch.noise is None:
        return np.zeros(terms.columns)
    found = objective_terms(touch.noise.multipliers[0])
    least = found.curvature * terms.loss.curvature * (bound / terms.loss.slope_bound) ** 2
    return minimum_noise(found.noise * bound, np.maximum(terms.ridge, least))
