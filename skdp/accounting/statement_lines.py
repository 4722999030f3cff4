"""What every statement says: standard assumptions, caveats, the number of units."""

from __future__ import annotations

import math
from collections.abc import Iterable

from skdp.contract import PERSON

STANDARD_ASSUMPTIONS = (
    "each row of X was computed from that record alone and from public values",
    "so was y, and no scaler, imputer, encoder or feature selection was fitted on these rows unless it is charged here",
    "each person has one row, or else the guarantee is per row: one person with several rows is protected less",
)
OF_PERSONS = "a person has no more rows than the other assumptions say"


def standard_assumptions(unit: str) -> tuple[str, ...]:
    """What every statement about this unit rests on."""
    return (*STANDARD_ASSUMPTIONS[:2], OF_PERSONS) if unit == PERSON else STANDARD_ASSUMPTIONS


CAVEATS = (
    "noise is drawn in floating point and not from a cryptographically secure generator; the guarantee is "
    "that of the mechanism in real arithmetic, and running times are not covered",
)
NOT_PRIVATE = "NOT PRIVATE: no noise was added (epsilon = infinity), so nobody is protected"
REPRODUCIBLE = (
    "NOT PRIVATE, for tests only: the noise was made from a fixed seed (insecure_noise_seed), and whoever knows it "
    "can remove the noise"
)
FIXED_BEFORE = "every fit and its budget were decided before the first result was seen"  # of several fits

FILTERED = (
    "orders and delta of the Renyi filter were fixed before the first charge; charges may depend on earlier results, "
    "and epsilon speaks of all of them up to the moment at which the statement was made"
)
PUBLIC_SPLITS = (
    "where fits saw different parts of the rows, public values alone (positions, ids, coins) decided which row was in "
    "which part; otherwise, as with stratified folds, labels and group sizes are public and not protected"
)


def caveats(epsilon: float, reproducible: bool, warnings: Iterable[str]) -> tuple[str, ...]:
    """`warnings` with those that skdp gives itself; a fit without noise has none to be careful about."""
    if math.isinf(epsilon):
        return unique((NOT_PRIVATE, *(line for line in warnings if line not in (*CAVEATS, REPRODUCIBLE))))
    return unique(((REPRODUCIBLE,) if reproducible else ()) + (*warnings, *CAVEATS))


def count_line(adjacency: str, unit: str, n: int) -> str:
    """The number of units, which every statement names as public."""
    counted = "rows (persons, who are no more, were not counted)" if unit == PERSON else f"{unit}s"
    return f"the {'declared number' if adjacency == 'add-remove' else 'number'} of {counted}, n = {n}"


def unique(lines: Iterable[str]) -> tuple[str, ...]:
    """In order of appearance."""
    return tuple(dict.fromkeys(lines))
