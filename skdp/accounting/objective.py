r"""What objective perturbation costs: as much as one Gaussian release.

The released coefficients :math:`\theta` make

.. math:: \sum_i \ell_i(\theta) + \tfrac12 \theta^\top \Lambda \theta + b^\top \theta, \qquad b \sim N(0, \sigma^2 I),

least, where :math:`\ell_i(\theta) = \ell(x_i^\top\theta, y_i)` is convex and smooth, its slope in the output is
:math:`\pm a` with a sign that the target alone decides, :math:`a |x_i| \le L`, its second derivative times
:math:`|x_i|^2` is at most :math:`\beta`, and :math:`\Lambda \succeq \lambda I`.

*Proof.* Let D have a row more than D' (or D' have its null row), with :math:`g` and :math:`g'` the gradients of the
objectives without the linear term. Both are strongly monotone, so :math:`b = -g(\theta)` has one :math:`\theta` for
each :math:`b`, and :math:`\theta` has density :math:`\varphi_\sigma(g(\theta)) \det \nabla g(\theta)`. Let
:math:`v = \nabla\ell(\theta) = g - g'` and :math:`u` the unit vector along :math:`\pm x` for which
:math:`v = a u`, :math:`0 \le a \le L`; :math:`u` does not depend on :math:`\theta`.
The ratio of determinants is :math:`1 + \ell'' x^\top (\nabla g')^{-1} x`, between 1 and
:math:`e^c`, :math:`c = \log(1 + \beta / \lambda)`.

From D, where :math:`g \sim N(0, \sigma^2 I)` and :math:`Y = u^\top g`:
:math:`p' / p \ge e^{-c} \exp((2 a Y - a^2) / 2\sigma^2)`. The exponent is concave in a, hence least at 0 or L:
:math:`p'/p \ge e^{-c} \min(1, e^{-\ell_\mu(Y)})` with :math:`\ell_\mu` the privacy loss of a Gaussian release with
:math:`\mu = L / \sigma`. For :math:`\epsilon \ge c` therefore
:math:`\delta(\epsilon) = E_D[(1 - e^\epsilon p'/p)_+] \le \delta_\mu(\epsilon - c)`, the curve of that Gaussian.
From D', with :math:`Y = u^\top g'`: :math:`p / p' \ge \exp(-(2 a Y + a^2) / 2 \sigma^2)`, least at 0 or L again, so
:math:`\delta(\epsilon) \le \delta_\mu(\epsilon)` for :math:`\epsilon \ge 0`.

A larger Gaussian covers both: with :math:`\mu' = \mu + c M(\mu / 2)`, where :math:`M = \Phi(-\cdot) / \varphi` is
Mills' ratio, :math:`\delta_{\mu'}(t + c) \ge \delta_\mu(t)` for all :math:`t \ge 0`. For along the straight line from
:math:`(\mu, t)` to :math:`(\mu', t + c)` the derivative of :math:`\delta` is
:math:`\varphi(t/\mu - \mu/2) (\mu' - \mu - c M(t/\mu + \mu/2))`, and M falls. For :math:`0 \le \epsilon \le c`,
:math:`\delta(\epsilon) \le \delta(0) \le \delta_\mu(0) \le \delta_{\mu'}(c) \le \delta_{\mu'}(\epsilon)`. The
second inequality is the total variation, the same from both sides. Both directions being covered for all
:math:`\epsilon \ge 0` means that the mechanism is :math:`\mu'`-Gaussian-DP, which composes, and reaches from zero-out
and add-remove to replace-one, as any Gaussian does.

*Approximate minima.* The point that is published is not :math:`\theta` itself but one where the gradient is at most
:math:`\tau`, hence within :math:`\tau/\lambda` of it, plus Gaussian noise for the difference: given :math:`\theta`,
that moves by at most :math:`2\tau/\lambda` between neighbours. Both costs compose: :math:`\mu'^2 + \mu_o^2`.

Iyengar, Near, Song, Thakkar, Thakurta, Wang, *Towards practical differentially private convex optimization*, IEEE S&P
2019 (approximate minima). Redberg, Koskela, Wang, *Improving the privacy and practicality of objective perturbation for
differentially private linear learners*, NeurIPS 2023 (the curve, with a factor of 2 for slopes of any sign).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy.optimize import brentq
from scipy.special import erfcx

__all__ = ["ObjectiveTerms", "objective_terms"]

# c over mu, and the most of c. More of it takes less curvature and more noise; chosen by measurement.
_CURVATURE_SHARE, _LARGEST = 0.25, 1.0
# mu of the noise on the point over that of the whole: the point is found so exactly that little of it is little noise.
_POINT_SHARE = 0.01


class ObjectiveTerms(NamedTuple):
    """What makes a perturbed minimum cost one Gaussian.

    Parameters
    ----------
    noise : float
        Standard deviation of the linear term's coefficients over the largest gradient of a row.
    curvature : float
        Least curvature of the objective over the largest curvature of a row's loss.
    point : float
        Standard deviation of the noise on the point over the distance that it may have from the minimum.
    """

    noise: float
    curvature: float
    point: float


def objective_terms(multiplier: float) -> ObjectiveTerms:
    """Noise and curvature at which a perturbed minimum costs one Gaussian release at `multiplier`.

    Parameters
    ----------
    multiplier : float
        Noise multiplier, positive and finite.

    Returns
    -------
    ObjectiveTerms

    Examples
    --------
    >>> terms = objective_terms(4.0)
    >>> round(terms.noise, 2), round(terms.curvature, 1)
    (5.16, 20.2)
    """
    whole = 1 / multiplier
    most = whole * math.sqrt(1 - _POINT_SHARE**2)
    mu = brentq(lambda mu: mu + _log_ratio(mu) * mills(mu / 2) - most, most / 3, most, xtol=1e-15 * most)
    mu *= 1 - 1e-9  # whatever side the root was found on
    return ObjectiveTerms(1 / mu, 1 / math.expm1(_log_ratio(mu)), 2 / (_POINT_SHARE * whole))


def _log_ratio(mu: float) -> float:
    """c: the logarithm of what a row may do to the determinant."""
    return min(_CURVATURE_SHARE * mu, _LARGEST)


def mills(x: float) -> float:
    """Mills' ratio of the standard normal distribution."""
    return math.sqrt(math.pi / 2) * float(erfcx(x / math.sqrt(2)))
