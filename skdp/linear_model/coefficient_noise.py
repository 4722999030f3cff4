r"""How much of a coefficient is privacy noise, from public numbers and what was released anyway: free of charge.

*Descents* (`descent_response`, `skdp.linear_model.admm`). Their noise is Gaussian of known deviation in each step, and
rows' curvature only damps it. What it does to a weight that no row holds back is a linear filter with public numbers;
its root sum of squares times the deviation is an *upper bound* for all weights. For a convex loss of one output and
steps of at most two over the curvature, without momentum, that is a theorem: clipped slopes still rise, so that the
Jacobian of each step is a contraction, and a function of Gaussian numbers varies by no more than its mean squared
derivatives (Poincare). With momentum m it holds for quadratic losses and steps of at most
:math:`1 + 1 / (1 + 2 m)` over the curvature, a third more than one; with penalties of some columns alone, or several
outputs, for quadratic losses. Columns with few rows behind them (rare categories, indicators of missing values) reach
it.

*Where it is no bound.* Step sizes are public, and curvature grows with the square of rows' lengths. Where nearly all
rows are longer than they are taken to be (`skdp.linear_model.rows.usual_length`), as without bounds or where most
values lie at an end of theirs, steps overshoot, and clipping alone holds the iterates: the deviation came to three
times the figure at budgets of 100 and more, where it is small. Hinges and absolute values have kinks, at which it came
to 1.2 times the figure.

*Objective perturbation* (`minimum_noise`). The derivative of the minimum by the random linear term is minus the inverse
curvature H, at least the public ridge, so that by the same inequality the variance in column j is at most
:math:`\sigma^2 (H^{-2})_{jj} \le \sigma^2 / (\lambda_{\min} \lambda_j)`: an upper bound as well.

*Noisy moments* (`moments_noise`, `rounds_noise`). The moments themselves are released, so the effect of their noise is
linearised around them: an *estimate*, good while noise is small next to the moments.

None of them says anything about the error that comes from having these rows and not others.
"""

from __future__ import annotations

import numpy as np

__all__ = ["descent_response", "minimum_noise", "moments_noise", "rounds_noise"]


def descent_response(rate: float, momentum: float, steps: int, averaged: int, shrinkage: float = 0.0) -> float:
    """Standard deviation of a mean of iterates that no gradient holds back, over that of a gradient's noise.

    Parameters
    ----------
    rate, momentum : float
        Of accelerated proximal descent.
    steps : int
    averaged : int
        How many of the last iterates the mean is over.
    shrinkage : float, default=0.0
        Strength of a quadratic penalty.

    Returns
    -------
    float

    Examples
    --------
    >>> round(descent_response(0.1, 0.0, steps=100, averaged=1), 6)
    1.0
    """
    kept = 1 / (1 + rate * shrinkage)
    response = np.zeros(steps + 1)  # of the iterate, k steps after a unit of noise
    response[1] = kept * rate
    for k in range(2, steps + 1):
        response[k] = kept * ((1 + momentum) * response[k - 1] - momentum * response[k - 2])
    summed = np.cumsum(response)
    end = np.arange(steps, 0, -1)  # iterates that a step's noise has reached
    start = np.maximum(end - averaged, 0)
    return float(np.linalg.norm(summed[end] - summed[start]) / averaged)


def minimum_noise(std: float, ridge: np.ndarray) -> np.ndarray:
    """Bound on the standard deviation in each column of a minimum with a random linear term.

    Parameters
    ----------
    std : float
        Standard deviation of the linear term's numbers.
    ridge : ndarray of shape (columns,)
        Least curvature in each column, positive.

    Returns
    -------
    ndarray of shape (columns,)
    """
    return std / np.sqrt(ridge.min() * ridge)


def moments_noise(curvature: np.ndarray, coef: np.ndarray, gram_std: float, moment_std: float) -> np.ndarray:
    r"""Linearised standard deviation of the solution of noisy normal equations.

    With :math:`\theta = A^{-1} b`, :math:`\delta\theta = A^{-1} (\delta b - \delta A\,\theta)`, where
    :math:`\delta A` is symmetric with variance :math:`s^2` on the diagonal and :math:`s^2 / 2` beside it, so that
    :math:`\operatorname{Cov}(\delta A\,\theta) = \tfrac{s^2}{2} (|\theta|^2 I + \theta\theta^\top)`.

    Parameters
    ----------
    curvature : ndarray of shape (columns, columns)
        The released A, its ridge included.
    coef : ndarray of shape (outputs, columns)
    gram_std, moment_std : float
        Of the noise on a diagonal entry of A and on an entry of b.

    Returns
    -------
    ndarray of shape (outputs, columns)
    """
    inverse = np.linalg.inv(curvature)
    plain = np.square(inverse).sum(axis=1)
    along = coef @ inverse
    lengths = np.square(coef).sum(axis=1, keepdims=True)
    return np.sqrt((moment_std**2 + gram_std**2 / 2 * lengths) * plain + gram_std**2 / 2 * along**2)


def rounds_noise(curvature: np.ndarray, floor: float, std: float, rate: float, rounds: int) -> np.ndarray:
    """Linearised standard deviation after rounds of noisy Newton steps by one released curvature.

    Parameters
    ----------
    curvature : ndarray of shape (columns, columns)
        What steps are divided by, the floor included.
    floor : float
        Ridge that steps are divided by, and that residuals know nothing of.
    std : float
        Of the noise on an entry of a round's gradient.
    rate : float
        Share of the whole step that a round takes.
    rounds : int

    Returns
    -------
    ndarray of shape (columns,)
    """
    values, vectors = np.linalg.eigh(curvature)
    kept = 1 - rate * np.clip((values - floor) / values, 0, 1)
    total = np.square(kept[:, None] ** np.arange(rounds)).sum(axis=1)
    return np.sqrt(np.square(vectors) @ (total * (rate * std / values) ** 2))
