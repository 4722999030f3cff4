r"""Regression from noisy second moments: AdaSSP in one shot, or boosted on clipped residuals.

*Formal guarantee.* Rows are shortened to a length R, so one row adds to :math:`X^\top X` a matrix of Frobenius norm
:math:`R^2` at most, and to :math:`X^\top r`, with residuals of norm at most :math:`\tau`, at most
:math:`R\tau`: the L2 sensitivities under zero-out and add-remove. Gram and moments are Gaussian releases with a share
of :math:`\mu^2` each. The smallest eigenvalue, which decides the ridge, is that of the *noisy* matrix and costs nothing
(Wang spends a third of the budget on it); what the noise may have done to it is known from its standard deviation.

Wang, *Revisiting differentially private linear regression*, UAI 2018. Tang, Aydore, Kearns, Rho, Roth, Wang, Wang, Wu,
*Improved differentially private regression via gradient boosting*, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from skdp.contract import Answers, Gaussian, GramSum, LinearGradient, Poisson, Query, Touch
from skdp.linear_model.coefficient_noise import moments_noise, rounds_noise
from skdp.linear_model.losses import Huber, Squared
from skdp.linear_model.terms import FitFacts

__all__ = ["adassp", "adassp_touches", "boosted", "boosted_touches", "refuse_statistics"]

_GRAM_SHARE = {"adassp": 0.4, "boosted": 0.15}  # of the squared signal
# The ridge lifts the smallest eigenvalue to this many standard deviations of the largest one of the noise.
_RIDGE = 0.25
_ROUNDS = 30
_LENGTH_IN_ROUNDS = 6.0  # what is unlearnt after all rounds is exp of minus this
_RESIDUAL = 0.5  # largest residual, in half ranges of y


def refuse_statistics(terms: FitFacts) -> str:
    """Why second moments are not enough, empty where they are."""
    if not isinstance(terms.loss, Squared):
        return "second moments tell of loss='squared_error' alone"
    if terms.penalty.alpha and terms.penalty.l1:
        return "absolute values have no closed solution; use penalty='l2'"
    return terms.too_wide


def adassp_touches(terms: FitFacts) -> tuple[Touch, ...]:
    """Price of AdaSSP, which is that of one Gaussian release at ``terms.scale``."""
    share = _GRAM_SHARE["adassp"]
    noise = terms.scale and Gaussian((terms.scale / math.sqrt(share), terms.scale / math.sqrt(1 - share)))
    return (Touch("second moments", Poisson(), noise, 1),)


def adassp(
    touches: tuple[Touch, ...], terms: FitFacts
) -> Generator[Query, Answers, tuple[np.ndarray, int, np.ndarray]]:
    """Ask for the moments and solve; returns coefficients, 1, and an estimate of the standard deviation of noise.

    Both arrays are of shape (outputs, columns).
    """
    (touch,) = touches
    length = terms.bound(terms.length)
    start = np.zeros((terms.outputs, terms.columns))
    moments = LinearGradient(start, terms.loss, length * math.sqrt(terms.outputs))
    packed, gradient = yield Query(touch, (GramSum(length), moments))
    stds = np.multiply(touch.noise.multipliers, (length**2, moments.sensitivity)) if touch.noise else np.zeros(2)
    curvature, _ = _curvature(packed, stds[0], terms)
    coef = -np.linalg.solve(curvature, gradient.T).T
    return coef, 1, moments_noise(curvature, coef, *stds)


def boosted_touches(terms: FitFacts) -> tuple[Touch, ...]:
    """Price of the Gram matrix and all rounds, which is that of one Gaussian release at ``terms.scale``."""
    share, rounds = _GRAM_SHARE["boosted"], terms.steps or _ROUNDS
    if terms.scale is None:
        return Touch("second moments", Poisson(), None, 1), Touch("residuals", Poisson(), None, rounds)
    gram = Gaussian((terms.scale / math.sqrt(share),))
    residuals = Gaussian((terms.scale * math.sqrt(rounds / (1 - share)),))
    return Touch("second moments", Poisson(), gram, 1), Touch("residuals", Poisson(), residuals, rounds)


def boosted(
    touches: tuple[Touch, ...], terms: FitFacts
) -> Generator[Query, Answers, tuple[np.ndarray, int, np.ndarray]]:
    """Ask for the Gram matrix once and for residuals in rounds; returns what `adassp` does, with the number of rounds.

    A round goes a part of the way that the Gram matrix tells. What it tells wrongly the next rounds put right, so that
    noise on it does not bias the result.
    """
    first, second = touches
    length, rounds = terms.bound(terms.length), second.count
    (packed,) = yield Query(first, (GramSum(length),))
    curvature, floor = _curvature(packed, first.noise.multipliers[0] * length**2 if first.noise else 0.0, terms)
    loss = terms.loss if second.noise is None else Huber(_RESIDUAL)
    bound = length * math.sqrt(terms.outputs) * (1.0 if second.noise is None else _RESIDUAL)
    coef, rate = np.zeros((terms.outputs, terms.columns)), min(1.0, _LENGTH_IN_ROUNDS / rounds)
    for _ in range(rounds):
        (gradient,) = yield Query(second, (LinearGradient(coef, loss, bound),))
        step = np.linalg.solve(curvature, (gradient + coef * terms.ridge).T).T
        coef = coef - (rate if second.noise else 1.0) * step
    std = second.noise.multipliers[0] * bound if second.noise else 0.0
    return coef, rounds, np.tile(rounds_noise(curvature, floor, std, rate, rounds), (terms.outputs, 1))


def _curvature(packed: np.ndarray, std: float, terms: FitFacts) -> tuple[np.ndarray, float]:
    """Noisy second moments with the penalty and as much ridge as the noise calls for, and that ridge."""
    matrix = GramSum.unpacked(packed) + np.diag(terms.ridge)
    if std:
        # Off the diagonal noise has std over the root of 2; the largest eigenvalue of that is near root 2 d times std.
        floor = _RIDGE * std * math.sqrt(2 * terms.columns)
        ridge = max(0.0, floor - float(np.linalg.eigvalsh(matrix)[0]))
    else:
        ridge = 1e-12 * max(float(np.trace(matrix)) / len(matrix), 1e-300)
    return matrix + ridge * np.eye(terms.columns), ridge
