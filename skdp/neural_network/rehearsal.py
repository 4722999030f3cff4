"""A fit up to its first queries, which can then be asked again and again: what an audit replays."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from sklearn.base import clone

from skdp.accounting import FitBook, ledger_charges, resolve_delta
from skdp.contract import Answers, Poisson, Query, drive
from skdp.neural_network.fitting import Estimates, FitRun
from skdp.neural_network.parameters import check_parameters
from skdp.neural_network.problem import Problem
from skdp.training import SecretRandomness

__all__ = ["Rehearsal"]


class _Reached(Exception):
    """The plan asked the query that was waited for."""


class Rehearsal(FitRun):
    """The stages of a fit with nothing booked and nothing trained; notes the first query of every touch.

    Parameters
    ----------
    estimator : DPClassifier or DPRegressor
    X, y, sample_weight
        As for ``fit``.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None):
        work = clone(estimator)
        check_parameters(work)
        problem = work._problem(X, y, sample_weight)
        given = work._given_estimates(problem)
        programme = work._programme(problem, resolve_delta(work.delta, problem.public.n), given)
        ledger_charges.look(f"skdp.audit.audit_query looked at exact answers of {type(estimator).__name__}")
        super().__init__(work, problem, programme, FitBook())
        self.queries: dict[str, Query] = {}
        self.know(given.indicators)
        self.build_net()
        self.check_estimates()
        self.estimates: Estimates = self.release_estimates(given)
        self.know(self.estimates.indicators)
        self.build_net()

    def query(self, name: str) -> Query:
        """First query of a touch, at the initial weights; queries before it are answered on the way."""
        if name not in self.queries:
            plan, executor = self.programme.plan, self.executor(self.estimates)

            def answer(query: Query) -> Answers:
                self._note(query)
                if query.touch.name == name:
                    raise _Reached
                return executor.answer(query)

            state = self.first_state()
            try:
                drive(plan.begin(executor.model, state), answer)
                drive(plan.step(executor.model, state), answer)
            except _Reached:
                pass
        if name not in self.queries:
            raise ValueError(
                f"touch={name!r} is not asked in the first step, which asks {', '.join(map(repr, self.queries))}; "
                "pass one of them"
            )
        return self.queries[name]

    def answering(self, query: Query, problem: Problem, stream: int, seed: int | None = None) -> Any:
        """Executor of this query for other rows: the same net, estimates and price list, noise of its own.

        Parameters
        ----------
        query : Query
        problem : Problem
            The rows; what is public about them is left out of account.
        stream : int
            Tells executors apart where the noise is seeded.
        seed : int, optional
            Instead of the estimator's own.
        """
        mine, randomness = self.problem, self.randomness
        self.problem = problem
        seed = self.estimator.insecure_noise_seed if seed is None else seed
        self.randomness = SecretRandomness(self.device, seed, stream)
        try:
            trains = any(touch.name == query.touch.name for touch in self.programme.plan.charge.touches)
            return self.executor(self.estimates) if trains else self.array_executor()
        finally:
            self.problem, self.randomness = mine, randomness

    def exactly(self, query: Query, problem: Problem) -> Answers:
        """The answer for all given rows, without noise; what a net draws for itself is the same in every call."""
        touch = replace(query.touch, sampler=Poisson(1.0), noise=None)
        return self.answering(query, problem, 1, seed=0).answer(replace(query, touch=touch))

    def array_executor(self) -> Any:
        """As in a fit, but its queries are noted."""
        executor = super().array_executor()
        return SimpleNamespace(answer=lambda query: self._note(query) or executor.answer(query))

    def _note(self, query: Query) -> None:
        self.queries.setdefault(query.touch.name, query)

    def _spend(self, touch: Any) -> int:
        return 0
