"""The statement of a fit, and the warnings that its public parameters call for."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

from torch import nn

from skdp.accounting import PrivacyStatement, compose
from skdp.exceptions import (
    InsecureNoiseWarning,
    NotPrivateWarning,
    PrivacyLeakWarning,
    WeakPrivacyWarning,
    WeakSignalWarning,
)
from skdp.nets.step_length import count_variables

__all__ = ["all_together", "make_statement", "public_warnings", "signal_warnings", "warn_all"]

# What stands between a user's line and the frame that warns.
_BETWEEN = ("skdp.", "contextlib", "sklearn.callback")
_WEAK_EPSILON = 10.0
_FEW_ROWS = 100
# A linear model of unit rows learns a column's weight at `signal` times its share of a row, over the number of columns,
# in standard deviations of the noise: with half of one per column, and two for the base rate, it learns nearly nothing.
_SIGNAL_PER_VARIABLE, _SIGNAL_OF_BASE_RATE = 0.5, 2.0


def public_warnings(estimator: Any, problem: Any, programme: Any) -> list[tuple[type[Warning], str]]:
    """What the user should hear before anything is spent, from public facts alone."""
    found: list[tuple[type[Warning], str]] = []
    n, delta, epsilon = programme.public.n, programme.delta, estimator.epsilon
    if estimator.insecure_noise_seed is not None:
        message = "insecure_noise_seed is set: whoever knows it can remove the noise; for tests and papers only"
        found.append((InsecureNoiseWarning, message))
    if programme.scale is None:
        found.append((NotPrivateWarning, "epsilon=inf: this fit is NOT PRIVATE"))
        return found
    mechanism = programme.mechanism
    for fact in mechanism.taken_as_public():
        message = f"mechanism={type(mechanism).__name__}: the guarantee does not cover {fact}"
        found.append((PrivacyLeakWarning, message))
    if problem.weighted and not mechanism.weighs_rows:
        message = (
            f"sample_weight: with mechanism={type(mechanism).__name__} a weight of 0 makes a null row, and no other "
            "weight reaches training, which sees no record; use class_weight, or mechanism='dp-sgd'"
        )
        found.append((UserWarning, message))
    if epsilon is not None and _WEAK_EPSILON < epsilon < math.inf:
        message = f"epsilon={epsilon:g} is more than {_WEAK_EPSILON:g} and protects little; values up to 3 are common"
        found.append((WeakPrivacyWarning, message))
    return found + delta_warnings(estimator.delta, delta, n)


def delta_warnings(given: Any, delta: float, n: int) -> list[tuple[type[Warning], str]]:
    """What is weak about delta for `n` rows; `given` is what the user passed."""
    found: list[tuple[type[Warning], str]] = []
    if given == "auto":
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


def signal_warnings(programme: Any) -> list[tuple[type[Warning], str]]:
    """What the user should hear before a budget is spent on noise, from public facts alone."""
    public = programme.public
    variables = count_variables(public) if len(public.input_shape) == 1 else 0  # pixels are no columns
    needed = _SIGNAL_OF_BASE_RATE + _SIGNAL_PER_VARIABLE * variables
    weakness = programme.mechanism.weakness(public, programme.scale)
    if weakness:
        return [(WeakSignalWarning, weakness)]
    if programme.signal >= needed:
        return []
    budget = "noise_multiplier" if programme.epsilon is None else "epsilon"
    value = programme.scale if programme.epsilon is None else programme.epsilon
    more = needed / programme.signal
    message = (
        f"{budget}={value:g} is so small a budget for n={public.n} rows that the model will likely be no better than "
        f"the prior: signal {programme.signal:.2g}, while about {needed:.2g} are needed for {variables} columns. About "
        f"{more:.2g} times the rows or the epsilon, or fewer columns, would help"
    )
    return [(WeakSignalWarning, message)]


def warn_all(messages: list[tuple[type[Warning], str]]) -> None:
    """Show messages on the user's own line."""
    for category, message in messages:
        warnings.warn(message, category, stacklevel=_users_level())


def _users_level() -> int:
    """How many frames above the caller's the first one is that belongs to none of `_BETWEEN`."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_BETWEEN):
        level, frame = level + 1, frame.f_back
    return level


def make_statement(estimator: Any, problem: Any, programme: Any, estimates: Any, executed: dict[str, int] | None,
                   resumed: bool = False) -> PrivacyStatement:  # fmt: skip
    """The statement of one fit; `executed` None means the whole plan."""
    facts = [*problem.facts, *programme.mechanism.taken_as_public()]
    assumptions = list(problem.assumptions)
    paid = (*programme.estimates, *estimates.reused)
    if estimates.feature_bounds is not None and "feature bounds" not in paid:
        facts.append("feature bounds")
    if estimates.target_bounds is not None and "target bounds" not in paid:
        facts.append("bounds of y")
    if isinstance(getattr(estimator, "class_weight", None), dict):
        facts.append("class weights")
    if isinstance(estimator.module, nn.Module):
        assumptions.append("the weights that module= came with were made from public data")
    if estimator.init_params is not None:
        assumptions.append("the weights in init_params were made from public data")
    if estimator.validation_public is not None:
        assumptions.append("the rows in validation_public are public")
    notes = [message for _, message in public_warnings(estimator, problem, programme)]
    return PrivacyStatement.from_charge(
        programme.charge,
        programme.delta,
        executed=executed,
        mechanism=programme.mechanism.describe(estimator.clipping),
        n=programme.public.n,
        target_epsilon=estimator.epsilon,
        certificate=programme.certificate,
        public=facts,
        assumptions=assumptions,
        warnings=[*problem.warnings, *notes, *estimates.warnings],
        resumed=resumed,
        reproducible_noise=estimator.insecure_noise_seed is not None,
    )


def all_together(planned: PrivacyStatement, others: list[PrivacyStatement]) -> PrivacyStatement:
    """Statement of a planned fit with earlier ones; refuses, before it costs anything, one that cannot be added.

    Raises
    ------
    ValueError
    """
    if not others:
        return planned
    try:
        return compose([*others, planned])
    except ValueError as error:
        raise ValueError(
            "this fit cannot be accounted for together with earlier ones of the same estimator (with "
            f"warm_start=True, or ended by an error after something was spent): {error}. Fit a clone(...), which "
            "starts anew, and report both statements"
        ) from error
