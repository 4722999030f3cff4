"""The checkpoint file of a fit: what it holds, and how it is written so that a crash leaves the old or the new one.

Its first line is JSON: the book, the statement of what the fit may spend, and whether `fit` returned with it. Only
`resume` reads the rest, which is a pickle.
"""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from skdp.accounting import FitBook, PrivacyStatement
from skdp.accounting.file_lock import locked
from skdp.accounting.statement_text import round_up
from skdp.accounting.whole_file import write_whole
from skdp.callbacks import FitCheckpoint
from skdp.contract import Charge, Public
from skdp.distributed import Ranks

__all__ = [
    "Journal",
    "SavedFit",
    "exclusive",
    "find_checkpoint",
    "refuse_to_forget",
    "refuse_unresumable",
    "restore",
    "restore_training",
]

_VERSION = 3


@dataclass
class SavedFit:
    """A fit between two steps. No generator is alive then, so this is everything.

    Parameters
    ----------
    estimator : DPEstimator
        Its parameters, without fitted state.
    public : Public
        Of the problem, as it was before anything was released.
    delta : float
    book : FitBook
        Counts and leases.
    statement : dict
        What everything costs that this estimator did and may yet do: earlier and failed fits, and this one as planned.
    earlier : dict or None
        Statement of the fits that this one goes on from (``warm_start=True``).
    failed : list of dict
        Statements of fits of the same estimator that ended in an error.
    estimates : Estimates or None
        None before training began.
    training : dict or None
        Module, optimizer, plan state, averages and public history; None before training began.
    """

    estimator: Any
    public: Public
    delta: float
    book: Any
    statement: dict[str, Any]
    earlier: dict[str, Any] | None = None
    failed: list[dict[str, Any]] | tuple = ()
    estimates: Any = None
    training: dict[str, Any] | None = None

    def check_public(self, public: Public) -> None:
        """Raise a `ValueError` if the rows that the fit would go on with differ in a public fact from those it had."""
        if public == self.public:
            return
        pairs = [
            (field.name, getattr(self.public, field.name), getattr(public, field.name)) for field in fields(Public)
        ]
        differing = ", ".join(f"{name} was {old!r} and is {new!r}" for name, old, new in pairs if old != new)
        raise ValueError(f"the data has changed since the stopped fit: {differing}")


def refuse_unresumable(checkpoint: FitCheckpoint | None, charge: Charge) -> None:
    """Refuse a checkpoint of what could not go on from it.

    Raises
    ------
    ValueError
    """
    fleeting = [touch for touch in charge.touches if not touch.resumable]
    if checkpoint is not None and fleeting:
        touch = fleeting[0]
        raise ValueError(
            f"callbacks: FitCheckpoint cannot serve touch {touch.name!r} with {touch.sampler}: whose turn it is, and "
            "earlier noise, are secrets that are written nowhere, so nothing could go on from the file. Nothing was "
            "spent; fit without FitCheckpoint, or use mechanism='dp-sgd'"
        )


def read_file(path: Any) -> tuple[dict[str, Any], bytes]:
    """First line and rest of a checkpoint.

    Raises
    ------
    ValueError
        For a file that is no checkpoint, or of another version.
    """
    first, _, rest = _real(path).read_bytes().partition(b"\n")
    try:
        facts = json.loads(first)
        version = facts["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"path={str(path)!r} is no checkpoint of a fit: {error}") from error
    if version != _VERSION:
        raise ValueError(f"path={str(path)!r} has checkpoint version {version}; this skdp reads {_VERSION}")
    return facts, rest


def write_file(path: Any, facts: dict[str, Any], rest: bytes) -> None:
    """Write the file as a whole and flush it, and its place in the folder, to disk before returning."""
    write_whole(_real(path), json.dumps({"version": _VERSION, **facts}, allow_nan=False).encode(), b"\n", rest)


def _real(path: Any) -> Path:
    """The file behind all names: through links, two fits would have two locks, or leave the target with old counts."""
    return Path(path).expanduser().resolve()


def refuse_to_forget(path: Any, kind: type) -> None:
    """Keep a new fit from overwriting what an unfinished one may have spent.

    Raises
    ------
    ValueError
        Where the file holds a fit that never returned with its statement, or is no checkpoint.
    """
    if path is None or not _real(path).exists():
        return
    try:
        facts, _ = read_file(path)
    except ValueError as error:
        raise ValueError(f"FitCheckpoint: {error}; a fit would overwrite it: move it, or name another path") from error
    if not facts["returned"]:
        spent = PrivacyStatement.from_dict(facts["statement"])
        raise ValueError(
            f"FitCheckpoint(path={str(path)!r}): the file holds a fit that was stopped before it returned. A new one "
            f"would overwrite it and forget what it may have spent, up to epsilon={round_up(spent.epsilon)} at delta="
            f"{round_up(spent.delta)}. Go on with it by {kind.__name__}.resume({str(path)!r}, X, y); or move the file, "
            "fit anew, and count both: skdp.accounting.compose([FitCheckpoint(moved).statement(), model.privacy_])"
        )


def restore(path: Any, kind: type, ranks: Ranks | None = None) -> SavedFit:
    """Read a checkpoint of an estimator of a given class; its callback then writes to `path`.

    Where there are ranks, rank 0 reads the file for all.

    Raises
    ------
    ValueError
        For a file that is no checkpoint, of another class or version, or of a fit that stopped before training.
    """
    read = read_file(path) if ranks is None or ranks.leads else None
    facts, rest = read if ranks is None else ranks.broadcast(read, "the checkpoint")
    try:
        saved = SavedFit(book=FitBook.from_dict(facts["book"]), statement=facts["statement"], **pickle.loads(rest))
    except Exception as error:
        raise ValueError(f"path={str(path)!r} is no checkpoint of a fit: {error}") from error
    if not isinstance(saved.estimator, kind):
        raise ValueError(
            f"path={str(path)!r} holds a {type(saved.estimator).__name__}; call {type(saved.estimator).__name__}.resume"
        )
    if saved.training is None:
        raise ValueError(
            f"the fit in path={str(path)!r} stopped before its first step, so there is nothing to go on with; move "
            "the file, fit anew, and count FitCheckpoint(moved).statement() as spent"
        )
    callback = find_checkpoint(saved.estimator, ranks)
    if callback is not None:
        callback.path = path  # a file that was moved goes on where it lies now
    return saved


@contextlib.contextmanager
def exclusive(path: Any) -> Iterator[None]:
    """Keep other fits from a checkpoint file while one uses it; no file, no lock."""
    if path is None:
        yield
        return
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(_real(path), wait=False))
        except OSError as error:
            raise ValueError(
                f"path={str(path)!r} is in use by another fit, or cannot be locked ({error}); two fits from one "
                "checkpoint would spend one budget twice: wait for the other, or write to another path"
            ) from None
        yield


def find_checkpoint(estimator: Any, ranks: Ranks | None = None) -> FitCheckpoint | None:
    """The callback that writes checkpoints, where the user passed one; only rank 0 has its folder."""
    callbacks = [c[1] if isinstance(c, tuple) else c for c in estimator.callbacks or []]
    found = [c for c in callbacks if isinstance(c, FitCheckpoint)]
    if len(found) > 1:
        raise ValueError(
            f"callbacks: {len(found)} FitCheckpoint were passed; one fit has one file, or each could be resumed and "
            "spend the same budget"
        )
    if not found or (ranks is not None and not ranks.leads):
        return found[0] if found else None
    return found[0].initialize()


class Journal:
    """Writes one fit down, and reads it back.

    Parameters
    ----------
    estimator : DPEstimator
        Only its parameters are kept, as they are now.
    public, delta, book, statement, earlier, failed
        As in `SavedFit`.
    path : str or path or None
        Where to write; None writes nothing.
    lease : int or None
        Queries of a touch that may be asked before the next write; None for all of them.
    """

    def __init__(self, estimator: Any, public: Public, delta: float, book: FitBook, path: Any, lease: int | None,
                 statement: dict, earlier: dict | None, failed: list) -> None:  # fmt: skip
        self.path, self.lease, self._book = path, lease, book
        if path is None:
            return
        self.path = _real(path)  # whatever becomes of the working directory
        try:
            # Callbacks gather things while they run, so the copy is made before.
            blank = copy.deepcopy(type(estimator)(**estimator.get_params(deep=False)))
        except Exception as error:
            raise ValueError(f"FitCheckpoint: the parameters of the estimator cannot be saved: {error}") from error
        self._fit = SavedFit(blank, public, delta, book, statement, earlier, failed)

    def write(self, estimates: Any = None, training: dict | None = None) -> None:
        """Put the book, and the training so far, on disk."""
        if self.path is not None:
            rest = {**vars(self._fit), "estimates": estimates, "training": training}
            facts = {"returned": False, "book": rest.pop("book").to_dict(), "statement": rest.pop("statement")}
            write_file(self.path, facts, pickle.dumps(rest))

    def returned(self) -> None:
        """Note that the fit gave its model and statement away, so that the file may be overwritten by another fit."""
        if self.path is not None:
            facts, rest = read_file(self.path)
            write_file(self.path, {**facts, "returned": True}, rest)

    def follow(self, engine: Any, average: Any, estimates: Any, state: dict[str, Any]) -> None:
        """Let the callback write what training holds."""

        def lease_and_save(callback: FitCheckpoint, final: bool = False) -> None:
            """Lease the next steps, then write them down together with the state that they start from."""
            reservation = self._book.reservation
            if final:
                self._book.settle(reservation)
            else:
                spent = self._book.executed(reservation)
                self._book.extend(reservation, {name: count + callback.every for name, count in spent.items()})
            training = {
                "module": engine.module_.state_dict(),
                "optimizer": engine.optimizer_.state_dict(),
                "state": state,
                "average": (average.count, average.means),
                "history": list(engine.history),
            }
            self.write(estimates, training)

        engine.lease_and_save = lease_and_save


def restore_training(saved: dict[str, Any], engine: Any, average: Any, state: dict[str, Any], step: int) -> None:
    """Set a fresh engine to where the file stands, or behind the leased steps, which are forfeited, at `step`."""
    engine.module_.load_state_dict(saved["module"])
    engine.optimizer_.load_state_dict(saved["optimizer"])
    average.count, average.means = saved["average"]
    engine.history.extend(saved["history"])
    state.update(saved["state"], step=max(step, saved["state"]["step"]))
