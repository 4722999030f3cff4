"""The price list of a fit as its statement shows it: one line for each kind of query."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dp_accounting import dp_event

from skdp.accounting.relations import gaussian_phases, phases
from skdp.contract import Charge, CyclicPoisson, Poisson


class QueryLine(NamedTuple):
    """Queries of one name: the noise on each, the rate at which rows are drawn, how many, and whose turn it is.

    Parameters
    ----------
    name : str
    noise_multiplier : float or None
        Standard deviation over zero-out sensitivity of one query; None where no noise was added.
    sampling_rate : float
    planned, executed : int
        How many queries were paid for, and how many were asked.
    groups : int
        Number of groups of rows that take turns; 1 where every query may see any row.
    noise : str
        Noise that is not Gaussian, in words.

    Examples
    --------
    >>> QueryLine("gradient", 1.0, 0.01, 1000, 300).planned
    1000
    >>> QueryLine("gradient", 1.0, 0.01, 1000, 300, groups=100).phase("executed")
    (1.0, 1.0, 3)
    """

    name: str
    noise_multiplier: float | None
    sampling_rate: float
    planned: int
    executed: int
    groups: int = 1
    noise: str = ""

    def phase(self, column: str) -> tuple[float, float | None, int]:
        """What the queries in `column` ("planned" or "executed") are to one row: its rate, the noise, its turns."""
        sampler = Poisson(self.sampling_rate) if self.groups == 1 else CyclicPoisson(self.sampling_rate, self.groups)
        return sampler.turn_rate, self.noise_multiplier, sampler.turns(getattr(self, column))


def query_lines(charge: Charge, executed: Mapping[str, int]) -> tuple[QueryLine, ...]:
    """The lines of a charge."""
    return tuple(
        QueryLine(
            touch.name,
            None if touch.noise is None else touch.noise.combined,
            touch.sampler.rate,
            touch.count,
            executed.get(touch.name, 0),
            touch.sampler.groups,
            in_words(touch.event(1)) if touch.noise else "",
        )
        for touch in charge.touches
        if touch.count
    )


def in_words(event: dp_event.DpEvent) -> str:
    """Noise that is not Gaussian in words, empty for Gaussians."""
    leaf = next((leaf for leaf, _ in phases(event)), dp_event.NoOpDpEvent())
    match leaf:
        case dp_event.RandomizedResponseDpEvent(noise_parameter=p, num_buckets=k):
            return f"randomised response of {k} classes, kept with probability {1 - p + p / k:.6g}"
        case dp_event.RepeatAndSelectDpEvent(mean=mean, shape=shape):
            numbers = {0.0: "logarithmic", 1.0: "geometric", math.inf: "Poisson"}
            runs = numbers.get(shape, f"truncated negative binomial (shape {shape:g})")
            return f"the best of a {runs} number of runs, {mean:g} on average"
        case dp_event.NoOpDpEvent():
            return ""
    return "" if gaussian_phases([(leaf, 1)]) else type(leaf).__name__


def added_up(lines: Iterable[QueryLine]) -> tuple[QueryLine, ...]:
    """Equal queries of several fits on one line; turns of groups begin anew with every fit, so those stay apart."""
    merged: list[QueryLine] = []
    places: dict[tuple, int] = {}
    for line in lines:
        place = places.setdefault((*line[:3], line.noise), len(merged)) if line.groups == 1 else len(merged)
        if place == len(merged):
            merged.append(line)
        else:
            one = merged[place]
            merged[place] = one._replace(planned=one.planned + line.planned, executed=one.executed + line.executed)
    return tuple(merged)


def from_plain(value: Any) -> tuple[QueryLine, ...]:
    """The lines of a JSON file; `ValueError` where it holds others."""
    try:
        lines = tuple(QueryLine(**line) for line in value)
    except TypeError:
        lines = (None,)
    if not all(line is not None and _is_sound(line) for line in lines):
        raise ValueError(f"malformed privacy statement: queries={value!r} must be a list of price list lines")
    return lines


def _is_sound(line: QueryLine) -> bool:
    def positive(value: Any) -> bool:
        return type(value) in (int, float) and 0 < value < math.inf

    return (
        isinstance(line.name, str)
        and isinstance(line.noise, str)
        and (line.noise_multiplier is None or positive(line.noise_multiplier))
        and (positive(line.sampling_rate) and line.sampling_rate <= 1)
        and all(type(count) is int and count >= 0 for count in (line.planned, line.executed))
        and line.executed <= line.planned
        and (type(line.groups) is int and line.groups >= 1)
        and (line.groups == 1 or line.sampling_rate * line.groups <= 1 + 1e-9)
        and (not line.noise or (line.noise_multiplier, line.sampling_rate, line.groups) == (None, 1, 1))
    )


def make_up(lines: Iterable[QueryLine], event: Any, column: str) -> bool:
    """Whether the queries in `column` ("planned" or "executed") are those of an event."""
    asked = [line for line in lines if getattr(line, column)]
    parts = [(leaf, count, in_words(leaf)) for leaf, count in phases(event)]
    others: dict[str, int] = {}
    for line in asked:
        if line.noise:
            others[line.noise] = others.get(line.noise, 0) + getattr(line, column)
    for _, count, words in parts:
        if words:
            others[words] = others.get(words, 0) - count
    if any(others.values()):
        return False
    found = gaussian_phases((leaf, count) for leaf, count, words in parts if not words)
    rows = [line.phase(column) for line in asked if not line.noise]
    if any(z is None for _, z, _ in rows):
        return False
    ours, theirs = _totals(rows), _totals(found)
    return ours.keys() == theirs.keys() and all(math.isclose(ours[key], theirs[key], rel_tol=1e-9) for key in ours)


def _totals(rows: Iterable[tuple[float, float, int]]) -> dict[tuple[float, float], float]:
    """Counts by rate and multiplier; full batches as one sum of precisions, because events merge them."""
    totals: dict[tuple[float, float], float] = {}
    for rate, multiplier, count in rows:
        key, amount = ((1.0, 0.0), count * multiplier**-2) if rate == 1 else ((rate, multiplier), count)
        totals[key] = totals.get(key, 0.0) + amount
    return totals
