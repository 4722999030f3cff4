"""Many configurations at a time: fits of one small architecture share their steps, and nothing else."""

from __future__ import annotations

import contextlib
import numbers
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils.validation import check_is_fitted

from skdp.accounting import PrivacyStatement, compose
from skdp.accounting.stated import Stated
from skdp.exceptions import PrivacyLeakWarning
from skdp.model_selection.backends import on_cluster
from skdp.model_selection.splits import PublicKFold, check_splitter
from skdp.neural_network.together import fit_together
from skdp.user_line import warn_user

__all__ = ["DPSweepCV", "fit_many"]

_SCORES = (
    "cv_results_, best_params_ and best_score_ come from exact scores on held-out rows, which no epsilon covers: keep "
    "them to yourself, or search by skdp.model_selection.DPSearchCV"
)
_LOST = (
    "NOT COMPLETE: fits in other processes were stopped, and what they had spent is not counted here; an open "
    "skdp.PrivacyLedger has counted it"
)
_REPEATED = (
    "fits ran on a cluster: what those of a lost worker had spent, before they were made again elsewhere, is not "
    "counted here; an open skdp.PrivacyLedger has counted it"
)


def fit_many(
    estimator: Any,
    candidates: Sequence[Mapping[str, Any]],
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    rows: Sequence[Any] | None = None,
    n_jobs: int | None = None,
) -> list[Any]:
    """Fit an estimator at many parameter settings; fits of one small architecture share their steps.

    Parameters
    ----------
    estimator : DPClassifier or DPRegressor
        Any other estimator works, too, one fit after the other.
    candidates : list of dict
        Parameters of each fit, such as ``sklearn.model_selection.ParameterGrid(...)`` gives.
    X : array-like or table of shape (n, n_features)
    y : array-like of shape (n,)
    sample_weight : array-like of shape (n,), optional
    rows : list of index arrays or None, optional
        Rows of each fit by position; None is all of them.
    n_jobs : int, optional
        Processes, as in joblib, each of which takes a run of candidates.

    Returns
    -------
    list of estimator
        Fitted clones in the order of `candidates`, each with its own `privacy_`.

    Raises
    ------
    ValueError
        What `fit` would raise. A note on the error says what earlier fits have spent.

    Notes
    -----
    *Formal guarantee.* Every fit is charged by itself and states what it would state alone: it draws its own Poisson
    samples and its own noise, so fits that see the same rows compose like any others
    (`skdp.accounting.compose`). Batches that were shared between fits would cost a multiple of that.

    Fits share their steps where `mechanism` is DP-SGD without adaptive clipping, the net is a chain of linear layers
    and activations (``"linear"``, ``MLP(...)``, the default nets behind their features), the optimizer is gradient
    descent, batches are small, and sampling rate, number of steps, clipping and averaging agree. Learning rates, clip
    norms, momenta, weight decays, noise multipliers, seeds and rows may differ. All others are ordinary fits.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import ParameterGrid
    >>> from skdp import DPClassifier
    >>> from skdp.model_selection import fit_many
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(1000, 3))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> model = DPClassifier("linear", classes=[0, 1], feature_bounds=(-1, 1), batch_size=32, max_epochs=2)
    >>> fitted = fit_many(model, ParameterGrid({"lr": [0.1, 0.5], "max_grad_norm": [0.5, 1.0]}), X, y)
    >>> len(fitted), all(one.privacy_.epsilon <= 1.0 for one in fitted)
    (4, True)
    """
    estimators = [clone(estimator).set_params(**clone(dict(params), safe=False)) for params in candidates]
    fitted, error = _fit_all(estimators, *indexable(X, y, sample_weight), rows, n_jobs)
    if error is not None:
        raise _noted(error, fitted)
    return fitted


def _fit_all(
    estimators: list[Any], X: Any, y: Any, sample_weight: Any, rows: Sequence[Any] | None, n_jobs: int | None
) -> tuple[list[Any], BaseException | None]:
    """Fit in as many processes as there are; what was fitted, and the error of the first run that had one.

    All runs come to their end, so that it is known what each of them spent.
    """
    rows = [None] * len(estimators) if rows is None else list(rows)
    if len(rows) != len(estimators):
        raise ValueError(f"rows holds {len(rows)} index arrays for {len(estimators)} candidates; pass one for each")
    jobs = min(effective_n_jobs(n_jobs), len(estimators))
    if jobs <= 1:
        return _fit_run(estimators, rows, X, y, sample_weight)
    runs = [part for part in np.array_split(np.arange(len(estimators)), jobs) if len(part)]
    ended = Parallel(n_jobs=jobs)(
        delayed(_fit_run)([estimators[i] for i in run], [rows[i] for i in run], X, y, sample_weight) for run in runs
    )
    errors = [error for _, error in ended if error is not None]
    return [estimator for run, _ in ended for estimator in run], errors[0] if errors else None


def _fit_run(
    estimators: list[Any], rows: list[Any], X: Any, y: Any, sample_weight: Any
) -> tuple[list[Any], BaseException | None]:
    """Fit each on its rows, of which equal ones are cut out once; an error is handed back with what had spent."""
    cut: dict[int, tuple] = {}
    try:
        for part in rows:
            if id(part) not in cut:
                cut[id(part)] = tuple(
                    data if part is None or data is None else _safe_indexing(data, part)
                    for data in (X, y, sample_weight)
                )
        fit_together(estimators, [cut[id(part)] for part in rows])
    except BaseException as error:
        return estimators, error
    return estimators, None


def _spent(estimators: list[Any]) -> list[PrivacyStatement]:
    """What each of those that spent did spend, fitted or not."""
    found = []
    for estimator in estimators:
        with contextlib.suppress(AttributeError, ValueError):  # not fitted, or not private
            found.append(estimator.privacy_)
    return found


def _noted(error: BaseException, estimators: list[Any]) -> BaseException:
    """The error with a note on what was spent by then."""
    spent = _spent(estimators)
    if spent:
        epsilon = compose(spent).epsilon
        if isinstance(error, KeyboardInterrupt):
            error.__notes__ = []  # of single fits, which this is the sum of
        error.add_note(f"{len(spent)} of {len(estimators)} fits had spent by then: epsilon={epsilon:.3g} together")
    return error


class DPSweepCV(Stated, GridSearchCV):
    """`GridSearchCV` whose candidates and folds train together.

    Parameters
    ----------
    estimator : DPClassifier or DPRegressor
        Any other estimator works, too, one fit after the other.
    param_grid : dict or list of dicts
    scoring : str, callable, list, tuple or dict, default=None
        As in `sklearn.model_selection.GridSearchCV`.
    n_jobs : int, optional
        Processes, each of which takes a run of candidates.
    refit : bool, str or callable, default=True
    cv : int, cross-validation generator or iterable, default=None
        A number means folds by position (`PublicKFold`), also for classifiers; None is 5. scikit-learn's stratified
        folds, which one label can change for other rows, bring a warning.
        Folds of equal size share their steps.
    return_train_score : bool, default=False

    Attributes
    ----------
    cv_results_, best_estimator_, best_params_, best_score_, best_index_, scorer_, n_splits_, refit_time_, multimetric_
        As in `GridSearchCV`. ``mean_fit_time`` is a fit's share of the time of all.
    privacy_ : PrivacyStatement
        All fits together, the refit included, and those of earlier calls of `fit` that ended in an error. After an
        error it says what was spent until then. Where several processes were interrupted nobody but an open
        `skdp.PrivacyLedger` knows, and a warning in the statement says so.

    Warns
    -----
    PrivacyLeakWarning
        Scores are exact numbers about held-out private rows.

    Notes
    -----
    *Formal guarantee.* Every fit is charged as an ordinary fit (see `fit_many`), and `privacy_` composes them as if
    every row had been in all of them; under a splitter that looks at labels, this bounds nothing per row. Errors are
    raised and never turned into scores: what failed may have spent. `skdp.model_selection.DPSearchCV` chooses among
    candidates at a fraction of this price and covers the scores.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from sklearn.model_selection import KFold
    >>> from skdp import DPClassifier
    >>> from skdp.model_selection import DPSweepCV
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(1000, 3))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> model = DPClassifier("linear", classes=[0, 1], feature_bounds=(-1, 1), batch_size=32, max_epochs=2)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     sweep = DPSweepCV(model, {"lr": [0.01, 0.5]}, cv=KFold(2)).fit(X, y)
    >>> sweep.best_params_, len(sweep.cv_results_["params"])
    ({'lr': 0.5}, 2)
    """

    def __init__(self, estimator, param_grid, *, scoring=None, n_jobs=None, refit=True, cv=None,
                 return_train_score=False):  # fmt: skip
        super().__init__(estimator, param_grid, scoring=scoring, n_jobs=n_jobs, refit=refit, cv=cv,
                         error_score="raise", return_train_score=return_train_score)  # fmt: skip

    def _splitter(self, y: Any) -> Any:
        """Folds by positions where `cv` is a number; a warning where labels decide on them."""
        cv = 5 if self.cv is None else self.cv
        if isinstance(cv, numbers.Integral):
            return PublicKFold(int(cv))
        try:
            return check_splitter(cv)
        except ValueError as error:
            warn_user(f"{error}. The composed epsilon bounds nothing per row as it is", PrivacyLeakWarning)
            return check_cv(cv, y, classifier=is_classifier(self.estimator))

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DPSweepCV:
        """Fit all candidates on all folds, score them, and refit the best.

        Parameters
        ----------
        X : array-like or table
        y : array-like
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        self
        """
        X, y, sample_weight = indexable(X, y, sample_weight)
        scorer, metric = self._get_scorers()
        folds = list(self._splitter(y).split(X, y))
        candidates = list(ParameterGrid(self.param_grid))
        warn_user(_SCORES, PrivacyLeakWarning)
        spent: list[dict[str, Any]] = []
        if on_cluster():
            self._repeated = (_REPEATED,)
        try:
            self._sweep(X, y, sample_weight, candidates, folds, scorer, metric, spent)
        except BaseException:
            self._failed = [*getattr(self, "_failed", []), *spent]
            raise
        self._statements = spent
        return self

    def _sweep(self, X: Any, y: Any, sample_weight: Any, candidates: list, folds: list, scorer: Any, metric: Any,
               spent: list) -> None:  # fmt: skip
        """Fit, score, choose and refit; what is spent is noted down before anything else can fail."""

        def fit(tried: list, rows: list | None) -> list[Any]:
            models = [clone(self.estimator).set_params(**clone(params, safe=False)) for params in tried]
            try:
                fitted, error = _fit_all(models, X, y, sample_weight, rows, self.n_jobs)
            except BaseException:
                self._lost = (_LOST,)  # errors of fits are handed back, so something stopped the processes
                raise
            spent.extend(statement.to_dict() for statement in _spent(fitted))
            if error is not None:
                raise _noted(error, fitted)
            return fitted

        started = time.perf_counter()
        tried = [(params, train) for params in candidates for train, _ in folds]
        fitted = fit([params for params, _ in tried], [train for _, train in tried])
        each = (time.perf_counter() - started) / len(fitted)
        out = [
            self._score(model, scorer, X, y, *fold, each)
            for model, fold in zip(fitted, folds * len(candidates), strict=True)
        ]
        self.scorer_, self.n_splits_ = getattr(scorer, "_scorers", scorer), len(folds)
        self.multimetric_ = isinstance(out[0]["test_scores"], dict)
        self.cv_results_ = self._format_results(candidates, len(folds), out)
        self._choose(metric if not (callable(self.scoring) and self.multimetric_) else self.refit)
        if self.refit:
            started = time.perf_counter()
            (self.best_estimator_,) = fit([self.best_params_], None)
            self.refit_time_ = time.perf_counter() - started
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_

    def _stated(self) -> list[dict[str, Any]]:
        return [*getattr(self, "_failed", []), *getattr(self, "_statements", [])]

    @property
    def privacy_(self) -> PrivacyStatement:
        """Statement of all fits together."""
        parts = self._stated()
        if not parts:
            check_is_fitted(self, "_statements")
        total = compose([PrivacyStatement.from_dict(plain) for plain in parts])
        return replace(total, warnings=(*self._unseen(), *total.warnings, _SCORES))

    def _unseen(self) -> tuple[str, ...]:
        """Why fits may have spent what nobody here knows of."""
        return (*getattr(self, "_lost", ()), *getattr(self, "_repeated", ()))

    def _score(self, model: Any, scorer: Any, X: Any, y: Any, train: Any, test: Any, fit_time: float) -> dict:
        """What scikit-learn's own search notes down of one fit."""
        started = time.perf_counter()
        found = {"test_scores": scorer(model, _safe_indexing(X, test), _safe_indexing(y, test))}
        found |= {"fit_time": fit_time, "score_time": time.perf_counter() - started}
        if self.return_train_score:
            found["train_scores"] = scorer(model, _safe_indexing(X, train), _safe_indexing(y, train))
        return found

    def _choose(self, metric: Any) -> None:
        """The best candidate, where one is asked for."""
        if not self.refit and self.multimetric_:
            return
        self.best_index_ = self._select_best_index(self.refit, metric, self.cv_results_)
        if not callable(self.refit):
            self.best_score_ = self.cv_results_[f"mean_test_{metric}"][self.best_index_]
        self.best_params_ = self.cv_results_["params"][self.best_index_]
