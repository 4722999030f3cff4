"""The fit of a private ADMM on one table whose rows are at several sites."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from skdp.accounting import FitBook, PrivacyStatement, resolve_delta
from skdp.accounting.budget import budget_warnings, check_budget
from skdp.accounting.checks import is_real
from skdp.accounting.covered import covered
from skdp.accounting.ledger_sessions import LedgerAware
from skdp.accounting.stated import Stated
from skdp.contract import Public
from skdp.contract.whole_numbers import is_whole
from skdp.distributed.settling import note_interrupt
from skdp.linear_model.admm.agreement import agree, arrays_for, multiplier_for, rounds_of, squared_norms
from skdp.linear_model.admm.coordinator import Consensus, Coordinator
from skdp.linear_model.admm.division import budgets_of, divided
from skdp.linear_model.admm.engines import run_rounds
from skdp.linear_model.admm.joint import joint_charge, joint_statement
from skdp.linear_model.admm.model_noise import model_noise
from skdp.linear_model.admm.ranked import fit_ranked
from skdp.linear_model.admm.site import Site
from skdp.linear_model.admm.terms import Terms
from skdp.linear_model.base import LinearModelMixin
from skdp.neural_network.parameters import check_one_of, check_positive, check_whole
from skdp.neural_network.problem import Problem
from skdp.neural_network.stating import hopeless_warnings
from skdp.user_line import warn_all

__all__ = ["ADMMEstimator"]

_SCHEDULES = ("auto", "smooth", "sqrt")
_ENGINES = ("local", "joblib", "torch.distributed")


class ADMMEstimator(Stated, LedgerAware, LinearModelMixin, BaseEstimator):
    """Base of `DPADMMClassifier` and `DPADMMRegressor`; see there for the parameters."""

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> ADMMEstimator:
        """Train one model over sites that show no row to each other.

        Parameters
        ----------
        X : array-like, table, memory map or sparse matrix of shape (n, n_features)
        y : array-like of shape (n,) or (n, n_targets)
        groups : array-like of shape (n,), optional
            The site of each row, which is public. None divides the rows by position into `n_agents` even parts.
        sample_weight : array-like of shape (n,), optional
            Multiplies a record's loss before its gradient is brought under the clip norm; 0 makes a record the null
            row.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.

        Warns
        -----
        WeakSignalWarning
            Where the noise of all sites together is too much for a model that is better than the prior.
        """
        self._check()
        if self.engine == "torch.distributed":
            if groups is not None or self.n_agents is not None:
                raise ValueError(
                    "engine='torch.distributed': every process is one site with rows of its own; leave groups and "
                    "n_agents out"
                )
            return fit_ranked(self, X, y, sample_weight)
        for name in ("site", "store"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}={getattr(self, name)!r} is for engine='torch.distributed'; leave it at None")
        return self._fit_here(X, y, groups, sample_weight)

    def _fit_here(self, X: Any, y: Any, groups: Any, sample_weight: Any) -> ADMMEstimator:
        problem = self._problem(X, y, sample_weight)
        if self.adjacency == "add-remove" and groups is None and self.n_agents not in (None, 1):
            raise ValueError(
                f"adjacency='add-remove' with n_agents={self.n_agents!r}: one row more would move others to the next "
                "site; say by groups where each row is"
            )
        parts = divided(groups, self.n_agents, len(problem.inputs))
        epsilons = budgets_of(self.epsilon, list(parts))
        delta = resolve_delta(self.delta, problem.public.n)
        rows = [len(index) for index in parts.values()]
        if self.n_public is not None:
            rows = [max(1, problem.public.n // len(parts))] * len(parts)
        multipliers = {name: multiplier_for(self, epsilon, delta) for name, epsilon in epsilons.items()}
        norm = None if any(multipliers.values()) else math.sqrt(squared_norms(self, problem) / len(problem.inputs))
        terms = agree(self, problem, delta=delta, rows=rows, multipliers=list(multipliers.values()), norm=norm)
        notes = {epsilon: self._notes(epsilon, delta, problem) for epsilon in dict.fromkeys(epsilons.values())}
        warn_all(list(dict.fromkeys(note for found in notes.values() for note in found)))
        self._warn_if_hopeless(problem.public, multipliers.values(), epsilons.values())

        charges = {name: terms.charge(multiplier) for name, multiplier in multipliers.items()}
        total = joint_charge(charges, self.max_sites_per_person)
        book = FitBook(f"{type(self).__name__}, {len(parts)} sites of disjoint rows", problem.public.n)
        reservation = book.reserve(total)
        arrays = arrays_for(problem, terms)
        coordinator, sites, interrupt, planned = Coordinator(terms), [], None, None
        facts = (*problem.facts, "which site a row is at")
        try:
            with covered(charges):
                for position, (name, index) in enumerate(parts.items()):
                    seed = self.insecure_noise_seed
                    sites.append(Site(
                        terms, {key: array[index] for key, array in arrays.items()}, problem.null[index], name,
                        epsilon=epsilons[name], noise_multiplier=self.noise_multiplier, rows=rows[position],
                        facts=facts, assumptions=problem.assumptions,
                        insecure_noise_seed=None if seed is None else (seed, position),
                    ))  # fmt: skip
            jobs = None if self.engine == "local" else (-1 if self.n_jobs is None else self.n_jobs)
            run_rounds(sites, coordinator, n_jobs=jobs, each=lambda coordinator: self._tell(coordinator.consensus))
        except KeyboardInterrupt as error:
            interrupt = error
            raise
        finally:
            told = [
                [*problem.warnings, *(message for _, message in notes[epsilons[site.name]])] for site in sites
            ]  # fmt: skip
            of_rows = [site.settle(warned) for site, warned in zip(sites, told, strict=True)]
            done = max((statement.steps for statement in of_rows), default=0)
            for touch in total.touches:
                for _ in range(done):
                    book.spend(reservation, touch)
            book.settle(reservation)
            if done:
                most = self.max_sites_per_person
                of_persons = [
                    site.person_statement(most, terms.rows, warned) for site, warned in zip(sites, told, strict=True)
                ]  # fmt: skip
                planned = self._spent([site.name for site in sites], of_rows, of_persons, coordinator.finished)
            if interrupt is not None:
                note_interrupt(interrupt, planned, {"rounds": done})
        self._adopt(problem, terms, coordinator.consensus, multipliers.values())
        return self

    # ------------------------------------------------------------------ for either engine
    def _given_feature_bounds(self, public: Public) -> np.ndarray:
        """Public bounds of every column: sites that scaled by their own rows would train different models."""
        if self.feature_bounds is None or isinstance(self.feature_bounds, str):
            raise ValueError(
                f"feature_bounds={self.feature_bounds!r}: pass public (low, high) for all columns or for each, the "
                "same at all sites and not from the data; (-1, 1) where values are within that already"
            )
        return super()._given_feature_bounds(public)

    def _adopt(self, problem: Problem, terms: Terms, consensus: Consensus, multipliers: Iterable[float | None]) -> None:
        """Keep what was trained at sites with these noise multipliers."""
        self.trace_, self.n_iter_ = consensus.trace, consensus.round
        if problem.classes is None:
            self.y_bounds_ = terms.bounds("target_bounds")
        else:
            self.classes_ = problem.classes
        self._keep(consensus.result, terms.bounds("feature_bounds"), model_noise(terms, multipliers))

    def _spent(
        self, names: list[str], of_rows: list, of_persons: list, finished: bool, most: int | None = None
    ) -> PrivacyStatement:
        """Keep what it cost, also where an error ended a fit after something was spent, and return that."""
        stated = joint_statement(of_rows, of_persons, self.max_sites_per_person if most is None else most)
        joint = stated.to_dict()
        if finished:
            self._statement = joint
            self._by_site = {name: stated.to_dict() for name, stated in zip(names, of_rows, strict=True)}
        else:
            self._failed = [*getattr(self, "_failed", []), joint]
        return stated

    def _notes(self, epsilon: float | None, delta: float, problem: Problem) -> list[tuple[type[Warning], str]]:
        """What is weak about a site's budget."""
        return budget_warnings(self._budget(epsilon), delta, problem.public.n, "fit")

    def _warn_if_hopeless(
        self, public: Public, multipliers: Iterable[float | None], epsilons: Iterable[float | None]
    ) -> None:
        """Where the noise of all sites together leaves nothing to learn; `public` is about the rows of all of them."""
        loudness = math.sqrt(math.fsum(z * z for z in multipliers if z))
        if not loudness:
            return
        whole = loudness / (self.sampling_rate * math.sqrt(rounds_of(self)))
        least = min((epsilon for epsilon in epsilons if epsilon is not None), default=None)
        warn_all(hopeless_warnings(public, public.n / whole, least, self.noise_multiplier))

    def _tell(self, consensus: Consensus) -> None:
        if self.verbose:
            line = consensus.trace[-1]
            print(f"round {line['round']}: spread {line['spread']:.3g}, moved {line['moved']:.3g}")

    @property
    def privacy_by_site_(self) -> dict[str, PrivacyStatement]:
        """What each site's rows pay to everybody else, by its name."""
        return {name: PrivacyStatement.from_dict(plain) for name, plain in self._by_site.items()}

    # ------------------------------------------------------------------ checks
    def _budget(self, epsilon: float | None) -> SimpleNamespace:
        """One site's budget, as the checks of budgets read it."""
        names = ("delta", "noise_multiplier", "adjacency", "n_public", "insecure_noise_seed")
        return SimpleNamespace(epsilon=epsilon, **{name: getattr(self, name) for name in names})

    def _check(self) -> None:
        for epsilon in self.epsilon.values() if isinstance(self.epsilon, Mapping) else [self.epsilon]:
            check_budget(self._budget(epsilon))
        check_whole(self, "rounds", "auto")
        check_one_of(self, "schedule", _SCHEDULES)
        check_one_of(self, "engine", _ENGINES)
        check_one_of(self, "on_invalid", ("raise", "null"))
        check_positive(self, "rho")
        check_positive(self, "max_grad_norm")
        for name in ("momentum", "average"):
            value = getattr(self, name)
            if value != "auto" and not (is_real(value) and 0 <= value < 1):
                raise ValueError(f"{name}={value!r} must be 'auto' or lie in [0, 1)")
        if not (is_real(self.sampling_rate) and 0 < self.sampling_rate <= 1):
            raise ValueError(f"sampling_rate={self.sampling_rate!r} must lie in (0, 1]")
        if not is_whole(self.max_sites_per_person):
            raise ValueError(f"max_sites_per_person={self.max_sites_per_person!r} must be a whole number of at least 1")
