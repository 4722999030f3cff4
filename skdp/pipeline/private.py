"""A scikit-learn pipeline whose private steps share one budget."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import _num_features, _num_samples

from skdp.accounting import FitBook, PrivacyStatement, resolve_delta
from skdp.accounting.budget import at_budget, budget_warnings, check_budget
from skdp.accounting.covered import covered
from skdp.accounting.ledger_sessions import LedgerAware
from skdp.accounting.shares import squared_signal
from skdp.accounting.stated import Stated
from skdp.contract import Charge, Public
from skdp.distributed.settling import note_interrupt
from skdp.pipeline.prices import divided, seen_by, together
from skdp.pipeline.steps import ALONE, CHARGED, UNPAID, StepCheck, check_steps
from skdp.pipeline.weights import check_weights, handed_on
from skdp.preprocessing.table_layout import as_table, declared_types
from skdp.user_line import warn_all, warn_user

__all__ = ["PrivatePipeline"]


class PrivatePipeline(Stated, LedgerAware, Pipeline):
    """Steps that are paid for from one budget, which they cost together exactly.

    One noise scale is solved for: the composition of what all steps release costs `epsilon`. Steps that look at private
    rows without paying are refused before a row is read.

    Parameters
    ----------
    steps : list of (str, estimator)
        As for `sklearn.pipeline.Pipeline`. A private step's own ``epsilon``, ``delta``, ``noise_multiplier``,
        ``adjacency`` and ``n_public`` are set by the pipeline.
    epsilon : float or None, default=1.0
        Budget of all steps together; None together with `noise_multiplier`.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n).
    adjacency : {"zero-out", "replace-one", "add-remove"}, default="zero-out"
    n_public : int, optional
        Declared number of rows, under ``adjacency="add-remove"`` only.
    shares : dict of str to float, optional
        Share of the budget of private steps by name (nested ones as ``outer__inner``), as shares of the squared signal.
        Steps without an entry divide what is left: one tenth of it goes to all steps but the last, the rest to the
        last one.
    public_steps : tuple of str, default=()
        Steps that learn nothing from private rows although `skdp.audit.check_pipeline` cannot know it; named in the
        statement as your declaration.
    noise_multiplier : float, optional
        The common noise scale, instead of `epsilon`.
    verbose : bool, default=False

    Attributes
    ----------
    privacy_ : PrivacyStatement
        Of the whole pipeline.
    shares_ : dict of str to float
        Share of the squared signal that each private step got.
    steps : list of (str, estimator)
        Fitted, with the ``noise_multiplier`` that each step got.

    Raises
    ------
    ValueError
        From `fit`, for a step that does not pay, a bad share, or data that make no sense; nothing is spent then.

    Notes
    -----
    *Formal guarantee.* The composition of all steps' releases is (epsilon, delta)-differentially private for
    `adjacency`. All price lists follow from public facts and are reserved together, before the first row is read; every
    step may spend its own list and nothing else.

    A step before the last that knows the range of its outputs (``output_bounds_``) hands it to a last step whose
    ``feature_bounds`` is ``"private"``: finding it again would cost budget.

    Examples
    --------
    >>> import numpy as np
    >>> from skdp import DPClassifier
    >>> from skdp.pipeline import make_private_pipeline
    >>> from skdp.preprocessing import DPMinMaxScaler
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(5000, 3)) * [1, 10, 100]
    >>> y = (X[:, 0] > 0).astype(int)
    >>> pipe = make_private_pipeline(DPMinMaxScaler(), DPClassifier(classes=[0, 1]), epsilon=1.0).fit(X, y)
    >>> pipe.score(X, y) > 0.9, 0.99 < pipe.privacy_.epsilon <= 1.0
    (True, True)
    """

    def __init__(self, steps, *, epsilon=1.0, delta="auto", adjacency="zero-out", n_public=None, shares=None,
                 public_steps=(), noise_multiplier=None, verbose=False):  # fmt: skip
        self.steps = steps
        self.epsilon = epsilon
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.shares = shares
        self.public_steps = public_steps
        self.noise_multiplier = noise_multiplier
        self.verbose = verbose
        # What sklearn's own methods read. A cache would hand out releases without their price list.
        self.memory = None
        self.transform_input = None

    def __getitem__(self, ind: Any) -> Any:
        """A step, or an ordinary pipeline of several, which share the fitted steps."""
        return Pipeline(self.steps[ind]) if isinstance(ind, slice) else super().__getitem__(ind)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> PrivatePipeline:
        """Solve for the noise, then fit all steps one after the other.

        Parameters
        ----------
        X : array-like or table
        y : array-like, optional
        sample_weight : array-like of shape (n_samples,), optional
            Goes to every private step that takes one: there a weight of 0 makes a row the null row, and of other
            weights a model makes what its documentation says, while a transformer counts each such row once. Where
            scikit-learn routes metadata, it goes to the steps that request it.
        **params
            Of steps, as ``step__parameter``.

        Returns
        -------
        self
        """
        check_weights(sample_weight, X, params)
        with self._one_budget(X, y), handed_on(self.steps, sample_weight, params) as given:
            super().fit(X, y, **given)
        return self

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> Any:
        """Fit all steps and return what the last one makes of X.

        Parameters
        ----------
        X : array-like or table
        y : array-like, optional
        sample_weight : array-like of shape (n_samples,), optional
            As in `fit`.
        **params
            Of steps, as ``step__parameter``.

        Returns
        -------
        array-like or table
        """
        check_weights(sample_weight, X, params)
        with self._one_budget(X, y), handed_on(self.steps, sample_weight, params) as given:
            return super().fit_transform(X, y, **given)

    def fit_predict(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Not offered: predictions about the very rows of a fit are no release."""
        raise AttributeError("a private pipeline fits and then predicts; call fit(X, y) and predict(X_new)")

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
        scaled = self._scaled(public, scale)
        parts = {path: step.privacy_charge(seen, own) for path, step, seen, own in scaled}
        return together(parts, public.adjacency)

    def facts_of(self, X: Any, y: Any = None) -> Public:
        """The public facts of a data set that prices follow from: number of rows, columns and classes.

        Parameters
        ----------
        X : array-like or table
        y : array-like, optional

        Returns
        -------
        Public
        """
        last = self.steps[-1][1]
        task, outputs = "regression", 1
        if is_classifier(last) and y is not None:
            classes = getattr(last, "classes", None)
            k = len(np.unique(np.asarray(y)) if classes is None else classes)
            task, outputs = ("multiclass", k) if k > 2 else ("binary", 1)
        elif is_regressor(last) and np.ndim(y) == 2:
            outputs = np.shape(y)[1]
        shape, types = tuple(getattr(X, "shape", ())[1:]), ()
        if len(shape) < 2:
            try:
                shape, types = (_num_features(X),), declared_types(as_table(X))
            except (TypeError, ValueError, AttributeError, IndexError):
                shape = (1,)  # texts
        n = _num_samples(X) if self.n_public is None else int(self.n_public)
        return Public(n, shape, outputs, task, self.adjacency, columns=types)

    # ------------------------------------------------------------------ parts
    def _private_steps(self) -> list[StepCheck]:
        checks = check_steps(Pipeline(self.steps))
        unpaid = [c for c in checks if c.verdict == UNPAID and c.path not in self.public_steps]
        if unpaid:
            lines = "; ".join(f"step {c.path!r} ({type(c.estimator).__name__}) {c.reason}" for c in unpaid)
            raise ValueError(
                f"{lines}. Use its private twin (skdp.preprocessing has DPStandardScaler, DPSimpleImputer and others), "
                "or name it in public_steps= where it learns nothing from private rows"
            )
        alone = next((c for c in checks if c.verdict == ALONE), None)
        if alone is not None:
            kind = type(alone.estimator).__name__
            raise ValueError(
                f"step {alone.path!r} ({kind}) pays from its own epsilon and cannot share that of a private pipeline: "
                "its rows are at sites that show them to nobody, not to the steps before it either. Fit it by itself, "
                f"with public feature_bounds=, behind public steps in an ordinary sklearn pipeline at most; or use "
                f"{kind.replace('ADMM', 'Linear')} as the step, which fits such a model to rows in one place"
            )
        unknown = set(self.public_steps) - {c.path for c in checks}
        if unknown:
            raise ValueError(f"public_steps={self.public_steps!r}: there is no step {sorted(unknown)[0]!r}")
        return [c for c in checks if c.verdict == CHARGED]

    def _scaled(self, public: Public, scale: float | None) -> Iterator[tuple[str, Any, Public, float | None]]:
        """Private steps, what each knows of the rows, and the noise scale at which it costs its share."""
        private = self._private_steps()
        priced = []
        for check in private:
            step = clone(check.estimator)
            known = step.get_params()
            for name in ("delta", "adjacency", "n_public"):
                if name in known:
                    step.set_params(**{name: getattr(self, name)})
            if check is private[-1] and self._takes_bounds(step):
                step.set_params(feature_bounds=(-1.0, 1.0))
            seen = seen_by(public, check.columns)
            priced.append((check, step, seen, squared_signal(step.privacy_charge(seen, 1.0), 1.0)))
        costing = [check for check, _, _, signal in priced if signal]
        shares = divided(self.shares, [check.path for check in costing]) if costing else {}
        self._shares = shares
        for check, step, seen, signal in priced:
            own = None
            if scale is not None:
                own = scale * math.sqrt(signal / shares[check.path]) if signal else scale
            yield check.path, step, seen, own

    def _takes_bounds(self, last: Any) -> bool:
        """Whether the step before the last knows the range of its outputs and the last one asks for it."""
        if len(self.steps) < 2 or not getattr(self.steps[-2][1], "gives_output_bounds", False):
            return False
        bounds = getattr(last, "feature_bounds", None)
        return isinstance(bounds, str) and bounds == "private"

    @contextmanager
    def _one_budget(self, X: Any, y: Any) -> Iterator[None]:
        """Price all steps, reserve, set their noise, let them spend that and nothing else, and state."""
        check_budget(self)
        self.steps = list(self.steps)
        self._validate_steps()
        public = self.facts_of(X, y)
        self._check_targets(X, y)
        delta = resolve_delta(self.delta, public.n)
        scale, certificate = at_budget(self, lambda scale: self.privacy_charge(public, scale), delta)
        notes = budget_warnings(self, delta, public.n, "pipeline")
        warn_all(notes)
        scaled = list(self._scaled(public, scale))
        parts = {path: step.privacy_charge(seen, own) for path, step, seen, own in scaled}
        total = together(parts, public.adjacency)
        self.steps = [(name, clone(step)) for name, step in self.steps]
        for path, _, _, own in scaled:
            step = self._step(path)
            budget = {"epsilon": math.inf if scale is None else None, "noise_multiplier": own}
            budget |= {"delta": self.delta, "adjacency": self.adjacency, "n_public": self.n_public}
            step.set_params(**{name: value for name, value in budget.items() if name in step.get_params()})
        book = FitBook(f"pipeline of {', '.join(name for name, _ in self.steps)}", public.n)
        reservation = book.reserve(total)
        owners = {path: type(self._step(path)).__name__ for path in parts}
        finished = self._handed_over = False
        interrupt = None
        try:
            # Other threads and processes would not know what is paid for.
            with parallel_config("sequential"), covered(parts, owners) as cover:
                yield
            finished = True
        except KeyboardInterrupt as error:
            interrupt = error
            raise
        finally:
            if self._handed_over:
                self.steps[-1][1].set_params(feature_bounds="private")  # another fit hands others over
            executed = self._spent(parts, cover, finished)
            for touch in total.touches:
                for _ in range(executed[touch.name]):
                    book.spend(reservation, touch)
            book.settle(reservation)
            planned = None
            if not finished and any(executed.values()):
                # The error itself may tell something, so this attempt counts although it gave no model.
                failed = self._state(total, public, delta, certificate, executed, cover, notes)
                self._failed, planned = [*getattr(self, "_failed", []), failed], PrivacyStatement.from_dict(failed)
            if interrupt is not None:
                note_interrupt(interrupt, planned, executed)
        self._statement = self._state(total, public, delta, certificate, executed, cover, notes)
        self.shares_ = self._shares

    def _check_targets(self, X: Any, y: Any) -> None:
        """Let the last step refuse targets before an earlier one spends, and say which budgets are not used."""
        for check in self._private_steps():
            own, default = getattr(check.estimator, "epsilon", None), 1.0
            if own is not None and own != default and own != self.epsilon:
                warn_user(
                    f"epsilon={own!r} of step {check.path!r} is not used: epsilon={self.epsilon!r} of the pipeline "
                    "pays for all steps; set it there"
                )
        last = self.steps[-1][1]
        if hasattr(last, "facts_of") and y is not None and not isinstance(last, PrivatePipeline):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the fit says them again
                clone(last).set_params(n_public=self.n_public, adjacency=self.adjacency).facts_of(
                    np.zeros((_num_samples(X), 1)), y
                )

    @property
    def y_bounds_(self) -> Any:
        """Range of y of the last step, where it has one."""
        return self.steps[-1][1].y_bounds_

    def _fit(self, X: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        Xt = super()._fit(X, y, *args, **kwargs)
        last = self.steps[-1][1]
        self._handed_over = self._takes_bounds(last)
        if self._handed_over:
            last.set_params(feature_bounds=self.steps[-2][1].output_bounds_)
        return Xt

    def _step(self, path: str) -> Any:
        return self.get_params()[path]

    def _spent(self, parts: Mapping[str, Charge], cover: Any, finished: bool) -> dict[str, int]:
        """Queries spent by name in the common list.

        Who reported nothing spent nothing where a book is always kept; of others nobody knows, so that counts in full.
        """
        executed = cover.executed()
        counts = {path: finished or not isinstance(self._step(path), LedgerAware) for path in parts}
        return {
            f"{path}: {touch.name}": executed[path][touch.name] if path in executed else touch.count * counts[path]
            for path, charge in parts.items()
            for touch in charge.touches
        }

    def _state(self, charge: Charge, public: Public, delta: float, certificate: Any, executed: dict[str, int],
               cover: Any, notes: list) -> dict:  # fmt: skip
        """The statement of all steps; what they take as public, assume and warn about is named by each of them."""
        books = cover.about()

        def handed(line: str) -> bool:
            return self._handed_over and line.startswith("feature bounds")

        declared = [f"that step {name!r} learns nothing from private rows" for name in self.public_steps]
        declared += [
            f"that step {step.path!r} ({type(step.estimator).__name__}) computes each row from that row alone"
            for step in check_steps(Pipeline(self.steps))
            if isinstance(step.estimator, FunctionTransformer | FrozenEstimator)
        ]
        last = getattr(self.steps[-1][1], "privacy_", None) if executed else None
        return PrivacyStatement.from_charge(
            charge,
            delta,
            executed=executed,
            mechanism=f"pipeline of {', '.join(type(step).__name__ for _, step in self.steps)}",
            n=public.n,
            target_epsilon=self.epsilon,
            certificate=certificate,
            public=[*(line for book in books for line in book["public"] if not handed(line)), *declared],
            assumptions=[line for book in books for line in book["assumptions"]],
            warnings=[*(message for _, message in notes), *(line for book in books for line in book["warnings"])],
            reproducible_noise=any(book["reproducible"] for book in books),
            net=getattr(last, "net", ""),
        ).to_dict()
