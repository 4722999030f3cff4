"""A ledger as one process sees it: its file, and what the records in it add up to."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from skdp.accounting.events_json import charge_to_dict
from skdp.accounting.ledger_admission import admit, check_kind
from skdp.accounting.ledger_entries import Accounts, Entry, Terms
from skdp.accounting.ledger_file import LedgerFile
from skdp.contract import Charge


def now() -> str:
    """ISO time (UTC), to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class LedgerStore:
    """File and accounts of one ledger.

    Parameters
    ----------
    path : path-like
    name : str, optional
        How messages speak of it.
    """

    def __init__(self, path: str | os.PathLike, name: str | None = None):
        self.path = Path(path).expanduser().resolve()
        self.name = name or f"the privacy ledger {os.fspath(path)}"
        self.accounts = Accounts()
        self._file = LedgerFile(self.path, self.accounts.apply)

    @property
    def terms(self) -> Terms:
        """What was fixed when the ledger was opened."""
        return self.accounts.terms

    def refresh(self, strict: bool = False) -> Accounts:
        """The accounts with whatever any process has written."""
        self._file.refresh(strict)
        return self.accounts

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Accounts]:
        """Keep other writers out; the accounts as they are now."""
        with self._file.transaction():
            yield self.accounts

    def renew_lock(self) -> None:
        """In a fork of this process."""
        self._file.renew_lock()

    def begin(self, terms: Terms) -> None:
        """Write the first line, unless the file has one."""
        with self.transaction():
            if self.terms is None:
                self._file.append(terms.record())

    def write(self, **record: Any) -> None:
        """Append one record, with the time; only inside a `transaction`."""
        self._file.append({"at": now(), **record})

    def admit(self, entry: Entry) -> bool:
        """Check a charge; whether the ledger does not hold it yet. Only inside a `transaction`."""
        held = self.accounts.entries.get(entry.id)
        if held is not None and not held.void:
            return False
        admit(self.accounts, entry, self.name)
        return True

    def outran(self, name: str, behind: Mapping[str, int]) -> bool:
        """Whether a fit that the ledger holds is further than its checkpoint; see `Entry.outran`."""
        held = self.accounts.entries.get(name)
        return held is not None and held.outran(behind)

    def check_kind(self, entry: Entry) -> None:
        """Refuse a charge of another adjacency or unit, or for too few rows."""
        check_kind(self.accounts, entry, self.name)

    def reserve(self, entry: Entry, behind: Mapping[str, int] | None = None) -> None:
        """Write a charge down that was admitted, or that the fit goes on; only inside the same `transaction`."""
        if entry.id in self.accounts.entries:
            self.write(reopen=entry.id, behind=behind)
        else:
            self.write(reserve=entry.id, behind=behind, **_written(entry))

    def declare(self, entry: Entry, count: int) -> None:
        """Write down that a charge may be made so often; only inside a `transaction`."""
        self.write(declare=entry.id, count=count, **_written(entry))

    def settle(self, name: str, executed: Mapping[str, int]) -> None:
        """Note what was executed of a charge. A file that is gone was that of a ledger that is over."""
        if not self.path.exists():
            self.accounts.entries[name].executed = dict(executed)
            return
        with self.transaction():
            self.write(settle=name, executed={touch: int(count) for touch, count in executed.items()})


def _written(entry: Entry) -> dict[str, Any]:
    charge: Charge = entry.charge
    return {"charge": charge_to_dict(charge), "about": entry.about, "key": entry.key, "units": entry.units}
