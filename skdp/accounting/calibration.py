"""How much noise a privacy target needs: searched in milliseconds, certified once, remembered.

The derivation of every bound is on the user guide page "Calibrating the noise".
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from skdp.accounting.calibration_bisection import any_event, bisect
from skdp.accounting.calibration_certificate import Verdict, certify, margin
from skdp.accounting.calibration_family import NUDGE, Family, as_charge, check_proportional, family_of, is_phase
from skdp.accounting.calibration_search import Found, smallest_scale
from skdp.accounting.checks import is_real
from skdp.accounting.curve import delta_bound, directions, epsilon_bound, merge
from skdp.accounting.curve_plan import plan_at_delta
from skdp.accounting.curve_step import Phase
from skdp.contract import ADJACENCIES, Charge
from skdp.exceptions import CalibrationError

__all__ = ["Calibration", "calibrate", "delta_of", "epsilon_of", "noise_multiplier"]

_RAISE = 5e-4  # by which the noise grows at least when the certificate fails
_LEAST_RENYI = 1e-9  # order-2 moment of a step less 1, below which double precision loses its Renyi divergence


@dataclass(frozen=True)
class Calibration:
    """A noise scale and what is certified of it.

    Parameters
    ----------
    scale : float
        Scale at which the charge was certified; noise multipliers are proportional to it.
    epsilon : float
        Certified epsilon of the event at `scale`, at most the target.
    delta : float
        Delta of the target, of which the event has ``delta - charge.delta_fail``.
    adjacency : {"zero-out", "replace-one", "add-remove"}
    accountant : {"analytic", "pld", "tilted-pld", "rdp"}
        What certifies `epsilon`: the closed form, dp_accounting's PLD, skdp's own bound (where rounding in
        that PLD is not small beside delta; checked against it at a larger delta), or Renyi differential
        privacy.
    seconds : float
        Time that this call took; next to nothing where the answer was remembered.
    charge : Charge, optional
        What was certified: the certificate speaks of no other charge.

    Examples
    --------
    >>> Calibration(1.5, 0.999, 1e-5, "zero-out", "pld").scale
    1.5
    """

    scale: float
    epsilon: float
    delta: float
    adjacency: str
    accountant: str
    seconds: float = 0.0
    charge: Charge | None = None


def calibrate(charge_at: Callable[[float], Charge], epsilon: float, delta: float) -> Calibration:
    """Smallest noise scale (within a tenth of a percent) whose charge costs at most (epsilon, delta).

    Parameters
    ----------
    charge_at : callable
        From a scale to the `Charge` at it. The combined noise multiplier of every touch is proportional to
        the scale, or does not depend on it.
    epsilon : float
        Target, positive and finite.
    delta : float
        Target in (0, 1), above the charge's `delta_fail`.

    Returns
    -------
    Calibration

    Raises
    ------
    CalibrationError
        The request is nonsense, no noise reaches it, or a touch cannot be calibrated.

    Notes
    -----
    *Formal guarantee*: releasing all queries of ``charge_at(scale)`` is (`epsilon`, `delta`)-differentially
    private for the adjacency of the charge, with the certified `epsilon` of the result. Composition is that
    of privacy loss distributions (Sommer et al., 2019; Koskela et al., 2020), discretised by connecting the
    dots (Doroshenko et al., 2022); full batches use the analytic Gaussian mechanism (Balle and Wang, 2018).

    Examples
    --------
    >>> from skdp.contract import Charge, Gaussian, Poisson, Touch
    >>> def charge_at(scale):
    ...     histogram = Touch("histogram", Poisson(), Gaussian((10 * scale,)), 1)
    ...     return Charge((histogram, Touch("gradient", Poisson(0.01), Gaussian((scale,)), 1000)))
    >>> found = calibrate(charge_at, epsilon=2.0, delta=1e-5)
    >>> round(found.scale, 2), found.epsilon <= 2.0, found.accountant
    (0.97, True, 'pld')
    """
    started = time.perf_counter()
    charge = charge_at(1.0)
    _check_target(epsilon, delta, charge.delta_fail)
    budget = delta - charge.delta_fail
    if all(is_phase(t) for t in charge.touches if t.count):
        double = charge_at(2.0)
        family = family_of(charge, double)
        scale, certified, accountant = _calibrated(family, charge.adjacency, float(epsilon), budget)
        final = charge_at(scale)
        check_proportional(charge, double, scale, final)
    else:
        scale, certified, accountant = any_event(charge_at, charge, float(epsilon), budget)
        final = charge_at(scale)
    seconds = time.perf_counter() - started
    return Calibration(scale, certified, float(delta), charge.adjacency, accountant, seconds, final)


def noise_multiplier(
    epsilon: float,
    delta: float,
    *,
    sampling_rate: float = 1.0,
    steps: int = 1,
    adjacency: str = "zero-out",
) -> float:
    """Smallest noise multiplier of `steps` Poisson-subsampled Gaussian releases that meets a target.

    Parameters
    ----------
    epsilon : float
        Positive and finite.
    delta : float
        In (0, 1).
    sampling_rate : float
        In (0, 1]; 1 is full batches, whose answer is a closed form.
    steps : int
        Number of releases, each on a fresh sample; at least 1.
    adjacency : {"zero-out", "replace-one", "add-remove"}
        What two neighbouring data sets differ in.

    Returns
    -------
    float
        Standard deviation of the noise over the L2 *zero-out* sensitivity, whatever the adjacency.

    Raises
    ------
    CalibrationError
        A parameter is out of range or no noise reaches the target.

    Examples
    --------
    >>> round(noise_multiplier(1.0, 1e-5), 3)
    3.731
    >>> round(noise_multiplier(2.0, 1e-5, sampling_rate=0.01, steps=1000), 3)
    0.959
    >>> round(noise_multiplier(2.0, 1e-5, sampling_rate=0.01, steps=1000, adjacency="replace-one"), 2)
    1.3
    """
    if not is_real(sampling_rate) or not 0 < sampling_rate <= 1:
        raise CalibrationError(
            f"sampling_rate={sampling_rate!r} must lie in (0, 1]; it is expected batch size / n, 1 for full batches"
        )
    if not is_real(steps) or not 1 <= steps < math.inf or int(steps) != steps:
        raise CalibrationError(f"steps={steps!r} must be a whole number of releases, at least 1")
    _check_adjacency(adjacency)
    _check_target(epsilon, delta, 0.0)
    family = Family((Phase(float(sampling_rate), 1.0, int(steps)),))
    return _calibrated(family, adjacency, float(epsilon), float(delta))[0]


def delta_of(phases: Iterable[tuple[float, float, int]], epsilon: float, adjacency: str = "zero-out") -> float:
    """Certified upper bound on delta at `epsilon`, without dp_accounting and in milliseconds.

    Parameters
    ----------
    phases : iterable of (rate, multiplier, count)
        Poisson-subsampled Gaussian releases, composed.
    epsilon : float
        0 or more.
    adjacency : {"zero-out", "replace-one", "add-remove"}

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    CalibrationError
        `epsilon`, a phase or the adjacency is out of range.

    Examples
    --------
    >>> print(f"{delta_of([(0.01, 1.0, 1000)], 1.8282):.2e}")
    1.00e-05
    """
    merged = _checked(phases, adjacency)
    if not is_real(epsilon) or not epsilon >= 0:
        raise CalibrationError(f"epsilon={epsilon!r} must be a number of 0 or more")
    return delta_bound(merged, float(epsilon), adjacency)


def epsilon_of(phases: Iterable[tuple[float, float, int]], delta: float, adjacency: str = "zero-out") -> float:
    """Certified upper bound on epsilon at `delta`, without dp_accounting and in milliseconds.

    Parameters
    ----------
    phases : iterable of (rate, multiplier, count)
        Poisson-subsampled Gaussian releases, composed.
    delta : float
        In (0, 1).
    adjacency : {"zero-out", "replace-one", "add-remove"}

    Returns
    -------
    float

    Raises
    ------
    CalibrationError
        `delta`, a phase or the adjacency is out of range.

    Examples
    --------
    >>> round(epsilon_of([(0.01, 1.0, 1000)], 1e-5), 3)
    1.828
    >>> round(epsilon_of([(1.0, 4.0, 100)], 1e-5, "replace-one"), 2)
    33.1
    """
    merged = _checked(phases, adjacency)
    if not is_real(delta) or not 0 < delta < 1:
        raise CalibrationError(f"delta={delta!r} must lie in (0, 1)")
    return epsilon_bound(merged, float(delta), adjacency)


# ------------------------------------------------------------------ search and certificate
@functools.lru_cache(maxsize=4096)
def _normalised(family: Family, adjacency: str, epsilon: float, delta: float) -> tuple[float, float, str]:
    """Scale, certified epsilon and accountant; remembered for the life of the process."""
    if not family.scaling:
        return 1.0, *_fixed(family.at(1.0), adjacency, epsilon, delta)
    # aim below delta by what the certificate will add for the rounding and truncation of dp_accounting
    phases = family.at(1.0)
    found = smallest_scale(family, adjacency, epsilon, delta - margin(phases, delta))
    if found is None and not family.fixed:
        raise _unresolved(phases, adjacency, epsilon, delta)
    if found is None:
        raise CalibrationError(
            f"no noise reaches epsilon={epsilon!r}, delta={delta!r}: the releases whose noise is fixed cost "
            f"{epsilon_bound(merge(family.fixed), delta, adjacency):.4g} alone; give them more noise or raise epsilon"
        )
    scale = found.scale
    for _ in range(40):
        verdict = certify(family.at(scale), adjacency, epsilon, delta, found.plan)
        if verdict.epsilon <= epsilon:
            return scale, verdict.epsilon, verdict.accountant
        if verdict.accountant == "none":
            break
        scale *= 1 + _raised(found, verdict)
    return _by_renyi(family, adjacency, epsilon, delta, scale)


def _raised(found: Found, verdict: Verdict) -> float:
    """Growth of the noise that makes good what the certificate found missing."""
    slope = abs(found.plan.slope) if found.plan else 1.0
    return max(_RAISE, min(1.1 * math.log(verdict.ratio) / max(slope, 1.0), 0.1))


def _calibrated(family: Family, adjacency: str, epsilon: float, delta: float) -> tuple[float, float, str]:
    """`_normalised` with the first multiplier as the unit, so that equal problems meet in the cache."""
    if not family.scaling:
        return _normalised(family, adjacency, epsilon, delta)
    unit = family.scaling[0].multiplier
    scaling = tuple(Phase(rate, sigma / unit, count) for rate, sigma, count in family.scaling)
    scale, certified, accountant = _normalised(Family(scaling, family.fixed), adjacency, epsilon, delta)
    return scale / unit * (1 + NUDGE), certified, accountant


def _fixed(phases: tuple[Phase, ...], adjacency: str, epsilon: float, delta: float) -> tuple[float, str]:
    """Certificate of a charge that no scale can change; an empty one costs nothing."""
    if not phases:
        return 0.0, "analytic"
    plan = plan_at_delta(phases, directions(adjacency)[0], delta)[1]
    verdict = certify(phases, adjacency, epsilon, delta, plan)
    if verdict.epsilon > epsilon:
        raise CalibrationError(
            f"epsilon={epsilon!r} is out of reach: no noise of this charge depends on the scale and it costs "
            f"{epsilon_bound(phases, delta, adjacency):.4g} at delta={delta!r}; give its touches more noise or raise "
            "epsilon"
        )
    return verdict.epsilon, verdict.accountant


def _by_renyi(family: Family, adjacency: str, epsilon: float, delta: float, scale: float) -> tuple[float, float, str]:
    """Last resort: our bound and dp_accounting's PLD do not agree, so neither is believed."""
    least = min(q * q * math.expm1(min(sigma**-2, 600.0)) for q, sigma, _ in family.at(scale))
    if adjacency == "replace-one" or least < _LEAST_RENYI:
        raise _unresolved(family.at(scale), adjacency, epsilon, delta)
    return bisect(lambda s: as_charge(family.at(s), adjacency), epsilon, delta, "rdp")


def _unresolved(phases: tuple[Phase, ...], adjacency: str, epsilon: float, delta: float) -> CalibrationError:
    return CalibrationError(
        f"no accountant resolves epsilon={epsilon!r} at delta={delta!r} over "
        f"{sum(count for _, _, count in phases)} steps under adjacency={adjacency!r} in double precision; use a "
        "larger delta or epsilon, or fewer steps"
    )


# ------------------------------------------------------------------ checks
def _check_adjacency(adjacency: str) -> None:
    if adjacency not in ADJACENCIES:
        raise CalibrationError(f"adjacency={adjacency!r} must be one of {', '.join(ADJACENCIES)}")


def _checked(phases: Iterable[tuple[float, float, int]], adjacency: str) -> tuple[Phase, ...]:
    _check_adjacency(adjacency)
    listed = [Phase(*phase) for phase in phases]
    for phase in listed:
        rate, sigma, count = phase
        if not (is_real(rate) and 0 < rate <= 1 and is_real(sigma) and 0 < sigma < math.inf and count >= 0):
            raise CalibrationError(f"{phase} needs a rate in (0, 1], a positive finite multiplier and a count >= 0")
    return merge(listed)


def _check_target(epsilon: float, delta: float, delta_fail: float) -> None:
    if not is_real(epsilon) or not 0 < epsilon < math.inf:
        raise CalibrationError(
            f"epsilon={epsilon!r} must be a positive finite number (0.1 is strong, 1 usual, 8 weak); to "
            "train without privacy ask for epsilon=inf, which needs no calibration"
        )
    if not is_real(delta) or not 0 < delta < 1:
        raise CalibrationError(f"delta={delta!r} must lie in (0, 1), well below 1 / n; 1e-5 is usual")
    if delta <= delta_fail:
        raise CalibrationError(
            f"delta={delta!r} is used up by failure probabilities of {delta_fail!r} (thresholds that may "
            "fail); use a larger delta or fewer releases with thresholds"
        )
