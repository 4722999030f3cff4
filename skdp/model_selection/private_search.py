"""Search for hyperparameters as one private release: a random number of trials, of which the best one is shown."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import _num_samples

from skdp.accounting import FitBook, calibrate, resolve_delta
from skdp.accounting.budget import budget_warnings
from skdp.accounting.ledger_sessions import LedgerAware
from skdp.accounting.selection import ceiling_of, selection_charge
from skdp.accounting.stated import Stated
from skdp.contract import Charge, Public
from skdp.distributed.settling import note_interrupt
from skdp.exceptions import PrivacyLeakWarning
from skdp.model_selection.best_model import BestModelMixin
from skdp.model_selection.row_scores import in_words
from skdp.model_selection.search_price import (
    check_candidate,
    check_search,
    check_thresholds,
    check_tunable,
    scoring_of,
    search_statement,
    shape_of,
    trial_of,
)
from skdp.model_selection.search_trials import Candidates, Trials
from skdp.user_line import warn_all, warn_user

__all__ = ["DPSearchCV"]

_SPLIT = (
    "trials trained on a part of the rows that follows from their number alone and were scored on the rest; noise on "
    "the scores makes them cost no more than training"
)
_SCORE = (
    "best_score_ is of {} rows, with noise of standard deviation {:.2g}; chosen as the best of several, it tends to be "
    "too good"
)
_CLASSES_READ = (
    "the classes were read from y: that a class occurs at all is then not protected. Pass classes=[...] with the "
    "public list of labels to the estimator"
)


class DPSearchCV(Stated, LedgerAware, BestModelMixin, MetaEstimatorMixin, BaseEstimator):
    r"""Random search that is charged once, whatever it tries.

    A secret random number of trials is run. Each draws parameters, trains on one part of the rows and is scored, with
    noise, on the other. Only the best trial's model, parameters and score are released; how many trials there were and
    what the others scored is told to nobody. That costs far less than paying for every trial: with ten trials on
    average a model gets a bit less than half of the signal that it would get without a search.

    Parameters
    ----------
    estimator : DPClassifier, DPRegressor or PrivatePipeline
        Its own ``epsilon`` is not used.
    param_distributions : dict or list of dicts
        As for `sklearn.model_selection.RandomizedSearchCV`: lists or distributions by parameter. Every trial draws
        anew, so candidates may repeat. Values that are estimators, such as whole steps, are given as lists.
    epsilon : float, default=1.0
        Budget of the whole search, the released model included.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n). Where trials release categories above a threshold, a tenth
        of it for each step that does so is what the thresholds of all trials together may fail with.
    mean_trials : float, default=10
        Expected number of trials.
    trials : {"geometric", "logarithmic", "poisson"} or float, default="logarithmic"
        Distribution of their number; a number of 0 or more is the shape of a truncated negative binomial. The
        logarithmic one is the cheapest and varies most: often one trial, sometimes a hundred.
    unchanged_share : float, default=0.5
        Chance of a trial to take `estimator` as it was passed, without drawn parameters. A search of a single trial,
        which is frequent, then does not have to take whatever it drew.
    scoring : str or callable, default=None
        A name of `skdp.model_selection.ROW_SCORES`, or a function ``(model, X, y)`` that gives one number in [0, 1] per
        row. None is ``"neg_log_loss"`` for classifiers and ``"neg_mean_squared_error"`` for regressors.
    validation_size : float, default=0.2
        Share of the rows that trials are scored on.
    validation_public : (X, y), optional
        Public rows to score on instead, which cost nothing; then trials train on all rows.
    default : fitted estimator, optional
        Model for the case that there was no trial, which ``trials="poisson"`` allows for; it must not depend on private
        rows. None predicts all classes alike, or the middle of the range of y.
    n_jobs : int, optional
        Processes, as in joblib, each of which takes its share of the trials. Where joblib's backend is a cluster (Dask,
        Ray) trials run there only if this is given.
    random_state : int, RandomState or None, default=None
        Of the split, which is public. What is tried is drawn from the operating system's randomness.

    Attributes
    ----------
    best_estimator_ : estimator
        The model of the best trial; there is no refit.
    best_params_ : dict
        Empty where the estimator as passed was best, and where there was no trial.
    best_score_ : float
        Mean over the rows it was scored on, in [0, 1], with noise; nan where there was no trial. As the best of several
        noisy scores it tends to be too good.
    best_score_std_error_ : float
        Standard deviation of the noise in one trial's score, which is public; 0 with public validation rows. That other
        rows would have given another score is not in it.
    cv_results_ : dict
        The released row alone, in scikit-learn's form.
    privacy_ : PrivacyStatement
    n_features_in_, feature_names_in_, classes_
        Of the best model.

    Raises
    ------
    ValueError
        From `fit`, for parameters or data that make no sense; nothing is spent then.

    Warns
    -----
    PrivacyLeakWarning
        Where classes are read from y.

    Notes
    -----
    *Formal guarantee.* One selection from a random number of runs (Papernot and Steinke, *Hyperparameter Tuning with
    Renyi Differential Privacy*, ICLR 2022), (epsilon, delta)-differentially private under zero-out, in Renyi
    differential privacy. A run draws a candidate, trains and scores. Which rows train and which score follows from
    `random_state` and their number; a row is in one of the two, so a run costs it what that one costs, and the noise on
    scores is such that they never cost more than training. Candidates with another price list get noise that
    keeps them below the price of `estimator` as it was passed.

    Trials may release categories that are not public (`skdp.preprocessing.DPTableVectorizer`, `DPOneHotEncoder`). Any
    of them may then let a rare one through: the probability of that in one trial, times `mean_trials`, is taken off
    delta (proof: `skdp.accounting.selection.selection_charge`). Their thresholds are set for ``delta / mean_trials``.

    How long the search took is not covered: it tells something about the number of trials, so keep it to yourself. The
    number of tasks in other processes tells nothing: each gets one, however many trials there are. Who operates a
    cluster sees more than that; the statement names it.
    Warnings and printed output of trials are suppressed. Callbacks, noise seeds and whatever else would show a trial
    are refused, also inside of values that are estimators themselves; for that these have to be listed. An interrupted
    search releases nothing and stays charged.

    Examples
    --------
    >>> import numpy as np
    >>> from skdp import DPClassifier
    >>> from skdp.model_selection import DPSearchCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, size=(3000, 3))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> model = DPClassifier("linear", classes=[0, 1], feature_bounds=(-1, 1), max_epochs=5)
    >>> search = DPSearchCV(model, {"lr": [0.01, 0.1, 1.0]}, epsilon=2.0, mean_trials=3).fit(X, y)
    >>> search.privacy_.epsilon <= 2.0, len(search.cv_results_["params"])  # what was released: the best trial alone
    (True, 1)
    """

    def __init__(self, estimator, param_distributions, *, epsilon=1.0, delta="auto", mean_trials=10,
                 trials="logarithmic", unchanged_share=0.5, scoring=None, validation_size=0.2, validation_public=None,
                 default=None, n_jobs=None, random_state=None):  # fmt: skip
        self.estimator = estimator
        self.param_distributions = param_distributions
        self.epsilon = epsilon
        self.delta = delta
        self.mean_trials = mean_trials
        self.trials = trials
        self.unchanged_share = unchanged_share
        self.scoring = scoring
        self.validation_size = validation_size
        self.validation_public = validation_public
        self.default = default
        self.n_jobs = n_jobs
        self.random_state = random_state

    # ------------------------------------------------------------------ searching
    def fit(self, X: Any, y: Any) -> DPSearchCV:
        """Search, and keep the best trial's model.

        Parameters
        ----------
        X : array-like or table of shape (n, n_features)
        y : array-like of shape (n,)

        Returns
        -------
        self
        """
        check_search(self)
        n = _num_samples(X)
        delta = resolve_delta(self.delta, n)
        template = self._template(delta, y)
        rows = self._split(n, X, y)
        public = template.facts_of(*rows[0])
        candidates = Candidates(self.param_distributions, self.unchanged_share)
        self._check_candidates(candidates, template, public)
        certificate = calibrate(lambda scale: self._charge(template, public, scale), self.epsilon, delta)
        charge = replace(certificate.charge, split="" if self.validation_public is not None else _SPLIT)
        ceiling = ceiling_of(charge, self.epsilon, delta)
        notes = budget_warnings(self, delta, n, "search")
        warn_all(notes)

        # Around 1/2 a row moves the sum of scores by 1/2 at most, wherever the null row stands.
        noise = 0.0 if self.validation_public is not None else ceiling.gaussian / 2
        scored = 0 if self.validation_public is not None else self._validation_rows(n)
        error = noise / scored if scored else 0.0

        def statement(best: Any = None) -> Any:
            facts = [] if self._classes_known else ["classes (read from y)"]
            said = [message for _, message in notes] + [_SCORE.format(scored, error)] * bool(scored)
            return search_statement(self, charge, delta, n, facts, said, best)

        trials = Trials(template, public, ceiling, certificate.scale, rows, scoring_of(self), noise)
        planned = statement()
        book = FitBook(f"{type(self).__name__} of {type(self.estimator).__name__}", n, planned)
        reservation = book.reserve(charge)
        book.spend(reservation, charge.touches[0])
        # From here on nothing but the best trial may be seen; an interrupt or error leaves the charge as it is.
        failed = getattr(self, "_failed", [])
        self._failed = [*failed, planned.to_dict()]
        try:
            best = trials.best(candidates, self.mean_trials, shape_of(self.trials), self.n_jobs)
        except KeyboardInterrupt as error:
            note_interrupt(error, planned, book.executed(reservation))
            raise
        book.settle(reservation)
        self._failed, self._statement = failed, statement(best and best[1]).to_dict()
        self.best_score_std_error_ = error
        self._keep(best, template, public)
        return self

    def _keep(self, best: tuple | None, template: Any, public: Public) -> None:
        if best is None:
            self.best_score_, self.best_estimator_, self.best_params_ = math.nan, self._default(template, public), {}
        else:
            self.best_score_, self.best_estimator_, self.best_params_ = best
            # What this model cost is what the search cost, not what one run costs that nobody selected.
            vars(self.best_estimator_)["_statement"] = self._statement
        self.cv_results_ = {
            "params": [self.best_params_],
            "mean_test_score": np.array([self.best_score_]),
            "rank_test_score": np.array([1]),
            **{f"param_{name}": np.ma.array([value], dtype=object) for name, value in self.best_params_.items()},
        }
        self.best_index_ = 0

    def __str__(self) -> str:
        """With what was found, once it was."""
        if not hasattr(self, "best_score_"):
            return repr(self)
        noise = f"+- {self.best_score_std_error_:.2g} (noise alone)" if self.best_score_std_error_ else "on public rows"
        score = f"best_score_ = {self.best_score_:.4g} {noise} ({in_words(scoring_of(self))})"
        return f"{self!r}\n{score}, best_params_ = {self.best_params_!r}"

    # ------------------------------------------------------------------ price
    def privacy_charge(self, public: Public, scale: float) -> Charge:
        """What a search costs at a noise scale of one trial, from public facts alone.

        Parameters
        ----------
        public : Public
            Of all rows.
        scale : float

        Returns
        -------
        Charge
        """
        n = public.n if self.validation_public is not None else public.n - self._validation_rows(public.n)
        return self._charge(trial_of(self, resolve_delta(self.delta, public.n)), replace(public, n=n), scale)

    def facts_of(self, X: Any, y: Any) -> Public:
        """The public facts of a data set that the price of a search follows from; nothing is spent.

        Parameters
        ----------
        X : array-like or table
            As for `fit`.
        y : array-like

        Returns
        -------
        Public
        """
        return self.estimator.facts_of(X, y)

    def _charge(self, template: Any, public: Public, scale: float) -> Charge:
        return selection_charge(template.privacy_charge(public, scale), self.mean_trials, shape_of(self.trials))

    def _check_candidates(self, candidates: Candidates, template: Any, public: Public) -> None:
        """Refuse unknown parameters and listed values that nothing can be made of, before anything is spent."""
        paid = self._charge(template, public, 1.0)
        for name, value in candidates.listed():
            check_tunable(name)
            candidate = clone(template).set_params(**{name: value})
            check_candidate(name, candidate)
            check_thresholds(self._charge(candidate, public, 1.0), paid)

    # ------------------------------------------------------------------ parts
    def _template(self, delta: float, y: Any) -> Any:
        """What trials are clones of, with the classes of all rows."""
        template = trial_of(self, delta)
        missing = {n: np.unique(np.asarray(y)).tolist() for n, v in template.get_params().items()
                   if n.rpartition("__")[2] == "classes" and v is None}  # fmt: skip
        self._classes_known = not missing
        if missing:
            warn_user(_CLASSES_READ, PrivacyLeakWarning)
        return template.set_params(**missing)

    def _validation_rows(self, n: int) -> int:
        rows = round(n * self.validation_size)
        if not 1 <= rows < n:
            raise ValueError(f"validation_size={self.validation_size!r} leaves no row on one side of {n} rows")
        return rows

    def _split(self, n: int, X: Any, y: Any) -> tuple:
        """Rows to train on and to score on, by a permutation that depends on their number alone."""
        if self.validation_public is not None:
            return (X, y), tuple(self.validation_public)
        order = check_random_state(self.random_state).permutation(n)
        cut = self._validation_rows(n)
        return tuple((_safe_indexing(X, part), _safe_indexing(y, part)) for part in (order[cut:], order[:cut]))

    def _default(self, template: Any, public: Public) -> Any:
        if self.default is not None:
            return self.default
        columns = np.zeros((2, *public.input_shape))
        if is_classifier(template):
            classes = next(v for n, v in template.get_params().items() if n.rpartition("__")[2] == "classes")
            return DummyClassifier(strategy="prior").fit(np.zeros((len(classes), 1)), classes)
        bounds = next((v for n, v in template.get_params().items() if n.rpartition("__")[2] == "y_bounds"), None)
        return DummyRegressor(strategy="constant", constant=0.0 if bounds is None else np.mean(bounds)).fit(
            columns, [0.0, 0.0]
        )
