"""Statements as plain JSON types and back; a file that is no statement is a `ValueError` that says why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from dp_accounting import dp_event

from skdp.accounting.events_json import event_from_dict, event_to_dict, number_from_json, number_to_json
from skdp.accounting.queries import from_plain

if TYPE_CHECKING:
    from skdp.accounting.statement import PrivacyStatement

SCHEMA = "skdp.PrivacyStatement"
VERSION = 3  # 1 knew neither reproducible_noise nor created nor queries, and fewer assumptions
_NEW = {2: {"net": "", "released": []}}  # by version that can be read as well: what it did not know
_OPTIONAL = ("noise_multiplier", "sampling_rate", "target_epsilon", "executed_epsilon")
_NUMBERS = ("epsilon", "delta", "delta_fail", *_OPTIONAL)
_COUNTS = ("n", "steps")
_STRINGS = ("adjacency", "unit", "mechanism", "accountant", "status", "split", "created", "net")
_LATER = ("orders",)  # left out where it is empty, as by versions that did not know it
_LISTS = ("public", "assumptions", "warnings", "released")


def to_dict(statement: PrivacyStatement) -> dict[str, Any]:
    """`PrivacyStatement.to_dict`."""
    plain: dict[str, Any] = {"schema": SCHEMA, "version": VERSION}
    for name in (f.name for f in fields(statement)):
        value = getattr(statement, name)
        if isinstance(value, dp_event.DpEvent):
            value = event_to_dict(value)
        elif name == "queries":
            value = [line._asdict() for line in value]
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        plain[name] = number_to_json(value)
    return {name: value for name, value in plain.items() if value or name not in _LATER}


def from_dict(kind: type[PrivacyStatement], plain: Any) -> PrivacyStatement:
    """`PrivacyStatement.from_dict`."""
    if not isinstance(plain, Mapping) or plain.get("schema") != SCHEMA:
        raise ValueError(f'not a privacy statement: "schema" is not "{SCHEMA}" in {str(plain)[:60]}')
    version = plain.get("version")
    if type(version) is not int or (version != VERSION and version not in _NEW):
        raise ValueError(
            f"this statement has version {version!r}, this skdp reads version {VERSION} and "
            f'{", ".join(map(str, _NEW))}; read it with the skdp that wrote it (its "versions" are '
            f"{plain.get('versions')!r})"
        )
    plain = {**plain, **_NEW.get(version, {})}
    known, found = {f.name for f in fields(kind)}, set(plain) - {"schema", "version"}
    missing, unknown = known - found - set(_LATER), found - known
    if missing or unknown:
        raise ValueError(f"malformed privacy statement: missing {sorted(missing)}, unknown {sorted(unknown)}")
    values = {name: number_from_json(plain[name]) if name in _NUMBERS else plain[name] for name in found}
    _check_types(values)
    for name in ("event", "planned_event"):
        if values[name] is not None:
            values[name] = event_from_dict(values[name])
    values["queries"] = from_plain(values["queries"])
    return kind(**values)


def to_json(statement: PrivacyStatement) -> str:
    """`PrivacyStatement.to_json`."""
    return json.dumps(to_dict(statement), indent=2, allow_nan=False) + "\n"


def from_json(kind: type[PrivacyStatement], text: str) -> PrivacyStatement:
    """`PrivacyStatement.from_json`."""
    try:
        return from_dict(kind, json.loads(text, parse_constant=_refuse))
    except json.JSONDecodeError as error:
        raise ValueError(f"not a privacy statement: malformed JSON ({error})") from error
    except RecursionError as error:
        raise ValueError("not a privacy statement: nested too deeply") from error


def is_number(value: object) -> bool:
    """An int or float that is neither a bool nor NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _refuse(name: str) -> float:
    raise ValueError(f"not a privacy statement: {name} is not JSON")


def _check_types(values: Mapping[str, Any]) -> None:
    """Whatever a file may have got wrong, before it reaches a comparison."""

    def check(names: tuple[str, ...], right: bool, name: str, what: str) -> None:
        if name in names and not right:
            raise ValueError(f"malformed privacy statement: {name}={values[name]!r} must be {what}")

    for name, value in values.items():
        check(_NUMBERS, is_number(value) or (value is None and name in _OPTIONAL), name, "a number")
        check(_COUNTS, type(value) is int and value >= 0, name, "a whole number")
        check(_STRINGS, isinstance(value, str), name, "a string")
        check(
            _LISTS,
            isinstance(value, list) and all(isinstance(v, str) for v in value),
            name,
            "a list of strings",
        )
        strings = isinstance(value, Mapping) and all(isinstance(v, str) for v in value.values())
        check(("reproducible_noise",), isinstance(value, bool), name, "true or false")
        pairs = isinstance(value, list) and all(isinstance(pair, list) for pair in value)
        check(_LATER, pairs, name, "a list of pairs of numbers")
        check(("queries",), isinstance(value, list), name, "a list of price list lines")
        check(("versions",), strings, name, "an object of strings")
