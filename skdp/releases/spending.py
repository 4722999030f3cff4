"""What transformers, calibrators and metrics that release statistics have in common: budget, noise, statement."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator

from skdp.accounting import FitBook, PrivacyStatement, resolve_delta
from skdp.accounting.budget import at_budget, budget_warnings, check_budget
from skdp.accounting.ledger_sessions import LedgerAware
from skdp.accounting.stated import Stated
from skdp.contract import Charge, Public
from skdp.distributed.settling import settled_after, settled_together
from skdp.releases.arrays import ArrayExecutor
from skdp.releases.null_rows import OWN_WEIGHTS, VALID_WEIGHTS, null_rows
from skdp.user_line import warn_all

if TYPE_CHECKING:
    from skdp.distributed import Ranks

__all__ = ["Spending"]


class Spending(Stated, LedgerAware, BaseEstimator):
    """Base of what releases statistics of arrays once per fit.

    A subclass takes ``epsilon``, ``delta``, ``adjacency``, ``n_public``, ``noise_multiplier`` and
    ``insecure_noise_seed`` in its ``__init__`` and implements `privacy_charge`, whose multipliers are proportional to
    the scale. Its fit checks and reads, then asks its queries inside `_spending`. Nothing of the rows may be kept but
    what the executor answered.

    Examples
    --------
    >>> from skdp.contract import Charge, Gaussian, Poisson, Query, RowSum, Touch
    >>> class Mean(Spending):
    ...     def __init__(self, epsilon=1.0, delta="auto", adjacency="zero-out", n_public=None, noise_multiplier=None,
    ...                  insecure_noise_seed=None):
    ...         self.epsilon, self.delta, self.adjacency, self.n_public = epsilon, delta, adjacency, n_public
    ...         self.noise_multiplier, self.insecure_noise_seed = noise_multiplier, insecure_noise_seed
    ...
    ...     def privacy_charge(self, public, scale):
    ...         touch = Touch("sum", Poisson(), scale and Gaussian((scale,)), 1)
    ...         return Charge((touch,), public.adjacency, public.unit)
    ...
    ...     def fit(self, X, y=None):
    ...         self._check_budget()
    ...         public, null = self._public(*X.shape), np.zeros(len(X), bool)
    ...         with self._spending(public, {"X": X}, null, facts=["rows no longer than 1"]) as (executor, touches):
    ...             (total,) = executor.answer(Query(touches["sum"], (RowSum("X", np.asarray, 1.0),)))
    ...         self.mean_ = total / public.n
    ...         return self
    >>> mean = Mean(epsilon=1.0).fit(np.full((5000, 2), 0.5))
    >>> bool(abs(mean.mean_ - 0.5).max() < 0.1), mean.privacy_.epsilon <= 1.0
    (True, True)
    """

    def privacy_charge(self, public: Public, scale: float | None) -> Charge:
        """What a fit costs at a noise scale, from public facts alone.

        Parameters
        ----------
        public : Public
        scale : float or None
            None is no noise.

        Returns
        -------
        Charge
        """
        raise NotImplementedError

    def planned_charge(self, public: Public) -> Charge:
        """What a fit with these parameters will reserve, its noise calibrated, from public facts alone.

        Parameters
        ----------
        public : Public

        Returns
        -------
        Charge
        """
        self._check_budget()
        return self._priced(public)[0]

    def public_facts(self, n: int, n_features: int) -> Public:
        """Public facts of a table of `n` rows."""
        return self._public(n, n_features)

    # ------------------------------------------------------------------ for subclasses
    def _check_budget(self) -> None:
        """Refuse impossible budgets before data is looked at."""
        check_budget(self)

    def _public(self, rows: int, width: int, **facts: Any) -> Public:
        """The public facts of `rows` rows of `width` columns; their number is as declared under add-remove."""
        n = rows if self.n_public is None else int(self.n_public)
        facts = {"n_outputs": 0, "task": "regression", **facts}
        return Public(n, (width,), adjacency=self.adjacency, **facts)

    def _resolved_delta(self, n: int) -> float:
        """The delta of a fit on `n` rows."""
        return resolve_delta(self.delta, n)

    @contextmanager
    def _spending(
        self,
        public: Public,
        arrays: dict[str, np.ndarray],
        null: np.ndarray,
        *,
        facts: Iterable[str] = (),
        assumptions: Iterable[str] = (),
        released: Iterable[str] = (),
        warnings: Iterable[str] = (),
        sample_weight: Any = None,
        ranks: Ranks | None = None,
    ) -> Iterator[tuple[ArrayExecutor, Mapping[str, Any]]]:
        """Price, reserve, and give what answers queries and the touches by name; states in the end.

        The executor gets `arrays` and `null` (rows that add to nothing), to which rows of `sample_weight` 0 are added.
        `facts`, `assumptions`, what was `released` on the way and `warnings` go into the statement; without weights,
        lists may grow until it is made. `ranks` are the processes that share the fit, each with some of the rows: only
        for what checks before that they agree on parameters and facts.
        """
        if sample_weight is not None:
            null = null | null_rows(sample_weight, len(null))
            facts, assumptions = [*facts, VALID_WEIGHTS], [*assumptions, OWN_WEIGHTS]
        charge, delta, certificate = self._priced(public)
        notes = budget_warnings(self, delta, public.n, type(self).__name__) if charge.touches else []
        warn_all(notes)

        def statement(executed: Mapping[str, int] | None) -> PrivacyStatement:
            return PrivacyStatement.from_charge(
                charge,
                delta,
                executed=executed,
                mechanism=type(self).__name__,
                n=public.n,
                target_epsilon=self.epsilon if charge.touches else None,
                certificate=certificate,
                public=facts,
                assumptions=assumptions,
                warnings=[*warnings, *(message for _, message in notes)],
                released=released,
                reproducible_noise=self.insecure_noise_seed is not None,
            )

        planned = statement(None)
        book = FitBook(type(self).__name__, public.n, planned, shared=ranks is not None)
        reservation = book.reserve(charge)
        entropy = secrets.randbits(256) if self.insecure_noise_seed is None else self.insecure_noise_seed
        if ranks is not None and self.insecure_noise_seed is not None:
            entropy = [entropy, ranks.rank]  # each adds noise to a share of its own
        noise = np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(entropy, pool_size=8)))
        executor = ArrayExecutor(
            arrays, null, spend=lambda touch: book.spend(reservation, touch), normal=noise.standard_normal, ranks=ranks
        )

        try:
            if ranks is not None:
                ranks.roll_call()  # the ledgers admit it: only now may a row be read
            yield executor, {touch.name: touch for touch in charge.touches}
            executed = settled_together(ranks, book)
        except BaseException as error:
            executed = settled_after(error, ranks, book, planned)
            if any(executed.values()):
                # The error itself may tell something, so this attempt counts although it gave nothing.
                self._failed = [*getattr(self, "_failed", []), statement(executed).to_dict()]
            raise
        self._statement = statement(executed).to_dict()

    def _priced(self, public: Public) -> tuple[Charge, float, Any]:
        """The price list at the calibrated noise, delta, and the certificate where there is one."""
        delta = self._resolved_delta(public.n)
        scale, certificate = at_budget(self, lambda scale: self.privacy_charge(public, scale), delta)
        return self.privacy_charge(public, scale), delta, certificate
