"""Files that are there as a whole or as they were before, whatever happens while they are written."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(target: Path, *parts: bytes) -> None:
    """Write a file for its owner alone, and flush it and its place in the folder to disk before returning.

    Parameters
    ----------
    target : Path
        With all links resolved, or a link would be replaced and not what it points to.
    *parts : bytes
    """
    partial = target.with_name(target.name + ".partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, target)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
