"""One fit of a linear model by whoever holds all rows: prices, estimates, solver, coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier

from skdp.contract import Charge, Public, Touch, drive
from skdp.distributed import current, lockstep
from skdp.distributed.membership import unjoined_processes
from skdp.exceptions import PrivateBoundsWarning
from skdp.linear_model.gradient_descent import descend, descent_touches
from skdp.linear_model.objective_perturbation import minimise, minimum_touches, refuse_minimum
from skdp.linear_model.rows import linear_arrays, usual_length
from skdp.linear_model.sufficient_statistics import adassp, adassp_touches, boosted, boosted_touches, refuse_statistics
from skdp.linear_model.terms import FitFacts
from skdp.neural_network.bounds_text import bounds_in_words
from skdp.neural_network.estimates import Estimates, check_target_bounds, estimate_arrays, release_estimates
from skdp.neural_network.parameters import check_one_of, check_positive, check_whole
from skdp.neural_network.priced import Priced
from skdp.neural_network.problem import Problem
from skdp.neural_network.programme import SHARES
from skdp.neural_network.ranked import agree_on_parameters, joined
from skdp.neural_network.stating import hopeless_warnings
from skdp.releases import ArrayExecutor, Spending, bounds_touches, class_counts_touch
from skdp.user_line import warn_all

if TYPE_CHECKING:
    from skdp.distributed import Ranks

__all__ = ["SOLVERS", "CentralFit", "Solver"]


@dataclass(frozen=True)
class Solver:
    """One way to train.

    Parameters
    ----------
    touches : callable
        From `FitFacts` to the touches of the training, which cost as much as one Gaussian release at ``terms.scale``.
    solve : callable
        From touches and `FitFacts` to a generator of queries that returns coefficients, the number of steps, and how
        much noise is in each coefficient (`skdp.linear_model.coefficient_noise`).
    refuses : callable
        From `FitFacts` to why it cannot be used, empty where it can.
    sums : bool
        Whether it asks for sums over rows alone, which the processes of a `skdp.distributed.process_group` add up.
    """

    touches: Callable[[FitFacts], tuple[Touch, ...]]
    solve: Callable[[tuple[Touch, ...], FitFacts], Generator]
    refuses: Callable[[FitFacts], str] = lambda terms: ""
    sums: bool = True

    def refused(self, terms: FitFacts) -> str:
        """Why it cannot be used, here and now."""
        if not self.sums and current() is not None:
            return "what it asks for is no sum over rows, which the processes of a process_group() could add up"
        return self.refuses(terms)


SOLVERS = {
    "gradient-descent": Solver(descent_touches, descend),
    "objective-perturbation": Solver(minimum_touches, minimise, refuse_minimum, sums=False),
    "adassp": Solver(adassp_touches, adassp, refuse_statistics),
    "boosted-adassp": Solver(boosted_touches, boosted, refuse_statistics),
}


class CentralFit(Spending):
    """The fit of `DPLinearClassifier` and `DPLinearRegressor`, which name their solvers in the order of preference."""

    _solvers: tuple[str, ...]

    facts_of = Priced.facts_of
    public_facts = Priced.public_facts

    def privacy_charge(self, public: Public, scale: float | None) -> Charge:
        """What a fit costs at a noise multiplier, from public facts alone.

        Parameters
        ----------
        public : Public
        scale : float or None
            Noise multiplier of one Gaussian release that costs as much as the training; None is no noise.

        Returns
        -------
        Charge
        """
        self._check_parameters()  # in a pipeline before an earlier step spends
        terms = self._terms(public, scale)
        estimates = self._estimate_touches(scale)
        training = self._solver(terms).touches(terms)
        extra = tuple(touch for group in estimates.values() for touch in group)
        return Charge(extra + training, public.adjacency, public.unit)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CentralFit:
        """Spend the budget on coefficients.

        Parameters
        ----------
        X : array-like, memory map or sparse matrix of shape (n, n_features)
            What lies in a file is read anew in every step, a piece at a time; what is sparse stays sparse.
        y : array-like of shape (n,) or (n, n_targets)
        sample_weight : array-like of shape (n,), optional
            Computed from each record alone; 0 makes a null row.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.

        Warns
        -----
        WeakSignalWarning
            Where the budget is too small for a model that is better than the prior.
        """
        with lockstep() as ranks:
            self._check_budget()
            self._check_parameters()
            warn_all((UserWarning, message) for message in unjoined_processes())
            if ranks is not None:
                agree_on_parameters(ranks, self, None, getattr(self, "_failed", []))
            problem = self._problem(X, y, sample_weight)
            if ranks is not None:
                problem = joined(ranks, problem, getattr(self, "feature_names_in_", None))
            self._fit(problem, ranks)
        return self

    # ------------------------------------------------------------------ parts of the fit
    def _fit(self, problem: Problem, ranks: Ranks | None) -> None:
        """Price, release, train and set the fitted state; of rows that `ranks` hold together."""
        given = self._given_estimates(problem)
        charge, _, certificate = self._priced(problem.public)
        scale = certificate.scale if certificate else self.noise_multiplier
        if scale is not None:
            warn_all(hopeless_warnings(problem.public, problem.public.n / scale, self.epsilon, scale))
        touches = self._estimate_touches(scale)
        check_target_bounds(touches.get("target bounds"), problem.public, self.epsilon)
        facts, released = [*problem.facts, *self._given_facts(problem, given)], []
        notes = list(problem.warnings)
        with self._spending(
            problem.public,
            estimate_arrays(problem),
            problem.null,
            facts=facts,
            released=released,
            assumptions=problem.assumptions,
            warnings=notes,
            ranks=ranks,
        ) as (executor, _):
            names = getattr(self, "feature_names_in_", None)
            found = release_estimates(given, touches, problem, executor, names)
            warn_all([(PrivateBoundsWarning, message) for message in found.warnings])
            notes += found.warnings
            released += self._released_facts(touches, found)
            coef, self.n_iter_, noise = self._trained(problem, found, executor, scale)
            if ranks is not None:  # the same bits everywhere, where processors round differently
                coef, noise = ranks.broadcast((coef, noise), "coefficients")
        self._set(problem, coef, found, noise)

    def _trained(
        self, problem: Problem, found: Estimates, executor: ArrayExecutor, scale: float | None
    ) -> tuple[np.ndarray, int, np.ndarray]:
        """Coefficients on scaled columns, the number of steps, and the standard deviation of their noise."""
        weights = found.class_weights
        arrays = linear_arrays(
            problem,
            self._loss(problem.public.task),
            feature_bounds=found.feature_bounds,
            target_bounds=found.target_bounds,
            fit_intercept=bool(self.fit_intercept),
            # Relative to the largest: what is above 1 would mostly be lost to clipping.
            class_weights=None if weights is None else weights / weights.max(),
        )
        indicators = len(found.indicators + found.around_zero) or len(problem.public.indicators)
        length = usual_length(problem.inputs, found.feature_bounds, indicators, bool(self.fit_intercept))
        terms = self._terms(problem.public, scale, length)
        solver, executor = self._solver(terms), executor.about(arrays, problem.null)
        return drive(solver.solve(solver.touches(terms), terms), executor.answer)

    def _set(self, problem: Problem, coef: np.ndarray, found: Estimates, noise: np.ndarray) -> None:
        """Set the fitted state."""
        self._keep(coef, found.feature_bounds, noise)

    # ------------------------------------------------------------------ prices
    def _terms(self, public: Public, scale: float | None, length: float = math.nan) -> FitFacts:
        """What solvers are given; the usual length of rows is no part of the price."""
        width = int(np.prod(public.input_shape))
        return FitFacts(
            n=public.n,
            outputs=public.n_outputs,
            columns=width + bool(self.fit_intercept),
            loss=self._loss(public.task),
            penalty=self._penalty(),
            length=length,
            max_grad_norm=None if isinstance(self.max_grad_norm, str) else float(self.max_grad_norm),
            scale=scale,
            steps=None if isinstance(self.max_iter, str) else int(self.max_iter),
        )

    def _solver(self, terms: FitFacts) -> Solver:
        """The solver that was asked for, or the first that can be used; without noise the one that is exact."""
        if self.solver == "auto":
            order = self._solvers if terms.scale is not None else self._solvers[::-1]
            return next(SOLVERS[name] for name in order if not SOLVERS[name].refused(terms))
        reason = SOLVERS[self.solver].refused(terms)
        if reason:
            raise ValueError(f"solver={self.solver!r}: {reason}; or pass solver='gradient-descent'")
        return SOLVERS[self.solver]

    def _estimate_touches(self, scale: float | None) -> dict[str, tuple[Touch, ...]]:
        """Touches of the releases made before training, by what they estimate."""
        found = {}
        for name in self._missing():
            # Of the squared signal, the training's being 1 / scale ** 2; two histograms share one estimate.
            multiplier = scale and scale / math.sqrt(SHARES[name])
            if name == "class counts":
                found[name] = (class_counts_touch(multiplier),)
            else:
                found[name] = bounds_touches(name, multiplier and multiplier * math.sqrt(2))
        return found

    def _missing(self) -> tuple[str, ...]:
        """What has to be estimated, by its name in `SHARES`."""
        return ("feature bounds",) if isinstance(self.feature_bounds, str) else ()

    # ------------------------------------------------------------------ parameters
    def _check_parameters(self) -> None:
        if not isinstance(self.solver, str) or self.solver not in ("auto", *self._solvers):
            known = ", ".join(map(repr, ("auto", *self._solvers)))
            twin = "DPLinearRegressor" if is_classifier(self) else "DPLinearClassifier"
            other = f"; {self.solver!r} is of {twin} only" if str(self.solver) in SOLVERS else ""
            raise ValueError(f"solver={self.solver!r} must be one of {known} for {type(self).__name__}{other}")
        check_positive(self, "max_grad_norm")
        check_whole(self, "max_iter", "auto")
        check_one_of(self, "on_invalid", ("raise", "null"))
        bounds = self.feature_bounds
        if isinstance(bounds, str) and bounds != "private":
            raise ValueError(f"feature_bounds={bounds!r} must be None, 'private', or public (low, high) per column")
        self._penalty()

    def _given_estimates(self, problem: Problem) -> Estimates:
        """What the user gave as public."""
        given = Estimates()
        if self.feature_bounds is not None and not isinstance(self.feature_bounds, str):
            given.feature_bounds = self._given_feature_bounds(problem.public)
        return given

    def _given_facts(self, problem: Problem, given: Estimates) -> list[str]:
        """What was taken as public, in words."""
        if given.feature_bounds is None:
            return []
        return [self._bounds_fact(given.feature_bounds, problem.public.indicators)]

    def _released_facts(self, touches: dict[str, tuple[Touch, ...]], found: Estimates) -> list[str]:
        """What was found out on the way, in words."""
        if "feature bounds" not in touches:
            return []
        return [self._bounds_fact(found.feature_bounds, found.indicators)]

    def _bounds_fact(self, bounds: np.ndarray, indicators: tuple[int, ...]) -> str:
        shown = np.array(bounds, dtype=float)
        shown[list(indicators)] = 0, 1  # used as they are
        return f"feature bounds: {bounds_in_words(shown, getattr(self, 'feature_names_in_', None))}"
