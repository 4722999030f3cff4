"""A statement in words and as HTML, for a reader who has to decide and does not know the field."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator
from decimal import ROUND_CEILING, Decimal
from html import escape
from typing import TYPE_CHECKING

from skdp.contract import FEATURE_ROW, PERSON

if TYPE_CHECKING:
    from skdp.accounting.queries import QueryLine
    from skdp.accounting.statement import PrivacyStatement

PLANNED = "valid only if the decision to stop did not depend on results"
_WIDTH = 100
_NEIGHBOURS = {
    "zero-out": "one {unit} taking part or being replaced by an empty one that contributes nothing",
    "replace-one": "the whole content of one {unit} being exchanged for any other",
    "add-remove": "one {unit} being there or not",
}
_ACCOUNTANTS = {
    "analytic": "the exact formula of Gaussian noise",
    "pld": "the privacy loss distribution: the losses of all queries are added up numerically and rounded up",
    "tilted-pld": "the privacy loss distribution in a form that resolves a very small delta; rounded up",
    "rdp": "Renyi differential privacy: an upper bound that is simple to add up and somewhat too large",
    "renyi-filter": "Renyi differential privacy at orders fixed beforehand, which holds though later fits were chosen "
    "by what earlier ones showed",
}
_DP_SGD = (
    "DP-SGD is differentially private stochastic gradient descent: in every step the gradient of each {unit} is "
    "clipped to a bound, and Gaussian noise in proportion to that bound is added to the sum"
)
_DP_FTRL = (
    "DP-FTRL is DP-SGD whose noise is correlated over the steps: later steps take back part of what earlier ones "
    "added; the noise multiplier is that of the noise before it is correlated"
)
NOT_COVERED = (
    "any other fit, score, search or plot made from these rows",
    "what is true of the population: the result may teach it, whether or not one person took part",
)


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
    unit = statement.unit
    if math.isinf(statement.epsilon):
        return (
            f"No noise was added: the result may give away any {unit} exactly, and nothing limits what an attacker "
            "can learn."
        )
    if statement.reproducible_noise:
        return (
            "The noise was made from a fixed seed (insecure_noise_seed). Whoever knows or guesses the seed can remove "
            f"it, and the result may then give away any {unit} exactly. With secret noise the same fit would cost "
            f"epsilon = {round_up(statement.epsilon)} at delta = {round_up(statement.delta)}."
        )
    question = (
        f"which of two versions of one {unit} was used"
        if statement.adjacency == "replace-one"
        else f"whether one {unit} took part"
    )
    weak = " That is weak protection in the worst case." if statement.attack_accuracy > 0.95 else ""
    return (
        f"Somebody who sees the result, knows every other {unit} and has to guess {question} is right in "
        f"{_percent(statement.epsilon, statement.delta)} of cases, where a coin flip reaches 50 %.{weak}"
    )


def _percent(epsilon: float, delta: float) -> str:
    """The attacker's best share, rounded up to so many digits that a small excess over 50 % is seen."""
    odds = math.exp(-epsilon)
    excess = 50 * math.tanh(epsilon / 2) + 100 * delta * odds / (1 + odds)
    places = min(max(1, 1 - math.floor(math.log10(excess))), 9) if excess > 0 else 1
    percent = 50 + math.ceil(excess * 10**places - 1e-9) / 10**places
    if percent >= 100:
        return "up to (practically) 100 %"
    return f"at most {f'{percent:.{places}f}'.rstrip('0').rstrip('.')} %"


def terms(statement: PrivacyStatement) -> tuple[str, ...]:
    """The terms of the claim, for a reader who does not know the field."""
    if math.isinf(statement.epsilon):
        return ()
    unit = statement.unit
    lines = (
        "epsilon: the odds of any result differ between two such data sets by a factor of at most e to the power of "
        "epsilon; 0 is perfect, 1 usual, 8 weak",
        f"delta: how much probability may escape that bound; it has to be far below 1 in {statement.n}",
        "per person: what is protected is all that one person has in these rows, as the assumptions say"
        if unit == PERSON
        else f"per {unit}: what is protected is one {unit}; a person with several {unit}s is protected less",
        f"adjacency, {statement.adjacency}: which two data sets are compared; here they differ in "
        + _NEIGHBOURS[statement.adjacency].format(unit=unit),
        f"noise multiplier: standard deviation of the noise over the most that one {unit} can move an answer by taking "
        "part",
        f"accountant, {statement.accountant}: how epsilon was computed; {_ACCOUNTANTS[statement.accountant]}",
    )
    known = {"DP-SGD": (_DP_SGD,), "DP-FTRL": (_DP_SGD, _DP_FTRL)}
    named = [line for name, about in known.items() if name in _mechanism(statement) for line in about]
    return lines + tuple(line.format(unit=unit) for line in dict.fromkeys(named))


def _mechanism(statement: PrivacyStatement) -> str:
    """The mechanism by the name that the literature gives it."""
    return re.sub(r"\bdp-?(sgd|ftrl)\b", lambda found: f"DP-{found[1].upper()}", statement.mechanism, flags=re.I)


def figures(statement: PrivacyStatement) -> Iterator[tuple[str, str]]:
    """Lines of the table: what, value."""
    yield "created", statement.created
    yield "epsilon", round_up(statement.epsilon) + " if the noise were secret" * _reproducible(statement)
    yield "delta", round_up(statement.delta)
    yield "adjacency", statement.adjacency
    yield "status", statement.status
    if statement.executed_epsilon is not None:
        yield "executed part", f"epsilon {round_up(statement.executed_epsilon)}, {PLANNED}"
    if statement.target_epsilon is not None:
        yield "ceiling" if statement.orders else "asked for", f"epsilon {statement.target_epsilon:g}"
    yield "rows" if statement.unit == PERSON else f"{statement.unit}s", f"{statement.n}"
    yield "mechanism", _mechanism(statement)
    if statement.net:
        yield "net", statement.net
    if len(statement.queries) > 1:
        for line in statement.queries:
            yield "queries", query_text(line, statement.unit)
    else:
        if statement.noise_multiplier is not None:
            yield "noise multiplier", f"{statement.noise_multiplier:.6g}"
        if statement.sampling_rate is not None:
            groups = statement.queries[0].groups if statement.queries else 1
            yield "sampling rate", _rate(statement.sampling_rate, statement.unit, groups)
        yield "steps", f"{statement.steps}"
    if statement.delta_fail:
        yield "of delta", f"{round_up(statement.delta_fail)} for thresholds that may fail"
    if statement.split:
        yield "split", f"{statement.split} (as declared, not verified)"
    yield "accountant", statement.accountant
    if statement.versions:
        yield "versions", ", ".join(f"{name} {version}" for name, version in statement.versions.items())


def query_text(line: QueryLine, unit: str) -> str:
    """A line of the price list in words."""
    noise = "no noise" if line.noise_multiplier is None else f"noise multiplier {line.noise_multiplier:.6g}"
    noise = line.noise or noise
    count = f"{line.planned} quer{'y' if line.planned == 1 else 'ies'}"
    asked = "" if line.executed == line.planned else f" paid for, {line.executed} asked"
    return f"{line.name}: {noise}, {count}{asked}, sampling rate {_rate(line.sampling_rate, unit, line.groups)}"


def _rate(rate: float, unit: str, groups: int = 1) -> str:
    if groups > 1 and rate * groups > 1 - 1e-9:
        return f"{rate:.6g} (fixed order: every {unit} once in {groups} queries)"
    if groups > 1:
        return f"{rate:.6g} (Poisson, {rate * groups:.6g} of one of {groups} groups of {unit}s in turn)"
    return f"{rate:.6g} (Poisson)" if rate < 1 else f"1 (every {unit} in every query)"


def _reproducible(statement: PrivacyStatement) -> bool:
    """Whether there is noise, though from a fixed seed."""
    return statement.reproducible_noise and math.isfinite(statement.epsilon)


def headline(statement: PrivacyStatement) -> str:
    """The claim in one sentence."""
    if math.isinf(statement.epsilon):
        return f"NOT PRIVATE: {_mechanism(statement)}, epsilon = infinity"
    if statement.reproducible_noise:
        return f"NOT PRIVATE, for tests only: {_mechanism(statement)} with noise from a fixed seed"
    return (
        f"Differentially private with epsilon = {round_up(statement.epsilon)} and delta = "
        f"{round_up(statement.delta)} per {statement.unit}"
        + (", labels NOT protected" if statement.unit == FEATURE_ROW else "")
    )


def remarks(statement: PrivacyStatement) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Titled lists below the table; empty ones are left out, and what the headline says is not said again."""
    private = math.isfinite(statement.epsilon)
    yield from (
        (title, lines)
        for title, lines in (
            ("What the terms mean", terms(statement)),
            ("It rests on these assumptions", statement.assumptions if private else ()),
            ("Taken as public, so not protected", statement.public),
            ("Released with noise before training, and paid for", statement.released),
            ("Not covered", NOT_COVERED if private else ()),
            ("Please note", tuple(line for line in statement.warnings if "NOT PRIVATE" not in line)),
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
