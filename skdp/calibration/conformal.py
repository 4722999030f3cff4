r"""Split conformal prediction with a private threshold whose coverage accounts for the noise.

Scores :math:`s_1, \dots, s_n` of calibration rows and :math:`s_{n+1}` of a new row are exchangeable (the larger, the
worse the model fits the row), and lie in [0, top]. Wanted is a threshold :math:`\tau` with
:math:`P[s_{n+1} \le \tau] \ge 1 - \alpha` over calibration rows, noise and new row.

Let :math:`N(t)` be the number of calibration scores at most :math:`t`, and :math:`k = q (n+1)` with
:math:`q = 1 - \alpha + \beta`. If :math:`N(\tau) \ge k` then :math:`\tau` is at least the k-th smallest score (rounded
up), and :math:`P[s_{n+1} \le s_{(k)}] \ge q`. The threshold is found by bisection on a public grid of :math:`2^m`
values: :math:`m` noisy counts, each with noise of deviation :math:`\sigma`; a value is taken as high enough only if its
noisy count is at least :math:`k + c`, with :math:`c = \sigma\,\Phi^{-1}(1 - \beta/m)`. What is returned was taken so
once, or is the top, which holds every score. So :math:`N(\tau) < k` needs one of :math:`m` noises above :math:`c`, and
each exceeds it with chance :math:`\beta / m`, whatever the rows and the earlier answers are. Together:

.. math:: P[s_{n+1} > \tau] \le \beta + (1 - q) = \alpha .

:math:`\beta` is chosen from public numbers so that :math:`k + c` is least.

Bisection asks for a count where it matters only. Its noise, :math:`\sqrt m/2` times the noise multiplier (counts are
centred: a row adds ±1/2), is less than half that of the largest rank in a release of all quantiles at the same price.

Counts are centred at 1/2, so that n/2 is added from the public n. A row without a valid score then counts as half
below, and half is less than q: such rows raise the threshold. Where n is not public ("add-remove") counts are centred
at q instead, and n is not needed: :math:`\sum_i (1[s_i \le t] - q) \ge q + c`. A row
without a valid score is then left out.

Angelopoulos, Bates, Zrnic, Jordan, *Private prediction sets*, 2021, were first to privatise split conformal
prediction, by the exponential mechanism; Gaussian counts compose with everything else here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from skdp.contract import Answers, Gaussian, Poisson, Query, RowSum, Touch

__all__ = ["ScoresBelow", "needed_count", "threshold_queries", "threshold_touch"]


def threshold_touch(multiplier: float | None, steps: int) -> Touch:
    """Price of `threshold_queries` at a noise scale: its counts together cost one Gaussian of that multiplier."""
    return Touch("scores below", Poisson(), multiplier and Gaussian((multiplier * steps**0.5,)), steps)


@dataclass(frozen=True, eq=False)
class ScoresBelow:
    """Whether a row's score is at most a threshold, centred.

    Parameters
    ----------
    score : callable
        Public, a dataclass of public values: from rows to scores.
    threshold : float
    centre : float
    """

    score: Callable[[np.ndarray], np.ndarray]
    threshold: float
    centre: float

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Contributions of shape (rows, 1)."""
        return (self.score(rows) <= self.threshold)[:, None] - self.centre


def needed_count(n: int, alpha: float, std: float, steps: int) -> tuple[float, float]:
    """(q, c): the noisy number of scores below must be at least q (n + 1) + c."""
    if not std:
        return 1 - alpha, 0.0
    betas = alpha * np.geomspace(1e-6, 0.99, 200)
    margins = std * norm.isf(betas / steps)
    best = (betas * (n + 1) + margins).argmin()
    return float(1 - alpha + betas[best]), float(margins[best])


def threshold_queries(
    touch: Touch,
    of: str,
    score: Callable[[np.ndarray], np.ndarray],
    n: int,
    alpha: float,
    top: float,
    n_is_public: bool,
) -> Generator[Query, Answers, float]:
    """Ask for the threshold of conformal prediction.

    Parameters
    ----------
    touch : Touch
        From `threshold_touch`.
    of : str
        Name of the array.
    score : callable
        From rows to scores within [0, top].
    n : int
    alpha : float
        At most 1/2.
    top : float
    n_is_public : bool
        Whether `n` is the true number of rows.

    Returns
    -------
    float
    """
    q, margin, centre, bound = rule(touch, n, alpha, n_is_public)
    wanted = q * (n + 1) - centre * n if n_is_public else q
    low, high = 0, 2**touch.count
    for _ in range(touch.count):
        middle = (low + high) // 2
        value = RowSum(of, ScoresBelow(score, top * middle / 2**touch.count, centre), bound)
        (count,) = yield Query(touch, (value,))
        if count[0] >= wanted + margin:
            high = middle
        else:
            low = middle
    return top * high / 2**touch.count


def rule(touch: Touch, n: int, alpha: float, n_is_public: bool) -> tuple[float, float, float, float]:
    """Level, margin, centre of counts and their bound, from public numbers."""
    multiplier = touch.noise.multipliers[0] if touch.noise else 0.0
    if n_is_public:
        return *needed_count(n, alpha, multiplier / 2, touch.count), 0.5, 0.5
    # The level is below 1, so noise for a bound of 1 covers every centre.
    q, margin = needed_count(n, alpha, multiplier, touch.count)
    return q, margin, q, 1.0
