"""A site: the only holder of its rows, its noise and its budget."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skdp.accounting import FitBook, PrivacyStatement, calibrate, resolve_delta
from skdp.contract import PERSON, Charge, LinearGradient, Query
from skdp.exceptions import PlanViolationError, ProtocolError
from skdp.linear_model.admm.iterate import Iterate
from skdp.linear_model.admm.messages import Call, Join, Reply, read_message
from skdp.linear_model.admm.store import SiteStore
from skdp.linear_model.admm.terms import TOUCH, Terms
from skdp.releases import ArrayExecutor
from skdp.training.randomness import poisson_rows

__all__ = ["Site"]

_KEPT = 16  # replies that are given again to the call that they answered


@dataclass(eq=False)
class Task:
    """One round's look at the rows, which may run in another process: what it gives back is noisy.

    Parameters
    ----------
    rows : ArrayExecutor
        Without noise of its own.
    query : Query
    seed : tuple
        Of the noise: a secret, unless it was asked to be reproducible.
    """

    rows: ArrayExecutor
    query: Query
    seed: tuple[int, ...]
    _total: np.ndarray | None = None

    def run(self) -> np.ndarray:
        """The noisy sum of clipped gradients; drawn once, and the same when it is asked for again."""
        if self._total is None:
            secret = np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(self.seed, pool_size=8)))
            rows = self.rows.drawing(secret.standard_normal, lambda n, rate: poisson_rows(secret, n, rate))
            (self._total,) = rows.answer(self.query)
        return self._total


def _spent_before(touch: Any) -> None:
    """A round is spent when its task is made."""


def _no_noise(shape: tuple[int, ...]) -> np.ndarray:
    raise PlanViolationError("rows of a site answer with the noise of a task, and with no other")


class Site:
    """One site of a private ADMM. It owns rows, noise, clip norm, step sizes, round counter and budget.

    Messages go in and out as bytes, over whatever connects the sites. None of them can change what protects the rows:
    that is in the terms, which the site's owner agreed to.

    Parameters
    ----------
    terms : Terms
    arrays : dict of str to ndarray
        Private rows as `skdp.linear_model.rows.linear_arrays` gives them: "X", "y", and "weight" where there is one.
    null : ndarray of bool of shape (n,)
        Null rows.
    name : str
        By which the others know it.
    epsilon : float or None
        Total budget of all rounds; ``inf`` for no privacy, None together with `noise_multiplier`.
    noise_multiplier : float, optional
    rows : int, optional
        Public number of rows, where it is not that of the arrays: declared under add-remove.
    store : path, optional
        File that makes the site survive a crash: a reply is on disk before it is sent, so that it is sent again
        byte by byte, and nothing is drawn or spent twice. It holds no rows, and as long as it may be gone on with, it
        belongs to this site alone. What is in `memo`, in plain JSON types, is stored with it.
    facts, assumptions : tuple of str
        For the statement: what was taken as public, and what the guarantee rests on.
    insecure_noise_seed : tuple of int, optional
        Reproducible noise, for tests and papers only.

    Notes
    -----
    *Formal guarantee.* In each round the site answers one query, the sum of its records' gradients at public
    coefficients, each brought under the clip norm C: L2 sensitivity C under zero-out. It adds Gaussian noise of
    standard deviation multiplier times C to that sum. The model that it sends is a function of this answer and of
    messages. So all its messages together are T Gaussians, or Poisson-subsampled ones, whatever the coordinator sends;
    in full batches this is one Gaussian of Gaussian-DP parameter root T over the multiplier. The number of rounds is
    counted by the site itself. A coordinator that sends other models than it should spoils the result, not the
    guarantee.

    Examples
    --------
    >>> import numpy as np
    >>> terms = Terms(columns=("x",), task="binary", outputs=1, rows=100, sites=1, classes=(0, 1), rounds=5,
    ...               clip=1.5, rho=0.1, curvature=1.0, delta=1e-4)
    >>> rows = {"X": np.ones((100, 2)), "y": np.ones((100, 1))}
    >>> site = Site(terms, rows, np.zeros(100, dtype=bool), "north", epsilon=1.0)
    >>> len(site.join()) < 1000, site.privacy_.epsilon <= 1.0
    (True, True)
    """

    def __init__(
        self,
        terms: Terms,
        arrays: Mapping[str, np.ndarray],
        null: np.ndarray,
        name: str,
        *,
        epsilon: float | None,
        noise_multiplier: float | None = None,
        rows: int | None = None,
        store: Any = None,
        facts: tuple[str, ...] = (),
        assumptions: tuple[str, ...] = (),
        insecure_noise_seed: tuple[int, ...] | None = None,
    ):
        resolve_delta(terms.delta, terms.rows)
        self.terms = terms
        self.name = str(name)
        self._executor = ArrayExecutor(arrays, null, spend=_spent_before, normal=_no_noise)
        self.rows = len(null) if rows is None else int(rows)
        self._about = (facts, assumptions)
        self._seed = insecure_noise_seed
        self._epsilon, self._certificate = epsilon, None
        if epsilon is None:
            self.noise_multiplier = float(noise_multiplier)
        elif math.isinf(epsilon):
            self.noise_multiplier = None
        else:
            self._certificate = calibrate(terms.charge, epsilon, terms.delta)
            self.noise_multiplier = self._certificate.scale
        if self.noise_multiplier is not None and math.isinf(terms.clip):
            raise ValueError("Terms(clip=inf) bounds no gradient, so no noise covers a record: pass a finite clip")
        self._charge = terms.charge(self.noise_multiplier)
        self._book = None
        self._book = FitBook(f"DP-ADMM site {self.name}", self.rows, self.privacy_, party=True)
        self._iterate = Iterate(terms)
        self._answered: dict[bytes, bytes] = {}  # replies to the last calls
        self._begun: tuple[bytes, Call, Task] | None = None
        self._unsafe = ""
        self.memo: dict[str, Any] = {}
        self._store = None if store is None else SiteStore(store, terms.to_dict(), self.name, [*arrays.values(), null])
        self.resumed = self._store is not None and self._store.exists
        try:
            if self.resumed:
                self._go_on()
            else:
                self._book.reserve(self._charge, lease=1)
                self._write(self._iterate, {})
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------ messages
    def join(self) -> bytes:
        """The message that introduces this site."""
        return Join(self.name, self.terms.digest, self.rows, self.noise_multiplier or 0.0).to_bytes()

    def answer(self, call: bytes) -> bytes | None:
        """Answer the coordinator's call.

        Parameters
        ----------
        call : bytes

        Returns
        -------
        bytes or None
            The reply; the same bytes where this very call was answered before. None after the last round, when the
            call only brings the last model.

        Raises
        ------
        ProtocolError
            For a call that is broken, old, or not of these terms. Nothing is spent for it.
        """
        task = self.begin(call)
        return self.finish(task, task.run()) if isinstance(task, Task) else task

    def begin(self, call: bytes) -> Task | bytes | None:
        """The first half of `answer`: check a call, spend, and give what has to be computed for it.

        Parameters
        ----------
        call : bytes

        Returns
        -------
        Task, bytes or None
            A task, whose outcome `finish` takes; or the reply, where it was given before; or None, where none is due.

        Raises
        ------
        ProtocolError
        """
        if self._unsafe:
            raise ProtocolError(f"site {self.name!r} cannot go on: {self._unsafe}; make it anew from its store")
        call = bytes(call) if isinstance(call, (bytearray, memoryview)) else call
        if isinstance(call, bytes) and call in self._answered:
            return self._answered[call]
        if self._begun is not None and self._begun[0] == call:
            return self._begun[2]
        told = read_message(call, Call, self.terms)
        if told.round <= self._iterate.round:
            raise ProtocolError(
                f"site {self.name!r} has answered round {self._iterate.round}; a call for round {told.round} is out of "
                "order, or says something else than the one it answered"
            )
        if told.round > self.terms.rounds + 1:
            raise ProtocolError(f"a call for round {told.round}, but the terms have {self.terms.rounds} rounds")
        if told.round == self.terms.rounds + 1:
            return None
        (touch,) = self._charge.touches
        if self._begun is not None:  # it came to nothing here, but somebody may have run its task: that is spent
            self._write(self._iterate, self._answered)
            self._lease()
        self._book.spend(self._book.reservation, touch)
        bound = math.inf if touch.noise is None else self.terms.clip
        coef = self._iterate.heard(told.model).model
        query = Query(touch, (LinearGradient(coef, self.terms.loss_function, bound),))
        # In the task, so that all copies of it draw the same.
        seed = (secrets.randbits(256),) if self._seed is None else (*self._seed, told.round)
        self._begun = call, told, Task(self._executor, query, seed)
        return self._begun[2]

    def finish(self, task: Task, total: np.ndarray) -> bytes:
        """The second half of `answer`: from the noisy sum to the reply, which is stored before it is returned.

        Parameters
        ----------
        task : Task
            That `begin` gave last.
        total : ndarray
            What it gave back.

        Returns
        -------
        bytes

        Raises
        ------
        ProtocolError
            It is another task, or the reply could not be stored; then this site answers nothing more.
        """
        if self._begun is None or self._begun[2] is not task:
            raise ProtocolError(f"site {self.name!r}: this is not the task of a round that was begun and not finished")
        (call, told, _), self._begun = self._begun, None
        gradient = total / (self.terms.rows * self.terms.sampling_rate)
        heard, before = self._iterate.heard(told.model), self._iterate.round
        iterate = heard.moved(heard.model_after(gradient, told.round), told.round)
        reply = Reply(self.name, self.terms.digest, told.round, before, iterate.model).to_bytes()
        answered = dict([*self._answered.items(), (call, reply)][-_KEPT:])
        self._unsafe = "a reply could not be stored"
        self._write(iterate, answered)
        self._unsafe, self._iterate, self._answered = "", iterate, answered
        self._lease()
        return reply

    def _lease(self) -> None:
        """Let one more query be spent."""
        self._book.extend(self._book.reservation, {TOUCH: self._book.executed(self._book.reservation)[TOUCH] + 1})

    @property
    def proposal(self) -> np.ndarray:
        """Noisy model less multipliers over rho, a function of what was sent: what an all-reduce adds up."""
        return self._iterate.proposal

    @property
    def model(self) -> np.ndarray:
        """The noisy model that was sent last."""
        return self._iterate.model

    @property
    def round(self) -> int:
        """The last round that was answered."""
        return self._iterate.round

    @property
    def stored(self) -> bool:
        """Whether a crash loses nothing."""
        return self._store is not None

    @property
    def last_call(self) -> bytes | None:
        """The call that was answered last."""
        return next(reversed(self._answered), None)

    # ------------------------------------------------------------------ what it cost
    def settle(self, warnings: Iterable[str] = ()) -> PrivacyStatement:
        """Close the budget at what was spent, and state it; nothing is answered afterwards."""
        self._book.settle(self._book.reservation)
        try:
            if not self._unsafe:
                self._write(self._iterate, self._answered)
        finally:
            self.close()
        return self.row_statement(warnings)

    def withdraw(self) -> None:
        """Take back the store that was begun just now, before anything was answered."""
        if self._store is not None and not self.resumed:
            self._store.remove()

    def close(self) -> None:
        """Let go of the store, for another process to go on from it."""
        if self._store is not None:
            self._store.close()

    @property
    def privacy_(self) -> PrivacyStatement:
        """Statement about this site's rows: as planned until `settle`, then as executed."""
        return self.row_statement()

    def row_statement(self, warnings: Iterable[str] = ()) -> PrivacyStatement:
        """`privacy_`, with warnings to be named in it."""
        return self._stated(self._charge, self.rows, self._certificate, (), warnings)

    def person_statement(self, sites: int, n: int, warnings: Iterable[str] = ()) -> PrivacyStatement:
        """The part of this site in a statement about a person with one row at each of at most so many sites.

        Parameters
        ----------
        sites : int
        n : int
            Public number of rows of all sites, an upper bound on the number of persons.
        warnings : iterable of str

        Returns
        -------
        PrivacyStatement
        """
        assumption = f"no person has rows at more than {sites} sites, nor more than one at a site"
        return self._stated(replace(self._charge, unit=PERSON), n, None, (assumption,), warnings)

    def _stated(self, charge: Charge, n: int, certificate: Any, assumed: tuple, warnings: Iterable) -> PrivacyStatement:
        facts, assumptions = self._about
        settled = self._book is not None and self._book.settled
        return PrivacyStatement.from_charge(
            charge,
            self.terms.delta,
            executed=self._book.executed(self._book.reservation) if settled else None,
            mechanism=f"DP-ADMM, site {self.name}",
            n=n,
            target_epsilon=self._epsilon,
            certificate=certificate,
            public=["the terms agreed between the sites", *facts],
            assumptions=(*assumptions, *assumed),
            warnings=warnings,
            reproducible_noise=self._seed is not None,
        )

    def _write(self, iterate: Iterate, answered: Mapping[bytes, bytes]) -> None:
        """Store what a crash must not lose. What was begun and is not in the file was seen by nobody."""
        if self._store is not None:
            book = self._book.to_dict()
            for line in book["lines"].values():
                line["leased"] = line["spent"]
            self._store.write(book, iterate.to_dict(), answered, self.memo)

    def _go_on(self) -> None:
        """From where the stored site stopped: what it has sent is spent, and nothing else."""
        book, iterate, self._answered, self.memo = self._store.read()
        self._book = FitBook.from_dict(book)
        self._book.party = True
        self._iterate = Iterate.from_dict(self.terms, iterate)
        self._book.reopen(self._book.reservation, self._charge, lease=1)
