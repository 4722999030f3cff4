"""What all fits of a scikit-learn search cost together, where that can be known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, RepeatedKFold, ShuffleSplit, check_cv
from sklearn.pipeline import Pipeline

from skdp.accounting import PrivacyStatement, calibrate, compose, resolve_delta
from skdp.contract import Public
from skdp.model_selection import DPSweepCV

__all__ = ["SearchCost", "search_cost"]

# Splits that follow from positions alone, so that changing a row moves no other row to another fold.
_BY_POSITION = (KFold, RepeatedKFold, ShuffleSplit)
_REMEDY = "run it in a skdp.PrivacyLedger and report that, or use skdp.model_selection.DPSearchCV"


@dataclass(frozen=True)
class SearchCost:
    """Statement about all fits of a search, or why there is none.

    Parameters
    ----------
    statement : PrivacyStatement or None
    reason : str
        Why there is none, or why it bounds nothing; empty where it holds.
    """

    statement: PrivacyStatement | None
    reason: str = ""


def search_cost(search: Any, refit: PrivacyStatement) -> SearchCost:
    """Compose all fits of a search, each counted for every row.

    Parameters
    ----------
    search : GridSearchCV, RandomizedSearchCV or DPSweepCV
        Fitted.
    refit : PrivacyStatement
        Of its final fit.

    Returns
    -------
    SearchCost

    Notes
    -----
    The price lists are drawn up again from public facts. That this was done right is seen from the final fit, whose
    price list has to come out as it was stated.
    """
    if type(search) not in (GridSearchCV, RandomizedSearchCV, DPSweepCV):
        return SearchCost(None, f"which rows its fits saw is not known of a {type(search).__name__}; {_REMEDY}")
    cv = check_cv(search.cv, [0, 1], classifier=is_classifier(search.estimator))
    # A sweep counts its own fits, though not what models inside them had cost before.
    kept = type(search) is DPSweepCV and getattr(search.best_estimator_, "privacy_", None) == refit
    total = search.privacy_ if kept else None
    if type(cv) not in _BY_POSITION:
        reason = f"{type(cv).__name__} may assign rows to folds by their labels, so composing fits bounds nothing"
        return SearchCost(total, f"{reason} (pass cv=KFold(...)); {_REMEDY}")
    if total is not None:
        return SearchCost(total)
    if refit.status != "complete":
        return SearchCost(None, f"the final fit did not end as planned; {_REMEDY}")
    sizes = [len(train) for train, _ in cv.split(np.zeros(refit.n))]
    last = _spender(search.best_estimator_)
    if last is None or not hasattr(last, "n_features_in_"):
        return SearchCost(None, f"its last step is not private; {_REMEDY}")
    own = _statement_of(last, last, refit.n)
    if own is None or own.queries != refit.queries:
        return SearchCost(None, f"its price lists do not follow from public facts that a report knows; {_REMEDY}")
    parts = [refit]
    for params in search.cv_results_["params"]:
        candidate = _spender(clone(search.estimator).set_params(**clone(params, safe=False)))
        found = {n: _statement_of(candidate, last, n) for n in set(sizes)}
        if None in found.values():
            return SearchCost(None, f"candidate {params} has no price list that follows from public facts; {_REMEDY}")
        parts += [found[n] for n in sizes]
    return SearchCost(compose(parts, delta=refit.delta))


def _spender(estimator: Any) -> Any:
    """What pays, of a pipeline whose last step does."""
    if isinstance(estimator, Pipeline) and not hasattr(estimator, "privacy_charge"):
        estimator = estimator.steps[-1][1]
    return estimator if hasattr(estimator, "privacy_charge") else None


def _statement_of(spender: Any, fitted: Any, n: int) -> PrivacyStatement | None:
    """Statement of one fit on n rows, from public facts alone; None where something about it cannot be known."""
    if getattr(spender, "adjacency", None) != "zero-out" or getattr(spender, "warm_start", False):
        return None
    task, outputs = "regression", 1
    if is_classifier(spender):
        k = len(fitted.classes_)
        task, outputs = ("multiclass", k) if k > 2 else ("binary", 1)
    public = Public(n, (fitted.n_features_in_,), outputs, task)
    delta = resolve_delta(spender.delta, n)
    certificate = None
    try:
        if spender.epsilon is not None and np.isfinite(spender.epsilon):
            certificate = calibrate(lambda scale: spender.privacy_charge(public, scale), spender.epsilon, delta)
        charge = spender.privacy_charge(public, spender.noise_multiplier) if certificate is None else certificate.charge
    except ValueError:
        return None
    mechanism = type(spender).__name__
    return PrivacyStatement.from_charge(charge, delta, mechanism=mechanism, n=n, certificate=certificate)
