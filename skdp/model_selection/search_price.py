"""What a private search may be made of, and what it states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sklearn.base import clone, is_regressor
from sklearn.utils import check_random_state

from skdp.accounting import PrivacyStatement, check_epsilon
from skdp.accounting.checks import is_real
from skdp.contract import Charge
from skdp.model_selection.backends import on_cluster
from skdp.model_selection.row_scores import ROW_SCORES

__all__ = [
    "check_candidate",
    "check_search",
    "check_thresholds",
    "check_tunable",
    "scoring_of",
    "search_statement",
    "shape_of",
    "trial_of",
]

_NOT_TUNABLE = (
    "adjacency", "callbacks", "delta", "epsilon", "insecure_noise_seed", "n_public", "noise_multiplier", "verbose",
    "warm_start",
)  # fmt: skip
_SHAPES = {"geometric": 1.0, "logarithmic": 0.0, "poisson": None}


# ------------------------------------------------------------------ what is refused, before anything is spent
def check_search(search: Any) -> None:
    """Refuse parameters of a search, or of its estimator, that make no sense or that no bound covers."""
    check_epsilon(search.epsilon)
    if math.isinf(search.epsilon):
        raise ValueError("epsilon=inf: search without privacy by sklearn.model_selection.RandomizedSearchCV")
    params = search.estimator.get_params()
    if not hasattr(search.estimator, "privacy_charge") or "noise_multiplier" not in params:
        raise ValueError(
            f"estimator={type(search.estimator).__name__} is not private; pass a DPClassifier, DPRegressor or "
            "skdp.pipeline.PrivatePipeline"
        )
    if not (is_real(search.mean_trials) and 1 <= search.mean_trials < math.inf):
        raise ValueError(f"mean_trials={search.mean_trials!r} must be a number of at least 1")
    shape_of(search.trials)
    if not (is_real(search.unchanged_share) and 0 <= search.unchanged_share <= 1):
        raise ValueError(f"unchanged_share={search.unchanged_share!r} must lie between 0 and 1")
    if search.validation_public is None and not (is_real(search.validation_size) and 0 < search.validation_size < 1):
        raise ValueError(f"validation_size={search.validation_size!r} must lie strictly between 0 and 1")
    if isinstance(search.scoring, str) and search.scoring not in ROW_SCORES:
        raise ValueError(f"scoring={search.scoring!r} must be one of {', '.join(ROW_SCORES)}, or a function of its own")
    _check_secret(params)
    check_random_state(search.random_state)


def check_tunable(name: str) -> None:
    """Refuse to tune what trials have in common."""
    if name.rpartition("__")[2] in _NOT_TUNABLE:
        raise ValueError(f"param_distributions: {name!r} cannot be tuned; trials are secret and cost alike")


def check_candidate(name: str, candidate: Any) -> None:
    """Refuse a value that brings what cannot be tuned inside of it, as a whole step of a pipeline may.

    Parameters
    ----------
    name : str
        Of the parameter that has the value.
    candidate : estimator
        A trial with that value.

    Raises
    ------
    ValueError
    """
    _check_secret(candidate.get_params(), f"param_distributions: a value of {name!r} has ", silent=True)


def _check_secret(params: Mapping[str, Any], where: str = "", silent: bool = False) -> None:
    """Refuse parameters of a trial, at any depth, that would show it, or that no bound covers."""
    watching = ("callbacks", "warm_start", "verbose") if silent else ("callbacks", "warm_start")
    for name, value in params.items():
        leaf = name.rpartition("__")[2]
        if leaf == "adjacency" and value != "zero-out":
            raise ValueError(f"{where}{name}={value!r}: the bound on a search holds for adjacency='zero-out' alone")
        if leaf in watching and value:
            raise ValueError(f"{where}{name}={value!r}: trials are secret, so nothing may watch or remember them")
        if leaf == "insecure_noise_seed" and value is not None:
            raise ValueError(f"{where}{name}={value!r}: trials need noise of their own; leave it at None")


def check_thresholds(charge: Charge, paid: Charge) -> None:
    """Refuse a candidate that may show rare categories more often than the estimator as passed, which is paid for."""
    if charge.delta_fail > paid.delta_fail:
        raise ValueError(
            "a candidate releases categories above a threshold in more steps than estimator= as it was passed, and the "
            "part of delta with which thresholds may fail follows from the latter: pass an estimator that releases "
            "categories in as many steps, or candidates with public ones"
        )


def shape_of(trials: str | float) -> float | None:
    """Shape of the distribution of the number of trials; None is Poisson."""
    if isinstance(trials, str) and trials in _SHAPES:
        return _SHAPES[trials]
    if not (is_real(trials) and 0 <= trials < math.inf):
        raise ValueError(f"trials={trials!r} must be one of {', '.join(_SHAPES)}, or a shape of 0 or more")
    return float(trials)


def scoring_of(search: Any) -> Any:
    """How trials are scored."""
    if search.scoring is not None:
        return search.scoring
    return "neg_mean_squared_error" if is_regressor(search.estimator) else "neg_log_loss"


# ------------------------------------------------------------------ one trial, and all of them in words
def trial_of(search: Any, delta: float) -> Any:
    """The estimator without a budget of its own, silent.

    Its thresholds are set for `delta` over the expected number of trials. Steps let theirs fail with a tenth of that,
    so those of all trials together take a tenth of `delta`, as those of a single fit would.
    """
    trial = clone(search.estimator)
    known = trial.get_params()
    quiet = dict.fromkeys((name for name in known if name.rpartition("__")[2] == "verbose"), False)
    each = {"delta": delta / search.mean_trials} if "delta" in known else {}
    return trial.set_params(**quiet, **each, epsilon=None, noise_multiplier=1.0)


def search_statement(
    search: Any, charge: Charge, delta: float, n: int, public: list[str], warnings: list[str], best: Any = None
) -> PrivacyStatement:
    """The statement; what a trial takes as public, assumes and warns about is named by the best one.

    Parameters
    ----------
    search : DPSearchCV
    charge : Charge
    delta : float
        Already resolved.
    n : int
    public : list of str
    warnings : list of str
    best : estimator, optional
        Model of the best trial, with the statement of its own fit.

    Returns
    -------
    PrivacyStatement
    """
    assumed = ["how long the search took was told to nobody"]
    if search.n_jobs is not None and on_cluster():
        assumed.append(
            "trials ran on a cluster: who operates it may know all that was sent there, and its workers were not lost "
            "for reasons that lie in the rows"
        )
    if search.validation_public is not None:
        assumed.append("the rows in validation_public are public")
    if callable(search.scoring):
        assumed.append("scoring= looks at each row alone")
    if search.default is not None:
        assumed.append("the model in default= does not depend on private rows")
    trial = getattr(best, "privacy_", None)
    facts = () if trial is None else (line for line in trial.public if not line.startswith("the number of"))
    return PrivacyStatement.from_charge(
        charge,
        delta,
        mechanism=f"{type(search).__name__} of {type(search.estimator).__name__}",
        n=n,
        target_epsilon=search.epsilon,
        public=["param_distributions", *public, *facts],
        assumptions=[*assumed, *(() if trial is None else trial.assumptions)],
        warnings=[*warnings, *(() if trial is None else trial.warnings)],
        net="" if trial is None else trial.net,
    )
