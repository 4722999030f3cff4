"""Which ranks are gone, as those that are left find out."""

from __future__ import annotations

import threading
import time
from typing import Any

__all__ = ["missing_ranks"]

_GRACE = 3.0  # seconds within which those that are left have noticed


def missing_ranks(store: Any, rank: int, size: int) -> list[int]:
    """Numbers of the ranks that do not sign in; empty where nobody can tell.

    Parameters
    ----------
    store : Store
        Of the group; it may have gone with the rank that held it.
    rank, size : int
    """
    found: list[int] = []

    def ask() -> None:
        names, end = [f"skdp/left/{other}" for other in range(size)], time.monotonic() + _GRACE
        try:
            store.set(names[rank], "1")
            while time.monotonic() < end and not store.check(names):
                time.sleep(0.05)
            found.extend(other for other, name in enumerate(names) if not store.check([name]))
        except RuntimeError:
            return

    # In a thread, for a store whose process hangs does not answer.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2 * _GRACE)
    return list(found)
