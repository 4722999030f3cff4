"""The fit of a private ADMM on one table whose rows are at several sites."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from skdp.accounting import FitBook, PrivacyStatement, compose, compose_disjoint, resolve_delta
from skdp.accounting.budget import budget_warnings, check_budget
from skdp.accounting.checks import is_real
from skdp.accounting.covered import covered
from skdp.accounting.ledger_sessions import LedgerAware
from skdp.accounting.stated import Stated
from skdp.contract import Charge
from skdp.contract.whole_numbers import is_whole
from skdp.linear_model.admm.agreement import agree, multiplier_for
from skdp.linear_model.admm.coordinator import Coordinator
from skdp.linear_model.admm.division import budgets_of, divided
from skdp.linear_model.admm.engines import run_rounds
from skdp.linear_model.admm.site import Site
from skdp.linear_model.admm.terms import Terms
from skdp.linear_model.rows import linear_arrays
from skdp.neural_network.problem import Problem
from skdp.user_line import warn_all

__all__ = ["ADMMEstimator"]

_SCHEDULES = ("auto", "smooth", "sqrt")
_ENGINES = ("local", "joblib")


class ADMMEstimator(Stated, LedgerAware, BaseEstimator):
    """Base of `DPADMMClassifier` and `DPADMMRegressor`; see there for the parameters."""

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> ADMMEstimator:
        """Train one model over sites that show no row to each other.

        Parameters
        ----------
        X : array-like or table of shape (n, n_features)
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
        """
        self._check()
        problem = self._problem(X, y, sample_weight)
        parts = divided(groups, self.n_agents, len(problem.inputs))
        epsilons = budgets_of(self.epsilon, list(parts))
        delta = resolve_delta(self.delta, problem.public.n)
        rows = [len(index) for index in parts.values()]
        if self.n_public is not None:
            rows = [max(1, problem.public.n // len(parts))] * len(parts)
        multipliers = {name: multiplier_for(self, epsilon, delta) for name, epsilon in epsilons.items()}
        terms = agree(
            self, problem, delta=delta, rows=rows, multipliers=list(multipliers.values()),
            norm=None if any(multipliers.values()) else self._norm(problem),
        )  # fmt: skip
        highest = max((e for e in epsilons.values() if e is not None), default=None)
        notes = budget_warnings(self._budget(highest), delta, problem.public.n, "fit")
        warn_all(notes)

        charges = {name: terms.charge(multiplier) for name, multiplier in multipliers.items()}
        book = FitBook(f"{type(self).__name__}, {len(parts)} sites of disjoint rows", problem.public.n)
        # Sites share no row, so to any row all of them together cost what the dearest one costs.
        reservation = book.reserve(min(charges.values(), key=_noise_of))
        arrays = _arrays(problem, terms)
        coordinator, sites = Coordinator(terms), []
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
            run_rounds(sites, coordinator, n_jobs=self._jobs(), each=self._tell)
        finally:
            self._state(sites, book, reservation, [message for _, message in notes], coordinator.finished)
        self.trace_, self.n_iter_ = coordinator.consensus.trace, coordinator.consensus.round
        if problem.classes is None:
            self.y_bounds_ = terms.bounds("target_bounds")
        else:
            self.classes_ = problem.classes
        self._keep(coordinator.consensus.result, terms.bounds("feature_bounds"))
        return self

    def _norm(self, problem: Problem) -> float:
        """Usual norm of the rows themselves: where nothing is private, steps may be stable for rows of any size."""
        X = linear_arrays(
            problem, self._loss(problem.public.task), feature_bounds=self._given_feature_bounds(problem.public),
            target_bounds=None if problem.classes is not None else self._given_target_bounds(problem.public.n_outputs),
            fit_intercept=bool(self.fit_intercept),
        )["X"]  # fmt: skip
        return float(np.sqrt(np.einsum("ij,ij->", X, X) / len(X)))

    def _jobs(self) -> int | None:
        return None if self.engine == "local" else (-1 if self.n_jobs is None else self.n_jobs)

    def _tell(self, coordinator: Coordinator) -> None:
        if self.verbose:
            line = coordinator.consensus.trace[-1]
            print(f"round {line['round']}: spread {line['spread']:.3g}, moved {line['moved']:.3g}")

    # ------------------------------------------------------------------ what it cost
    def _state(
        self, sites: list[Site], book: FitBook, reservation: Any, warned: list[str], finished: bool
    ) -> None:  # fmt: skip
        """Close all books; keep the statement, also of a fit that an error ended after something was spent."""
        stated = {site.name: site.settle(warned) for site in sites}
        done = max((statement.steps for statement in stated.values()), default=0)
        (touch,) = reservation.charge.touches
        for _ in range(done):
            book.spend(reservation, touch)
        book.settle(reservation)
        if done and finished:
            self._statement = self._together(sites, warned).to_dict()
            self._by_site = {name: statement.to_dict() for name, statement in stated.items()}
        elif done:
            self._failed = [*getattr(self, "_failed", []), self._together(sites, warned).to_dict()]

    def _together(self, sites: list[Site], warned: list[str]) -> PrivacyStatement:
        """About one row at one site, or one person with a row at each of several."""
        k, n = self.max_sites_per_person, sum(site.rows for site in sites)
        if k == 1:
            joint = compose_disjoint([site.statement(warned) for site in sites])
        else:
            dearest = sorted(sites, key=lambda site: site.noise_multiplier or 0.0)[:k]
            joint = compose([site.person_statement(k, n, warned) for site in dearest])
        return replace(joint, mechanism=f"DP-ADMM over {len(sites)} sites" if len(sites) > 1 else "DP-ADMM")

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
        if not (self.rounds == "auto" or is_whole(self.rounds)):
            raise ValueError(f"rounds={self.rounds!r} must be 'auto' or a whole number of at least 1")
        for name, known in (("schedule", _SCHEDULES), ("engine", _ENGINES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(map(repr, known))}")
        for name in ("rho", "max_grad_norm"):
            value = getattr(self, name)
            if value != "auto" and not (is_real(value) and 0 < value < math.inf):
                raise ValueError(f"{name}={value!r} must be 'auto' or a positive finite number")
        for name in ("momentum", "average"):
            value = getattr(self, name)
            if value != "auto" and not (is_real(value) and 0 <= value < 1):
                raise ValueError(f"{name}={value!r} must be 'auto' or lie in [0, 1)")
        if not (is_real(self.sampling_rate) and 0 < self.sampling_rate <= 1):
            raise ValueError(f"sampling_rate={self.sampling_rate!r} must lie in (0, 1]")
        if not is_whole(self.max_sites_per_person):
            raise ValueError(f"max_sites_per_person={self.max_sites_per_person!r} must be a whole number of at least 1")


def _arrays(problem: Problem, terms: Terms) -> dict[str, np.ndarray]:
    """Rows as all sites train on them."""
    weights = None if terms.class_weights is None else np.array(terms.class_weights)
    return linear_arrays(
        problem,
        terms.loss_function,
        feature_bounds=terms.bounds("feature_bounds"),
        target_bounds=terms.bounds("target_bounds"),
        fit_intercept=terms.fit_intercept,
        class_weights=weights,
    )


def _noise_of(charge: Charge) -> float:
    noise = charge.touches[0].noise
    return 0.0 if noise is None else noise.combined
