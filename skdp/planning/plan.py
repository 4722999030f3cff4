"""From public numbers and a private estimator to a plan of its fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sklearn.base import clone, is_classifier, is_regressor

from skdp.accounting import calibrate, check_epsilon, noise_multiplier, resolve_delta
from skdp.accounting import epsilon as epsilon_of
from skdp.accounting.budget import check_budget
from skdp.accounting.shares import squared_signal
from skdp.contract import ADJACENCIES, Charge, Public, Selection, Touch
from skdp.exceptions import UnsupportedEventError
from skdp.linear_model.central import CentralFit
from skdp.mechanisms import resolve_mechanism
from skdp.nets import Linear, TabularNet, resolve_module
from skdp.neural_network import DPClassifier, DPRegressor
from skdp.neural_network.base import DPEstimator
from skdp.neural_network.parameters import check_parameters
from skdp.neural_network.problem import declared, outputs_of
from skdp.neural_network.prospects import rows_for, signal_for, verdict_of
from skdp.neural_network.reading import vocabulary_of
from skdp.planning.fit_plan import FitPlan, PlannedRelease

__all__ = ["plan"]

_BETTER = {"prior": "linear", "linear": "nonlinear", "nonlinear": None}
# Gaussian-DP parameter beyond which an epsilon, of a hundred or so, is not worth naming.
_LARGEST_MU = 10.0


def plan(
    n: int,
    n_features: int | Sequence[int],
    *,
    epsilon: float | None = None,
    n_classes: int | None = None,
    task: str | None = None,
    n_targets: int = 1,
    n_indicators: int = 0,
    estimator: Any = None,
    delta: float | str | None = None,
    adjacency: str | None = None,
) -> FitPlan:
    """What a fit would cost and whether it can work, from public numbers alone.

    Parameters
    ----------
    n : int
        Number of rows; a public estimate of it under ``adjacency="add-remove"``.
    n_features : int or sequence of int
        Number of columns that the model sees, or the shape of one record.
    epsilon : float, optional
        Budget; the estimator's own when None.
    n_classes : int, optional
        Number of classes; when None, that of the estimator's ``classes``, or 2.
    task : {"classification", "regression"}, optional
        Chooses the estimator where none is passed; classification when None.
    n_targets : int, default=1
        Number of targets of a regression.
    n_indicators : int, default=0
        How many of the columns are 0/1 indicators of categories, where the estimator's ``feature_bounds`` do not tell.
    estimator : object, optional
        Whatever says beforehand what it costs: a `DPClassifier`, `DPRegressor`, `skdp.pipeline.PrivatePipeline`,
        `skdp.model_selection.DPSearchCV` or another with ``privacy_charge(public, scale)``. It is not changed. None is
        the default estimator for the task.
    delta : float or "auto", optional
        The estimator's own when None.
    adjacency : {"zero-out", "replace-one", "add-remove"}, optional
        The estimator's own when None.

    Returns
    -------
    FitPlan

    Raises
    ------
    TypeError
        For an estimator that cannot say what it costs.
    ValueError
        For numbers that make no sense, or a fit without noise.
    CalibrationError
        When no noise reaches the budget.

    Notes
    -----
    *Formal guarantee.* No argument is data, so a plan costs nothing; the numbers of rows, columns and classes are
    taken as public, as by a fit.

    Examples
    --------
    >>> import skdp
    >>> found = skdp.plan(n=2000, n_features=20, epsilon=1.0)
    >>> found.verdict, found.delta, found.steps
    ('linear', 1e-05, 110)
    >>> skdp.plan(n=300, n_features=200, epsilon=0.1).verdict
    'prior'
    """
    shape = (n_features,) if isinstance(n_features, int) else tuple(n_features)
    columns = math.prod(shape)
    _check_whole("n", n)
    _check_whole("n_features", columns)
    _check_whole("n_targets", n_targets)
    if not 0 <= n_indicators <= columns:
        raise ValueError(f"n_indicators={n_indicators!r} must lie between 0 and the number of columns, {columns}")
    spender = _configured(estimator, task, n, epsilon, delta, adjacency)
    model = _model_of(spender)
    public = _public(spender, n, shape, _outputs(model, task, n_classes, n_targets))
    resolved = resolve_delta(spender.delta, public.n)
    charge, scale, budget = _priced(spender, public, resolved)
    releases = _unwrapped(charge.touches)
    own = _of_model(spender, releases)
    facts = public if public.indicators else replace(public, indicators=tuple(range(n_indicators)))
    largest = max(own or releases, key=_squared)
    total = math.fsum(map(_squared, releases))
    return FitPlan(
        estimator=type(spender).__name__,
        n=public.n,
        input_shape=shape,
        task=public.task,
        epsilon=budget,
        delta=resolved,
        adjacency=charge.adjacency,
        unit=charge.unit,
        other_adjacencies=_elsewhere(charge, resolved),
        noise_multiplier=largest.noise.combined,
        sampling_rate=getattr(largest.sampler, "rate", None),
        steps=largest.count,
        mean_trials=charge.touches[0].noise.mean if isinstance(charge.touches[0].noise, Selection) else None,
        releases=tuple(
            PlannedRelease(
                touch.name, touch.noise.combined, getattr(touch.sampler, "rate", None), touch.count,
                _squared(touch) / total if total else None,
            )
            for touch in releases
        ),
        **_prospects(spender, model, replace(charge, touches=own, delta_fail=0.0), public, facts, resolved, scale),
    )  # fmt: skip


# ------------------------------------------------------------------ what is planned
def _configured(estimator: Any, task: str | None, n: int, epsilon: Any, delta: Any, adjacency: Any) -> Any:
    """A copy of the estimator, or the default one, with the budget that was asked for; checked."""
    if task not in (None, "classification", "regression"):
        raise ValueError(f"task={task!r} must be 'classification' or 'regression'")
    if estimator is None:
        spender = DPRegressor() if task == "regression" else DPClassifier()
    elif isinstance(estimator, type):
        raise TypeError(f"estimator={estimator.__name__} is a class; pass an instance, {estimator.__name__}()")
    elif hasattr(estimator, "privacy_charge"):
        spender = clone(estimator)
    else:
        raise TypeError(
            f"estimator={type(estimator).__name__} cannot say what it costs from public numbers, as privacy_charge("
            "public, scale) would. DPADMMClassifier and DPADMMRegressor cannot, whose sites each spend an epsilon of "
            "their own: plan a site by DPClassifier('linear') or DPRegressor('linear') with its number of rows. "
            "Otherwise pass a private estimator"
        )
    known = spender.get_params(deep=False)
    if adjacency is not None and adjacency not in ADJACENCIES:
        raise ValueError(f"adjacency={adjacency!r} must be one of {', '.join(ADJACENCIES)}")
    if adjacency not in (None, "zero-out") and "adjacency" not in known:
        raise ValueError(f"adjacency={adjacency!r}: {type(spender).__name__} knows adjacency='zero-out' alone")
    given = {"epsilon": epsilon, "delta": delta, "adjacency": adjacency}
    given = {name: value for name, value in given.items() if value is not None and name in known}
    if "epsilon" in given and "noise_multiplier" in known:
        given["noise_multiplier"] = None
    if given.get("adjacency", known.get("adjacency")) == "add-remove":
        given["n_public"] = n
    elif "n_public" in known:
        given["n_public"] = None
    spender.set_params(**given)
    if isinstance(spender, DPEstimator):
        check_parameters(spender)
    elif "noise_multiplier" in known:
        check_budget(spender)
    else:
        check_epsilon(spender.epsilon)
    if spender.epsilon is not None and math.isinf(spender.epsilon):
        raise ValueError("epsilon=inf: a fit without noise has no cost to plan")
    return spender


def _model_of(spender: Any) -> Any:
    """The model within pipelines and searches."""
    if hasattr(spender, "steps"):
        return _model_of(spender.steps[-1][1])
    return _model_of(spender.estimator) if hasattr(spender, "estimator") else spender


def _outputs(model: Any, task: str | None, n_classes: int | None, n_targets: int) -> tuple[int, str]:
    """Outputs of the net, and the task."""
    if not is_classifier(model):
        if n_classes is not None or task == "classification":
            raise ValueError(f"n_classes={n_classes!r}, task={task!r}: {type(model).__name__} is no classifier")
        return (n_targets, "regression") if is_regressor(model) else (0, "regression")
    if task == "regression":
        raise ValueError(f"task='regression': {type(model).__name__} is a classifier")
    classes = getattr(model, "classes", None)
    number = n_classes if n_classes is not None else 2 if classes is None else len(classes)
    _check_whole("n_classes", number, least=2)
    if classes is not None and number != len(classes):
        raise ValueError(f"n_classes={n_classes!r}, but the estimator has classes={classes!r}")
    return outputs_of(number)


def _public(spender: Any, n: int, shape: tuple[int, ...], outputs: tuple[int, str]) -> Public:
    """The public facts that a fit would find."""
    if isinstance(spender, DPEstimator):
        spender._vocabulary = vocabulary_of(spender.module, shape)
        return declared(spender, (n, *shape), *outputs)
    return Public(n, shape, *outputs, adjacency=getattr(spender, "adjacency", "zero-out"))


def _priced(spender: Any, public: Public, delta: float) -> tuple[Charge, float, float]:
    """The whole price list, the scale of its noise, and its epsilon."""
    if spender.epsilon is None:
        scale = float(spender.noise_multiplier)
        charge = spender.privacy_charge(public, scale)
        budget = _cost(charge, delta) if charge.touches else 0.0
    else:
        found = calibrate(lambda scale: spender.privacy_charge(public, scale), spender.epsilon, delta)
        charge, scale, budget = found.charge, found.scale, float(spender.epsilon)
    if not charge.touches:
        raise ValueError(f"{type(spender).__name__} releases nothing from private rows: there is nothing to plan")
    return charge, scale, budget


def _unwrapped(touches: tuple[Touch, ...]) -> tuple[Touch, ...]:
    """What one trial of a search releases, or everything."""
    return touches[0].noise.touches if isinstance(touches[0].noise, Selection) else touches


def _of_model(spender: Any, touches: tuple[Touch, ...]) -> tuple[Touch, ...]:
    """Those of the last step, where a pipeline names them by step."""
    if hasattr(spender, "estimator"):
        return _of_model(spender.estimator, touches)
    if not hasattr(spender, "steps"):
        return touches
    last = spender.steps[-1][0]
    return tuple(touch for touch in touches if touch.name.split(": ")[0].split("__")[0] == last)


# ------------------------------------------------------------------ what it costs, and what it can do
def _cost(charge: Charge, delta: float) -> float:
    return epsilon_of(charge.event(), delta - charge.delta_fail, charge.adjacency)


def _squared(touch: Touch) -> float:
    return squared_signal(Charge((touch,)), 1.0)


def _elsewhere(charge: Charge, delta: float) -> dict[str, float | None]:
    """Epsilon of the same releases under every adjacency; None where there is no bound."""
    found: dict[str, float | None] = {}
    # A search splits its rows by position, which one row more would move, and its bound is proved for zero-out alone.
    searched = any(isinstance(touch.noise, Selection) for touch in charge.touches)
    for adjacency in ADJACENCIES:
        if searched and adjacency != charge.adjacency:
            found[adjacency] = None
            continue
        try:
            found[adjacency] = _cost(replace(charge, adjacency=adjacency), delta)
        except (UnsupportedEventError, ValueError):
            found[adjacency] = None
    return found


def _prospects(
    spender: Any, model: Any, own: Charge, public: Public, facts: Public, delta: float, scale: float
) -> dict[str, Any]:
    """Verdict, signal, and what a better verdict would need."""
    nothing = dict.fromkeys(("verdict", "signal", "signal_needed", "next_verdict", "next_rows", "next_epsilon"))
    if not (own.touches and isinstance(model, DPEstimator | CentralFit)):
        return nothing | {"notes": ("there is no private model in it, so there is no verdict about one",)}
    mu = 1 / noise_multiplier(_cost(replace(own, adjacency="zero-out"), delta), delta)
    signal, notes = mu * facts.n, []
    verdict = verdict_of(facts, signal)
    weakness = ""
    if model is spender and isinstance(model, DPEstimator):
        weakness = resolve_mechanism(model.mechanism).weakness(facts, scale)
    if weakness:
        verdict = "prior"
        notes.append(weakness)
    spec = resolve_module(model.module, facts.input_shape)
    better = _BETTER[verdict]
    if isinstance(spec, Linear):
        verdict, better = ("linear", None) if verdict == "nonlinear" else (verdict, better)
        better = None if better == "nonlinear" else better
    elif not isinstance(spec, TabularNet):
        notes.append(f"module={type(spec).__name__}: the verdict is that of the default net for tables")
    found = {"verdict": verdict, "signal": signal, "signal_needed": signal_for("linear", facts), "notes": tuple(notes)}
    if better is None or weakness:
        return nothing | found
    more = signal_for(better, facts) / signal
    next_epsilon = None
    if more * mu <= _LARGEST_MU:
        next_epsilon = _cost(spender.privacy_charge(public, scale / more), delta)
    return found | {"next_verdict": better, "next_rows": rows_for(better, facts, mu), "next_epsilon": next_epsilon}


def _check_whole(name: str, value: Any, least: int = 1) -> None:
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")
