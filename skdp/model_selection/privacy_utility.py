"""Scores against epsilon: a sweep of fits, what all of them cost together, and what may be read off it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone, is_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import check_scoring
from sklearn.model_selection import KFold
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from skdp.accounting import PrivacyStatement, compose
from skdp.accounting.checks import is_real
from skdp.exceptions import NotPrivateWarning, SweepSpendsWarning

__all__ = ["PrivacyUtilityCurve", "privacy_utility_curve"]


@dataclass(frozen=True, eq=False)
class PrivacyUtilityCurve:
    """Scores of a sweep over epsilon, and what the sweep cost.

    Parameters
    ----------
    epsilons : ndarray of shape (n_epsilons,)
        Ascending and finite.
    scores : dict of str to ndarray of shape (n_epsilons, n_seeds)
        By metric, larger is better; means over folds where there are several.
    prior : dict of str to float
        By metric, score of the best constant, which knows the base rates or mean of the test rows and nothing else.
    non_private : dict of str to ndarray of shape (n_seeds,)
        By metric, scores at ``epsilon=inf``; empty where that was not asked for.
    statement : PrivacyStatement or None
        Of all fits together; None where the rows were declared public.
    scores_are_public : bool
        Whether scores were computed on public rows, so that nothing but the models looked at private ones.
    estimator : str
        What was fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from skdp import DPClassifier
    >>> from skdp.model_selection import privacy_utility_curve
    >>> X = np.random.default_rng(0).uniform(-1, 1, (1200, 3))  # a simulation: public
    >>> y = (X[:, 0] > 0).astype(int)
    >>> model = DPClassifier("linear", classes=[0, 1], feature_bounds=(-1, 1))
    >>> curve = privacy_utility_curve(model, X[:800], y[:800], epsilons=[0.01, 1.0], X_test=X[800:], y_test=y[800:],
    ...                               n_seeds=2, data_are_public=True)
    >>> curve.scores["accuracy"].shape, curve.smallest_epsilon_within(0.02)
    ((2, 2), 1.0)
    """

    epsilons: np.ndarray
    scores: dict[str, np.ndarray]
    prior: dict[str, float]
    non_private: dict[str, np.ndarray]
    statement: PrivacyStatement | None
    scores_are_public: bool
    estimator: str

    @property
    def privacy_(self) -> PrivacyStatement | None:
        """What all fits of the sweep cost together."""
        return self.statement

    def medians(self, metric: str | None = None) -> np.ndarray:
        """Median over seeds at each epsilon.

        Parameters
        ----------
        metric : str, optional
            The first one when None.

        Returns
        -------
        ndarray of shape (n_epsilons,)
        """
        return np.median(self._of(metric), axis=1)

    def bands(self, metric: str | None = None, level: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper quantiles over seeds at each epsilon.

        Parameters
        ----------
        metric : str, optional
            The first one when None.
        level : float, default=0.8
            Share of the seeds between the two.

        Returns
        -------
        tuple of two ndarrays of shape (n_epsilons,)
        """
        if not 0 < level <= 1:
            raise ValueError(f"level={level!r} must lie in (0, 1]")
        return tuple(np.quantile(self._of(metric), [(1 - level) / 2, (1 + level) / 2], axis=1))

    def smallest_epsilon_within(self, tolerance: float, metric: str | None = None) -> float:
        """Smallest epsilon of the sweep that costs at most `tolerance` of the score.

        Parameters
        ----------
        tolerance : float
            In units of the metric: how far the median score may stay below that without privacy, or, where that was not
            measured, below the one at the largest epsilon.
        metric : str, optional
            The first one when None.

        Returns
        -------
        float
            It and all larger epsilons of the sweep stay within the tolerance.

        Raises
        ------
        ValueError
            Where scores were computed on private rows, or no epsilon is good enough.
        """
        if not self.scores_are_public:
            raise ValueError(
                "these scores were computed on private rows and nobody paid for them, so an epsilon chosen by them "
                "would tell about the rows, and its noise would not cover that. Pass public test rows as X_test and "
                "y_test, or sweep over public or made-up data with data_are_public=True. Epsilon is a budget: choose "
                "it from who may look and what a right guess would cost a person (skdp.accounting.attack_accuracy)"
            )
        if not (is_real(tolerance) and tolerance >= 0):
            raise ValueError(f"tolerance={tolerance!r} must be a number of at least 0, in units of the metric")
        name, medians = self._name(metric), self.medians(metric)
        goal = np.median(self.non_private[name]) if self.non_private else medians[-1]
        bad = np.flatnonzero(medians < goal - tolerance)
        first = bad[-1] + 1 if len(bad) else 0
        if first == len(medians):
            raise ValueError(
                f"no epsilon up to {self.epsilons[-1]:g} comes within {tolerance:g} of {goal:.4g}, the {name} without "
                "privacy; more rows would help (skdp.plan says how many)"
            )
        return float(self.epsilons[first])

    def to_frame(self) -> pd.DataFrame:
        """One row for each score.

        Returns
        -------
        DataFrame
            Columns ``epsilon`` (infinite without privacy), ``seed``, ``metric``, ``score`` and ``prior``.
        """
        parts = []
        for metric, scores in self.scores.items():
            epsilons = self.epsilons
            if self.non_private:
                epsilons, scores = np.append(epsilons, np.inf), np.vstack([scores, self.non_private[metric]])
            k, seeds = scores.shape
            parts.append(
                pd.DataFrame({
                    "epsilon": np.repeat(epsilons, seeds), "seed": np.tile(np.arange(seeds), k), "metric": metric,
                    "score": scores.ravel(), "prior": self.prior[metric],
                })
            )  # fmt: skip
        return pd.concat(parts, ignore_index=True)

    def __str__(self) -> str:
        lines = [f"{self.estimator}: {' and '.join(self.scores)}, median of {self._of(None).shape[1]} fits each"]
        for i, epsilon in enumerate(self.epsilons):
            values = ", ".join(f"{metric} {np.median(scores[i]):.4g}" for metric, scores in self.scores.items())
            lines.append(f"epsilon {epsilon:<6g} {values}")
        references = {"without privacy": {m: np.median(s) for m, s in self.non_private.items()}, "prior": self.prior}
        for name, found in references.items():
            if found:
                lines.append(f"{name:<14} " + ", ".join(f"{metric} {score:.4g}" for metric, score in found.items()))
        if self.statement is None:
            lines.append("The rows were declared public: the sweep says nothing about private ones.")
        else:
            lines.append(
                f"All fits together cost epsilon = {self.statement.epsilon:.4g} at delta = {self.statement.delta:g}, "
                f"{self.statement.adjacency}."
            )
            if not self.scores_are_public:
                lines.append("The scores were computed on private rows and are NOT covered by that.")
        return "\n".join(lines)

    def _name(self, metric: str | None) -> str:
        name = next(iter(self.scores)) if metric is None else metric
        if name not in self.scores:
            raise ValueError(f"metric={metric!r} must be one of {', '.join(self.scores)}")
        return name

    def _of(self, metric: str | None) -> np.ndarray:
        return self.scores[self._name(metric)]


def privacy_utility_curve(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    epsilons: Iterable[float],
    X_test: Any = None,
    y_test: Any = None,
    cv: Any = None,
    scoring: Any = None,
    n_seeds: int = 3,
    data_are_public: bool = False,
) -> PrivacyUtilityCurve:
    """Fit at several epsilons, several times each, and score on other rows.

    Every fit on private rows is spending, also of the models that nobody keeps. Sweep over public data that resembles
    yours, last year's published table or a simulation, and say so with ``data_are_public=True``.

    Parameters
    ----------
    estimator : DPClassifier, DPRegressor, PrivatePipeline or DPSearchCV
        It is cloned; its own ``epsilon`` is not used.
    X : array-like or table of shape (n, n_features)
    y : array-like of shape (n,)
    epsilons : iterable of float
        ``inf`` is for public rows alone.
    X_test, y_test : array-like, optional
        Public rows to score on.
    cv : int or splitter or iterable of (train, test), optional
        Folds instead. A splitter must not look at labels; an int is that many folds by position.
    scoring : str, callable, list or dict, default=None
        As for `sklearn.model_selection.cross_validate`; None is accuracy or R².
    n_seeds : int, default=3
        Fits at each epsilon, with ``random_state`` 0, 1, ... where the estimator has one. The noise differs anyway.
    data_are_public : bool, default=False
        Your word that no row of X and y is private.

    Returns
    -------
    PrivacyUtilityCurve

    Raises
    ------
    ValueError
        For parameters that make no sense; nothing is spent then. An error within a fit names what was spent before it.

    Warns
    -----
    SweepSpendsWarning
        Before the first fit on private rows, with the number of fits and the sum of their budgets.

    Notes
    -----
    *Formal guarantee.* The sweep is decided before its first result, so all its models together are (epsilon,
    delta)-differentially private as the composed statement says (`skdp.accounting.compose`). With folds every row is in
    some training parts only, and the statement is on the safe side. Scores on public rows follow from the models and
    cost nothing more. Scores on private rows (``cv``) are exact, and covered by nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_classification
    >>> from skdp import DPClassifier
    >>> X, y = make_classification(2000, 5, random_state=0)
    >>> model = DPClassifier("linear", classes=[0, 1], feature_bounds=(-4, 4))
    >>> curve = privacy_utility_curve(model, X, y, epsilons=[0.1, 1, np.inf], cv=2, n_seeds=1, data_are_public=True)
    >>> curve.to_frame().columns.tolist()
    ['epsilon', 'seed', 'metric', 'score', 'prior']
    """
    budgets = _budgets(epsilons, data_are_public)
    if isinstance(n_seeds, bool) or int(n_seeds) != n_seeds or n_seeds < 1:
        raise ValueError(f"n_seeds={n_seeds!r} must be a whole number of at least 1")
    if not hasattr(estimator, "privacy_charge") or "epsilon" not in estimator.get_params(deep=False):
        raise ValueError(f"estimator={type(estimator).__name__} is not private; pass one that has epsilon")
    scorer, names = _scorer(estimator, scoring)
    folds = _folds(X, y, X_test, y_test, cv)
    fits = len(budgets) * n_seeds * len(folds)
    if not data_are_public:
        warnings.warn(
            f"privacy_utility_curve makes {fits} private fits, whose budgets add up to "
            f"{sum(budgets) * fits / len(budgets):.4g}: all of it is spent on these rows, and the curve's "
            "privacy_ says how much that is composed. Sweep over public or made-up data instead, with "
            "data_are_public=True",
            SweepSpendsWarning,
            stacklevel=2,
        )
    values, statements = _sweep(estimator, budgets, n_seeds, folds, scorer, names)
    means = {name: values[..., i].mean(axis=2) for i, name in enumerate(names)}
    finite = np.isfinite(budgets)
    return PrivacyUtilityCurve(
        epsilons=np.array(budgets)[finite],
        scores={name: scores[finite] for name, scores in means.items()},
        prior=_prior(estimator, folds, scorer, names),
        non_private={} if finite.all() else {name: scores[-1] for name, scores in means.items()},
        statement=None if data_are_public else compose(statements),
        scores_are_public=data_are_public or cv is None,
        estimator=type(estimator).__name__,
    )


# ------------------------------------------------------------------ what is asked for
def _budgets(epsilons: Iterable[float], public: bool) -> list[float]:
    found = sorted(set(epsilons))
    for epsilon in found:
        if not (is_real(epsilon) and epsilon > 0):
            raise ValueError(f"epsilons: {epsilon!r} must be a positive number")
    if found and math.isinf(found[-1]) and not public:
        raise ValueError(
            "epsilons: inf is a fit without privacy, an unprotected release of private rows; leave it out, or pass "
            "data_are_public=True where the rows are"
        )
    if not any(map(math.isfinite, found)):
        raise ValueError(f"epsilons={found!r} must hold at least one finite number")
    return [float(epsilon) for epsilon in found]


def _scorer(estimator: Any, scoring: Any) -> tuple[Any, list[str]]:
    """A function from (model, X, y) to one or several numbers, and their names."""
    if scoring is None:
        scoring = "r2" if is_regressor(estimator) else "accuracy"
    several = not isinstance(scoring, str) and not callable(scoring)
    scorer = check_scoring(estimator, scoring=scoring)
    if several:
        return scorer, list(scoring)
    return scorer, [scoring if isinstance(scoring, str) else getattr(scoring, "__name__", "score")]


def _folds(X: Any, y: Any, X_test: Any, y_test: Any, cv: Any) -> list[tuple]:
    """Pairs of rows to train on and to score on."""
    if (X_test is None) != (y_test is None) or (X_test is None) == (cv is None):
        raise ValueError("pass either public test rows, as X_test and y_test, or folds, as cv")
    if cv is None:
        return [((X, y), (X_test, y_test))]
    return [tuple((_safe_indexing(X, part), _safe_indexing(y, part)) for part in parts) for parts in _splits(cv, X)]


def _splits(cv: Any, X: Any) -> Iterator[tuple]:
    """Positions of the rows of each fold, from their number alone."""
    if isinstance(cv, int):
        cv = KFold(cv)
    if not hasattr(cv, "split"):
        return iter(cv)
    try:
        # Neither rows nor labels are shown to the splitter, so its folds cannot depend on them.
        return iter(list(cv.split(np.zeros((_num_samples(X), 1)))))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"cv={cv!r} cannot split without labels or groups: {error}. Folds that follow labels let one row move "
            "others, so composing the fits would bound nothing; pass KFold(...), or public (train, test) positions"
        ) from error


# ------------------------------------------------------------------ the sweep
def _sweep(
    estimator: Any, budgets: list[float], n_seeds: int, folds: list[tuple], scorer: Any, names: list[str]
) -> tuple[np.ndarray, list[PrivacyStatement]]:
    """Scores of shape (epsilons, seeds, folds, metrics), and the statement of every fit."""
    values = np.empty((len(budgets), n_seeds, len(folds), len(names)))
    statements: list[PrivacyStatement] = []
    try:
        for i, seed, fold in np.ndindex(values.shape[:3]):
            model = _configured(estimator, budgets[i], seed)
            (X, y), (X_test, y_test) = folds[fold]
            with warnings.catch_warnings() if math.isinf(budgets[i]) else nullcontext():
                if math.isinf(budgets[i]):  # asked for, on rows that are declared public
                    warnings.simplefilter("ignore", NotPrivateWarning)
                model.fit(X, y)
            statements.append(model.privacy_)
            values[i, seed, fold] = _numbers(scorer(model, X_test, y_test))
    except BaseException as error:
        spent = [statement for statement in statements if math.isfinite(statement.epsilon)]
        if spent:
            error.add_note(
                f"{len(spent)} fits of the sweep were finished before; together they cost epsilon = "
                f"{compose(spent).epsilon:.4g} at delta = {compose(spent).delta:g}"
            )
        raise
    return values, statements


def _configured(estimator: Any, epsilon: float, seed: int) -> Any:
    known = estimator.get_params(deep=True)
    given: dict[str, Any] = {"epsilon": epsilon}
    if "noise_multiplier" in known:
        given["noise_multiplier"] = None
    given |= {name: seed for name in known if name.rpartition("__")[2] == "random_state"}
    return clone(estimator).set_params(**given)


def _numbers(found: Any) -> list[float]:
    return list(found.values()) if isinstance(found, Mapping) else [float(found)]


def _prior(estimator: Any, folds: list[tuple], scorer: Any, names: list[str]) -> dict[str, float]:
    """Scores of the best constant, which is taken from the rows that it is scored on."""
    dummy = DummyRegressor() if is_regressor(estimator) else DummyClassifier(strategy="prior")
    found = [_numbers(scorer(clone(dummy).fit(X, y), X, y)) for _, (X, y) in folds]
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))
