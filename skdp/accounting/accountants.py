"""From an event to (epsilon, delta): closed form, privacy loss distribution (PLD) or Renyi (RDP).

`dp_accounting` does the bounding; this file chooses the accountant, hands it the right event for the
adjacency (`relations.given`) and picks a PLD grid that is fine enough for the problem at hand.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from dp_accounting import dp_event

from skdp.accounting import curve_gaussian
from skdp.accounting.checks import is_real
from skdp.accounting.curve import delta_bound, epsilon_bound, merge
from skdp.accounting.pld import loss_delta, loss_epsilon, rounding, runs, too_wide
from skdp.accounting.relations import (
    Phases,
    check_adjacency,
    gaussian_phases,
    given,
    phases,
    supports,
    without_noise,
)
from skdp.accounting.renyi import renyi_delta, renyi_epsilon
from skdp.exceptions import UnsupportedEventError

ACCOUNTANTS = ("analytic", "pld", "tilted-pld", "rdp")


# ------------------------------------------------------------------ public
def epsilon(event: dp_event.DpEvent, delta: float, adjacency: str = "zero-out", accountant: str = "auto") -> float:
    """Smallest epsilon that the accountant can certify for an event at a given delta.

    Parameters
    ----------
    event : DpEvent
        What was done, for instance ``Charge.event()``. Every noise multiplier in it is the standard deviation
        over the L2 (Laplace: L1) *zero-out* sensitivity, whatever the adjacency.
    delta : float
        In [0, 1].
    adjacency : {"zero-out", "replace-one", "add-remove"}
        What two neighbouring data sets differ in.
    accountant : {"auto", "analytic", "pld", "tilted-pld", "rdp"}
        ``"auto"`` is exact for full-batch Gaussians (Balle & Wang, 2018), the privacy loss distribution where
        the event has one and its losses fit on a grid, and Renyi differential privacy elsewhere.

    Returns
    -------
    float
        An upper bound, 0 for an event that does nothing and ``inf`` for one without noise.

    Raises
    ------
    UnsupportedEventError
        No accountant, or not the one asked for, bounds this event under this adjacency.

    Notes
    -----
    *Formal guarantee*: the composition described by `event`, even if each part was chosen after seeing the
    results of those before it *as long as the event itself was fixed beforehand*, is (epsilon,
    delta)-differentially private for `adjacency`.

    Examples
    --------
    >>> from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    >>> round(epsilon(GaussianDpEvent(4.0), 1e-5), 3)
    0.926
    >>> sgd = SelfComposedDpEvent(PoissonSampledDpEvent(0.01, GaussianDpEvent(1.0)), 1000)
    >>> round(epsilon(sgd, 1e-5), 2), round(epsilon(sgd, 1e-5, adjacency="replace-one"), 2)
    (1.83, 2.84)
    """
    if not is_real(delta) or not 0 <= delta <= 1:
        raise ValueError(f"delta={delta!r} must be a number in [0, 1]")
    parts = phases(event)
    name = _chosen(parts, adjacency, accountant, delta)
    if not parts or delta == 1:
        return 0.0
    if without_noise(parts):
        return math.inf
    return float(_cached(_EPSILON[name], parts, float(delta), adjacency))


def delta(event: dp_event.DpEvent, epsilon: float, adjacency: str = "zero-out", accountant: str = "auto") -> float:
    """Smallest delta that the accountant can certify for an event at a given epsilon.

    Parameters
    ----------
    event : DpEvent
        As for `epsilon`.
    epsilon : float
        0 or more.
    adjacency : {"zero-out", "replace-one", "add-remove"}
    accountant : {"auto", "analytic", "pld", "tilted-pld", "rdp"}

    Returns
    -------
    float
        An upper bound in [0, 1].

    Raises
    ------
    UnsupportedEventError
        No accountant, or not the one asked for, bounds this event under this adjacency.

    Examples
    --------
    >>> from dp_accounting import GaussianDpEvent
    >>> f"{delta(GaussianDpEvent(1.0), 4.0):.2e}"
    '4.71e-05'
    """
    if not is_real(epsilon) or not epsilon >= 0:
        raise ValueError(f"epsilon={epsilon!r} must be a number of 0 or more")
    parts = phases(event)
    name = _chosen(parts, adjacency, accountant, None)
    if not parts or math.isinf(epsilon):
        return 0.0
    if without_noise(parts):
        return 1.0
    return min(1.0, max(0.0, float(_cached(_DELTA[name], parts, float(epsilon), adjacency))))


def which_accountant(
    event: dp_event.DpEvent, adjacency: str = "zero-out", accountant: str = "auto", delta: float | None = None
) -> str:
    """Name of the accountant that `epsilon` and `delta` use for an event.

    Parameters
    ----------
    event : DpEvent
    adjacency : {"zero-out", "replace-one", "add-remove"}
    accountant : {"auto", "analytic", "pld", "tilted-pld", "rdp"}
        A name other than ``"auto"`` comes back if it bounds the event.
    delta : float, optional
        Where it is so small that rounding in the PLD's FFT is not, the tilted PLD or RDP is chosen.

    Returns
    -------
    {"analytic", "pld", "tilted-pld", "rdp"}

    Raises
    ------
    UnsupportedEventError
        Nothing (or not `accountant`) bounds this event under this adjacency. Call it before a row is read.

    Examples
    --------
    >>> from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    >>> noise = GaussianDpEvent(1.0)
    >>> which_accountant(noise), which_accountant(PoissonSampledDpEvent(0.1, noise))
    ('analytic', 'pld')
    """
    return _chosen(phases(event), adjacency, accountant, delta)


def resolve_delta(delta: float | str, n: int) -> float:
    """The delta to use for `n` units: the given one if it is small enough, or one derived from `n`.

    Parameters
    ----------
    delta : float or "auto"
        ``"auto"`` is the largest power of ten that is at most ``1 / (10 n)``.
    n : int
        Public number of units (rows, or groups where a unit is a group).

    Returns
    -------
    float

    Raises
    ------
    ValueError
        `delta` is not in (0, 1) or is ``1 / n`` or more: publishing a random row outright would satisfy that.

    Examples
    --------
    >>> resolve_delta("auto", 48_842), resolve_delta("auto", 1000), resolve_delta(1e-6, 1000)
    (1e-06, 0.0001, 1e-06)
    """
    if not is_real(n) or int(n) != n or n < 1:
        raise ValueError(f"n={n!r} must be a whole number of units, at least 1")
    if isinstance(delta, str):
        if delta != "auto":
            raise ValueError(f"delta={delta!r} must be 'auto' or a number in (0, 1)")
        return float(f"1e-{len(str(10 * int(n) - 1))}")
    if not is_real(delta) or not 0 < delta < 1:
        raise ValueError(f"delta={delta!r} must be 'auto' or a number in (0, 1)")
    if delta >= 1 / n:
        raise ValueError(
            f"delta={delta!r} must be below 1 / n = {1 / n:.3g} for n={int(n)}, or publishing one row at "
            f"random would pass as private; use delta='auto' ({resolve_delta('auto', n):g}) or a smaller "
            "number"
        )
    return float(delta)


def check_epsilon(epsilon: float) -> float:
    """The target epsilon as a float, once it is known to be positive.

    Parameters
    ----------
    epsilon : float
        Positive; ``inf`` asks for a fit without noise.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        `epsilon` is not a positive number.

    Examples
    --------
    >>> check_epsilon(1)
    1.0
    """
    if not is_real(epsilon) or not epsilon > 0:
        raise ValueError(
            f"epsilon={epsilon!r} must be a positive number (0.1 is strong, 1 usual, 8 weak; inf trains without noise)"
        )
    return float(epsilon)


# ------------------------------------------------------------------ choosing
def _chosen(parts: Phases, adjacency: str, accountant: str, delta: float | None) -> str:
    check_adjacency(adjacency)
    if accountant not in ("auto", *ACCOUNTANTS):
        raise ValueError(f"accountant={accountant!r} must be one of auto, {', '.join(ACCOUNTANTS)}")
    noisy = [leaf for leaf, _ in parts if not isinstance(leaf, dp_event.NonPrivateDpEvent)]
    if accountant == "analytic" or accountant == "auto":
        foreign = [leaf for leaf in noisy if not isinstance(leaf, dp_event.GaussianDpEvent)]
        if not foreign:
            return "analytic"
        if accountant == "analytic":
            raise UnsupportedEventError(
                f"accountant='analytic' is exact for full-batch Gaussian noise only, not for "
                f"{type(foreign[0]).__name__}; use accountant='auto'"
            )
    if accountant == "auto":
        able = {name: all(supports(leaf, adjacency, name) for leaf in noisy) for name in ("pld", "rdp")}
        if not any(able.values()):
            _refuse(noisy, adjacency)
        accountant = "pld" if able["pld"] else "rdp"
        if able["pld"] and too_wide(parts, adjacency):
            accountant = "rdp" if able["rdp"] else "pld"
        elif able["pld"] and _too_small(parts, delta):
            ours = gaussian_phases((leaf, 1) for leaf in noisy) is not None
            accountant = "tilted-pld" if ours else "rdp" if able["rdp"] else "pld"
    if accountant == "pld" and _too_small(parts, delta):
        raise UnsupportedEventError(
            f"accountant='pld' cannot resolve delta={delta!r} over {sum(c for _, c in parts)} compositions "
            f"in double precision; use accountant='auto' or a larger delta"
        )
    if accountant == "pld" and too_wide(parts, adjacency):
        raise UnsupportedEventError(
            "accountant='pld': there is so little noise that the losses do not fit on a grid; use "
            "accountant='auto' or more noise (a smaller epsilon)"
        )
    for leaf in noisy:
        given(leaf, adjacency, accountant)
    return accountant


def _too_small(parts: Phases, delta: float | None) -> bool:
    """Whether rounding in the PLD's FFT is not small beside this delta."""
    return delta is not None and delta < 50 * rounding(runs(parts))


def _refuse(noisy: list, adjacency: str) -> None:
    """Say which part has no accountant at all, or which parts have none in common."""
    missing = {name: [leaf for leaf in noisy if not supports(leaf, adjacency, name)] for name in ("pld", "rdp")}
    for leaf in missing["pld"]:
        if leaf in missing["rdp"]:
            given(leaf, adjacency, "pld")
    names = {name: ", ".join(sorted({type(leaf).__name__ for leaf in each})) for name, each in missing.items()}
    raise UnsupportedEventError(
        f"no single accountant bounds the whole composition under adjacency={adjacency!r}: the PLD has no "
        f"bound for {names['pld']}, RDP none for {names['rdp']}; account for them apart and add the epsilons "
        "and the deltas"
    )


# ------------------------------------------------------------------ closed form
def _gaussian_mu(parts: Phases, adjacency: str) -> float:
    """Sensitivity over standard deviation of the one Gaussian that full-batch Gaussians amount to."""
    ((leaf, count),) = parts
    return (2.0 if adjacency == "replace-one" else 1.0) * math.sqrt(count) / leaf.noise_multiplier


def _analytic_epsilon(parts: Phases, delta: float, adjacency: str) -> float:
    return math.inf if delta == 0 else curve_gaussian.smallest_epsilon(_gaussian_mu(parts, adjacency), delta)


def _analytic_delta(parts: Phases, epsilon: float, adjacency: str) -> float:
    return math.exp(min(0.0, curve_gaussian.log_delta(_gaussian_mu(parts, adjacency), epsilon)))


# ------------------------------------------------------------------ our own bound
def _tilted_epsilon(parts: Phases, delta: float, adjacency: str) -> float:
    return math.inf if delta == 0 else epsilon_bound(merge(gaussian_phases(parts)), delta, adjacency)


def _tilted_delta(parts: Phases, epsilon: float, adjacency: str) -> float:
    return delta_bound(merge(gaussian_phases(parts)), epsilon, adjacency)


# ------------------------------------------------------------------ tables
_EPSILON = {
    "analytic": _analytic_epsilon,
    "pld": loss_epsilon,
    "tilted-pld": _tilted_epsilon,
    "rdp": renyi_epsilon,
}
_DELTA = {"analytic": _analytic_delta, "pld": loss_delta, "tilted-pld": _tilted_delta, "rdp": renyi_delta}


@functools.lru_cache(maxsize=1024)
def _cached(bound: Callable[[Phases, float, str], float], parts: Phases, at: float, adjacency: str) -> float:
    """A grid search over many fits asks for the same event again and again."""
    return bound(parts, at, adjacency)
