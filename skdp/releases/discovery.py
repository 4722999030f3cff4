r"""Which categories columns of text have: noisy counts, and a threshold that hides what few rows have."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from scipy.stats import norm

from skdp.contract import Answers, Frequent, Gaussian, Poisson, Query, Touch

__all__ = ["discovery_queries", "discovery_touch"]


def discovery_touch(prefix: str, multiplier: float | None) -> Touch:
    """Price of `discovery_queries` at a noise multiplier (None: no noise), without its failure probability.

    Parameters
    ----------
    prefix : str
        Begins the touch's name.
    multiplier : float or None

    Returns
    -------
    Touch
    """
    return Touch(f"{prefix} categories", Poisson(1.0), multiplier and Gaussian((multiplier,)), 1)


def discovery_queries(
    touch: Touch, of: str, groups: int, delta_fail: float, adjacency: str
) -> Generator[Query, Answers, list[tuple[np.ndarray, np.ndarray]]]:
    r"""Ask which values the columns of an array of text have, as far as enough rows have them.

    Parameters
    ----------
    touch : Touch
        From `discovery_touch`.
    of : str
        Name of the array. None is no value.
    groups : int
        Number of its columns.
    delta_fail : float
        What `Charge.delta_fail` says that the threshold may fail with. Not used without noise.
    adjacency : {"zero-out", "replace-one", "add-remove"}

    Returns
    -------
    list of tuple (ndarray of str, ndarray of float)
        For every column, sorted values and their noisy numbers of rows.

    Notes
    -----
    *Formal guarantee.* Let :math:`D'` be :math:`D` without one row (nulled or removed). A value that :math:`D` has and
    :math:`D'` has not is held by that row alone; of :math:`d` columns there are at most :math:`d` such values, each
    with count 1 and noise :math:`N(0, \sigma^2)`, :math:`\sigma = z\sqrt d`. With the threshold
    :math:`T = 1 + \sigma\,\Phi^{-1}(1 - \delta_f/d)` each of them appears with probability :math:`\delta_f/d`, any of
    them with at most :math:`\delta_f`. Let :math:`G` be the same release of :math:`D` restricted to the values of
    :math:`D'`, and :math:`H` that of :math:`D'` to which :math:`D`'s lonely values are added as they come, with noise
    of their own. :math:`G` and the release of :math:`D'` are a Gaussian mechanism of multiplier :math:`z` on the same
    values, hence :math:`(\varepsilon, \delta)`-close, and so are the release of :math:`D` and :math:`H`, which add the
    same independent part. The release of :math:`D` is within :math:`\delta_f` in total variation of :math:`G`, and that
    of :math:`D'` of :math:`H`. So in both directions

    .. math:: P[D \in S] \le P[G \in S] + \delta_f \le e^\varepsilon P[D' \in S] + \delta + \delta_f, \qquad
              P[D' \in S] \le P[H \in S] + \delta_f \le e^\varepsilon P[D \in S] + \delta + \delta_f .

    The same coupling holds for everything that is asked later and may depend on the answer, so :math:`\delta_f` is
    added once to the delta of all. Under replace-one both data sets may have lonely values: each gets half of
    `delta_fail`. Values that more rows have need no threshold.
    """
    threshold = 0.0
    if touch.noise:
        sides = 2 if adjacency == "replace-one" else 1
        std = touch.noise.multipliers[0] * groups**0.5
        threshold = 1 + std * float(norm.isf(delta_fail / sides / groups))
    (found,) = yield Query(touch, (Frequent(of, groups, threshold),))
    return found
