"""What a report is about: whose statement it shows, and what that statement leaves out."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skdp.accounting import PrivacyStatement, compose
from skdp.accounting.statement_text import round_up
from skdp.audit import check_pipeline
from skdp.model_selection import DPSearchCV
from skdp.pipeline import PrivatePipeline, StepCheck
from skdp.reporting.search_cost import search_cost

__all__ = ["LedgerEntry", "Subject", "subject_of"]

_ACCEPTED = (
    "a fitted DPClassifier, DPRegressor, pipeline or search, a PrivacyLedger, a PrivacyStatement, or the path of a "
    "saved one"
)


@dataclass(frozen=True)
class LedgerEntry:
    """One charge of a ledger, in words and figures.

    Parameters
    ----------
    what : str
    when : str
    queries : str
    epsilon, so_far : float
        Of this charge alone, and of everything up to it.
    state : str
    """

    what: str
    when: str
    queries: str
    epsilon: float
    so_far: float
    state: str


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    Parameters
    ----------
    kind : str
        In words.
    statement : PrivacyStatement
    model : object, optional
        What predicts.
    alarms : tuple of str
        Why the statement does not cover everything that was done; empty where it does.
    steps : tuple of StepCheck
        Of a pipeline.
    entries : tuple of LedgerEntry
        Of a ledger.
    charged_score : float, optional
        A score that was released with noise, and is covered.
    """

    kind: str
    statement: PrivacyStatement
    model: Any = None
    alarms: tuple[str, ...] = ()
    steps: tuple[StepCheck, ...] = ()
    entries: tuple[LedgerEntry, ...] = ()
    charged_score: float | None = None


def subject_of(thing: Any) -> Subject:
    """What is known about a model, pipeline, search, ledger or statement.

    Parameters
    ----------
    thing : object

    Returns
    -------
    Subject

    Raises
    ------
    TypeError
        Nothing about it is private, or it is none of these.
    ValueError
        It is not fitted, or the file holds no statement.
    """
    if isinstance(thing, PrivacyStatement):
        return Subject("Privacy statement", thing)
    if isinstance(thing, str | os.PathLike):
        return Subject("Privacy statement", PrivacyStatement.load(thing))
    if callable(getattr(thing, "table", None)) and hasattr(type(thing), "statement"):
        return Subject("Privacy ledger", thing.statement, entries=tuple(_entries(thing.table())))
    if isinstance(thing, BaseSearchCV):
        return _of_search(thing)
    name = type(thing).__name__
    if hasattr(type(thing), "privacy_"):
        steps = _steps(thing) if isinstance(thing, PrivatePipeline) else ()
        score = getattr(thing, "best_score_", None) if isinstance(thing, DPSearchCV) else None
        return Subject(name, thing.privacy_, thing, steps=steps, charged_score=score)
    if isinstance(thing, Pipeline):
        return _of_pipeline(thing)
    raise TypeError(f"cannot report about a {name}, which states no privacy; pass {_ACCEPTED}")


def _of_pipeline(pipeline: Pipeline) -> Subject:
    """An ordinary pipeline: each private step has a statement of its own, and others may have paid nothing."""
    check = check_pipeline(pipeline)
    private = [step for step in check.steps if hasattr(type(step.estimator), "privacy_")]
    if not private:
        raise TypeError(f"no step of this Pipeline is private ({check}); pass {_ACCEPTED}")
    check_is_fitted(pipeline)
    statements, silent = [], []
    for step in private:
        try:
            statements.append(step.estimator.privacy_)
        except NotFittedError:  # a column transformer fits copies
            silent.append(step)
    if not statements:
        raise ValueError("the private steps of this Pipeline were fitted as copies; use skdp.pipeline.PrivatePipeline")
    alarms = [
        f"Step “{step.path}” ({type(step.estimator).__name__}) {step.reason}. What it learned went into the model, "
        "without noise and without a charge, so no figure on this page bounds what the pipeline as a whole gives away."
        for step in check.unpaid
    ] + [
        f"Step “{step.path}” ({type(step.estimator).__name__}) was fitted as a copy whose statement is not to be had. "
        "The figures leave out what it spent; skdp.pipeline.PrivatePipeline counts it."
        for step in silent
    ]
    statement = statements[0] if len(statements) == 1 else compose(statements)
    return Subject("Pipeline", statement, pipeline, tuple(alarms), check.steps)


def _steps(pipeline: PrivatePipeline) -> tuple[StepCheck, ...]:
    """Verdicts on the steps of a private pipeline, whose user may have vouched for some."""
    return tuple(
        replace(step, verdict="public", reason="was declared to learn nothing from private rows (public_steps)")
        if step.verdict == "unpaid"
        else step
        for step in check_pipeline(Pipeline(pipeline.steps)).steps
    )


def _of_search(search: BaseSearchCV) -> Subject:
    """A search by scikit-learn: every trial was a fit, and the scores that chose were exact."""
    name = type(search).__name__
    if not hasattr(search, "best_estimator_"):
        raise ValueError(f"this {name} has no best_estimator_; fit it, with refit=True")
    inner = subject_of(search.best_estimator_)
    cost = search_cost(search, inner.statement)
    candidates = len(search.cv_results_["params"])
    fits = f"{candidates} candidate{'s' * (candidates > 1)} on {search.n_splits_} splits and a final fit on all rows"
    if cost.statement is None:
        spent = (
            f"This search ran {fits}. What all of them cost together is not known here: {cost.reason}. The figures "
            "below are those of the final fit alone, and the search cost more."
        )
    else:
        spent = (
            f"This search ran {fits}, each of which spent a budget of its own: the final fit alone epsilon = "
            f"{round_up(inner.statement.epsilon)}, all of them together {round_up(cost.statement.epsilon)}. The "
            "figures below are those of all fits together, each counted for every row, which is on the safe side."
        )
    chosen = (
        "The best candidate was chosen by exact scores on rows that were held out. If these rows are private, no "
        "epsilon covers that choice, nor best_params_, best_score_ and cv_results_; skdp.model_selection.DPSearchCV "
        "pays for it."
    )
    alarms = (spent, chosen, *inner.alarms)
    return replace(inner, kind=name, statement=cost.statement or inner.statement, model=search, alarms=alarms)


def _entries(table: Any) -> Any:
    for line in table.to_dict("records"):
        yield LedgerEntry(
            what=str(line["what"] or "charge"),
            when=str(line["when"])[:16],
            queries=str(line["queries"]),
            epsilon=float(line["epsilon"]),
            so_far=float(line["epsilon so far"]),
            state=str(line["state"]),
        )
