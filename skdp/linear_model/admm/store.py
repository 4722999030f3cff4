"""The file that lets a site go on after a crash: its place in the rounds, its book, and the reply it gave last."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path
from typing import Any

from skdp.accounting.file_lock import locked
from skdp.accounting.whole_file import write_whole
from skdp.exceptions import ProtocolError

__all__ = ["SiteStore"]

_VERSION = 1


class SiteStore:
    """A file of one site, which holds noisy numbers and counts, and no row.

    Parameters
    ----------
    path : path
    terms : str
        Digest of the terms.
    site : str

    Raises
    ------
    ProtocolError
        Another process uses the file.
    """

    def __init__(self, path: Any, terms: str, site: str):
        self.path = Path(path).expanduser().resolve()
        self._terms, self._site = terms, site
        self._lock = contextlib.ExitStack()
        try:
            self._lock.enter_context(locked(self.path, wait=False))
        except OSError as error:
            raise ProtocolError(
                f"store={str(path)!r} is in use by another process, or cannot be locked ({error}): two sites that go "
                "on from one file would draw noise twice for one round"
            ) from None

    @property
    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return self.path.exists()

    def write(self, book: dict, iterate: dict, last: tuple[bytes, bytes] | None, memo: dict) -> None:
        """Replace the file as a whole, on disk before this returns."""
        exchanged = None if last is None else [base64.b64encode(message).decode() for message in last]
        content = {"version": _VERSION, "terms": self._terms, "site": self._site}
        content |= {"book": book, "iterate": iterate, "last": exchanged, "memo": memo}
        write_whole(self.path, json.dumps(content).encode())

    def read(self) -> tuple[dict, dict, tuple[bytes, bytes] | None, dict]:
        """What `write` was given.

        Raises
        ------
        ProtocolError
            The file is not one of this site with these terms.
        """
        try:
            content = json.loads(self.path.read_bytes())
            version, terms, site = content["version"], content["terms"], content["site"]
            book, iterate, last, memo = (content[name] for name in ("book", "iterate", "last", "memo"))
        except (ValueError, KeyError, TypeError) as error:
            raise ProtocolError(f"store={str(self.path)!r} is no file of a site: {error!r}") from None
        if (version, terms, site) != (_VERSION, self._terms, self._site):
            raise ProtocolError(
                f"store={str(self.path)!r} belongs to site {site!r} under terms {str(terms)[:12]} (version {version}), "
                f"not to {self._site!r} under {self._terms[:12]}: go on with the terms and name that it was begun "
                "with, or begin with a new file, and count what the old one has spent"
            )
        return book, iterate, None if last is None else tuple(base64.b64decode(part) for part in last), memo

    def close(self) -> None:
        """Let others use the file."""
        self._lock.close()
