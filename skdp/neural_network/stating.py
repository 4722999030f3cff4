"""The statement of a fit, and the warnings that its public parameters call for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import nn

from skdp.accounting import PrivacyStatement, compose
from skdp.accounting.budget import budget_warnings
from skdp.accounting.curve_gaussian import log_delta
from skdp.contract import Public
from skdp.exceptions import (
    PrivacyLeakWarning,
    WeakSignalWarning,
)
from skdp.nets.step_length import count_variables
from skdp.neural_network.bounds_text import bounds_in_words
from skdp.neural_network.prospects import hopeless_signal
from skdp.training.supported import trainable_parameters

__all__ = ["all_together", "hopeless_warnings", "make_statement", "public_warnings", "signal_warnings"]

_MANY_INTEGERS = 32


def public_warnings(estimator: Any, problem: Any, programme: Any) -> list[tuple[type[Warning], str]]:
    """What the user should hear before anything is spent, from public facts alone."""
    found = _token_warnings(estimator, programme.public)
    found += budget_warnings(estimator, programme.delta, programme.public.n, "fit")
    if programme.scale is None:
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
    return found


def _token_warnings(estimator: Any, public: Public) -> list[tuple[type[Warning], str]]:
    """That columns may be tokens, by what X declares alone: many integers, no bounds, and no net that was asked for."""
    unsaid = estimator.module is None and isinstance(estimator.feature_bounds, str)
    if not (unsaid and estimator._integers and public.input_shape[0] >= _MANY_INTEGERS):
        return []
    message = (
        f"X declares integers in {public.input_shape[0]} columns, and the default net takes them for quantities. If "
        "they are tokens, as HashingTokenizer makes them, pass module='text' (or TextBag(vocabulary=...)); if they are "
        "not, feature_bounds with public (low, high) cost nothing and end this warning"
    )
    return [(UserWarning, message)]


def signal_warnings(programme: Any) -> list[tuple[type[Warning], str]]:
    """What the user should hear before a budget is spent on noise, from public facts alone."""
    weakness = programme.mechanism.weakness(programme.public, programme.scale)
    if weakness:
        return [(WeakSignalWarning, weakness)]
    return hopeless_warnings(programme.public, programme.signal, programme.epsilon, programme.scale)


def hopeless_warnings(
    public: Public, signal: float, epsilon: float | None, scale: float | None
) -> list[tuple[type[Warning], str]]:
    """That a budget, `epsilon` or else a noise multiplier of `scale`, is too small for any model of public facts."""
    variables = count_variables(public) if len(public.input_shape) == 1 else 0  # pixels are no columns
    needed = hopeless_signal(public)
    if signal >= needed:
        return []
    budget, value = ("noise_multiplier", scale) if epsilon is None else ("epsilon", epsilon)
    more = needed / signal
    remedy = f"About {more:.2g} times the rows or the epsilon, or fewer columns, would help"
    if _delta_decides(signal / public.n, epsilon, more):
        remedy = (
            f"About {more:.2g} times the rows at the same delta, or fewer columns, would help; epsilon is so small "
            "that delta decides the noise"
        )
    message = (
        f"{budget}={value:g} is so small a budget for n={public.n} rows that the model will likely be no better than "
        f"the prior: signal {signal:.2g}, while about {needed:.2g} are needed for {variables} columns. {remedy}"
    )
    return [(WeakSignalWarning, message)]


def _delta_decides(mu: float, epsilon: float | None, more: float) -> bool:
    """Whether an epsilon so small hardly matters: `more` times of it would not allow about as much more of `mu`."""
    if epsilon is None:
        return False
    slack = min(1.5, math.sqrt(more))
    return log_delta(more * mu / slack, more * epsilon) > log_delta(mu, epsilon)


def make_statement(
    estimator: Any,
    problem: Any,
    programme: Any,
    estimates: Any,
    executed: dict[str, int] | None,
    resumed: bool = False,
    *,
    module: nn.Module | None = None,
    stop: str = "",
) -> PrivacyStatement:
    """The statement of one fit.

    Parameters
    ----------
    estimator : DPClassifier or DPRegressor
    problem : Problem
    programme : Programme
    estimates : Estimates
    executed : dict of str to int or None
        None means the whole plan.
    resumed : bool
    module : nn.Module, optional
        The net that trained, where there is one yet.
    stop : str
        How the user's interrupt left the model, where one did.

    Returns
    -------
    PrivacyStatement
    """
    facts = [*problem.facts, *programme.mechanism.taken_as_public()]
    assumptions = list(problem.assumptions)
    released = []
    paid = (*programme.estimates, *estimates.reused)
    for name, line in _bounds(estimator, programme, estimates).items():
        (released if name in paid else facts).append(line)
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
        warnings=[*problem.warnings, *notes, *estimates.warnings, *[stop] * bool(stop)],
        resumed=resumed,
        reproducible_noise=estimator.insecure_noise_seed is not None,
        net=_net(programme.spec, module),
        released=released,
    )


def _bounds(estimator: Any, programme: Any, estimates: Any) -> dict[str, str]:
    """The bounds that the fit used, by their name in the programme."""
    found = {}
    if estimates.feature_bounds is not None:
        bounds = np.array(estimates.feature_bounds, dtype=np.float64)
        if len(programme.public.input_shape) == 1:  # indicators are used as they are, and lie in (0, 1)
            bounds[list({*programme.public.indicators, *estimates.indicators})] = 0, 1
        names = getattr(estimator, "feature_names_in_", None)
        found["feature bounds"] = f"feature bounds: {bounds_in_words(bounds, names)}"
    if estimates.target_bounds is not None:
        found["target bounds"] = f"bounds of y: {bounds_in_words(np.asarray(estimates.target_bounds))}"
    return found


def _net(spec: Any, module: nn.Module | None) -> str:
    """The net by its class, and how much of it trained."""
    own = getattr(spec, "module", None)  # a user's class or instance, within a specification
    kind = (own if isinstance(own, type) else type(own if isinstance(own, nn.Module) else spec)).__name__
    if module is None:
        return kind
    return f"{kind}, {sum(p.numel() for p in trainable_parameters(module).values()):,} trained parameters"


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
