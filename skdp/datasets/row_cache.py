"""Conversions to mapped files: there as a whole or not at all, and used again while their source is the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from skdp.accounting.file_lock import locked
from skdp.accounting.whole_file import write_whole

__all__ = ["Source", "mapped"]

_VERSION = 1


class Source(Protocol):
    """Rows that can be converted.

    Parameters
    ----------
    name : str
        Of the folder, for whoever looks at it.
    key : dict
        What is converted, and how; plain values.
    names : list of str or None
        Of the columns.
    bounds : ndarray or None
        Public bounds of the columns.
    layout : dict
        "X" and "y": (shape, name of the type) of each.
    """

    name: str
    key: dict[str, Any]
    names: list[str] | None
    bounds: np.ndarray | None
    layout: dict[str, tuple[tuple[int, ...], str]]

    def state(self) -> Any:
        """What tells whether the source has changed, as plain values; None where nothing does."""

    def pieces(self) -> Iterator[dict[str, np.ndarray]]:
        """Runs of rows, in order: "X" and "y" of each."""


def mapped(cache: Path, source: Source) -> tuple[np.memmap, np.memmap, float, bool, Path]:
    """Open the conversion of a source, after making it if need be.

    Parameters
    ----------
    cache : Path
    source : Source

    Returns
    -------
    X, y : memmap
    seconds : float
        What the conversion took.
    reused : bool
    folder : Path
    """
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = hashlib.sha256(json.dumps([_VERSION, source.key], sort_keys=True).encode()).hexdigest()
    folder = cache.resolve() / f"{source.name}-{key[:16]}"
    with locked(folder, wait=True):
        found = _opened(folder, source)
        if found is not None:
            return *found, True, folder
        _convert(folder, source)
        found = _opened(folder, source, check=False)
    return *found, False, folder


def _opened(folder: Path, source: Source, check: bool = True) -> tuple[np.memmap, np.memmap, float] | None:
    """The arrays, unless something is missing, cut short, or made from another state of the source."""
    try:
        facts = json.loads((folder / "rows.json").read_text())
        if check and (facts["state"] is None or facts["state"] != _plain(source.state())):
            return None
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("X", "y")]
        if [_plain((array.shape, array.dtype.name)) for array in arrays] != [facts["X"], facts["y"]]:
            return None
        return *arrays, facts["seconds"]
    except (OSError, ValueError, KeyError):
        return None


def _convert(folder: Path, source: Source) -> None:
    """Write everything beside the place where it belongs, and move it there at the end."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: whoever holds the lock is alone
    partial.mkdir(mode=0o700)
    begun, state = time.perf_counter(), _plain(source.state())
    try:
        _write_arrays(partial, source)
        if state != _plain(source.state()):
            raise ValueError(f"{source.name}: the source was changed while it was read; open it again")
        facts = {"state": state, "seconds": time.perf_counter() - begun, **source.layout}
        write_whole(partial / "rows.json", json.dumps(facts).encode())
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)  # of another state; who has it open keeps what is open
    os.replace(partial, folder)


def _write_arrays(folder: Path, source: Source) -> None:
    """Plain writes: a full disk is an error of theirs, and kills a process that writes through a map."""
    files = {}
    try:
        for name, (shape, dtype) in source.layout.items():
            files[name] = open(folder / f"{name}.npy", "wb", opener=_for_the_owner)
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(files[name], header)
        rows = 0
        for piece in source.pieces():
            for name, (shape, dtype) in source.layout.items():
                array = np.ascontiguousarray(piece[name], dtype=dtype).reshape(-1, *shape[1:])
                files[name].write(array.data)
            rows += len(piece["y"])
        if rows != source.layout["y"][0][0]:
            raise ValueError(f"{source.name}: the source was changed while it was read; open it again")
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    finally:
        for file in files.values():
            file.close()


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))
