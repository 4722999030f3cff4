"""The checkpoint file of a fit: what it holds, written so that a crash leaves the old file or the new one."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skdp.accounting import FitBook
from skdp.contract import Public

__all__ = ["SavedFit", "restore", "save"]

_VERSION = 1


@dataclass
class SavedFit:
    """A fit between two steps. No generator is alive then, so this is everything.

    Parameters
    ----------
    estimator : DPEstimator
        Its parameters, without fitted state.
    public : Public
    delta : float
    book : FitBook
        Counts and leases.
    estimates : Estimates or None
        None before training began.
    training : dict or None
        Module, optimizer, plan state, averages and public history; None before training began.
    """

    estimator: Any
    public: Public
    delta: float
    book: Any
    estimates: Any = None
    training: dict[str, Any] | None = None


def save(path: Any, fit: SavedFit) -> None:
    """Write the file as a whole and flush it to disk before returning."""
    target = Path(path).expanduser()
    partial = target.with_name(target.name + ".partial")
    payload = {**vars(fit), "book": fit.book.to_dict(), "version": _VERSION}
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        pickle.dump(payload, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, target)


def restore(path: Any, kind: type) -> SavedFit:
    """Read a checkpoint of an estimator of a given class.

    Raises
    ------
    ValueError
        For a file that is no checkpoint, of another class, or of a fit that stopped before training.
    """
    try:
        payload = pickle.loads(Path(path).expanduser().read_bytes())
        version = payload.pop("version")
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"path={str(path)!r} is no checkpoint of a fit: {error}") from error
    if version != _VERSION:
        raise ValueError(f"path={str(path)!r} has checkpoint version {version}; this skdp reads {_VERSION}")
    saved = SavedFit(**{**payload, "book": FitBook.from_dict(payload["book"])})
    if not isinstance(saved.estimator, kind):
        raise ValueError(
            f"path={str(path)!r} holds a {type(saved.estimator).__name__}; call {type(saved.estimator).__name__}.resume"
        )
    if saved.training is None:
        spent = saved.book.executed(saved.book.reservation)
        raise ValueError(
            f"the fit in path={str(path)!r} stopped before its first step, so there is nothing to go on with; count "
            f"what it had leased as spent ({spent}) and fit anew"
        )
    return saved
