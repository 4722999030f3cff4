"""What a ledger's file says: its terms, its charges, and which sessions are open. Replayed from records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from skdp.accounting.events_json import charge_from_dict
from skdp.accounting.relations import phases
from skdp.contract import Charge

VERSION = 1
ADAPTIVE, DECLARED = MODES = ("adaptive", "declared")


@dataclass(frozen=True)
class Terms:
    """What was fixed when the ledger was opened.

    Parameters
    ----------
    id : str
    created : str
        ISO time.
    mode : {"adaptive", "declared"}
    epsilon : float or None
        The ceiling.
    delta : float
    delta_fail : float
        Share of delta set aside for thresholds that may fail.
    orders : tuple of (float, float)
        Of the Renyi filter, with their shares of delta; empty in the declared mode.
    adjacency, unit : str or None
        None where the first charge decides.
    """

    id: str
    created: str
    mode: str
    epsilon: float | None
    delta: float
    delta_fail: float = 0.0
    orders: tuple[tuple[float, float], ...] = ()
    adjacency: str | None = None
    unit: str | None = None

    def record(self) -> dict[str, Any]:
        """First line of the file."""
        return {"ledger": VERSION, **asdict(self)}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Terms:
        """What the first line says."""
        if record.get("ledger") != VERSION:
            raise ValueError(f"it does not begin like a ledger of version {VERSION}")
        given = {f.name: record[f.name] for f in fields(cls)}
        if given["mode"] not in MODES:
            raise ValueError(f"mode={given['mode']!r} must be one of {', '.join(MODES)}")
        return cls(**{**given, "orders": tuple(map(tuple, given["orders"]))})


@dataclass
class Entry:
    """One charge.

    Parameters
    ----------
    id : str
        Of the reservation, or of the declaration.
    at : str
        ISO time.
    charge : Charge
    about : dict
        What spends, in words, and what its own statement says; see `FitBook.about`.
    key : str or None
        Of the disjoint block.
    units : str or None
        Which check compared the block's units with those of other keys.
    executed : dict or None
        Queries by touch name; None until the fit has ended.
    resumed_from : dict or None
        Queries by touch name that were behind the checkpoint with which the fit was last gone on with, so that a
        second copy of it is told from a later one.
    """

    id: str
    at: str
    charge: Charge
    about: dict[str, Any]
    key: str | None = None
    units: str | None = None
    executed: dict[str, int] | None = None
    resumed_from: dict[str, int] | None = None

    @property
    def void(self) -> bool:
        """Whether it ended without a query, so that nothing was released."""
        return self.executed is not None and not any(self.executed.values())

    def outran(self, behind: Mapping[str, int]) -> bool:
        """Whether the fit went on since a checkpoint was written with so many queries behind it.

        True as well where it was gone on with from there and nothing was written since: nobody can tell whether that
        was another copy.
        """
        counts = {touch.name: touch.count for touch in self.charge.touches}
        if self.void or all(behind[name] == count for name, count in counts.items()):
            return False  # nothing was asked, or nothing is left to ask
        if any(behind[name] < (self.executed or {}).get(name, 0) for name in counts):
            return True
        before = self.resumed_from
        return before is not None and not (
            all(behind[name] >= before[name] for name in counts) and any(behind[name] > before[name] for name in counts)
        )

    @property
    def whole(self) -> bool:
        """Whether all was executed, as far as anybody knows."""
        return self.executed is None or all(self.executed.get(t.name, 0) == t.count for t in self.charge.touches)


@dataclass
class Declared:
    """A charge that may be made `count` times."""

    entry: Entry
    count: int


@dataclass
class Accounts:
    """State of a ledger after the records so far."""

    terms: Terms | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    declared: list[Declared] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    looks: list[str] = field(default_factory=list)

    def apply(self, record: Mapping[str, Any]) -> None:
        """Follow one record."""
        if self.terms is None:
            self.terms = Terms.of(record)
        elif "open" in record:
            self.open.add(record["open"])
        elif "close" in record:
            self.open.discard(record["close"])
            self.closed.add(record["close"])
        elif "reserve" in record:
            self.entries[record["reserve"]] = _entry(record["reserve"], record)
        elif "settle" in record:
            self.entries[record["settle"]].executed = dict(record["executed"])
        elif "reopen" in record:
            entry = self.entries[record["reopen"]]
            entry.executed, entry.resumed_from = None, record.get("behind")  # files of older versions have none
        elif "declare" in record:
            self.declared.append(Declared(_entry(record["declare"], record), int(record["count"])))
        elif "look" in record:
            self.looks.append(str(record["look"]))
        else:
            raise ValueError(f"unknown entry {str(dict(record))[:80]}")

    @property
    def counted(self) -> list[Entry]:
        """Charges that were not void."""
        return [entry for entry in self.entries.values() if not entry.void]

    @property
    def adjacency(self) -> str | None:
        """Of all charges; None before the first."""
        return self.terms.adjacency or next((c.adjacency for c in self._charges()), None)

    @property
    def unit(self) -> str | None:
        """Of all charges; None before the first."""
        return self.terms.unit or next((c.unit for c in self._charges()), None)

    def _charges(self) -> list[Charge]:
        kept = [*(d.entry for d in self.declared), *self.counted]
        return [entry.charge for entry in kept if phases(entry.charge.event())]


def _entry(name: str, record: Mapping[str, Any]) -> Entry:
    charge, about = charge_from_dict(record["charge"]), dict(record["about"])
    return Entry(name, record["at"], charge, about, record["key"], record["units"], resumed_from=record.get("behind"))


def by_key(entries: list[Entry]) -> dict[str | None, list[Entry]]:
    """For each key of disjoint blocks the charges that one of its units pays; only None where there are none."""
    keys = dict.fromkeys(entry.key for entry in entries if entry.key is not None)
    if not keys:
        return {None: entries}
    return {key: [entry for entry in entries if entry.key in (None, key)] for key in keys}
