"""A statement in words and as HTML, for a reader who has to decide and does not know the field."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from decimal import ROUND_CEILING, Decimal
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skdp.accounting.statement import PrivacyStatement

PLANNED = "valid only if the decision to stop did not depend on results"
_WIDTH = 100
_NEIGHBOURS = {
    "zero-out": "one {unit} taking part or being replaced by an empty one that contributes nothing",
    "replace-one": "the whole content of one {unit} being exchanged for any other",
    "add-remove": "one {unit} being there or not",
}
_ACCOUNTANTS = {
    "analytic": "exact closed form of the Gaussian mechanism",
    "pld": "privacy loss distribution",
    "tilted-pld": "privacy loss distribution, tilted for a very small delta",
    "rdp": "Renyi differential privacy",
}


def attack_accuracy(epsilon: float, delta: float = 0.0) -> float:
    """Best share of right guesses about one unit that (epsilon, delta) leaves possible, starting from 50:50.

    Parameters
    ----------
    epsilon : float
    delta : float

    Returns
    -------
    float
        ``(exp(epsilon) + delta) / (1 + exp(epsilon))``: 0.5 is a coin flip, 1 is certainty. It holds for an
        attacker who knows every other row and both candidates for this one (Kairouz, Oh & Viswanath, 2015).

    Examples
    --------
    >>> [round(attack_accuracy(epsilon, 1e-5), 3) for epsilon in (0.1, 1.0, 8.0)]
    [0.525, 0.731, 1.0]
    """
    odds = math.exp(-epsilon)
    return min(1.0, (1 + delta * odds) / (1 + odds))


def round_up(value: float, digits: int = 4) -> str:
    """`value` with so many significant digits, never below it: a printed privacy loss must not flatter."""
    if math.isinf(value):
        return "infinity"
    if value == 0:
        return "0"
    exact = Decimal(repr(float(value)))  # the number as people write it: 1e-5 and not 1.0000000000000000818e-5
    plain = exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), rounding=ROUND_CEILING).normalize()
    return f"{plain:f}" if -4 <= plain.adjusted() < 7 else f"{plain:e}"


def interpretation(statement: PrivacyStatement) -> str:
    """What the claim means for one unit, in one or two sentences."""
    unit, best = statement.unit, statement.attack_accuracy
    if math.isinf(statement.epsilon):
        return (
            f"NOT PRIVATE. No noise was added: the result may give away any {unit} exactly, and nothing "
            f"limits what an attacker can learn."
        )
    percent = math.ceil(best * 1000 - 1e-9) / 10
    bound = f"at most {percent:g} %" if percent < 100 else "up to (practically) 100 %"
    question = (
        f"which of two versions of one {unit} was used"
        if statement.adjacency == "replace-one"
        else f"whether one {unit} took part"
    )
    weak = " That is weak protection in the worst case." if best > 0.95 else ""
    return (
        f"Somebody who sees the result, knows every other {unit} and has to guess {question} is right in "
        f"{bound} of cases, where a coin flip reaches 50 %.{weak}"
    )


def figures(statement: PrivacyStatement) -> Iterator[tuple[str, str]]:
    """Lines of the table: what, value."""
    yield "epsilon", round_up(statement.epsilon)
    yield "delta", round_up(statement.delta)
    neighbours = _NEIGHBOURS[statement.adjacency].format(unit=statement.unit)
    yield "adjacency", f"{statement.adjacency} ({neighbours})"
    yield "status", statement.status
    if statement.executed_epsilon is not None:
        yield "executed part", f"epsilon {round_up(statement.executed_epsilon)}, {PLANNED}"
    if statement.target_epsilon is not None:
        yield "asked for", f"epsilon {statement.target_epsilon:g}"
    yield f"{statement.unit}s", f"{statement.n}"
    yield "mechanism", statement.mechanism
    if statement.noise_multiplier is not None:
        yield (
            "noise multiplier",
            f"{statement.noise_multiplier:.6g} (standard deviation over zero-out sensitivity)",
        )
    if statement.sampling_rate is not None:
        rate = statement.sampling_rate
        yield (
            "sampling rate",
            f"{rate:.6g} (Poisson)" if rate < 1 else f"1 (every {statement.unit} in every step)",
        )
    yield "steps", f"{statement.steps}"
    if statement.delta_fail:
        yield "of delta", f"{round_up(statement.delta_fail)} for thresholds that may fail"
    if statement.split:
        yield "split", statement.split
    yield "accountant", f"{statement.accountant} ({_ACCOUNTANTS[statement.accountant]})"
    if statement.versions:
        yield "versions", ", ".join(f"{name} {version}" for name, version in statement.versions.items())


def headline(statement: PrivacyStatement) -> str:
    """The claim in one sentence."""
    if math.isinf(statement.epsilon):
        return f"NOT PRIVATE: {statement.mechanism}, epsilon = infinity"
    return (
        f"Differentially private with epsilon = {round_up(statement.epsilon)} and delta = "
        f"{round_up(statement.delta)} per {statement.unit}"
    )


def remarks(statement: PrivacyStatement) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Titled lists below the table; empty ones are left out."""
    yield from (
        (title, lines)
        for title, lines in (
            ("It rests on these assumptions", statement.assumptions),
            ("Taken as public, so not protected", statement.public),
            ("Please note", statement.warnings),
        )
        if lines
    )


def text(statement: PrivacyStatement) -> str:
    """Prose, a table and lists, wrapped."""
    parts = [
        "Privacy statement",
        "",
        *_wrap(headline(statement) + "."),
        "",
        *_wrap(interpretation(statement)),
    ]
    if statement.executed_epsilon is not None:
        parts += ["", *_wrap(stopped(statement))]
    parts.append("")
    for name, value in figures(statement):
        parts += _wrap(f"{name:<17} {value}", hang=18)
    for title, lines in remarks(statement):
        parts += ["", f"{title}:"]
        for line in lines:
            parts += _wrap(f"- {line}", hang=2)
    return "\n".join(parts)


def stopped(statement: PrivacyStatement) -> str:
    """Why two figures stand in the statement of a fit that stopped early."""
    return (
        "The fit stopped before its plan was done. The claim is what the whole plan costs; what was "
        f"executed costs epsilon = {round_up(statement.executed_epsilon)}, which is {PLANNED}."
    )


def _wrap(line: str, hang: int = 0) -> list[str]:
    return textwrap.wrap(line, _WIDTH, subsequent_indent=" " * hang, break_on_hyphens=False) or [""]


def html(statement: PrivacyStatement) -> str:
    """Self-contained HTML; colours come from the page, so that it reads in light and dark."""
    cell = "padding:.1em .8em .1em 0;text-align:left;vertical-align:top;border:none;background:none"
    rows = "".join(
        '<tr style="background:none"><th scope="row" '
        f'style="{cell};font-weight:600;white-space:nowrap">{escape(name)}</th><td '
        f'style="{cell}">{escape(value)}</td></tr>'
        for name, value in figures(statement)
    )
    lists = "".join(
        f"<p><b>{escape(title)}</b></p><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        for title, lines in remarks(statement)
    )
    early = f"<p>{escape(stopped(statement))}</p>" if statement.executed_epsilon is not None else ""
    return (
        '<div style="border:1px solid currentColor;border-radius:.4em;padding:.6em 1em;max-width:56em;'
        'color:inherit;background:transparent;font-family:sans-serif">'
        f"<p><b>{escape(headline(statement))}</b></p><p>{escape(interpretation(statement))}</p>{early}"
        "<details><summary>Details</summary><table "
        f'style="border-collapse:collapse">{rows}</table>{lists}</details>'
        "</div>"
    )
