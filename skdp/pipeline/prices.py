"""What the steps of a pipeline cost together, and who gets which share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from skdp.contract import Charge, Public

__all__ = ["divided", "seen_by", "together"]

# Share of the budget that all steps but the last one have together, where nobody says.
_PREPARATION = 0.1


def divided(shares: Mapping[str, float] | None, names: list[str]) -> dict[str, float]:
    """Share of the squared signal of every private step, by name.

    Raises
    ------
    ValueError
        `shares` names a step that is not there, or cannot add up to 1.
    """
    given = dict(shares or {})
    for name, share in given.items():
        if name not in names:
            raise ValueError(f"shares={shares!r}: there is no private step {name!r}; there are {names}")
        if not (isinstance(share, (int, float)) and 0 < share < 1 or len(names) == 1 and share == 1):
            raise ValueError(f"shares: {name!r} has {share!r}, which must lie strictly between 0 and 1")
    left, others = 1 - math.fsum(given.values()), [name for name in names if name not in given]
    if left < -1e-9 or (not others and abs(left) > 1e-9) or (others and left < 1e-9):
        raise ValueError(
            f"shares={shares!r} must add up to 1 over all private steps ({', '.join(names)}), or leave something for "
            "those without an entry"
        )
    last = [name for name in others if name == names[-1]]
    first = [name for name in others if name not in last]
    ahead = left * (_PREPARATION if last else 1.0) if first else 0.0
    return given | {name: ahead / len(first) for name in first} | dict.fromkeys(last, left - ahead)


def together(parts: Mapping[str, Charge], adjacency: str) -> Charge:
    """The price lists of all steps as one, whose lines name the step."""
    total = Charge((), adjacency)
    for path, charge in parts.items():
        own = replace(charge, touches=tuple(replace(touch, name=f"{path}: {touch.name}") for touch in charge.touches))
        total = total + own if total.touches else replace(own, delta_fail=own.delta_fail + total.delta_fail)
    return total


def seen_by(public: Public, columns: Any) -> Public:
    """What a step knows of the rows that a column transformer gives it, before rows are read."""
    if columns is None or callable(columns):
        return public
    if isinstance(columns, slice):
        if not isinstance(columns.start, int | None):
            return public
        columns = range(*columns.indices(public.input_shape[0]))
    elif isinstance(columns, str | int):
        columns = [columns]
    elif len(columns) and isinstance(columns[0], bool | np.bool_):
        columns = np.flatnonzero(columns).tolist()
    by_name = dict(public.columns)
    types = [
        (c, by_name.get(c)) if isinstance(c, str) else public.columns[c] if public.columns else (c, None)
        for c in columns
    ]
    known = tuple(types) if all(kind is not None for _, kind in types) else ()
    return replace(public, input_shape=(len(types),), columns=known)
