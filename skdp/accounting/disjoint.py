"""One statement for fits on disjoint parts of the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from skdp.accounting.accountants import resolve_delta
from skdp.accounting.composition import compose
from skdp.accounting.statement import PrivacyStatement
from skdp.accounting.statement_lines import count_line, unique

__all__ = ["compose_disjoint"]

_SPLIT = "disjoint parts, each row in one of them"
_PUBLIC_SPLIT = (
    "which part a row is in was decided without looking at the values of any row, and a row more or less moves no "
    "other row to another part"
)


def compose_disjoint(statements: Iterable[PrivacyStatement], *, delta: float | None = None) -> PrivacyStatement:
    """One statement for fits that shared no row: together they cost what the dearest of them costs.

    Parameters
    ----------
    statements : iterable of PrivacyStatement
        All with one adjacency and one unit, each of a fit on rows of its own.
    delta : float, optional
        Of the joint claim; None takes the largest of theirs that is below one over the number of all rows.

    Returns
    -------
    PrivacyStatement
        With the event of the dearest one.

    Raises
    ------
    ValueError
        Nothing to compose, different adjacencies or units, or a delta that is too large for the number of rows.

    Notes
    -----
    *Formal guarantee*: neighbouring tables differ in a row of one part. The other parts' fits are the same, or see the
    difference only through what the first one released. So all results together are (epsilon, delta)-differentially
    private with the largest epsilon of theirs, each read at the joint delta (parallel composition). It needs a split
    that depends on no row's values: one stratified by labels does not qualify, unless the labels are public.

    Examples
    --------
    >>> from skdp.accounting import PrivacyStatement, compose_disjoint
    >>> from skdp.contract import Charge, Gaussian, Poisson, Touch
    >>> charges = [Charge((Touch("sum", Poisson(), Gaussian((z,)), 1),)) for z in (4.0, 8.0)]
    >>> parts = [PrivacyStatement.from_charge(charge, 1e-5, mechanism="sum", n=1000) for charge in charges]
    >>> compose_disjoint(parts).epsilon == parts[0].epsilon
    True
    """
    parts = list(statements)
    if not parts:
        raise ValueError("statements=[] holds nothing to compose; pass at least one PrivacyStatement")
    for name in ("adjacency", "unit"):
        kinds = sorted({getattr(part, name) for part in parts})
        if len(kinds) > 1:
            raise ValueError(
                f"statements of different {name} ({', '.join(kinds)}) do not compose: each speaks of other neighbours; "
                f"fit all with one {name}"
            )
    n = sum(part.n for part in parts)
    if delta is None:
        delta = max((part.delta for part in parts if part.delta * n < 1), default=max(part.delta for part in parts))
    resolve_delta(delta, n)
    # Composing one statement reads its event at another delta.
    parts = [part if part.delta == delta else compose([part], delta=delta) for part in parts]
    dearest = max(parts, key=lambda part: part.epsilon)
    counts = {count_line(part.adjacency, part.unit, part.n) for part in parts}
    facts = [line for part in parts for line in part.public if line not in counts]
    return dataclasses.replace(
        dearest,
        n=n,
        mechanism=" and, on what was declared to be other rows, ".join(unique(part.mechanism for part in parts)),
        target_epsilon=None,
        split=_SPLIT,
        public=unique([count_line(dearest.adjacency, dearest.unit, n), *facts]),
        assumptions=unique([*(line for part in parts for line in part.assumptions), _PUBLIC_SPLIT]),
        warnings=unique(line for part in parts for line in part.warnings),
        reproducible_noise=any(part.reproducible_noise for part in parts),
    )
