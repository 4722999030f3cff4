"""The file of a ledger: JSON lines that are only ever appended, by several processes in turn.

A line counts once it ends in a newline and is on disk. A process that was killed in the middle of one leaves a torn
line: nothing was released on its strength, so it is skipped, and the next writer says so on a line of its own. A line
that cannot be read and was not so marked means that somebody changed the file, which is an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from skdp.accounting.file_lock import locked

Record = Mapping[str, Any]
_TORN = "torn"


class LedgerFile:
    """Appends records, and hands those of all writers to `apply`, each once and in order.

    Parameters
    ----------
    path : Path
        With all links resolved.
    apply : callable
        Called with every record; raises `ValueError` for one that makes no sense.
    """

    def __init__(self, path: Path, apply: Callable[[Record], None]):
        self.path = path
        self._apply = apply
        self._read = 0  # bytes, all of whole lines
        self._lines = 0
        self._unreadable: int | None = None  # number of the last line, until it is known to be torn
        self._identity: tuple[int, int] | None = None
        self.renew_lock()

    def renew_lock(self) -> None:
        """In a fork of a process that may have held the lock in another thread."""
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep other writers out, in this process and in others, and read what they have written."""
        with self._lock, locked(self.path, wait=True):
            self.refresh(strict=True)
            if self._read and not self.path.exists():
                raise ValueError(f"{self.path}: the file of this ledger was removed, and with it what was spent")
            yield

    def refresh(self, strict: bool = False) -> None:
        """Read what was written since the last time; `strict` refuses a last line that only a torn one would excuse."""
        with self._lock:
            if not self.path.exists():
                return
            with open(self.path, "rb") as file:
                found = os.fstat(file.fileno())
                if self._read and (found.st_size < self._read or (found.st_dev, found.st_ino) != self._identity):
                    raise ValueError(f"{self.path}: the file of this ledger was replaced or cut while it was in use")
                self._identity = (found.st_dev, found.st_ino)
                file.seek(self._read)
                whole, newline, _ = file.read().rpartition(b"\n")
            for line in whole.split(b"\n") if newline else ():
                self._take(line, self._lines + 1)
                self._lines += 1
                self._read += len(line) + 1
            if strict and self._unreadable is not None:
                self._refuse(self._unreadable, "it is no JSON")

    def _take(self, line: bytes, number: int) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if self._unreadable is not None and not (isinstance(record, dict) and _TORN in record):
            self._refuse(self._unreadable, "it is no JSON")
        self._unreadable = None
        if not isinstance(record, dict):
            self._unreadable = number
        elif _TORN not in record:
            try:
                self._apply(record)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self._refuse(number, str(error) or repr(error))

    def _refuse(self, line: int, why: str) -> None:
        raise ValueError(f"{self.path}, line {line}: this is no ledger, or it was changed by somebody: {why}")

    def append(self, *records: Record) -> None:
        """Write records and flush them to disk; only inside a `transaction`.

        Raises
        ------
        OSError
            They could not be written. Whole lines that reached the file count nevertheless.
        """
        text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
        with open(os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644), "r+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end > self._read:
                text = b"\n" + json.dumps({_TORN: end - self._read}).encode() + b"\n" + text
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if end == 0:
            _flush_folder(self.path.parent)
        self.refresh()


def _flush_folder(folder: Path) -> None:
    """A new file's name is on disk only once its folder is."""
    if hasattr(os, "O_DIRECTORY"):
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
