"""The report as one HTML file: no script, nothing from the network, and every word from outside escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from skdp.accounting.statement_text import figures, headline, interpretation, remarks, round_up, stopped
from skdp.accounting.verify import NOT_CHECKED
from skdp.reporting.charts import bars, guess, reliability
from skdp.reporting.utility import Metric

if TYPE_CHECKING:
    from skdp.reporting.report import Report

__all__ = ["page"]

_MOST_ROWS = 200
# The page may load nothing at all; a picture of it, a print or a saved copy is the same everywhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@cache
def _style() -> str:
    return files("skdp.reporting").joinpath("style.css").read_text(encoding="utf-8")


def page(report: Report) -> str:
    """The whole document.

    Parameters
    ----------
    report : Report

    Returns
    -------
    str
    """
    sections = "".join(_sections(report))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(report.title)}</title>\n<style>\n{_style()}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(report.title)}</h1>\n"
        f'<p class="soft">{escape(report.kind)} · created {escape(report.created)}</p>\n'
        f"{_verdict(report)}{sections}</main>\n</body>\n</html>\n"
    )


def _sections(report: Report) -> Iterator[str]:
    statement = report.statement
    lists = dict(remarks(statement))
    if report.alarms:
        yield _section("What these figures do not cover", _list(report.alarms))
    yield _section("What an attacker can learn", *_attacker(report))
    yield _section("What the budget was spent on", *_budget(report))
    if report.utility is not None or report.charged_score is not None:
        yield _section("How good the model is", *_utility(report))
    open_ends = (*lists.pop("Not covered", ()), *report.open_ends)
    yield _section(
        "What the promise rests on",
        *_titled("It rests on these assumptions", lists.pop("It rests on these assumptions", ())),
        *_titled("Taken as public, so not protected", lists.pop("Taken as public, so not protected", ())),
        *_titled("Not covered", open_ends),
        *_titled("Please note", lists.pop("Please note", ())),
    )
    if report.steps:
        yield _section("Steps of the pipeline", _steps(report))
    if report.columns:
        yield _section("Columns of the table", _columns(report))
    yield _section("The statement in figures", _facts(figures(statement)))
    yield _section("How to check this", *_verify(report))
    if "What the terms mean" in lists:
        yield _section("What the terms mean", _list(lists["What the terms mean"]))


# ------------------------------------------------------------------ the claim
def _verdict(report: Report) -> str:
    statement = report.statement
    if report.alarms and report.private:
        first = "No promise about the whole: parts of what was done are not covered"
        rest = f"What is covered, by itself: {headline(statement)}."
    else:
        first, rest = headline(statement), ""
    kind = "verdict" if report.private and not report.alarms else "verdict alarm"
    early = _p(stopped(statement)) if statement.executed_epsilon is not None else ""
    about = _p(interpretation(statement))
    return f'<div class="{kind}">{_p(first)}{_p(rest) if rest else ""}{about}{early}</div>\n'


def _attacker(report: Report) -> Iterator[str]:
    statement = report.statement
    best = statement.attack_accuracy
    yield _figure(
        guess("The most that any attacker can reach in telling two versions of the data apart", best),
        f"Best possible share of right guesses about one {statement.unit}, by somebody who knows everything else and "
        "may use any method and any computer. Real attackers know less and do worse.",
    )
    if report.alarms:
        yield _p("This holds for what is covered, and not for the parts named above.", "not-covered")


# ------------------------------------------------------------------ the budget
def _budget(report: Report) -> Iterator[str]:
    rows, caption = report.budget, report.budget_about
    if not rows:
        yield _p("Nothing was charged.")
        return
    if any(row.length is not None for row in rows):
        yield _figure(bars(caption, [(r.label, r.length or 0.0, r.figure) for r in rows[:_MOST_ROWS]]), caption)
    if report.entries:
        head = ("what", "when", "queries", "epsilon alone", "epsilon so far", "state")
        body = [
            (e.what, e.when, e.queries, round_up(e.epsilon), round_up(e.so_far), e.state)
            for e in report.entries[:_MOST_ROWS]
        ]
        yield _table("Charges of the ledger, in order", head, body, numbers=(3, 4))
        yield _more(len(report.entries))
    else:
        head = ("part", "share", "what was asked")
        body = [(r.label, r.figure, r.detail) for r in rows[:_MOST_ROWS]]
        yield _table("Lines of the price list", head, body, numbers=(1,))


# ------------------------------------------------------------------ utility
def _utility(report: Report) -> Iterator[str]:
    if report.charged_score is not None:
        yield (
            f"<p>Score of the search, released with noise: <strong>{report.charged_score:.4f}</strong>, "
            'the larger the better. <span class="covered">Covered by the statement.</span></p>'
        )
    utility = report.utility
    if utility is None:
        return
    if utility.public:
        yield _p(f"Computed exactly on {utility.rows} test rows, which were declared public.")
    else:
        yield _p(
            f"Not covered: computed exactly, without noise, on {utility.rows} test rows. Nothing bounds what these "
            "figures tell about those rows. Remove this section before the report leaves the circle that may see them, "
            "unless they are public.",
            "not-covered",
        )
    body = [(metric.name, _figure_of(metric), metric.meaning) for metric in utility.metrics]
    yield _table(f"Figures on {utility.rows} test rows", ("figure", "value", "meaning"), body, numbers=(1,))
    if utility.reliability:
        title = f"Reliability: {utility.about} against what happened"
        caption = (
            f"{title}. A model whose probabilities can be taken at their word lies on the dashed line; a point below "
            "it was predicted more often than it happened. The bars show how many test rows each point stands for."
        )
        yield _figure(reliability(title, utility.reliability), caption)


def _figure_of(metric: Metric) -> str:
    return "not defined" if metric.value is None else f"{metric.value:.4f}"


# ------------------------------------------------------------------ tables of facts
def _steps(report: Report) -> str:
    body = [(s.path, type(s.estimator).__name__, s.verdict, s.reason) for s in report.steps]
    return _table("What each step does with private rows", ("step", "kind", "verdict", "why"), body)


def _columns(report: Report) -> str:
    body = [
        (c.name, c.content, f"{c.origin} ({c.source})" if c.source else c.origin) for c in report.columns[:_MOST_ROWS]
    ]
    text = _table("What was known of each column", ("column", "bounds or categories", "known how"), body)
    return text + _more(len(report.columns))


def _facts(lines: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f'<tr role="row"><th role="rowheader" scope="row">{escape(name)}</th><td role="cell">{escape(value)}</td></tr>'
        for name, value in lines
    )
    return (
        '<table role="table" class="facts"><caption>Everything that the claim names</caption>'
        f'<tbody role="rowgroup">{rows}</tbody></table>\n'
    )


def _verify(report: Report) -> Iterator[str]:
    text = report.statement.to_json()
    coded = base64.b64encode(text.encode()).decode()
    yield (
        f'<p><a download="statement.json" href="data:application/json;base64,{coded}">Save the statement</a> that this '
        "page carries and let a second accountant recompute it from what was asked of the rows:</p>\n"
    )
    yield "<pre><code>pip install skdp\nskdp verify statement.json</code></pre>\n"
    yield _p(NOT_CHECKED, "soft small")
    yield f"<details><summary>The statement as JSON</summary><pre>{escape(text)}</pre></details>\n"


# ------------------------------------------------------------------ pieces of HTML
def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n"


def _titled(title: str, lines: Iterable[str]) -> Iterator[str]:
    lines = list(lines)
    if lines:
        yield f"<h3>{escape(title)}</h3>\n{_list(lines)}"


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in dict.fromkeys(lines))}</ul>\n"


def _p(text: str, kind: str = "") -> str:
    return f"<p{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{escape(text)}</p>\n"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>\n"


def _more(count: int) -> str:
    return _p(f"{count - _MOST_ROWS} more are in the JSON form of this report.") if count > _MOST_ROWS else ""


def _table(caption: str, head: tuple[str, ...], body: Iterable[tuple[str, ...]], numbers: tuple[int, ...] = ()) -> str:
    """A table whose first column names the row; roles are spelled out because narrow pages lay it out as blocks."""

    def number(i: int) -> str:
        return ' class="number"' if i in numbers else ""

    heads = "".join(f'<th role="columnheader" scope="col"{number(i)}>{escape(h)}</th>' for i, h in enumerate(head))
    rows = "".join(
        '<tr role="row">'
        + "".join(
            f'<td role="cell"{number(i)} data-name="{escape(head[i])}">{escape(cell)}</td>'
            if i
            else f'<th role="rowheader" scope="row">{escape(cell)}</th>'
            for i, cell in enumerate(cells)
        )
        + "</tr>"
        for cells in body
    )
    return (
        f'<table role="table" class="stack"><caption>{escape(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead><tbody role="rowgroup">{rows}</tbody></table>\n'
    )
