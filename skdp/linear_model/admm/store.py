"""The file that lets a site go on after a crash: its place in the rounds, its book, and the reply it gave last."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skdp.accounting.file_lock import locked
from skdp.accounting.whole_file import write_whole
from skdp.contract.shown import shown
from skdp.exceptions import ProtocolError

__all__ = ["SiteStore"]

_VERSION = 1


class SiteStore:
    """A file of one site, which holds noisy numbers and counts, and no row. Keep it as the rows are kept.

    Parameters
    ----------
    path : path
    terms : dict
        As `Terms.to_dict` gives them.
    site : str
    rows : sequence of ndarray, StreamedRows or ShiftedRows
        The site's own rows. A digest of them under a random key is stored, so that others are not mistaken for them;
        whoever has the file and knows all rows but one could try what the last one is.

    Raises
    ------
    ProtocolError
        Another process uses the file, or it cannot be locked.
    """

    def __init__(self, path: Any, terms: dict, site: str, rows: Sequence[np.ndarray]):
        self.path = Path(path).expanduser().resolve()
        self._terms, self._site, self._rows = terms, site, rows
        self._key = secrets.token_bytes(32)
        self._lock = contextlib.ExitStack()
        if not self.path.parent.is_dir():
            raise ProtocolError(f"store={str(path)!r}: there is no folder {str(self.path.parent)!r}; make it first")
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

    def write(self, book: dict, iterate: dict, answered: Mapping[bytes, bytes], memo: dict) -> None:
        """Replace the file as a whole, on disk before this returns."""
        content = {
            "version": _VERSION,
            "terms": self._terms,
            "site": self._site,
            "key": self._key.hex(),
            "rows": self._digest(),
            "book": book,
            "iterate": iterate,
            "answered": [[base64.b64encode(message).decode() for message in pair] for pair in answered.items()],
            "memo": memo,
        }
        write_whole(self.path, json.dumps(content).encode())

    def read(self) -> tuple[dict, dict, dict[bytes, bytes], dict]:
        """What `write` was given.

        Raises
        ------
        ProtocolError
            The file is not one of this site with these terms and rows.
        """
        try:
            content = json.loads(self.path.read_bytes())
            version, terms, site = content["version"], content["terms"], content["site"]
            key, rows = bytes.fromhex(content["key"]), content["rows"]
            book, iterate, pairs, memo = (content[name] for name in ("book", "iterate", "answered", "memo"))
            answered = {base64.b64decode(call): base64.b64decode(reply) for call, reply in pairs}
        except (ValueError, KeyError, TypeError) as error:
            raise ProtocolError(f"store={str(self.path)!r} is no file of a site: {error!r}") from None
        self._key, self._known = key, None
        other = [f"{name} ({shown(terms.get(name))}, now {shown(now)})" for name, now in self._terms.items()
                 if terms.get(name) != now]  # fmt: skip
        if version != _VERSION:
            other.append(f"the version of the file ({version}, now {_VERSION})")
        if site != self._site:
            other.append(f"the site ({site!r}, now {self._site!r})")
        if rows != self._digest():
            other.append("the rows")
        if other:
            self.close()
            raise ProtocolError(
                f"store={str(self.path)!r} was begun with other things than now: {', '.join(other)}. Go on with what "
                "it was begun with; or begin with a new file, and count what the old one has spent"
            )
        return book, iterate, answered, memo

    def remove(self) -> None:
        """Take the file away."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others use the file."""
        self._lock.close()

    _known: str | None = None

    def _digest(self) -> str:
        """Of the rows, under the key."""
        if self._known is None:
            found = hmac.new(self._key, digestmod="sha256")
            for array in self._rows:
                found.update(str((array.shape, array.dtype)).encode())
                for part in array.contents() if hasattr(array, "contents") else (array,):
                    found.update(np.ascontiguousarray(part))
            self._known = found.hexdigest()
        return self._known
