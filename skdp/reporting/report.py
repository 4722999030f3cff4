"""`skdp.report`: one page about a model and its privacy, for somebody who has to decide about it."""

from __future__ import annotations

import datetime
import json
import math
import os
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from skdp.accounting import PrivacyStatement
from skdp.accounting.events_json import number_to_json
from skdp.accounting.shares import line_shares
from skdp.accounting.statement_text import headline, query_text, round_up
from skdp.accounting.versions import versions
from skdp.pipeline import StepCheck
from skdp.reporting.columns import READ_OFF, ReportColumn, columns_of, reads_classes
from skdp.reporting.page import page
from skdp.reporting.subjects import DECLARED, LedgerEntry, Subject, subject_of
from skdp.reporting.utility import Utility, utility_of

__all__ = ["BudgetLine", "Report", "report"]

SCHEMA, VERSION = "skdp.Report", 1
TEST_ROWS = ("exact", "public")
_BY_LINE = (
    "Share of the budget that each kind of query took, as its share of the squared signal: what the noise lets "
    "through. Equal shares reveal equally much."
)
_BY_CHARGE = (
    "Epsilon of each charge by itself. These figures do not simply add up: what the charges come to together is in the "
    "column “epsilon so far”."
)


@dataclass(frozen=True)
class BudgetLine:
    """One part of what was charged.

    Parameters
    ----------
    label : str
    length : float or None
        Of its bar, in [0, 1]; None where it has a price of another kind.
    figure, detail : str
        In words.
    """

    label: str
    length: float | None
    figure: str
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """A model's privacy and usefulness, ready to be handed on. Made by `skdp.report`.

    Parameters
    ----------
    title, kind : str
    statement : PrivacyStatement
    alarms : tuple of str
        What the statement does not cover although it was done, so that it promises nothing about the whole.
    budget : tuple of BudgetLine
    budget_about : str
        What the lengths of the bars are.
    utility : Utility or None
    charged_score : float or None
        Score of a search that was released with noise.
    steps : tuple of StepCheck
    entries : tuple of LedgerEntry
    columns : tuple of ReportColumn
    created : str
        ISO date (UTC).

    Examples
    --------
    >>> from skdp.accounting import PrivacyStatement
    >>> from skdp.contract import Charge, Gaussian, Poisson, Touch
    >>> charge = Charge((Touch("gradient", Poisson(0.01), Gaussian((1.0,)), 1000),))
    >>> made = report(PrivacyStatement.from_charge(charge, 1e-5, mechanism="dp-sgd", n=50_000))
    >>> made
    Report('Privacy report', epsilon=1.829, covers everything in it)
    >>> made.html.startswith("<!DOCTYPE html>")
    True
    """

    title: str
    kind: str
    statement: PrivacyStatement
    alarms: tuple[str, ...] = ()
    budget: tuple[BudgetLine, ...] = ()
    budget_about: str = _BY_LINE
    utility: Utility | None = None
    charged_score: float | None = None
    steps: tuple[StepCheck, ...] = ()
    entries: tuple[LedgerEntry, ...] = ()
    columns: tuple[ReportColumn, ...] = ()
    created: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).date().isoformat())

    @property
    def covered(self) -> bool:
        """Whether the statement covers everything in the report, figures on test rows included."""
        return self.private and not self.alarms and not self.open_ends

    @property
    def private(self) -> bool:
        """Whether there was noise that nobody can take away again."""
        return math.isfinite(self.statement.epsilon) and not self.statement.reproducible_noise

    @property
    def open_ends(self) -> tuple[str, ...]:
        """What is left out of the promise beside the alarms: exact figures, labels read from y, and steps declared."""
        found = []
        if self.utility is not None and not self.utility.public:
            found.append(f"the exact figures on {self.utility.rows} test rows in this report")
        if reads_classes(self.statement) or any(column.origin == READ_OFF for column in self.columns):
            found.append("which classes occur in the rows")
        found += [
            f"step “{step.path}” ({type(step.estimator).__name__}), which {step.reason}"
            for step in self.steps
            if step.verdict == DECLARED
        ]
        return tuple(found)

    @property
    def html(self) -> str:
        """One self-contained page, without scripts."""
        return page(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain JSON types; infinite numbers are the string ``"inf"``."""
        utility = self.utility
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "title": self.title,
            "about": self.kind,
            "created": self.created,
            "headline": headline(self.statement),
            "private": self.private,
            "covers_everything": self.covered,
            "not_covered": [*self.alarms, *self.open_ends],
            "attack_accuracy": self.statement.attack_accuracy,
            "budget": [vars(line) for line in self.budget],
            "ledger": [{name: number_to_json(value) for name, value in vars(entry).items()} for entry in self.entries],
            "utility": None
            if utility is None
            else {
                "rows": utility.rows,
                "test_rows": "public" if utility.public else "exact figures on private rows: not covered",
                "metrics": {metric.name: number_to_json(metric.value) for metric in utility.metrics},
                "reliability": {"about": utility.about, "bins": [vars(b) for b in utility.reliability]},
            },
            "charged_score": number_to_json(self.charged_score),
            "steps": [
                {"path": s.path, "kind": type(s.estimator).__name__, "verdict": s.verdict, "reason": s.reason}
                for s in self.steps
            ],
            "columns": [vars(column) for column in self.columns],
            "versions": versions(),
            "verify": 'save "statement" as statement.json, then run: skdp verify statement.json',
            "statement": self.statement.to_dict(),
        }

    def save(self, path: str | os.PathLike) -> None:
        """Write the report to a file.

        Parameters
        ----------
        path : path-like
            Ends in ``.html`` or ``.json``.

        Raises
        ------
        ValueError
            It ends in something else.
        """
        kind = check_path(path)
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n" if kind == ".json" else self.html
        Path(path).write_text(text, encoding="utf-8")

    def __repr__(self) -> str:
        covers = "covers everything in it" if self.covered else "does not cover everything in it"
        epsilon = round_up(self.statement.epsilon)
        return f"Report({self.title!r}, epsilon={epsilon}, {covers if self.private else 'NOT PRIVATE'})"

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that its style and a notebook's leave each other alone."""
        return (
            f'<iframe title="{escape(self.title)}" srcdoc="{escape(self.html)}" '
            'style="width:100%;height:40rem;border:1px solid #8888;border-radius:.4rem"></iframe>'
        )


def report(
    subject: Any,
    X_test: Any = None,
    y_test: Any = None,
    *,
    path: str | os.PathLike | None = None,
    title: str | None = None,
    test_rows: str = "exact",
    intervals: Any = None,
    statement: PrivacyStatement | None = None,
) -> Report:
    """One page about a model and its privacy: what is promised, what is not, what was spent, and how good it is.

    Parameters
    ----------
    subject : estimator, pipeline, search, PrivacyLedger, PrivacyStatement or path-like
        A fitted `DPClassifier`, `DPRegressor` or `skdp.pipeline.PrivatePipeline`; a scikit-learn pipeline or search
        that contains one; a `skdp.model_selection.DPSearchCV` or `DPSweepCV`; a repair of a fitted model, such as
        `skdp.calibration.DPTemperatureScaling`; a ledger; a statement, or the file that one was saved to. Pass a search
        and not its ``best_estimator_``, which knows nothing of the trials beside its own.
    X_test, y_test : array-like or table, optional
        Rows that the model was not fitted on.
    path : path-like, optional
        Where to save the report, as ``.html`` or ``.json``.
    title : str, optional
    test_rows : {"exact", "public"}, default="exact"
        "public": the test rows are public. "exact": they are private, and since figures on them are computed without
        noise the report marks these as not covered.
    intervals : tuple (low, high) of array-like, or array-like of shape (n, 2), optional
        Prediction intervals for the test rows of a regression, whose coverage is then reported.
    statement : PrivacyStatement, optional
        To be shown in place of the subject's own, where more was released than this subject.

    Returns
    -------
    Report

    Raises
    ------
    TypeError
        The subject states no privacy.
    ValueError
        It is not fitted, test rows do not fit it, or the path has another ending.

    Notes
    -----
    Nothing is added to what the subject released, except figures on test rows. These are functions of the test rows
    alone, given the model.

    Examples
    --------
    >>> import numpy as np
    >>> import skdp
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(1200, 3))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> model = skdp.DPClassifier("linear", classes=[0, 1], feature_bounds=(-1, 1), max_epochs=5)
    >>> made = skdp.report(model.fit(X[:1000], y[:1000]), X[1000:], y[1000:], title="Who buys")
    >>> made.utility.rows, made.to_dict()["utility"]["test_rows"]
    (200, 'exact figures on private rows: not covered')
    """
    if path is not None:
        check_path(path)
    if test_rows not in TEST_ROWS:
        raise ValueError(f"test_rows={test_rows!r} must be 'exact' or 'public'")
    if (X_test is None) != (y_test is None):
        raise ValueError("X_test and y_test belong together; pass both or neither")
    found = subject_of(subject)
    if statement is not None:
        found = replace(found, statement=statement)
    utility = None
    if X_test is not None:
        if found.model is None:
            raise ValueError(
                f"X_test: a {found.kind.lower()} predicts nothing; pass the model, and statement= for what was spent"
            )
        utility = utility_of(found.model, X_test, y_test, test_rows == "public", intervals)
    elif intervals is not None:
        raise ValueError("intervals= are about test rows; pass X_test and y_test, too")
    budget, about = _budget(found)
    made = Report(
        title="Privacy report" if title is None else str(title),
        kind=found.kind,
        statement=found.statement,
        alarms=found.alarms,
        budget=budget,
        budget_about=about,
        utility=utility,
        charged_score=found.charged_score,
        steps=found.steps,
        entries=found.entries,
        columns=() if found.model is None else tuple(columns_of(found.model, found.statement)),
    )
    if path is not None:
        made.save(path)
    return made


def check_path(path: str | os.PathLike) -> str:
    """The ending of a report's file; `ValueError` for one that reports are not written to.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    {".html", ".htm", ".json"}
    """
    ending = Path(path).suffix.lower()
    if ending not in (".html", ".htm", ".json"):
        raise ValueError(f"path={os.fspath(path)!r} must end in .html or .json")
    return ending


def _budget(found: Subject) -> tuple[tuple[BudgetLine, ...], str]:
    """Charges of a ledger, or lines of a price list, as bars."""
    if found.entries:
        most = max((e.epsilon for e in found.entries if e.epsilon < float("inf")), default=0.0) or 1.0
        lines = [BudgetLine(e.what, min(e.epsilon / most, 1.0), f"ε {round_up(e.epsilon, 3)}") for e in found.entries]
        return tuple(lines), _BY_CHARGE
    queries = found.statement.queries
    lines = []
    for line, share in zip(queries, line_shares(queries), strict=True):
        figure = f"{100 * share:.1f} %" if share is not None else "no noise" if not line.noise else "other noise"
        detail = query_text(line, found.statement.unit).removeprefix(f"{line.name}: ")
        lines.append(BudgetLine(line.name, share, figure, detail))
    return tuple(lines), _BY_LINE
