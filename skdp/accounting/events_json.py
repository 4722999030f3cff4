"""Events and charges as plain JSON types and back, exactly; a `ValueError` says what is malformed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import attr
from dp_accounting import dp_event

from skdp.contract import (
    Charge,
    Correlated,
    CyclicPoisson,
    FixedOrder,
    Gaussian,
    Poisson,
    Response,
    Selection,
    Touch,
)

_EVENTS = {
    name: kind
    for name, kind in vars(dp_event).items()
    if isinstance(kind, type) and issubclass(kind, dp_event.DpEvent) and kind is not dp_event.DpEvent
}
_PRICES = {
    kind.__name__: kind
    for kind in (Charge, Touch, Poisson, FixedOrder, CyclicPoisson, Gaussian, Correlated, Response, Selection)
}


def event_to_dict(event: dp_event.DpEvent) -> dict[str, Any]:
    """An event as nested dicts of plain types, ``{"type": class name, field: value, ...}``.

    Parameters
    ----------
    event : DpEvent

    Returns
    -------
    dict

    Examples
    --------
    >>> from dp_accounting import GaussianDpEvent
    >>> event_to_dict(GaussianDpEvent(1.5))
    {'type': 'GaussianDpEvent', 'noise_multiplier': 1.5}
    """
    if type(event) is not _EVENTS.get(type(event).__name__):
        raise ValueError(f"{event!r} is not one of dp_accounting's events and cannot be written to a file")
    named = {a.name: _write(getattr(event, a.name), event_to_dict, dp_event.DpEvent) for a in attr.fields(type(event))}
    return {"type": type(event).__name__, **named}


def event_from_dict(plain: Mapping[str, Any]) -> dp_event.DpEvent:
    """The event that `event_to_dict` wrote.

    Parameters
    ----------
    plain : mapping

    Returns
    -------
    DpEvent

    Raises
    ------
    ValueError
        Not an event, an unknown kind, or fields that are missing, spare or of the wrong type.

    Examples
    --------
    >>> event_from_dict({"type": "GaussianDpEvent", "noise_multiplier": 1.5})
    GaussianDpEvent(noise_multiplier=1.5)
    """
    kind = _kind(plain, "event", _EVENTS)
    named = {
        key: _read(value, event_from_dict, list, number_from_json) for key, value in plain.items() if key != "type"
    }
    return _call(kind, named, [a.name for a in attr.fields(kind)])


def charge_to_dict(charge: Charge) -> dict[str, Any]:
    """A charge as nested dicts of plain types.

    Parameters
    ----------
    charge : Charge

    Returns
    -------
    dict

    Examples
    --------
    >>> charge = Charge((Touch("gradient", Poisson(0.1), Gaussian((1.0,)), 5),))
    >>> charge_from_dict(charge_to_dict(charge)) == charge
    True
    """
    if type(charge) is not _PRICES.get(type(charge).__name__):
        raise ValueError(f"{charge!r} is no part of a charge and cannot be written to a file")
    named = {f.name: _write(getattr(charge, f.name), charge_to_dict, tuple(_PRICES.values())) for f in fields(charge)}
    return {"type": type(charge).__name__, **named}


def charge_from_dict(plain: Mapping[str, Any]) -> Charge:
    """The charge that `charge_to_dict` wrote.

    Parameters
    ----------
    plain : mapping

    Returns
    -------
    Charge

    Raises
    ------
    ValueError
        Not a charge, or one with missing, spare or impossible values.
    """
    kind = _kind(plain, "charge", _PRICES)
    named = {key: _read(value, charge_from_dict, tuple, _plain) for key, value in plain.items() if key != "type"}
    return _call(kind, named, [f.name for f in fields(kind)])


def _write(value: Any, nested: Callable[[Any], dict], kinds: type | tuple[type, ...]) -> Any:
    if isinstance(value, kinds):
        return nested(value)
    if isinstance(value, (list, tuple)):
        return [_write(v, nested, kinds) for v in value]
    return number_to_json(value) if kinds is dp_event.DpEvent else _plain(value)


def _read(value: Any, nested: Callable[[Mapping], Any], sequence: type, number: Callable[[Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return nested(value)
    if isinstance(value, list):
        return sequence(_read(v, nested, sequence, number) for v in value)
    return number(value)


def _plain(value: Any) -> Any:
    """Numpy scalars become Python's."""
    return value.item() if hasattr(value, "item") else value


def number_to_json(value: Any) -> Any:
    """Infinities, which JSON lacks, become ``"inf"``; only for fields that hold no strings of their own."""
    value = _plain(value)
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def number_from_json(value: Any) -> Any:
    """What `number_to_json` wrote."""
    return float(value) if value in ("inf", "-inf") else value


def _kind(plain: Any, what: str, kinds: Mapping[str, type]) -> type:
    name = plain.get("type") if isinstance(plain, Mapping) else None
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(
            f"{str(plain)[:80]!r} is no {what} that skdp knows; known types are {', '.join(sorted(kinds))}"
        )
    return kinds[name]


def _call(kind: type, named: dict[str, Any], known: list[str]) -> Any:
    if set(named) != set(known):
        raise ValueError(f"{kind.__name__} needs the fields {known}, got {sorted(named)}")
    try:
        return kind(**named)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{kind.__name__} cannot be made from {named}: {error}") from error
