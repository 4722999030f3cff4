"""The privacy ledger: a context manager that sees every charge made inside it, in every thread and process."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skdp.accounting import ledger_report, ledger_sessions
from skdp.accounting.accountants import check_epsilon
from skdp.accounting.checks import event_delta, is_real
from skdp.accounting.ledger_admission import check_budget, epsilon_of, largest_release, spending
from skdp.accounting.ledger_entries import ADAPTIVE, DECLARED, MODES, Entry, Terms
from skdp.accounting.ledger_filter import RenyiFilter
from skdp.accounting.ledger_sessions import Session
from skdp.accounting.ledger_store import LedgerStore, now
from skdp.accounting.relations import check_adjacency
from skdp.accounting.statement_text import round_up
from skdp.contract import Charge
from skdp.exceptions import PlanViolationError

if TYPE_CHECKING:
    import pandas as pd

    from skdp.accounting.statement import PrivacyStatement


class PrivacyLedger:
    r"""Keeps count of everything that is spent inside its ``with`` block, under one ceiling.

    Estimators, transformers, searches and releases are charged wherever they are fitted: as clones, in threads, in
    worker processes (``n_jobs=2``). A charge is on disk before a row is read, and one that would exceed the ceiling is
    refused before it costs anything. Not charged is what a worker fits that ran before the block was opened, that does
    not descend from this process (or does on a system without ``/proc``), and that is sent a function which makes its
    estimator itself: hand it the estimator.

    Parameters
    ----------
    epsilon : float, optional
        Ceiling on everything together; None sets none and counts only.
    delta : float
        Of the whole. A ledger that exists already knows its own.
    path : path-like, optional
        File of the ledger, JSON lines. An existing one is gone on with. None keeps a temporary file, which goes with
        this object.
    mode : {"adaptive", "declared"}, default="adaptive"
        ``"adaptive"``: charges may be chosen after seeing earlier results. A Renyi filter adds them up, which costs
        some tenths of epsilon. ``"declared"``: all charges are declared before the first one is made, and are added up
        exactly, as one privacy loss distribution.
    order : "auto", float or sequence of float
        Orders of the filter, which share delta. "auto" is the one that suits Gaussian releases under the ceiling, and a
        tenth of delta for 2, 4, ..., 256, which tell more closely how little was spent at first.
    adjacency : {"zero-out", "replace-one", "add-remove"}, optional
        What neighbours differ in; the first charge decides when None.
    unit : str, optional
        ``"row"`` or ``"feature row"``; the first charge decides when None.
    delta_fail : float, optional
        Part of delta that is set aside for releases with thresholds that may fail, as those of categories; half of it
        when None, which costs next to nothing in epsilon.

    Attributes
    ----------
    epsilon : float
        Of everything so far.
    remaining : float
        What would still fit; ``print(ledger)`` shows both, and says why they do not add up to the ceiling.
    statement : PrivacyStatement

    Raises
    ------
    ValueError
        Impossible parameters, or others than those of the file.

    Notes
    -----
    *Formal guarantee.* In the adaptive mode: for any way to choose charges, and the moment to stop, by what was
    released before, all results together satisfy :math:`P(A) \le \int_A e^{\hat\varepsilon}\,dQ + \delta` for every
    event A and all neighbours P, Q. Here :math:`\hat\varepsilon` is the ledger's `epsilon` at that moment, which is at
    most the ceiling. In particular they are (ceiling, delta)-differentially private. In the declared mode: all results
    together are (epsilon, delta)-differentially private for the epsilon of the statement, provided that nothing was
    declared after a look at the rows. Derivations are in the user guide.

    What a fit without one query has reserved is void. Whatever else was reserved counts in full, also after an error or
    a crash; a fit that is resumed is not charged twice. One that is resumed again from a copy of the same checkpoint
    is, as soon as the ledger knows of the first; see the user guide for what it cannot know.

    References
    ----------
    Feldman and Zrnic, *Individual Privacy Accounting via a Renyi Filter*, NeurIPS 2021. Lecuyer, *Practical Privacy
    Filters and Odometers with Renyi Differential Privacy*, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> import skdp
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(1000, 3))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> model = skdp.DPClassifier(module="linear", epsilon=0.5, classes=[0, 1], feature_bounds=(-1, 1))
    >>> with skdp.PrivacyLedger(epsilon=2.0, delta=1e-5) as ledger:
    ...     _ = model.fit(X, y)
    ...     _ = model.fit(X, y)
    >>> len(ledger.table()), 0.5 < ledger.epsilon < 2.0, ledger.statement.accountant
    (2, True, 'renyi-filter')
    """

    def __init__(
        self,
        epsilon: float | None = None,
        delta: float | None = None,
        *,
        path: str | os.PathLike | None = None,
        mode: str | None = None,
        order: Any = "auto",
        adjacency: str | None = None,
        unit: str | None = None,
        delta_fail: float | None = None,
    ):
        asked = {"mode": mode, "epsilon": epsilon, "delta": delta, "delta_fail": delta_fail, "adjacency": adjacency,
                 "unit": unit}  # fmt: skip
        temporary = path is None
        if temporary:
            folder = tempfile.mkdtemp(prefix="skdp-ledger-")
            weakref.finalize(self, _remove, folder, os.getpid())
            path = Path(folder, "ledger")
        self._store = LedgerStore(path, "this privacy ledger" if temporary else None)
        self._temporary, self._read_only = temporary, False
        self._sessions: list[Session] = []
        self._units: dict[str, frozenset] = {}
        self._units_id = uuid.uuid4().hex
        known = self._store.refresh(strict=True).terms
        if known is None:
            self._store.begin(_new_terms(asked, order))
        _check_same(self._store.terms, asked, order, self._store.name)

    @classmethod
    def load(cls, path: str | os.PathLike) -> PrivacyLedger:
        """The ledger in a file, to be read only.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        PrivacyLedger

        Raises
        ------
        ValueError
            The file is no ledger, or was changed.
        """
        ledger = cls.__new__(cls)
        ledger._store = LedgerStore(path)
        ledger._temporary, ledger._read_only, ledger._sessions = False, True, []
        if ledger._store.refresh(strict=True).terms is None:
            raise ValueError(f"path={os.fspath(path)!r} holds no ledger")
        return ledger

    # ------------------------------------------------------------------ open and closed
    def __enter__(self) -> PrivacyLedger:
        if self._read_only:
            raise PlanViolationError(
                f"{self._store.name} was loaded for reading; PrivacyLedger(path=...) goes on with it"
            )
        session = Session(uuid.uuid4().hex, self._store, self._temporary)
        ledger_sessions.push(session)
        self._sessions.append(session)
        return self

    def __exit__(self, *error: Any) -> None:
        ledger_sessions.pop(self._sessions.pop())

    @contextlib.contextmanager
    def disjoint(self, key: str, units: Iterable[Any] | None = None) -> Iterator[None]:
        """Charges inside this block concern only the units of one key, and cost other units nothing.

        All keys of a ledger belong to one partition: every unit has one key. The ledger's epsilon is that of the
        dearest key, with what was charged outside of such blocks added to each.

        Parameters
        ----------
        key : str
            Public name, for instance of a site.
        units : iterable, optional
            Ids of the units that are fitted. They are compared with those of other keys of this object, and kept in
            memory only. Without them the statement says that the partition was declared by the user.

        Raises
        ------
        PlanViolationError
            The ledger is not open, or is in such a block already.
        ValueError
            A unit has two keys.

        Notes
        -----
        The block is that of the whole process, its worker processes and the threads that it starts. Threads that ran
        before it was entered are taken to be busy with other rows: what they fit is charged to every key.
        """
        if not self._sessions:
            raise PlanViolationError(f"disjoint({key!r}) is for use inside of the ledger's with block")
        session = self._sessions[-1]
        if session.blocked:
            raise PlanViolationError(f"disjoint({key!r}): the block of {session.block[1]!r} is open; close it first")
        if not isinstance(key, str):
            raise ValueError(f"key={key!r} must be a text that everybody may know")
        if units is not None:
            self._check_units(key, frozenset(units))
        ledger_sessions.enter_block(session, key, None if units is None else self._units_id)
        try:
            yield
        finally:
            ledger_sessions.leave_block(session)

    def _check_units(self, key: str, units: frozenset) -> None:
        for other, theirs in self._units.items():
            if other != key and units & theirs:
                raise ValueError(
                    f"disjoint({key!r}): there are units that have key {other!r} already; a unit with two keys pays "
                    "for both, so fit these blocks without disjoint"
                )
        self._units[key] = self._units.get(key, frozenset()) | units

    def declare(self, charge: Any, public: Any = None, *, n: int | None = None, n_features: int | None = None,
                count: int = 1, key: str | None = None) -> None:  # fmt: skip
        """Declare charges, in the mode ``"declared"``, before the first one is made.

        Parameters
        ----------
        charge : estimator or Charge
            What will be fitted, with its parameters as they will be then.
        public : Public, optional
            Public facts about the rows, in place of `n` and `n_features`.
        n, n_features : int, optional
            Shape of the table that it will be fitted on.
        count : int, default=1
            How often.
        key : str, optional
            Of the `disjoint` block in which it will be fitted.

        Raises
        ------
        PlanViolationError
            Another mode, or a charge was made already.
        BudgetExceededError
            Together with what was declared before it would exceed the ceiling.
        """
        if self._read_only or self._store.terms.mode != DECLARED:
            raise PlanViolationError(f"{self._store.name} is no ledger with mode='declared' to be written to")
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"count={count!r} must be a whole number of at least 1")
        what = "a declared charge"
        if not isinstance(charge, Charge):
            what = type(charge).__name__
            public = charge.public_facts(n, n_features) if public is None else public
            n, charge = public.n, charge.planned_charge(public)
        about = {"what": what, "n": n, "delta": None, "public": [], "assumptions": [], "warnings": [],
                 "reproducible": False}  # fmt: skip
        entry = Entry(uuid.uuid4().hex, now(), charge, about, key)
        with self._store.transaction() as accounts:
            if accounts.counted:
                raise PlanViolationError(
                    f"{self._store.name} holds charges already, and what is declared now may hang on their results; "
                    "declare everything first, or use mode='adaptive'"
                )
            self._store.check_kind(entry)
            check_budget(accounts, [entry] * count, self._store.name)
            self._store.declare(entry, count)

    @staticmethod
    def leave() -> None:
        """Forget the ledgers that other processes have opened so far; fits are charged to them here no more.

        That holds for processes that descend from this one as well. An estimator that is sent here while such a ledger
        is open joins it again, and so does what is opened later.
        """
        ledger_sessions.forget_joined()

    # ------------------------------------------------------------------ figures
    @property
    def epsilon(self) -> float:
        """Epsilon of everything so far; in the declared mode, of everything that was declared."""
        accounts = self._store.refresh()
        return epsilon_of(accounts.terms, accounts.adjacency, spending(accounts))

    @property
    def delta(self) -> float:
        """Delta of everything together."""
        return self._store.terms.delta

    @property
    def ceiling(self) -> float:
        """The most that `epsilon` may become; inf where none was set."""
        return math.inf if self._store.terms.epsilon is None else self._store.terms.epsilon

    @property
    def mode(self) -> str:
        """Whether charges may be chosen by results, ``"adaptive"``, or are ``"declared"``."""
        return self._store.terms.mode

    @property
    def remaining(self) -> float:
        """Epsilon, at the ledger's delta, of the largest Gaussian release of all rows that would still fit.

        It is not ``ceiling - epsilon``: charges add up to less than the sum of their epsilons.
        """
        accounts = self._store.refresh()
        if accounts.terms.epsilon is None:
            return math.inf
        return largest_release(accounts.terms, accounts.adjacency or "zero-out", spending(accounts))

    @property
    def statement(self) -> PrivacyStatement:
        """Everything so far, in a form to hand on; see `skdp.accounting.verify`."""
        return ledger_report.statement(self._store.refresh())

    def table(self) -> pd.DataFrame:
        """The charges in order.

        Returns
        -------
        DataFrame
            Columns what, when, n, key, queries, epsilon (of the charge alone), epsilon added (how much it lifted the
            whole), epsilon so far (of the whole; all three at the ledger's delta), and state. What a first charge adds
            may be more than it costs alone, by the price of an adaptive ledger, and what later ones add is less.
        """
        return ledger_report.table(self._store.refresh())

    def __str__(self) -> str:
        return ledger_report.summary(self._store.refresh())

    def __repr__(self) -> str:
        ceiling = "" if math.isinf(self.ceiling) else f" of {self.ceiling:g}"
        where = "" if self._temporary else f", path={str(self._store.path)!r}"
        count = len(self._store.accounts.counted)
        return (
            f"PrivacyLedger(epsilon={round_up(self.epsilon)}{ceiling}, delta={self.delta:g}, mode={self.mode!r}, "
            f"{count} charge{'s' * (count != 1)}{where})"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>{self.table()._repr_html_()}"


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:  # and not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


def _new_terms(asked: dict[str, Any], order: Any) -> Terms:
    """The terms of a new ledger, checked."""
    mode = asked["mode"] or ADAPTIVE
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} must be one of {', '.join(MODES)}")
    epsilon, delta, fail = asked["epsilon"], asked["delta"], asked["delta_fail"]
    if epsilon is not None:
        epsilon = check_epsilon(epsilon)
    if not is_real(delta) or not 0 < delta < 1:
        raise ValueError(
            f"delta={delta!r} must be a number in (0, 1), far below one over the number of rows, for instance 1e-6"
        )
    fail = delta / 2 if fail is None else fail
    if not is_real(fail) or not 0 <= fail < delta:
        raise ValueError(f"delta_fail={fail!r} must be 0 or more and below delta={delta!r}")
    if asked["adjacency"] is not None:
        check_adjacency(asked["adjacency"])
    finite = None if epsilon is None or math.isinf(epsilon) else epsilon
    orders = RenyiFilter.fixed(finite, event_delta(delta, fail), order).orders if mode == ADAPTIVE else ()
    return Terms(uuid.uuid4().hex, now(), mode, finite, float(delta), float(fail), orders, asked["adjacency"],
                 asked["unit"])  # fmt: skip


def _check_same(terms: Terms, asked: dict[str, Any], order: Any, name: str) -> None:
    """Refuse parameters that contradict those of an existing ledger; what was not given is as it was."""
    for parameter, value in asked.items():
        known = getattr(terms, parameter)
        if parameter == "epsilon" and value is not None and math.isinf(value):
            value = None
        if value is not None and value != known:
            raise ValueError(
                f"{parameter}={value!r}: {name} was opened with {parameter}={known!r}, which cannot change"
            )
    if isinstance(order, str):
        return
    orders = tuple(order) if isinstance(order, Iterable) else (order,)
    known = tuple(a for a, _ in terms.orders)
    if orders != known:
        raise ValueError(f"order={order!r}: {name} was opened with the orders {known}, which cannot change")
