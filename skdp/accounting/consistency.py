"""Does a statement agree with itself? Fields, figures, price list and standard lines, without an accountant.

Each function returns a complaint in words, empty where there is none.
"""

from __future__ import annotations

import datetime
import math

from dp_accounting import dp_event

from skdp.accounting.queries import make_up
from skdp.accounting.relations import Phases, gaussian_phases, leaves, phases
from skdp.accounting.statement import PrivacyStatement
from skdp.accounting.statement_lines import CAVEATS, FILTERED, FIXED_BEFORE, count_line, standard_assumptions
from skdp.accounting.statement_text import round_up
from skdp.contract import FEATURE_ROW, PERSON

UNITS = ("row", FEATURE_ROW, PERSON)  # what skdp issues statements about
_DAY = datetime.timedelta(days=1)


def contradiction(statement: PrivacyStatement) -> str:
    """One field that denies what another says."""
    stopped = {statement.status == "interrupted", statement.planned_event is not None}
    if len(stopped | {statement.executed_epsilon is not None}) > 1:
        return (
            "status, planned_event and executed_epsilon contradict each other: a fit that was interrupted has both, "
            "another has neither"
        )
    bare = [line for line in statement.warnings if "NOT PRIVATE" in line or "insecure_noise_seed" in line]
    if bare and not statement.reproducible_noise and math.isfinite(statement.epsilon):
        return f"the warnings say {bare[0]!r}, the other fields do not"
    # Somebody's clock may be a day ahead, or his day.
    if datetime.date.fromisoformat(statement.created) > datetime.datetime.now(datetime.UTC).date() + _DAY:
        return f"created lies in the future: {statement.created}"
    if statement.adjacency == "add-remove" and any(line.groups > 1 or line.noise for line in statement.queries):
        return "the price list holds queries that protect nobody under add-remove"
    if not all(line.planned for line in statement.queries):
        return "the price list has a line without a query"
    return ""


def misfit(statement: PrivacyStatement) -> str:
    """A figure that does not belong to the event."""
    if math.isfinite(statement.epsilon) and statement.delta >= 1 / max(statement.n, 1):
        return f"delta {statement.delta:g} is not below 1 / n for n = {statement.n}"
    target = statement.target_epsilon
    if target is not None and statement.epsilon > target * (1 + 1e-9):
        return f"epsilon {round_up(statement.epsilon)} exceeds what was asked for, {target:g}"
    planned, executed = phases(statement.claimed_event), phases(statement.event)
    for leaf, count in executed:
        if count > _room(leaf, planned):
            return "more was executed than was planned"
    if math.isinf(statement.epsilon):
        return ""  # a touch without noise is one event, however often it ran
    stated, ran = (statement.noise_multiplier, statement.sampling_rate), tuple(leaves(statement.event))
    rates = _turn_rates(statement)
    if stated[0] is not None:
        if not any(_is_like(leaf, stated[0], rate) for leaf, _ in leaves(statement.claimed_event) for rate in rates):
            rate = "" if stated[1] is None else f" at sampling rate {stated[1]:g}"
            return f"nothing in the event has noise multiplier {stated[0]:g}{rate}"
        ran = tuple((leaf, c) for leaf, c in ran if any(_is_like(leaf, stated[0], rate) for rate in rates))
    elif stated[1] is not None and not any(_rate(leaf) in rates for leaf, _ in leaves(statement.claimed_event)):
        return f"nothing in the event has sampling rate {stated[1]:g}"
    counts = [count for _, count in ran]
    if any(line.groups > 1 for line in statement.queries):  # of these, an event counts one row's turns
        like = [
            line for line in statement.queries if all(s in (None, v) for s, v in zip(stated, line[1:3], strict=True))
        ]
        counts = [line.executed for line in like]
    if not max(counts, default=0) <= statement.steps <= sum(counts):
        return f"{statement.steps} steps are stated, the event holds {sum(counts)}"
    if statement.queries and _fits_in(statement.claimed_event) <= 1:
        main = max(statement.queries, key=lambda line: line.planned)
        if stated != (main.noise_multiplier, main.sampling_rate):
            return f"noise multiplier and sampling rate {stated} are not those of the price list's largest line"
    return ""


def _turn_rates(statement: PrivacyStatement) -> set[float | None]:
    """Rates at which a row may be drawn in its turn, if so many rows are drawn of all as the statement says."""
    lines = [line for line in statement.queries if line.sampling_rate == statement.sampling_rate]
    return {line.phase("planned")[0] for line in lines} or {statement.sampling_rate}


def _rate(leaf: dp_event.DpEvent) -> float:
    """Sampling rate of a leaf; 1 where all rows take part."""
    return getattr(leaf, "sampling_probability", 1.0)


def _room(leaf: dp_event.DpEvent, planned: Phases) -> float:
    """How often a leaf may have run under the plan; full-batch Gaussians were merged, so precision counts."""
    if isinstance(leaf, dp_event.GaussianDpEvent):
        plan = [p for p, _ in planned if isinstance(p, dp_event.GaussianDpEvent)]
        return 1.0 if plan and leaf.noise_multiplier >= plan[0].noise_multiplier * (1 - 1e-9) else 0.0
    return float(dict(planned).get(leaf, 0))


def _is_like(leaf: dp_event.DpEvent, multiplier: float, rate: float | None) -> bool:
    """Whether a leaf is a Gaussian with this noise multiplier, sampled at this rate (None: at any)."""
    found = gaussian_phases(((leaf, 1),))
    return found is not None and all(
        math.isclose(z, multiplier, rel_tol=1e-9) and (rate is None or math.isclose(q, rate, rel_tol=1e-9))
        for q, z, _ in found
    )


def silence(statement: PrivacyStatement) -> str:
    """Something that every statement says and this one does not."""
    if statement.unit not in UNITS:
        return f"unit {statement.unit!r} is none that skdp states anything about ({', '.join(UNITS)})"
    if math.isinf(statement.epsilon):
        return ""
    for event, column in ((statement.claimed_event, "planned"), (statement.event, "executed")):
        if statement.queries and not make_up(statement.queries, event, column):
            return f"the price list's {column} queries do not make up the event"
    counted = count_line(statement.adjacency, statement.unit, statement.n)
    required = {"assumptions": standard_assumptions(statement.unit), "warnings": CAVEATS, "public": (counted,)}
    if statement.orders:
        required["assumptions"] += (FILTERED,)
    elif _fits_in(statement.claimed_event) > 1:
        required["assumptions"] += (FIXED_BEFORE,)
    for name, lines in required.items():
        for line in lines:
            if line not in getattr(statement, name):
                return f"{name} were altered: {line!r} is missing"
    return ""


def _fits_in(event: dp_event.DpEvent) -> int:
    """How many fits were composed: the event of each is itself a composition."""
    parts = getattr(event, "events", ())
    inner = [p for p in parts if isinstance(p, dp_event.ComposedDpEvent)] if isinstance(parts, (list, tuple)) else []
    return sum(map(_fits_in, inner)) if inner else 1
