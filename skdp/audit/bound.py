"""From counts of right and wrong guesses to bounds that hold with a stated confidence."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from scipy import stats

__all__ = ["check_confidence", "epsilon_lower_bound", "mu_lower_bound"]


def epsilon_lower_bound(
    correct: int, guesses: int, canaries: int, delta: float = 0.0, confidence: float = 0.95
) -> float:
    r"""Lower bound on epsilon from one fit with many canaries (Steinke, Nasr and Jagielski).

    Parameters
    ----------
    correct : int
        Right guesses.
    guesses : int
        Canaries that were guessed about; the auditor may abstain on the others, for any reason.
    canaries : int
        All canaries, each included or nulled by a fair coin of its own.
    delta : float, default=0.0
        The delta at which epsilon is bounded.
    confidence : float, default=0.95
        A private algorithm exceeds its epsilon with probability at most ``1 - confidence``.

    Returns
    -------
    float
        0 where the guesses are no better than coin flips.

    Raises
    ------
    ValueError
        For counts that contradict each other, or a delta or confidence outside its range.

    Notes
    -----
    *Formal guarantee.* Let an algorithm be (epsilon, delta)-private for including or nulling one record. With
    :math:`q = e^\varepsilon/(1 + e^\varepsilon)` and :math:`W \sim \mathrm{Bin}(r, q)` the chance of :math:`v` or
    more right guesses among :math:`r` is at most

    .. math:: P[W \ge v] + 2 m \delta \max_{1 \le i \le v} \tfrac1i P[v - i \le W < v].

    The bound is the smallest epsilon at which that exceeds ``1 - confidence``. The number of guesses has to be
    fixed before scores are looked at.

    References
    ----------
    Steinke, Nasr and Jagielski, *Privacy Auditing with One (1) Training Run*, NeurIPS 2023, theorem 5.2.

    Examples
    --------
    >>> round(epsilon_lower_bound(correct=100, guesses=100, canaries=100), 3)
    3.493
    >>> round(epsilon_lower_bound(correct=95, guesses=100, canaries=1000, delta=1e-5), 3)
    2.165
    >>> epsilon_lower_bound(correct=50, guesses=100, canaries=100)
    0.0
    """
    for name, value in (("correct", correct), ("guesses", guesses), ("canaries", canaries)):
        if not isinstance(value, numbers.Integral):
            raise ValueError(f"{name}={value!r} must be a whole number")
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(
            f"correct={correct}, guesses={guesses}, canaries={canaries} must be counts in ascending order: right "
            "guesses among all guesses among all canaries"
        )
    if not 0 <= delta < 1:
        raise ValueError(f"delta={delta!r} must lie in [0, 1)")
    significance = 1 - check_confidence(confidence)
    if correct == 0:
        return 0.0

    def chance(epsilon: float) -> float:
        """Of that many right guesses, at most."""
        q = 1 / (1 + math.exp(-epsilon))
        steps = np.arange(1, correct + 1)
        reached = stats.binom.sf(correct - 1, guesses, q)
        near = (stats.binom.sf(correct - steps - 1, guesses, q) - reached) / steps
        return float(reached + 2 * canaries * delta * near.max())

    # Without delta the bound is Clopper and Pearson's for q; with it, it can only be smaller.
    q = stats.beta.ppf(significance, correct, guesses - correct + 1)
    if q <= 0.5 or chance(0.0) > significance:
        return 0.0
    low, high = 0.0, math.log(q / (1 - q))
    if delta == 0:
        return high
    # The chance grows with epsilon wherever it is small, so there is one crossing; `low` stays on its safe side.
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) > significance else (middle, high)
    return low


def mu_lower_bound(
    false_positives: Any, false_negatives: Any, draws: int, confidence: float = 0.999, rate: float = 1.0
) -> Any:
    r"""Lower bound on the Gaussian-DP parameter of a query from a test that tells two neighbours apart.

    Parameters
    ----------
    false_positives : int or array of int
        Answers without the row that were taken for answers with it.
    false_negatives : int or array of int
        Answers with the row that were taken for answers without it.
    draws : int
        Answers of each of the two neighbours.
    confidence : float, default=0.999
    rate : float, default=1.0
        Poisson sampling rate of the row.

    Returns
    -------
    float or ndarray
        Bound on mu, the sensitivity over the standard deviation of the noise (one over the noise multiplier). 0 where
        the test is no better than chance, ``inf`` where no Gaussian at this rate explains how good it is.

    Notes
    -----
    *Formal guarantee.* If the query is a Gaussian of parameter mu on Poisson samples, no test of false-positive rate
    :math:`\alpha` finds the row with a probability above :math:`(1 - q)\alpha + q\,\Phi(\mu - \Phi^{-1}(1 - \alpha))`.
    Both error rates are replaced by their Clopper-Pearson upper bounds, each at half of ``1 - confidence``; so the
    bound exceeds mu with probability at most ``1 - confidence``. The test must not have been chosen on these draws.

    References
    ----------
    Dong, Roth and Su, *Gaussian Differential Privacy*, 2022. Nasr et al., *Tight Auditing of Differentially Private
    Machine Learning*, USENIX Security 2023.

    Examples
    --------
    >>> round(mu_lower_bound(false_positives=460, false_negatives=475, draws=3000), 2)
    1.84
    """
    tail = (1 - check_confidence(confidence)) / 2
    wrong = np.stack([np.asarray(false_positives), np.asarray(false_negatives)])
    if (wrong < 0).any() or (wrong > draws).any():
        raise ValueError(f"false_positives and false_negatives must lie between 0 and draws={draws}")
    if not 0 < rate <= 1:
        raise ValueError(f"rate={rate!r} must lie in (0, 1]")
    with np.errstate(invalid="ignore"):
        alpha, beta = np.where(wrong == draws, 1.0, stats.beta.isf(tail, wrong + 1, draws - wrong))
    # What the test finds once the row is in the sample.
    found = np.clip((1 - beta - (1 - rate) * alpha) / rate, 0, 1)
    with np.errstate(invalid="ignore"):
        mu = stats.norm.isf(alpha) + stats.norm.ppf(found)
    mu = np.where(mu > 0, mu, 0.0)  # also where a rate bounds nothing, which gives NaN
    return float(mu) if mu.ndim == 0 else mu


def check_confidence(confidence: float) -> float:
    """The confidence, once it is known to be one."""
    if not isinstance(confidence, numbers.Real) or not 0.5 <= confidence < 1:
        raise ValueError(f"confidence={confidence!r} must lie in [0.5, 1), for instance 0.95")
    return float(confidence)
