"""What books of fits write into the ledgers that are open: charges, what was executed, looks without protection."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from skdp.accounting.ledger_entries import Entry
from skdp.accounting.ledger_hosts import host
from skdp.accounting.ledger_sessions import Session, live
from skdp.accounting.ledger_store import LedgerStore, now
from skdp.contract import Charge
from skdp.exceptions import SkdpError

__all__ = ["look", "reserve", "settle"]


def reserve(
    name: str, charge: Charge, about: dict[str, Any], behind: Mapping[str, int] | None = None
) -> tuple[str, tuple[LedgerStore, ...]]:
    """Enter a charge in every open ledger that does not hold it: all check first, then all write.

    Parameters
    ----------
    name : str
        Of the charge.
    charge : Charge
    about : dict
    behind : mapping of str to int, optional
        Of a fit that goes on: how many queries of each touch its checkpoint has behind it. Where a ledger knows that
        the fit went on from another copy of it, this one is another fit.

    Returns
    -------
    str
        Name under which they hold it: a new one for such another fit.
    tuple of LedgerStore
        Those that hold it now.

    Raises
    ------
    Exception
        Of the first ledger that refuses; none has written then.
    """
    sessions = live()
    with contextlib.ExitStack() as transactions:
        for session in sessions:
            transactions.enter_context(session.store.transaction())
        if behind is not None and any(session.store.outran(name, behind) for session in sessions):
            name = uuid.uuid4().hex
        at = now()
        entries = [(session.store, Entry(name, at, charge, about, *session.key_and_units)) for session in sessions]
        new = {store: _admit(session, entry) for session, (store, entry) in zip(sessions, entries, strict=True)}
        written = []
        try:
            for store, entry in entries:
                store.reserve(entry, behind)
                written.append(store)
        except OSError:
            for store in written:
                if new[store]:  # nothing will run on its strength
                    store.write(settle=name, executed={})
            raise
    return name, tuple(new)


def _admit(session: Session, entry: Entry) -> bool:
    """See `LedgerStore.admit`; who is refused by the ledger of another process is told whose it is."""
    try:
        return session.store.admit(entry)
    except (SkdpError, ValueError) as error:
        if session.joined:
            who = f"process {session.pid}" if session.pid else "a process"
            where = "" if session.host == host() else " of another machine"
            error.args = (
                f"{error}. This ledger was opened by {who}{where}, which this process ({os.getpid()}) was started by "
                "or got work from; where what is fitted here has nothing to do with it, skdp.PrivacyLedger.leave() "
                "ends that",
            )
        raise


def settle(stores: Iterable[LedgerStore], name: str, executed: Mapping[str, int]) -> None:
    """Note what was executed. Where that cannot be written, the charge stays as if all was."""
    for store in stores:
        with contextlib.suppress(OSError, ValueError):
            store.settle(name, executed)


def look(what: str) -> None:
    """Note in every open ledger that private rows were looked at without protection."""
    for session in live():
        with session.store.transaction():
            session.store.write(look=what)
