"""One statement for several fits on the same rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from dp_accounting import dp_event

from skdp.accounting import accountants
from skdp.accounting.checks import event_delta
from skdp.accounting.queries import added_up
from skdp.accounting.statement import PrivacyStatement
from skdp.accounting.statement_lines import FIXED_BEFORE, caveats, unique
from skdp.accounting.versions import versions


def compose(
    statements: Iterable[PrivacyStatement], *, delta: float | None = None, accountant: str = "auto"
) -> PrivacyStatement:
    """One statement for several fits on the same rows.

    Parameters
    ----------
    statements : iterable of PrivacyStatement
        All with one adjacency and one unit.
    delta : float, optional
        Of the composed claim; the largest of theirs when None. It is not their sum: the composed event has a
        curve of its own, which is read at one delta, and each of theirs was chosen small beside 1 / n.
    accountant : {"auto", "analytic", "pld", "tilted-pld", "rdp"}

    Returns
    -------
    PrivacyStatement
        Its `event` is the composition of theirs; where a fit stopped early, the claim is about the whole
        plans.

    Raises
    ------
    ValueError
        Nothing to compose, different adjacencies or units, or a delta that is too large for n or used up by
        failure probabilities.

    Notes
    -----
    *Formal guarantee*: releasing all the results together is (epsilon, delta)-differentially private,
    provided that every fit and its budget were decided before the first result was seen.

    Examples
    --------
    >>> from skdp.contract import Charge, Gaussian, Poisson, Touch
    >>> charge = Charge((Touch("gradient", Poisson(0.01), Gaussian((1.0,)), 1000),))
    >>> one = PrivacyStatement.from_charge(charge, 1e-5, mechanism="dp-sgd", n=50_000)
    >>> both = compose([one, one])
    >>> round(one.epsilon, 2), round(both.epsilon, 2)
    (1.83, 2.58)
    """
    parts = list(statements)
    if not parts:
        raise ValueError("statements=[] holds nothing to compose; pass at least one PrivacyStatement")
    for part in parts:
        if not isinstance(part, PrivacyStatement):
            raise TypeError(f"statements holds a {type(part).__name__}; pass its statement, as in model.privacy_")
    for name in ("adjacency", "unit"):
        kinds = sorted({getattr(part, name) for part in parts})
        if len(kinds) > 1:
            raise ValueError(
                f"statements of different {name} ({', '.join(kinds)}) do not compose: each speaks of other "
                f"neighbours; fit all models with one {name}"
            )
    for part in parts:
        if part.orders:
            raise ValueError(
                "the statement of an adaptive ledger does not compose: its charges were not fixed beforehand, and one "
                "event speaks only of those that were; make all fits inside one PrivacyLedger"
            )
    adjacency, n, largest = (
        parts[0].adjacency,
        max(part.n for part in parts),
        max(part.delta for part in parts),
    )
    delta = largest if delta is None else delta
    if delta != 0:
        accountants.resolve_delta(delta, n)
    fail = math.fsum(part.delta_fail for part in parts)
    budget = event_delta(delta, fail)
    event = dp_event.ComposedDpEvent([part.event for part in parts])
    claimed = dp_event.ComposedDpEvent([part.claimed_event for part in parts])
    name = accountants.which_accountant(claimed, adjacency, accountant, budget)
    claim = accountants.epsilon(claimed, budget, adjacency, name)
    early = any(part.planned_event is not None for part in parts)
    read_at = f"all fits are accounted for together, as one event read at delta = {delta:g}"
    return as_one(
        parts,
        epsilon=claim,
        delta=delta,
        accountant=name,
        # A part costs no more than the whole, though another accountant may answer for it, with more slack.
        executed_epsilon=min(claim, accountants.epsilon(event, budget, adjacency)) if early else None,
        delta_fail=fail,
        assumptions=(*[FIXED_BEFORE] * (len(parts) > 1), read_at + ", the largest of theirs" * (delta == largest)),
    )


def as_one(
    parts: list[PrivacyStatement],
    *,
    epsilon: float,
    executed_epsilon: float | None,
    assumptions: Iterable[str],
    public: Iterable[str] = (),
    warnings: Iterable[str] = (),
    **more: Any,
) -> PrivacyStatement:
    """What several statements of one adjacency and unit say, with figures that somebody has computed for them together.

    Their assumptions, facts and warnings come first; `more` are further fields of the statement.
    """
    early = any(part.planned_event is not None for part in parts)
    reproducible = any(part.reproducible_noise for part in parts)
    counts = Counter(part.mechanism for part in parts)
    lines = [line for part in parts for line in part.queries]
    return PrivacyStatement(
        epsilon=epsilon,
        executed_epsilon=executed_epsilon,
        adjacency=parts[0].adjacency,
        unit=parts[0].unit,
        mechanism=", ".join(f"{k} x {mechanism}" if k > 1 else mechanism for mechanism, k in counts.items()),
        noise_multiplier=_common(part.noise_multiplier for part in parts),
        sampling_rate=_common(part.sampling_rate for part in parts),
        steps=sum(part.steps for part in parts),
        event=dp_event.ComposedDpEvent([part.event for part in parts]),
        n=max(part.n for part in parts),
        status="interrupted" if early else _common(part.status for part in parts) or "resumed",
        planned_event=dp_event.ComposedDpEvent([part.claimed_event for part in parts]) if early else None,
        split="; ".join(unique(part.split for part in parts if part.split)),
        public=unique([*(line for part in parts for line in part.public), *public]),
        assumptions=unique([*(line for part in parts for line in part.assumptions), *assumptions]),
        warnings=caveats(epsilon, reproducible, [*(line for part in parts for line in part.warnings), *warnings]),
        versions=versions(),
        reproducible_noise=reproducible,
        net="; ".join(unique(part.net for part in parts if part.net)),
        released=unique(line for part in parts for line in part.released),
        queries=added_up(lines) if all(part.queries for part in parts) else (),
        **more,
    )


def _common(values: Iterable[Any]) -> Any:
    """The value that all share, or None."""
    kinds = set(values)
    return kinds.pop() if len(kinds) == 1 else None
