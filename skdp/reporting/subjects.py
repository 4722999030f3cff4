"""What a report is about: whose statement it shows, and what that statement leaves out."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from skdp.accounting import PrivacyStatement, compose, compose_disjoint
from skdp.accounting.statement_text import round_up
from skdp.audit import check_pipeline
from skdp.calibration.prefit import PrefitSpending
from skdp.model_selection import DPSearchCV
from skdp.pipeline import PrivatePipeline, StepCheck
from skdp.reporting.columns import within
from skdp.reporting.search_cost import search_cost

__all__ = ["DECLARED", "LedgerEntry", "Subject", "subject_of"]

DECLARED = "declared"
_COUNTED = "was fitted before, and the figures count what that cost"
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
        Of a pipeline. The verdict "declared" is for what the user vouches for.
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
    if isinstance(thing, FrozenEstimator):
        return subject_of(thing.estimator)
    if isinstance(thing, PrefitSpending):
        return _of_repair(thing)
    if hasattr(type(thing), "privacy_"):
        return _of_spender(thing)
    if isinstance(thing, Pipeline):
        return _of_pipeline(thing)
    raise TypeError(f"cannot report about a {type(thing).__name__}, which states no privacy; pass {_ACCEPTED}")


def _of_spender(thing: Any) -> Subject:
    """What has one statement for all that it did, except for models that were fitted before and became its steps."""
    searched = isinstance(thing, DPSearchCV)
    statements, alarms, steps = [thing.privacy_], [], []
    pipeline = thing.best_estimator_ if searched else thing
    if isinstance(pipeline, PrivatePipeline):
        for step in _steps(pipeline):
            found, earlier = step.estimator, None
            if isinstance(found, PrefitSpending):
                earlier, about = _before(found, step.path)
                alarms += about
            elif _states(found) and isinstance(found, FrozenEstimator):
                earlier = subject_of(found)
                alarms += earlier.alarms
            steps.append(step)
            if earlier is not None:
                statements.append(earlier.statement)
                steps += _below(step.path, earlier.steps)
    score = getattr(thing, "best_score_", None) if searched else None
    return Subject(type(thing).__name__, _as_one(statements), thing, tuple(alarms), tuple(steps), charged_score=score)


def _of_repair(repair: PrefitSpending) -> Subject:
    """A repair of a model that was fitted before: the model gives away what it learned, too."""
    own, name = repair.privacy_, type(repair).__name__
    model, alarms = _before(repair, name)
    if model is None:
        return Subject(name, own, repair, alarms)
    # Not total_privacy_, which sees one layer: a repaired model may be repaired again, or be a pipeline or a search.
    together = compose_disjoint if repair.split == "disjoint" else compose
    return Subject(name, together([model.statement, own]), repair, alarms, _below("estimator", model.steps))


def _before(repair: PrefitSpending, name: str) -> tuple[Subject | None, tuple[str, ...]]:
    """What the model inside a repair states, and why that is not everything."""
    try:
        model = subject_of(repair.estimator)
    except (TypeError, ValueError) as error:
        return None, (
            f"“{name}” repairs a model that was fitted before, {type(within(repair.estimator)).__name__}, about which "
            f"no statement is to be had ({error}). Unless the rows that it learned from are public, no figure on this "
            "page bounds what it gives away about them.",
        )
    return model, model.alarms


def _of_pipeline(pipeline: Pipeline) -> Subject:
    """An ordinary pipeline: each private step has a statement of its own, and others may have paid nothing."""
    check = check_pipeline(pipeline)
    private = [step for step in check.steps if _states(step.estimator)]
    if not private:
        raise TypeError(f"no step of this Pipeline is private ({check}); pass {_ACCEPTED}")
    check_is_fitted(pipeline)
    statements, silent, inner_alarms, inner_steps = [], [], [], []
    for step in private:
        try:
            inner = subject_of(step.estimator)
        except NotFittedError:  # a column transformer fits copies
            silent.append(step)
            continue
        statements.append(inner.statement)
        inner_alarms += inner.alarms
        inner_steps += _below(step.path, inner.steps)
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
    steps = (*map(_judged, check.steps), *inner_steps)
    return Subject("Pipeline", _as_one(statements), pipeline, (*alarms, *inner_alarms), steps)


def _as_one(statements: list[PrivacyStatement]) -> PrivacyStatement:
    return statements[0] if len(statements) == 1 else compose(statements)


def _states(estimator: Any) -> bool:
    """Whether an estimator, frozen or not, is of a kind that has a statement."""
    while isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    return hasattr(type(estimator), "privacy_")


def _below(path: str, steps: tuple[StepCheck, ...]) -> tuple[StepCheck, ...]:
    return tuple(replace(step, path=f"{path}__{step.path}") for step in steps)


def _judged(step: StepCheck) -> StepCheck:
    """The verdict on a step, where "public" is told from what nobody but the user can know."""
    found = step.estimator
    if isinstance(found, FunctionTransformer) and found.func is not None:
        return replace(step, verdict=DECLARED, reason="is taken to compute each row from that row alone (func=)")
    if isinstance(found, FrozenEstimator):
        if _states(found):
            return replace(step, verdict="charged", reason=_COUNTED)
        if any(_judged(inner).verdict != "public" for inner in check_pipeline(found.estimator).steps):
            return replace(step, verdict=DECLARED, reason="is taken to have been fitted before on public rows alone")
    return step


def _steps(pipeline: PrivatePipeline) -> tuple[StepCheck, ...]:
    """Verdicts on the steps of a private pipeline, whose user may have vouched for some."""
    return tuple(
        replace(step, verdict=DECLARED, reason="was declared to learn nothing from private rows (public_steps)")
        if step.verdict == "unpaid"
        else _judged(step)
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
    elif cost.reason:
        spent = (
            f"This search ran {fits}. The figures below are those of all fits together, as if every row had been in "
            f"all of them (epsilon = {round_up(cost.statement.epsilon)}), and do not hold for any row: {cost.reason}."
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
