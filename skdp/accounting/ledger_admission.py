"""Whether a ledger admits a charge, and what would fit instead. All from public numbers, before a row is read."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from dp_accounting import dp_event

from skdp.accounting import accountants
from skdp.accounting.checks import event_delta
from skdp.accounting.ledger_entries import DECLARED, Accounts, Entry, Terms, by_key
from skdp.accounting.ledger_filter import RenyiFilter
from skdp.accounting.relations import Phases, phases
from skdp.accounting.statement_text import round_up
from skdp.contract import Charge, Correlated, Gaussian, Poisson, Touch
from skdp.exceptions import BudgetExceededError, PlanViolationError

_MOST_NOISE = 1e6  # no smaller epsilon is looked for beyond this
_BISECTIONS = 12


def filter_of(terms: Terms) -> RenyiFilter:
    """The filter of an adaptive ledger."""
    return RenyiFilter(terms.orders, event_delta(terms.delta, terms.delta_fail))


def cost(terms: Terms, adjacency: str, charges: Iterable[Charge]) -> float:
    """Epsilon of these charges together, at the ledger's delta."""
    charges = list(charges)
    if terms.mode == DECLARED:
        event = dp_event.ComposedDpEvent([charge.event() for charge in charges])
        return accountants.epsilon(event, event_delta(terms.delta, terms.delta_fail), adjacency)
    spent = [_divergences(filter_of(terms), phases(charge.event()), adjacency) for charge in charges]
    return filter_of(terms).epsilon(np.sum([*spent, np.zeros(len(terms.orders))], axis=0))


def costs_by_key(terms: Terms, adjacency: str, entries: list[Entry]) -> dict[str | None, float]:
    """Epsilon of what a unit of each key pays; of all units where there are no keys."""
    return {key: cost(terms, adjacency, [e.charge for e in part]) for key, part in by_key(entries).items()}


def epsilon_of(terms: Terms, adjacency: str | None, entries: list[Entry]) -> float:
    """Epsilon of the whole: disjoint blocks cost what the dearest of them costs."""
    return max(costs_by_key(terms, adjacency or "zero-out", entries).values(), default=0.0)


@functools.lru_cache(maxsize=4096)
def _divergences(renyi: RenyiFilter, parts: Phases, adjacency: str) -> np.ndarray:
    return renyi.divergences(parts, adjacency)


def spending(accounts: Accounts) -> list[Entry]:
    """What the ledger has promised to pay: charges made, or all that were declared."""
    if accounts.terms.mode == DECLARED:
        return [declared.entry for declared in accounts.declared for _ in range(declared.count)]
    return accounts.counted


def admit(accounts: Accounts, entry: Entry, name: str) -> None:
    """Refuse a charge that does not belong into this ledger, or does not fit.

    Raises
    ------
    ValueError
        Another adjacency or unit, or a delta too large for so few rows.
    UnsupportedEventError
        The accountant of the ledger has no bound for the event.
    PlanViolationError
        The ledger admits declared charges only, and this is none of them.
    BudgetExceededError
        It would exceed the ceiling.
    """
    check_kind(accounts, entry, name)
    if accounts.terms.mode == DECLARED:
        _check_declared(accounts, entry, name)
    else:
        check_budget(accounts, [entry], name)


def check_kind(accounts: Accounts, entry: Entry, name: str) -> None:
    """Refuse a charge of another adjacency or unit, or for too few rows; see `admit`."""
    charge, n = entry.charge, entry.about["n"]
    if n is None:
        raise ValueError(f"{name} needs the public number of rows of every charge: FitBook(what, n)")
    if not phases(charge.event()):
        return
    accountants.resolve_delta(accounts.terms.delta, n)
    for which in ("adjacency", "unit"):
        ours, theirs = getattr(accounts, which), getattr(charge, which)
        if ours is not None and ours != theirs:
            raise ValueError(
                f"{name} is about {which}={ours!r} and {_what(entry)} about {theirs!r}: each speaks of other "
                f"neighbours, and no sum of the two bounds either. Use one {which}, or a ledger for each. Nothing was "
                "spent"
            )


def _check_declared(accounts: Accounts, entry: Entry, name: str) -> None:
    alike = [d for d in accounts.declared if (d.entry.charge, d.entry.key) == (entry.charge, entry.key)]
    used = sum((e.charge, e.key) == (entry.charge, entry.key) and e.id != entry.id for e in accounts.counted)
    if not alike:
        raise PlanViolationError(
            f"{name} admits only what was declared before the first charge, and {_what(entry)} was not: "
            f"{entry.charge}. Declare it in a new ledger, with the number of rows and columns that fit will see, or "
            "use mode='adaptive'. Nothing was spent"
        )
    if used >= sum(d.count for d in alike):
        raise PlanViolationError(
            f"{name}: {_what(entry)} was declared {used} times and was made as often; declare a larger count in a new "
            "ledger. Nothing was spent"
        )


def check_budget(accounts: Accounts, entries: list[Entry], name: str) -> None:
    """Refuse entries that would lift the ledger above its ceiling."""
    terms, entry = accounts.terms, entries[0]
    held = [e for e in spending(accounts) if e.id != entry.id]
    together = [*held, *entries]
    for part in by_key(together).values():
        fails = math.fsum(e.charge.delta_fail for e in part)
        if fails > terms.delta_fail * (1 + 1e-9):  # sums of equal shares round
            raise BudgetExceededError(
                f"{name} has set delta_fail={terms.delta_fail:g} of delta aside for thresholds that may fail, and with "
                f"{_what(entry)} they would need {fails:g}; open a ledger with PrivacyLedger(..., delta_fail=...) of "
                "at least that. Nothing was spent"
            )
    adjacency = entry.charge.adjacency
    asked = epsilon_of(terms, adjacency, together)  # also refuses events that the accountant does not know
    if terms.epsilon is None or asked <= terms.epsilon:
        return
    now = epsilon_of(terms, adjacency, held)
    fits = smaller_epsilon(terms, held, entries)
    remedy = "nothing like it fits any more" if fits is None else f"with epsilon={fits:g} instead it would fit"
    alone = accountants.epsilon(entry.charge.event(), _own_delta(terms, entry), adjacency)
    error = BudgetExceededError(
        f"{name} does not admit {_what(entry)}: epsilon is {round_up(now)} so far and would be {round_up(asked)}, "
        f"above the ceiling of {terms.epsilon:g} at delta={terms.delta:g}. The charge costs epsilon {round_up(alone)} "
        f"by itself; {remedy} (or with more noise, or fewer fits), or open a ledger with a higher ceiling. Nothing was "
        "spent"
    )
    error.so_far, error.asked, error.fits = now, asked, fits
    raise error


def _what(entry: Entry) -> str:
    return entry.about["what"] or "this charge"


def _own_delta(terms: Terms, entry: Entry) -> float:
    return event_delta(entry.about.get("delta") or terms.delta, entry.charge.delta_fail)


# ------------------------------------------------------------------ what would fit
def smaller_epsilon(terms: Terms, held: list[Entry], entries: list[Entry]) -> float | None:
    """Epsilon, at their own delta, of like charges with just enough noise to fit; None where no noise is enough."""
    entry = entries[0]

    def fits(scale: float) -> bool:
        noisier = [replace(e, charge=_scaled(e.charge, scale)) for e in entries]
        return epsilon_of(terms, entry.charge.adjacency, [*held, *noisier]) <= terms.epsilon

    scale = least(fits)
    if scale is None:
        return None
    event = _scaled(entry.charge, scale).event()
    found = accountants.epsilon(event, _own_delta(terms, entry), entry.charge.adjacency)
    return _round_down(found)


def largest_release(terms: Terms, adjacency: str, held: list[Entry]) -> float:
    """Epsilon, at the ledger's delta, of the largest Gaussian release of all rows that would still fit."""
    delta = event_delta(terms.delta, terms.delta_fail)

    def release(multiplier: float) -> Charge:
        touch = Touch("release", Poisson(), Gaussian((multiplier,)), 1)
        return Charge((touch,), adjacency)

    def fits(multiplier: float) -> bool:
        new = Entry("", "", release(multiplier), {})
        return epsilon_of(terms, adjacency, [*held, new]) <= terms.epsilon

    multiplier = least(fits, 0.02)
    return 0.0 if multiplier is None else accountants.epsilon(release(multiplier).event(), delta, adjacency)


def least(fits: Callable[[float], bool], low: float = 1.0) -> float | None:
    """About the smallest noise that fits, on the safe side."""
    high = low
    while not fits(high):
        low, high = high, high * 4
        if high > _MOST_NOISE:
            return None
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _scaled(charge: Charge, scale: float) -> Charge:
    """The same queries with more noise, where it is a matter of scale."""
    return replace(charge, touches=tuple(_noisier(touch, scale) for touch in charge.touches))


def _noisier(touch: Touch, scale: float) -> Touch:
    if not isinstance(touch.noise, (Gaussian, Correlated)):
        return touch
    return replace(touch, noise=replace(touch.noise, multipliers=tuple(z * scale for z in touch.noise.multipliers)))


def _round_down(value: float) -> float | None:
    """Two digits, and a little below: noise that is calibrated anew may differ in the steps that it comes with."""
    if not value > 0:
        return None
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / step) * step:.2g}") or None
