"""What a ledger says for itself: its statement, and a table with a line for every charge."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dp_accounting import dp_event

from skdp.accounting import accountants
from skdp.accounting.checks import event_delta
from skdp.accounting.composition import as_one
from skdp.accounting.ledger_admission import costs_by_key, epsilon_of, filter_of, largest_release, spending
from skdp.accounting.ledger_entries import DECLARED, Accounts, Entry, Terms, by_key
from skdp.accounting.ledger_filter import RENYI_FILTER
from skdp.accounting.queries import query_lines
from skdp.accounting.relations import phases
from skdp.accounting.statement import PrivacyStatement
from skdp.accounting.statement_lines import FILTERED, FIXED_BEFORE, PUBLIC_SPLITS
from skdp.accounting.statement_text import query_text, round_up

if TYPE_CHECKING:
    import pandas as pd

NO_SUM_DECLARED = "These do not add up to the ceiling: releases together cost less than the sum of their epsilons."
NO_SUM_ADAPTIVE = (
    "These do not add up to the ceiling: charges together cost less than the sum of their epsilons, while the freedom\n"
    "to choose each by the results of the last (a Renyi filter) takes some tenths of epsilon, once and at the start."
)
_UNKNOWN = "ended without a word, so it counts in full"


# ------------------------------------------------------------------ the statement
def statement(accounts: Accounts) -> PrivacyStatement:
    """Of everything that the ledger holds; of all that was declared, where that is what counts."""
    terms = accounts.terms
    entries = [entry for entry in spending(accounts) if phases(entry.charge.event())]
    if not entries:
        raise ValueError("the ledger holds no charge yet, so there is nothing to state")
    adjacency = accounts.adjacency or entries[0].charge.adjacency
    costs = costs_by_key(terms, adjacency, entries)
    ran = _executed(accounts, by_key(entries)[max(costs, key=costs.get)])
    parts = [_part(terms, entry, executed) for entry, executed in ran]
    claim = max(costs.values())
    early = any(part.planned_event is not None for part in parts)
    executed_event = dp_event.ComposedDpEvent([part.event for part in parts])
    return as_one(
        parts,
        epsilon=claim,
        delta=terms.delta,
        accountant=_accountant(terms, adjacency, [entry for entry, _ in ran]),
        orders=terms.orders,
        target_epsilon=terms.epsilon,
        executed_epsilon=min(claim, _cost_of(terms, adjacency, executed_event)) if early else None,
        delta_fail=terms.delta_fail,
        public=_public(entries),
        assumptions=_assumptions(terms, entries),
        warnings=_warnings(accounts),
    )


def _executed(accounts: Accounts, entries: list[Entry]) -> list[tuple[Entry, dict[str, int] | None]]:
    """Each entry with what was executed of it; of declared ones, what the charges like them did."""
    if accounts.terms.mode != DECLARED:
        return [(entry, entry.executed) for entry in entries]
    made = list(accounts.counted)
    found = []
    for entry in entries:
        match = next((m for m in made if (m.charge, m.key) == (entry.charge, entry.key)), None)
        if match is not None:
            made.remove(match)
        found.append((entry, {}) if match is None else (match, match.executed))
    return found


def _part(terms: Terms, entry: Entry, executed: dict[str, int] | None) -> PrivacyStatement:
    """One entry's own statement, by what it said itself."""
    about, charge = entry.about, entry.charge
    delta = max(about["delta"] or terms.delta, math.nextafter(charge.delta_fail, 1))
    return PrivacyStatement.from_charge(
        charge,
        delta,
        executed=executed,
        mechanism=about["what"] or "charge",
        n=about["n"],
        public=about["public"],
        assumptions=about["assumptions"],
        warnings=about["warnings"],
        reproducible_noise=about["reproducible"],
    )


def _cost_of(terms: Terms, adjacency: str, event: dp_event.DpEvent) -> float:
    if terms.mode == DECLARED:
        return accountants.epsilon(event, event_delta(terms.delta, terms.delta_fail), adjacency)
    renyi = filter_of(terms)
    return renyi.epsilon(renyi.divergences(phases(event), adjacency))


def _accountant(terms: Terms, adjacency: str, entries: list[Entry]) -> str:
    if terms.mode != DECLARED:
        return RENYI_FILTER
    event = dp_event.ComposedDpEvent([entry.charge.event() for entry in entries])
    return accountants.which_accountant(event, adjacency, delta=event_delta(terms.delta, terms.delta_fail))


def _public(entries: list[Entry]) -> list[str]:
    keys = list(by_key(entries))
    if keys == [None]:
        return []
    return [f"which {entries[0].charge.unit} has which key of the disjoint blocks: {', '.join(map(repr, keys))}"]


def _assumptions(terms: Terms, entries: list[Entry]) -> list[str]:
    found = [FIXED_BEFORE if terms.mode == DECLARED else FILTERED]
    found.append(f"a privacy ledger (mode {terms.mode!r}) held every charge; what was done outside it is not covered")
    if len(entries) > 1:
        found.append(PUBLIC_SPLITS)
    keyed = [entry for entry in entries if entry.key is not None]
    if len({entry.key for entry in keyed}) > 1:
        units = {entry.units for entry in keyed}
        checked = len(units) == 1 and None not in units
        how = "ids were compared, and none has two keys" if checked else "declared by the user, not checked"
        found.append(
            f"disjoint blocks: every {keyed[0].charge.unit} has one key, so it pays for the blocks of that key alone "
            f"({how}); the charges listed are those of the dearest key"
        )
        if keyed[0].charge.adjacency == "replace-one":
            found.append(f"disjoint blocks: a {keyed[0].charge.unit} that replaces another has the same key")
    return found


def _warnings(accounts: Accounts) -> list[str]:
    return [f"not covered, because nothing protects it: {look}" for look in dict.fromkeys(accounts.looks)]


# ------------------------------------------------------------------ in a few lines
def summary(accounts: Accounts) -> str:
    """What was spent, what is left for one more charge, and why the two do not add up."""
    terms, spent = accounts.terms, spending(accounts)
    made, declared = len(accounts.counted), terms.mode == DECLARED
    ceiling = "no ceiling" if terms.epsilon is None else f"ceiling {terms.epsilon:g}"
    lines = [
        f"Privacy ledger ({terms.mode}), {made} charge{'s' * (made != 1)} made, delta = {terms.delta:g}",
        f"  {'declared in all:' if declared else 'spent so far:   '}  epsilon = "
        f"{round_up(epsilon_of(terms, accounts.adjacency, spent))} ({ceiling})",
    ]
    if terms.epsilon is None:
        return "\n".join(lines)
    left = largest_release(terms, accounts.adjacency or "zero-out", spent)
    word = "declaration" if declared else "charge"
    lines.append(f"  left for one {word}: epsilon = {left:.4g}" if left else f"  left: nothing, for whatever {word}")
    lines.append(NO_SUM_DECLARED if declared else NO_SUM_ADAPTIVE)
    return "\n".join(lines)


# ------------------------------------------------------------------ the table
def table(accounts: Accounts) -> pd.DataFrame:
    """A line for each charge in order."""
    import pandas as pd

    terms = accounts.terms
    so_far: list[Entry] = []
    lines, before = [], 0.0
    for entry in accounts.entries.values():
        if not entry.void:
            so_far.append(entry)
        adjacency = entry.charge.adjacency
        together = epsilon_of(terms, adjacency, so_far)
        lines.append(
            {
                "what": entry.about["what"],
                "when": pd.Timestamp(entry.at),
                "n": entry.about["n"],
                "key": entry.key,
                "queries": _in_words(entry),
                "epsilon": _alone(terms, entry),
                "epsilon added": together - before,
                "epsilon so far": together,
                "state": state(entry),
            }
        )
        before = together
    columns = ["what", "when", "n", "key", "queries", "epsilon", "epsilon added", "epsilon so far", "state"]
    return pd.DataFrame(lines, columns=columns)


def state(entry: Entry) -> str:
    """What became of a charge, in words."""
    if entry.executed is None:
        return _UNKNOWN
    if entry.void:
        return "void: it ended before its first query"
    return "charged" if entry.whole else "stopped early, charged in full"


def _alone(terms: Terms, entry: Entry) -> float:
    """Epsilon of a charge by itself, at the ledger's delta."""
    return accountants.epsilon(entry.charge.event(), event_delta(terms.delta, terms.delta_fail), entry.charge.adjacency)


def _in_words(entry: Entry) -> str:
    counts: dict[str, Any] = {touch.name: touch.count for touch in entry.charge.touches}
    return "; ".join(query_text(line, entry.charge.unit) for line in query_lines(entry.charge, counts))
