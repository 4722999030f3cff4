"""What is public about the columns of a user's file: a schema file to be filled in, and how it is read."""

from __future__ import annotations

import datetime
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skdp.cli.column_names import named_like_identifiers
from skdp.cli.errors import UsageError
from skdp.preprocessing import Column
from skdp.preprocessing.schema import FORMAT
from skdp.preprocessing.table_layout import EPOCH

__all__ = ["IDENTIFIER", "KINDS", "ColumnFacts", "check_names", "facts_of_file", "template"]

IDENTIFIER = "identifier"
KINDS = ("numeric", "categorical", "boolean", "date", IDENTIFIER)
ABOUT = (
    "Fill in what is PUBLIC about each column: known from documentation, law or nature, and not read off the "
    "rows. kind: numeric, categorical, boolean, date (YYYY-MM-DD) or identifier (not used; guessed here from the name "
    "alone, so change it where the guess is wrong). low and high: bounds of numbers or dates. categories:"
    " all that may occur. missing: whether values may be missing. source: where this is known from. Whatever "
    "stays null is private, and the model pays from its budget to learn it with noise; kinds that stay null are "
    "read off the values, which protects nobody. Delete columns that are not to be used."
)
_KEYS = ("name", "kind", "low", "high", "categories", "transform", "missing", "source")


@dataclass(frozen=True)
class ColumnFacts:
    """What is public about one column.

    Parameters
    ----------
    name : str
    kind : {"numeric", "categorical", "boolean", "date", "identifier"} or None
    knowledge : Column or None
        Bounds or categories; bounds of dates in days since 2000-01-01, as the models see dates.
    """

    name: str
    kind: str | None = None
    knowledge: Column | None = None


def template(kinds: Mapping[str, str | None]) -> str:
    """A schema file with the names and declared types of columns, and room for what else is public.

    Columns that are named like identifiers are marked as such, for the reader to overrule.

    Parameters
    ----------
    kinds : mapping of str to str or None
        Declared kinds by name; None where the file declares none.

    Returns
    -------
    str
    """
    columns = []
    identifiers = named_like_identifiers(kinds)
    for name, kind in kinds.items():
        kind = IDENTIFIER if name in identifiers else kind
        entry: dict[str, Any] = {"name": name, "kind": kind}
        if kind == IDENTIFIER:
            columns.append(entry)
            continue
        if kind in (None, "numeric", "date"):
            entry |= {"low": None, "high": None}
        if kind in (None, "categorical"):
            entry |= {"categories": None}
        columns.append(entry | {"missing": True, "source": ""})
    lines = ",\n".join("  " + json.dumps(entry, ensure_ascii=False) for entry in columns)
    about = json.dumps(ABOUT)
    return f'{{\n "skdp_schema": {FORMAT},\n "about": {about},\n "columns": [\n{lines}\n ]\n}}\n'


def facts_of_file(path: str) -> dict[str, ColumnFacts]:
    """What a schema file says, by column; it may be a template that was filled in, or from ``Schema.to_json``.

    Parameters
    ----------
    path : str

    Returns
    -------
    dict of str to ColumnFacts

    Raises
    ------
    UsageError
        There is no such file, or it is no schema.
    """
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--schema {path!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--schema {path!r} is not JSON ({error}); make a new one with: skdp schema FILE") from error
    columns = plain.get("columns") if isinstance(plain, dict) and plain.get("skdp_schema") == FORMAT else None
    if not isinstance(columns, list) or not columns:
        raise UsageError(f"--schema {path!r} is no schema; make a new one with: skdp schema FILE")
    found = {}
    for entry in columns:
        facts = _facts(path, entry)
        if facts.name in found:
            raise UsageError(f"--schema {path!r} has column {facts.name!r} twice")
        found[facts.name] = facts
    return found


def _facts(path: str, entry: Any) -> ColumnFacts:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise UsageError(f"--schema {path!r}: {str(entry)[:60]} is no column; it needs a name")
    name, kind = entry["name"], entry.get("kind")
    unknown = sorted(set(entry) - set(_KEYS))
    if unknown:
        raise UsageError(f"--schema {path!r}, column {name!r}: unknown {unknown[0]!r}{_near(unknown[0], _KEYS)}")
    if kind not in (None, *KINDS):
        raise UsageError(
            f"--schema {path!r}, column {name!r}: kind {kind!r} must be one of {', '.join(KINDS)}, or null"
        )
    given = {key: value for key, value in entry.items() if key != "kind" and value is not None}
    if given.keys().isdisjoint(("low", "high", "categories")):
        return ColumnFacts(name, kind)
    if kind in ("boolean", IDENTIFIER) or (kind == "date" and "categories" in given):
        what = "categories" if kind == "date" else "bounds and categories"
        raise UsageError(f"--schema {path!r}, column {name!r}: {what} are not for kind {kind!r}")
    if kind == "date":
        given |= {end: _days(path, name, end, given.get(end)) for end in ("low", "high")}
    try:
        knowledge = Column(**given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--schema {path!r}: {error}") from error
    if kind == "date":
        return ColumnFacts(name, kind, knowledge)
    if kind not in (None, knowledge.kind):
        raise UsageError(f"--schema {path!r}, column {name!r} is called {kind}, but what is given is {knowledge.kind}")
    return ColumnFacts(name, knowledge.kind, knowledge)


def _days(path: str, name: str, end: str, value: Any) -> float:
    """A bound of dates in days since the public origin that models count from."""
    try:
        return float((np.datetime64(datetime.date.fromisoformat(value)) - EPOCH) / np.timedelta64(1, "D"))
    except (TypeError, ValueError):
        raise UsageError(
            f'--schema {path!r}, column {name!r}: {end}={value!r} must be a date such as "2024-12-31"; give both low '
            "and high, or neither"
        ) from None


def check_names(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names of columns that are not in a file, and suggest close ones.

    Parameters
    ----------
    what : str
        Where the names are from.
    names, known : iterable of str

    Raises
    ------
    UsageError
    """
    known = list(known)
    for name in names:
        if name not in known:
            shown = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
            near = _near(name, known)
            raise UsageError(f"{what}: the file has no column {name!r}{near or '.'} It has: {shown}")


def _near(name: str, known: Iterable[str]) -> str:
    by_lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(by_lower[other]) for other in close)}?" if close else ""
