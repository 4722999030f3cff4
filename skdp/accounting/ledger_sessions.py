"""The ledgers that are open, and how the processes that work for this one learn of them.

A *session* is one entry of a ledger's ``with`` block. The stack of sessions belongs to the process, so that all its
threads see it. Other processes join by a *token*, which says where the ledger's file is. Tokens travel inside every
estimator that is pickled while a ledger is open (`LedgerAware`), in the environment of processes that are started
meanwhile, and on a notice board for those that were started before, by this process or by one that it started. Who
joins passes tokens on in all these ways. An estimator that came with tokens is passed on with them, also by a process
that cannot use them, as the scheduler of a cluster may be. A session is over once its file says so, wherever it was
joined.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sklearn.utils.validation import check_is_fitted

from skdp.accounting import notice_board
from skdp.accounting.ledger_hosts import hold_open, host, why_unsafe
from skdp.accounting.ledger_store import LedgerStore
from skdp.exceptions import NotFittedError, PlanViolationError
from skdp.worker_process import is_cluster_worker

_ENVIRONMENT = "SKDP_LEDGERS"
_ATTRIBUTE = "_skdp_ledgers"
_OPEN: list[Session] = []
_LOCK = threading.RLock()
_seen_environment: str | None = None
_seen_boards: tuple[str, ...] = ()
_LEFT: set[str] = set()
_CAME_WITH: weakref.WeakKeyDictionary[Any, list[Token]] = weakref.WeakKeyDictionary()


class Token(NamedTuple):
    """Where another process finds a session."""

    session: str
    path: str
    ledger: str
    block: tuple[str, str, str | None] | None
    host: str
    temporary: bool
    pid: int = 0


@dataclass(eq=False)
class Session:
    """One open ledger.

    Parameters
    ----------
    id : str
    store : LedgerStore
    temporary : bool
        Whether the file goes when the ledger goes.
    block : tuple of (id, key, units) or None
        The disjoint block that is open: its id, which the file knows as open, its key, and which check compared its
        units.
    bystanders : frozenset of Thread
        Threads that were there before the block was, and may be busy with other rows.
    entered : bool
        Whether this process entered the block, and not the one that opened the ledger or was forked from.
    joined : bool
        Whether it was opened by another process, such as the one that this process is a fork of.
    host : str
        Machine of the process that opened it.
    pid : int
        Number of that process there; 0 where nobody said.
    release : callable, optional
        Ends what shows other machines that it is open.
    unreachable : str
        Why a joined session's file cannot be read; nothing can be spent then.
    """

    id: str
    store: LedgerStore
    temporary: bool = False
    block: tuple[str, str, str | None] | None = None
    bystanders: frozenset[threading.Thread] = frozenset()
    entered: bool = False
    joined: bool = False
    host: str = field(default_factory=host)
    pid: int = field(default_factory=os.getpid)
    release: Callable[[], None] | None = None
    unreachable: str = ""

    def token(self) -> Token:
        """What lets another process join."""
        terms = self.store.terms
        return Token(self.id, str(self.store.path), terms.id, self.block, self.host, self.temporary, self.pid)

    @property
    def over(self) -> bool:
        """Whether the process that opened it has closed it."""
        if not self.joined or self.unreachable:
            return False
        if not self.store.path.exists():
            if self.temporary:
                return True
            self.unreachable = f"its file {self.store.path} is gone"
            return False
        accounts = self.store.refresh()
        if self.id not in accounts.open | accounts.closed:
            self.unreachable = f"its file {self.store.path} looks here as it did before that was opened"
            return False
        return self.id in accounts.closed

    @property
    def blocked(self) -> bool:
        """Whether a block is open, here or where the ledger was opened."""
        return self.block is not None and self.block[0] in self.store.refresh().open

    @property
    def key_and_units(self) -> tuple[str | None, str | None]:
        """Of the block that a charge of this thread belongs to."""
        if self.block is None or threading.current_thread() in self.bystanders:
            return None, None
        block, key, units = self.block
        # A worker hears of a block when an estimator arrives, and of its end from the file alone.
        return (key, units) if block in self.store.accounts.open else (None, None)


# ------------------------------------------------------------------ this process
def push(session: Session) -> None:
    """Open a session."""
    _inherit()
    session.release = hold_open(session.store.path, session.id)
    with session.store.transaction():
        session.store.write(open=session.id)
    with _LOCK:
        _OPEN.append(session)
    publish()


def pop(session: Session) -> None:
    """Close it. Where that cannot be written, workers go on charging, which is the safe side.

    A fork of the process that opened it closes nothing: the others would hear that it is over while it goes on.
    """
    if session.joined:
        return
    with _LOCK:
        _OPEN.remove(session)
    publish()
    with contextlib.suppress(OSError, ValueError), session.store.transaction():
        session.store.write(close=session.id)
    with contextlib.suppress(OSError):
        session.release()


def enter_block(session: Session, key: str, units: str | None) -> None:
    """Charge what follows to one key."""
    block = uuid.uuid4().hex
    with session.store.transaction():
        session.store.write(open=block)
    session.bystanders = frozenset(threading.enumerate()) - {threading.current_thread()}
    session.block, session.entered = (block, key, units), True
    publish()


def leave_block(session: Session) -> None:
    """Charge what follows to everybody; a fork leaves alone what the process that it is a fork of has entered."""
    if not session.entered:
        return
    block, _, _ = session.block
    session.block, session.bystanders, session.entered = None, frozenset(), False
    publish()
    with session.store.transaction():
        session.store.write(close=block)


def publish() -> None:
    """Tell processes that are started from now on, and those that were started before."""
    global _seen_environment
    with _LOCK:
        found = tokens()
        if found:
            _seen_environment = os.environ[_ENVIRONMENT] = json.dumps(found)
        else:
            os.environ.pop(_ENVIRONMENT, None)
        said = {"open": found, "left": sorted(_LEFT)}
        notice_board.post(json.dumps(said) if found or _LEFT else None)


def _inherit() -> None:
    """Join what was open where this process was started, and what those it descends from have opened since."""
    global _seen_environment, _seen_boards
    with _LOCK:
        found = os.environ.get(_ENVIRONMENT)
        if found is not None and found != _seen_environment:
            _seen_environment = found
            _join_unless_left(json.loads(found), _LEFT)
        boards = notice_board.read_ancestors()
        if boards != _seen_boards:
            left = set(_LEFT)
            for board in map(json.loads, boards):  # the process that opened a session is the last to speak of it
                _join_unless_left(board["open"], left)
                left.update(board["left"])
        _seen_boards = boards


def _join_unless_left(found: Iterable[list], left: set[str]) -> None:
    """Join, except what this process, or one between it and the one that speaks, has nothing to do with."""
    join((token for token in (Token(*fields) for fields in found) if token.session not in left), weak=False)


def tokens() -> list[Token]:
    """Of all open sessions."""
    with _LOCK:
        return [session.token() for session in _OPEN if not session.unreachable]


def forget_joined() -> None:
    """Drop the sessions that other processes have opened so far."""
    _inherit()
    with _LOCK:
        _LEFT.update(session.id for session in _OPEN if session.joined)
        _OPEN[:] = [session for session in _OPEN if not session.joined]
        _CAME_WITH.clear()
    publish()


def live() -> list[Session]:
    """Open sessions, one for each ledger: the innermost."""
    _inherit()
    with _LOCK:
        _OPEN[:] = [session for session in _OPEN if not session.over]
        for session in _OPEN:
            if session.unreachable:
                raise PlanViolationError(
                    f"this estimator, or one that was unpickled before in this process, belongs to an open "
                    f"{session.store.name}, and {session.unreachable}: what is fitted here could not be charged. Let "
                    "this machine see the file and its locks, by PrivacyLedger(path=...) in a folder that all machines "
                    "share, or fit where it is; call skdp.PrivacyLedger.leave() here if this work has nothing to do "
                    "with that ledger"
                )
        found = {session.store.terms.id: session for session in _OPEN}
    return sorted(found.values(), key=lambda session: str(session.store.path))


if hasattr(os, "register_at_fork"):

    def _belong_to_the_parent() -> None:
        global _LOCK
        _LOCK = threading.RLock()
        for session in _OPEN:
            session.store.renew_lock()
            # It is the other process that closes it, and enters blocks.
            session.joined, session.entered = True, False

    os.register_at_fork(after_in_child=_belong_to_the_parent)


# ------------------------------------------------------------------ other processes
def join(found: Iterable[Token], *, weak: bool) -> list[Token]:
    """Open sessions of another process here too; returns those that cannot be charged from here.

    `weak` ones are those of fitted models, which may have come from anywhere and at any time: where the file is not
    found they are let go, except by a worker that was sent them from another machine. Others are kept, and refuse what
    cannot be charged.
    """
    unreachable, news = [], False
    for token in found:
        let_go = weak and (token.host == host() or not is_cluster_worker())
        with _LOCK:
            session = next((session for session in _OPEN if session.id == token.session), None)
            if session is not None and session.joined and not session.entered:
                block = token.block and tuple(token.block)
                news, session.block = news or block != session.block, block
            elif session is None:
                session = _reached(token)
                if session is not None and not (let_go and session.unreachable):
                    _OPEN.append(session)
                    news = True
            if session is not None and session.unreachable:
                unreachable.append(token)
    if news:
        publish()
    return unreachable


def _reached(token: Token) -> Session | None:
    """The session of a token, perhaps an unreachable one; None where it is over."""
    store = LedgerStore(token.path)
    block = token.block and tuple(token.block)
    session = Session(token.session, store, token.temporary, block, joined=True, host=token.host, pid=token.pid)
    if not store.path.exists():
        if token.temporary and token.host == host():
            return None
        session.unreachable = f"its file {token.path} is not here"
        return session
    try:
        store.refresh()
        if store.terms is None or store.terms.id != token.ledger:
            session.unreachable = f"the file {token.path} here is that of another ledger"
        if session.over:
            return None
        if not session.unreachable and token.host != host():
            why = why_unsafe(store.path, token.session)
            if session.over:  # by now
                return None
            session.unreachable = session.unreachable or why
    except (OSError, ValueError) as error:
        session.unreachable = str(error)
    return session


class LedgerAware:
    """Mixin, before `BaseEstimator`: pickles of an estimator tell other processes of the open ledgers."""

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        with _LOCK:
            found = {token.session: token for token in [*_CAME_WITH.get(self, ()), *tokens()]}
        return {**state, _ATTRIBUTE: [tuple(token) for token in found.values()]} if found else state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        found = state.get(_ATTRIBUTE, ())
        super().__setstate__({name: value for name, value in state.items() if name != _ATTRIBUTE})
        if found:
            at_rest = _is_fitted(self) and not getattr(self, "warm_start", False)
            unreachable = join((Token(*token) for token in found), weak=at_rest)
            if unreachable:
                with _LOCK:
                    _CAME_WITH[self] = unreachable


def _is_fitted(estimator: Any) -> bool:
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True
