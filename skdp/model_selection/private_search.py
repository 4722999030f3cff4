"""Search for hyperparameters as one private release: a random number of trials, of which the best one is shown."""

from __future__ import annotations

import math
import secrets
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier, is_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.model_selection import ParameterSampler
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import _num_samples

from skdp.accounting import FitBook, PrivacyStatement, calibrate, check_epsilon, resolve_delta
from skdp.accounting.budget import budget_warnings
from skdp.accounting.checks import is_real
from skdp.accounting.covered import covered
from skdp.accounting.ledger_sessions import LedgerAware
from skdp.accounting.selection import Ceiling, ceiling_of
from skdp.accounting.stated import Stated
from skdp.contract import Charge, Poisson, Public, Selection, Touch
from skdp.exceptions import PrivacyLeakWarning
from skdp.model_selection.best_model import BestModelMixin
from skdp.model_selection.row_scores import ROW_SCORES, row_scores
from skdp.model_selection.trials import draw_trials
from skdp.user_line import warn_all, warn_user

__all__ = ["DPSearchCV"]

_THRESHOLDS = (
    "estimator={} releases categories above a threshold, which may fail, and no bound on selections covers that: pass "
    "public categories, in schema= of a DPTableVectorizer or categories= of a DPOneHotEncoder"
)
_NOT_TUNABLE = (
    "adjacency", "callbacks", "delta", "epsilon", "insecure_noise_seed", "n_public", "noise_multiplier", "verbose",
    "warm_start",
)  # fmt: skip
_SHAPES = {"geometric": 1.0, "logarithmic": 0.0, "poisson": None}


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
        anew, so candidates may repeat.
    epsilon : float, default=1.0
        Budget of the whole search, the released model included.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n).
    mean_trials : float, default=10
        Expected number of trials.
    trials : {"geometric", "logarithmic", "poisson"} or float, default="logarithmic"
        Distribution of their number; a number of 0 or more is the shape of a truncated negative binomial. The
        logarithmic one is the cheapest and varies most: often one trial, sometimes a hundred.
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
        Trials at the same time, as in joblib.
    random_state : int, RandomState or None, default=None
        Of the split, which is public. What is tried is drawn from the operating system's randomness.

    Attributes
    ----------
    best_estimator_ : estimator
        The model of the best trial; there is no refit.
    best_params_ : dict
        Empty where there was no trial.
    best_score_ : float
        Mean over the rows it was scored on, in [0, 1], with noise; nan where there was no trial.
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

    How long the search took is not covered: it tells something about the number of trials, so keep it to yourself.
    Warnings and printed output of trials are suppressed, callbacks are refused, and an interrupted search releases
    nothing and stays charged.

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
    >>> search.privacy_.epsilon <= 2.0, sorted(search.best_params_)
    (True, ['lr'])
    """

    def __init__(self, estimator, param_distributions, *, epsilon=1.0, delta="auto", mean_trials=10,
                 trials="logarithmic", scoring=None, validation_size=0.2, validation_public=None, default=None,
                 n_jobs=None, random_state=None):  # fmt: skip
        self.estimator = estimator
        self.param_distributions = param_distributions
        self.epsilon = epsilon
        self.delta = delta
        self.mean_trials = mean_trials
        self.trials = trials
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
        self._check()
        template = self._template(y)
        rows = self._split(_num_samples(X), X, y)
        public = template.facts_of(*rows[0])
        self._check_candidates(template, public)
        total = _num_samples(X)
        delta = resolve_delta(self.delta, total)
        certificate = calibrate(lambda scale: self._charge(template, public, scale), self.epsilon, delta)
        charge = self._charge(template, public, certificate.scale)
        ceiling = ceiling_of(charge, self.epsilon, delta)
        notes = budget_warnings(self, delta, total, "search")
        warn_all(notes)
        statement = self._state(charge, delta, total, notes)
        book = FitBook(f"{type(self).__name__} of {type(self.estimator).__name__}", total)
        reservation = book.reserve(charge)
        book.spend(reservation, charge.touches[0])
        # From here on nothing but the best trial may be seen; an interrupt or error leaves the charge as it is.
        failed = getattr(self, "_failed", [])
        self._failed = [*failed, statement]
        best = self._best(_Trials(template, public, ceiling, certificate.scale, rows, self._scoring()))
        book.settle(reservation)
        self._failed, self._statement = failed, self._state(charge, delta, total, notes, best)
        self._keep(best, template, public)
        return self

    def _best(self, trials: _Trials) -> tuple | None:
        """Score, model and parameters of the best trial; None where there was none."""
        secret = np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(secrets.randbits(256), pool_size=8)))
        count = draw_trials(secret, self.mean_trials, self._shape())
        # Around 1/2 a row moves the sum of scores by 1/2 at most, wherever the null row stands.
        noise = 0.0 if self.validation_public is not None else trials.ceiling.gaussian / 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tasks = (
                delayed(trials.run)(self._candidate(secret), noise * secret.standard_normal()) for _ in range(count)
            )
            found = Parallel(self.n_jobs, return_as="generator_unordered")(tasks)
            return max(found, key=lambda trial: trial[0], default=None)

    def _candidate(self, secret: np.random.Generator) -> dict[str, Any]:
        """Parameters of one trial, drawn independently of all others."""
        seed = np.random.RandomState(secret.integers(2**32, dtype=np.uint64))
        return next(iter(ParameterSampler(self.param_distributions, 1, random_state=seed)))

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

    # ------------------------------------------------------------------ price and statement
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
        facts = {name: getattr(public, name) for name in ("input_shape", "n_outputs", "task", "adjacency", "unit")}
        return self._charge(self._bare(), Public(n, **facts), scale)

    def _charge(self, template: Any, public: Public, scale: float) -> Charge:
        run = template.privacy_charge(public, scale)
        if run.delta_fail:
            raise ValueError(_THRESHOLDS.format(type(self.estimator).__name__))
        noise = Selection(run.touches, float(self.mean_trials), self._shape())
        return Charge((Touch("search", Poisson(), noise, 1),), run.adjacency, run.unit)

    def _state(self, charge: Charge, delta: float, n: int, notes: list, best: tuple | None = None) -> dict[str, Any]:
        """The statement; what a trial takes as public, assumes and warns about is named by the best one."""
        split, assumed = "", ["how long the search took was told to nobody"]
        if self.validation_public is None:
            split = (
                "trials trained on a part of the rows that follows from their number alone and were scored on the "
                "rest; noise on the scores makes them cost no more than training"
            )
        else:
            assumed.append("the rows in validation_public are public")
        if callable(self.scoring):
            assumed.append("scoring= looks at each row alone")
        if self.default is not None:
            assumed.append("the model in default= does not depend on private rows")
        trial = getattr(best[1], "privacy_", None) if best else None
        facts = () if trial is None else (line for line in trial.public if not line.startswith("the number of"))
        return PrivacyStatement.from_charge(
            Charge(charge.touches, charge.adjacency, charge.unit, split=split),
            delta,
            mechanism=f"{type(self).__name__} of {type(self.estimator).__name__}",
            n=n,
            target_epsilon=self.epsilon,
            public=["param_distributions", *([] if self._classes_known else ["classes (read from y)"]), *facts],
            assumptions=[*assumed, *(() if trial is None else trial.assumptions)],
            warnings=[*(message for _, message in notes), *(() if trial is None else trial.warnings)],
            net="" if trial is None else trial.net,
        ).to_dict()

    # ------------------------------------------------------------------ parts
    def _check(self) -> None:
        check_epsilon(self.epsilon)
        if math.isinf(self.epsilon):
            raise ValueError("epsilon=inf: search without privacy by sklearn.model_selection.RandomizedSearchCV")
        params = self.estimator.get_params()
        if not hasattr(self.estimator, "privacy_charge") or "noise_multiplier" not in params:
            raise ValueError(
                f"estimator={type(self.estimator).__name__} is not private; pass a DPClassifier, DPRegressor or "
                "skdp.pipeline.PrivatePipeline"
            )
        if not (is_real(self.mean_trials) and 1 <= self.mean_trials < math.inf):
            raise ValueError(f"mean_trials={self.mean_trials!r} must be a number of at least 1")
        self._shape()
        if self.validation_public is None and not (is_real(self.validation_size) and 0 < self.validation_size < 1):
            raise ValueError(f"validation_size={self.validation_size!r} must lie strictly between 0 and 1")
        scoring = self._scoring()
        if isinstance(scoring, str) and scoring not in ROW_SCORES:
            raise ValueError(f"scoring={scoring!r} must be one of {', '.join(ROW_SCORES)}, or a function of its own")
        for name, value in params.items():
            leaf = name.rpartition("__")[2]
            if leaf == "adjacency" and value != "zero-out":
                raise ValueError(f"{name}={value!r}: the bound on a search holds for adjacency='zero-out' alone")
            if leaf in ("callbacks", "warm_start") and value:
                raise ValueError(f"{name}={value!r}: trials are secret, so nothing may watch or remember them")
            if leaf == "insecure_noise_seed" and value is not None:
                raise ValueError(f"{name}={value!r}: trials need noise of their own; leave it at None")
        check_random_state(self.random_state)

    def _check_candidates(self, template: Any, public: Public) -> None:
        """Refuse unknown parameters and listed values that nothing can be made of, before anything is spent."""
        spaces = self.param_distributions
        for space in [spaces] if isinstance(spaces, Mapping) else spaces:
            for name, values in space.items():
                if name.rpartition("__")[2] in _NOT_TUNABLE:
                    raise ValueError(f"param_distributions: {name!r} cannot be tuned; trials are secret and cost alike")
                for value in values if hasattr(values, "__len__") else [values.rvs(random_state=0)]:
                    self._charge(clone(template).set_params(**{name: value}), public, 1.0)

    def _shape(self) -> float | None:
        if isinstance(self.trials, str):
            if self.trials not in _SHAPES:
                raise ValueError(f"trials={self.trials!r} must be one of {', '.join(_SHAPES)}, or a shape of 0 or more")
            return _SHAPES[self.trials]
        if not (is_real(self.trials) and 0 <= self.trials < math.inf):
            raise ValueError(f"trials={self.trials!r} must be one of {', '.join(_SHAPES)}, or a shape of 0 or more")
        return float(self.trials)

    def _scoring(self) -> Any:
        if self.scoring is not None:
            return self.scoring
        return "neg_mean_squared_error" if is_regressor(self.estimator) else "neg_log_loss"

    def _bare(self) -> Any:
        """The estimator without a budget of its own, silent."""
        template = clone(self.estimator)
        quiet = dict.fromkeys((n for n in template.get_params() if n.rpartition("__")[2] == "verbose"), False)
        return template.set_params(**quiet, epsilon=None, noise_multiplier=1.0)

    def _template(self, y: Any) -> Any:
        """What trials are clones of, with the classes of all rows."""
        template = self._bare()
        missing = {n: np.unique(np.asarray(y)).tolist() for n, v in template.get_params().items()
                   if n.rpartition("__")[2] == "classes" and v is None}  # fmt: skip
        self._classes_known = not missing
        if missing:
            warn_user(
                "the classes were read from y: that a class occurs at all is then not protected. Pass classes=[...] "
                "with the public list of labels to the estimator",
                PrivacyLeakWarning,
            )
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


@dataclass(frozen=True, eq=False)
class _Trials:
    """What all trials have in common; `scale` is the noise scale of the template's own price list."""

    template: Any
    public: Public
    ceiling: Ceiling
    scale: float
    rows: tuple
    scoring: Any

    def run(self, params: dict[str, Any], noise: float) -> tuple[float, Any, dict[str, Any]]:
        """Train and score one candidate: its noisy score, model and parameters."""
        model = clone(self.template).set_params(**params)
        charge = model.privacy_charge(self.public, self.scale)
        if charge != self.template.privacy_charge(self.public, self.scale):
            scale = self.ceiling.scale(lambda scale: model.privacy_charge(self.public, scale))
            charge = model.privacy_charge(self.public, scale)
        else:
            scale = self.scale
        if charge.delta_fail:
            raise ValueError(_THRESHOLDS.format(type(model).__name__))
        model.set_params(epsilon=None, noise_multiplier=scale)
        (X, y), (X_score, y_score) = self.rows
        # Other threads and processes would not know what is paid for.
        with warnings.catch_warnings(), parallel_config("sequential"), covered({"trial": charge}):
            warnings.simplefilter("ignore")
            model.fit(X, y)
            found = row_scores(self.scoring, model, X_score, y_score)
        return float(0.5 + ((found - 0.5).sum() + noise) / len(found)), model, params
