"""What a budget has to be, and what there is to say about one before it is spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from skdp.accounting.accountants import check_epsilon
from skdp.accounting.calibration import Calibration, calibrate
from skdp.accounting.checks import is_real
from skdp.contract import ADJACENCIES, Charge
from skdp.exceptions import InsecureNoiseWarning, NotPrivateWarning, WeakPrivacyWarning

__all__ = ["at_budget", "budget_warnings", "check_budget"]

_WEAK_EPSILON = 10.0
_FEW_ROWS = 100


def check_budget(spender: Any) -> None:
    """Refuse impossible budgets before data is looked at.

    Parameters
    ----------
    spender : object
        With ``epsilon``, ``noise_multiplier``, ``adjacency`` and ``n_public``.

    Raises
    ------
    ValueError
    """
    if (spender.epsilon is None) == (spender.noise_multiplier is None):
        raise ValueError(
            f"epsilon={spender.epsilon!r} and noise_multiplier={spender.noise_multiplier!r}: set exactly one of them, "
            "the other to None"
        )
    if spender.epsilon is not None:
        check_epsilon(spender.epsilon)
    noise = spender.noise_multiplier
    if noise is not None and not (is_real(noise) and 0 < noise < math.inf):
        raise ValueError(f"noise_multiplier={noise!r} must be positive and finite")
    if spender.adjacency not in ADJACENCIES:
        raise ValueError(f"adjacency={spender.adjacency!r} must be one of {', '.join(ADJACENCIES)}")
    if spender.adjacency == "add-remove" and spender.n_public is None:
        raise ValueError(
            "adjacency='add-remove' protects the number of rows, so it has to be declared: pass n_public with a "
            "number that anybody may know"
        )


def at_budget(
    spender: Any, charge_at: Callable[[float | None], Charge], delta: float
) -> tuple[float | None, Calibration | None]:
    """Noise scale that a spender's budget asks for, and the certificate where it was calibrated.

    Parameters
    ----------
    spender : object
        With ``epsilon`` and ``noise_multiplier``.
    charge_at : callable
        From a scale to the price list.
    delta : float
        Already resolved.

    Returns
    -------
    tuple of (float or None, Calibration or None)
        No scale where there is to be no noise; no certificate where the scale was given, or nothing is released.
    """
    if spender.epsilon is None or math.isinf(spender.epsilon) or not charge_at(1.0).touches:
        return spender.noise_multiplier, None
    certificate = calibrate(charge_at, spender.epsilon, delta)
    return certificate.scale, certificate


def budget_warnings(spender: Any, delta: float, n: int, what: str) -> list[tuple[type[Warning], str]]:
    """What is weak about a budget, or no protection at all.

    Parameters
    ----------
    spender : estimator
        With `epsilon` and `delta`, and `insecure_noise_seed` where it has one.
    delta : float
        Already resolved.
    n : int
        Public number of rows.
    what : str
        What the budget pays for, for instance ``"fit"``.
    """
    found: list[tuple[type[Warning], str]] = []
    if getattr(spender, "insecure_noise_seed", None) is not None:
        message = "insecure_noise_seed is set: whoever knows it can remove the noise; for tests and papers only"
        found.append((InsecureNoiseWarning, message))
    epsilon = spender.epsilon
    if epsilon is not None and math.isinf(epsilon):
        return [*found, (NotPrivateWarning, f"epsilon=inf: this {what} is NOT PRIVATE")]
    if epsilon is not None and epsilon > _WEAK_EPSILON:
        message = f"epsilon={epsilon:g} is more than {_WEAK_EPSILON:g} and protects little; values up to 3 are common"
        found.append((WeakPrivacyWarning, message))
    if spender.delta == "auto":
        if n < _FEW_ROWS:
            message = (
                f"delta='auto' is {delta:g} for n={n} rows: that large a chance of no protection at all comes from so "
                "few rows; pass a smaller delta, or more rows"
            )
            found.append((WeakPrivacyWarning, message))
    elif delta * n > 0.1:
        message = (
            f"delta={delta:g} is close to 1/n = {1 / n:g}, and allows to publish a whole row with a chance of "
            f"{delta * n:.2g}; use delta='auto' or at most {0.1 / n:.1g}"
        )
        found.append((WeakPrivacyWarning, message))
    return found
