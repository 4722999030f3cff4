"""What `DPClassifier` and `DPRegressor` share: parameters, the fit, persistence, outputs."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skdp.accounting import FitBook, PrivacyStatement, compose, resolve_delta
from skdp.accounting.ledger_sessions import LedgerAware
from skdp.contract import Public
from skdp.contract.shown import shown
from skdp.distributed import current, lockstep
from skdp.distributed.membership import unjoined_processes
from skdp.distributed.settling import name_what_is_spent, settled_after, settled_together
from skdp.exceptions import PrivateBoundsWarning, RankFailureError
from skdp.nets.building import build_module
from skdp.neural_network.checkpoint import (
    Journal,
    exclusive,
    find_checkpoint,
    refuse_to_forget,
    refuse_unresumable,
    restore,
)
from skdp.neural_network.fitting import Estimates, FitRun
from skdp.neural_network.interrupted import interruption, stopped_early, tell_interrupted
from skdp.neural_network.parameters import bounds_array, check_parameters
from skdp.neural_network.priced import Priced
from skdp.neural_network.problem import Problem
from skdp.neural_network.programme import Programme, draw_up
from skdp.neural_network.ranked import agree_on_parameters, joined, refuse_what_is_no_sum
from skdp.neural_network.reading import PIXELS, encode_features, odd_rows, raise_odd
from skdp.neural_network.ready import ReadyFit
from skdp.neural_network.scaling import as_rows
from skdp.neural_network.stating import all_together, make_statement, public_warnings, signal_warnings
from skdp.optimizers import resolve_optimizer
from skdp.training import check_callbacks
from skdp.user_line import warn_all

__all__ = ["DPEstimator"]

_PREDICT_ROWS = 8192
_SPECIFICATIONS = {"module": "module=MLP()", "mechanism": "mechanism=DPSGD()", "optimizer": "optimizer=SGD()"}


# Torch's generators and precision settings belong to the process: two fits in two threads would draw from each
# other's secret streams.
_FITTING = threading.RLock()


def one_at_a_time(method: Callable) -> Callable:
    """The method, while no other thread fits."""

    @functools.wraps(method)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with _FITTING:
            return method(*args, **kwargs)

    return alone


class DPEstimator(Priced, LedgerAware, CallbackSupportMixin, BaseEstimator):
    """Base of the private estimators; see `DPClassifier` for the parameters."""

    # ------------------------------------------------------------------ scikit-learn's protocol
    def set_params(self, **params: Any) -> DPEstimator:
        """Set parameters, also nested ones such as ``module__hidden_units``."""
        try:
            return super().set_params(**params)
        except AttributeError as error:
            for name in params:
                outer, _, inner = name.partition("__")
                if inner and not hasattr(getattr(self, outer, None), "set_params"):
                    raise ValueError(
                        f"{name!r} cannot be set because {outer}={shown(getattr(self, outer, None))} has no parameters "
                        f"of its own; pass a specification, for instance {_SPECIFICATIONS.get(outer, 'an instance')}, "
                        f"to tune {inner!r} on it"
                    ) from error
            raise

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        # The module is rebuilt from arrays, so a pickle made on a GPU opens anywhere.
        return {name: value for name, value in state.items() if name != "_module"}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_weights")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
        return tags

    # ------------------------------------------------------------------ fitting
    @with_callbacks
    @one_at_a_time
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DPEstimator:
        """Train privately.

        Parameters
        ----------
        X : array-like, table, tensor or sparse matrix of shape (n, n_features), or array-like of shape (n, ...)
            A sparse matrix stays sparse: only rows that go through the net together are made dense. A memory map of
            rows stays in its file, of which each step reads the rows that it draws.
        y : array-like of shape (n,) or (n, n_targets)
        sample_weight : array-like of shape (n,), optional
            Multiplies a record's loss before its gradient is clipped, so weights never raise the sensitivity; a
            weight of 0 makes a record the null row.

        Returns
        -------
        self
            Fitted. After an error it is what it was before, except that `privacy_` counts what was spent.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.
        CalibrationError
            When no noise reaches the budget, or noise is sure to hide the range of y.

        Warns
        -----
        InterruptedFitWarning
            After Ctrl-C, which ends the fit and leaves a partial but usable model, whose statement names the planned
            epsilon. A second Ctrl-C raises, and so does the first in a fit that runs inside a search, a
            cross-validation or an ensemble, which would otherwise go on with the next fit.
        """
        context = self._init_callback_context(max_subtasks=None)
        told = current() is None or current().leads  # progress is shown once
        if told:
            context.call_on_fit_task_begin(estimator=self)
        with self._fitting(X, y, sample_weight) as ready:
            ready.train(context)
        if told:
            context.call_on_fit_task_end(estimator=self)
        return self

    @contextmanager
    def _fitting(self, X: Any, y: Any, sample_weight: Any) -> Iterator[ReadyFit]:
        """A fit whose steps the block has to run: charged for before it, stated and fitted after it."""
        work = copy.copy(self)
        failed = self._failed_fits()
        earlier = self._statement if work.warm_start and hasattr(self, "_weights") else None
        with lockstep() as ranks:
            check_parameters(work)
            check_callbacks(list(work.callbacks or []), work.validation_public)
            resolve_optimizer("sgd" if work.optimizer == "auto" else work.optimizer)
            warn_all((UserWarning, message) for message in unjoined_processes())
            if ranks is not None:
                agree_on_parameters(ranks, work, earlier, failed)
            checkpoint = find_checkpoint(work, ranks)
            problem = work._problem(X, y, sample_weight)
            problem = problem if ranks is None else joined(ranks, problem, getattr(work, "feature_names_in_", None))
            given = work._given_estimates(problem)
            delta = resolve_delta(work.delta, problem.public.n)
            programme = work._programme(problem, delta, given)
            refuse_what_is_no_sum(programme.mechanism)
            refuse_unresumable(checkpoint, programme.charge)
            planned = make_statement(work, problem, programme, given, None)
            total = all_together(planned, [_statement(s) for s in [earlier, *failed] if s is not None])
            warn_all(public_warnings(work, problem, programme) + signal_warnings(programme))
            path = checkpoint.path if checkpoint and (ranks is None or ranks.leads) else None
            what = f"{type(self).__name__}, {programme.mechanism.describe(self.clipping)}"
            book = FitBook(what, problem.public.n, planned, shared=ranks is not None)
            journal = Journal(work, problem.public, delta, book, path, checkpoint and checkpoint.every, total.to_dict(),
                              earlier, failed)  # fmt: skip
            # Counted before a row is read: no error, and no Ctrl-C wherever it lands, can lose what was spent. A fit
            # that returns replaces it by its statement.
            self._failed = [*failed, planned.to_dict()]
            try:
                with exclusive(path):
                    refuse_to_forget(path, type(self))
                    with work._training(problem, programme, given, journal, book, earlier) as ready:
                        yield ready
                    journal.returned()
                if ranks is not None:
                    ranks.roll_call()
            except BaseException as error:
                executed = settled_after(error, ranks, book, planned)
                if any(executed.values()):
                    # Callbacks saw weights, or an error tells something, so this attempt counts although it gave no
                    # model.
                    self._failed = [*failed, make_statement(work, problem, programme, given, executed).to_dict()]
                elif failed:
                    self._failed = failed
                else:
                    del self._failed
                raise
            self.__dict__ = work.__dict__

    @classmethod
    @one_at_a_time
    def resume(cls, path: Any, X: Any, y: Any, sample_weight: Any = None) -> DPEstimator:
        """Go on with a fit that was killed, from the file that `skdp.callbacks.FitCheckpoint` wrote.

        Parameters
        ----------
        path : str or path
            The checkpoint; it is a pickle, so open only files that you trust.
        X, y, sample_weight
            The same rows as in the stopped fit.

        Returns
        -------
        estimator
            Fitted. Steps that were leased when the fit stopped count as spent and are not repeated.

        Raises
        ------
        ValueError
            For another kind of estimator, or rows of another shape or number.
        """
        with lockstep() as ranks, exclusive(path if ranks is None or ranks.leads else None):
            saved = restore(path, cls, ranks)
            work, book = saved.estimator, saved.book
            book.shared = ranks is not None
            problem = work._problem(X, y, sample_weight)
            problem = problem if ranks is None else joined(ranks, problem, getattr(work, "feature_names_in_", None))
            saved.check_public(problem.public)
            programme = work._programme(problem, saved.delta, saved.estimates)
            warn_all(public_warnings(work, problem, programme))
            checkpoint = find_checkpoint(work, ranks)
            path = path if ranks is None or ranks.leads else None
            journal = Journal(work, saved.public, saved.delta, book, path, checkpoint and checkpoint.every,
                              saved.statement, saved.earlier, list(saved.failed))  # fmt: skip
            # On disk before anything is built or drawn, so that a second resume counts what this one may spend.
            book.reopen(book.reservation, programme.charge, lease=journal.lease)
            journal.write(saved.estimates, saved.training)
            if ranks is not None:
                ranks.roll_call()
            work._failed = list(saved.failed)
            going_on = work._training(problem, programme, saved.estimates, journal, book, saved.earlier, saved.training)
            try:
                with going_on as ready:
                    ready.train()
                journal.returned()
                if ranks is not None:
                    ranks.roll_call()
            except RankFailureError as error:
                name_what_is_spent(error, PrivacyStatement.from_dict(saved.statement), book.executed(book.reservation))
                raise
        return work

    @contextmanager
    def _training(self, problem: Problem, programme: Programme, estimates: Estimates, journal: Journal, book: FitBook,
                  earlier: dict | None, training: dict | None = None) -> Iterator[ReadyFit]:  # fmt: skip
        """Reserve, release, let the block train, settle; sets the fitted state on this working copy."""
        before = getattr(self, "_weights", None) if self.warm_start else None
        if problem.classes is not None:
            self.classes_ = problem.classes
        spent = 0 if training is None else sum(book.executed(book.reservation).values())
        run = FitRun(self, problem, programme, book, spent, current())
        run.know(estimates.indicators)
        run.build_net(before)
        if training is None:
            run.check_estimates()
            book.reserve(programme.charge, lease=journal.lease)
            journal.write()
            if run.ranks is not None:
                run.ranks.roll_call()  # the ledgers admit it, and the file is written: only now may a row be read
            known, estimates = estimates.indicators, run.release_estimates(estimates)
            if before is not None or self.init_params is not None:
                estimates.indicators = known  # the net stays as it is, or the weights that it starts from would not fit
            elif estimates.indicators:
                run.know(estimates.indicators)
                run.build_net()
        programme = run.programme
        warn_all([(PrivateBoundsWarning, message) for message in estimates.warnings])
        self.feature_bounds_ = estimates.feature_bounds
        self.y_bounds_ = estimates.target_bounds
        self._one_target = problem.targets.ndim == 1
        ready = ReadyFit(run, *run.build(estimates), estimates, journal, training)
        yield ready
        engine = ready.engine
        executed, stop = settled_together(run.ranks, book), ""
        if not ready.complete and engine.interrupted_ and not stopped_early(engine):
            stop = interruption(run.steps_done, executed, programme.plan)
            tell_interrupted(stop)

        # The net that trained is thrown away: a user's forward may have left rows on it. Only its state is published.
        self._weights = {name: t.detach().cpu().numpy().copy() for name, t in engine.module_.state_dict().items()}
        self._spec, self._mechanism = copy.deepcopy((programme.spec, programme.mechanism))
        self._built_for = (vars(programme.public), programme.signal)
        self._build_module()
        self.n_iter_ = max(1, -(-run.steps_done // programme.steps_per_epoch))
        statement = make_statement(
            self, problem, programme, estimates, executed, training is not None, module=engine.module_, stop=stop
        )
        if earlier is not None:
            statement = compose([_statement(earlier), statement])
        self._statement = statement.to_dict()

    def _programme(self, problem: Problem, delta: float, known: Estimates) -> Programme:
        """The programme of a fit that estimates what is missing, and not already known from an earlier one."""
        missing = self._missing(problem.public, problem.tokens)
        return draw_up(self, problem.public, delta, tuple(name for name in missing if name not in known.reused))

    def _failed_fits(self) -> list[dict[str, Any]]:
        """Statements of fits that ended in an error after something was spent."""
        return getattr(self, "_failed", [])

    # ------------------------------------------------------------------ the fitted state
    @property
    def privacy_(self) -> PrivacyStatement:
        """Statement of what the fitted model cost.

        With ``warm_start=True`` it composes all fits. It also composes every fit of this object that ended in an
        error after something was spent, because callbacks, a checkpoint file or the error itself may have shown
        its results; then it can be read even where no fit succeeded.
        """
        if not self._failed_fits():
            check_is_fitted(self)
        parts = [_statement(part) for part in [getattr(self, "_statement", None), *self._failed_fits()] if part]
        return parts[0] if len(parts) == 1 else compose(parts)

    @property
    def module_(self) -> nn.Module:
        """The trained net, on the CPU and in evaluation mode."""
        check_is_fitted(self)
        if getattr(self, "_module", None) is None:
            self._build_module()
        return self._module

    def _build_module(self) -> None:
        facts, signal = self._built_for
        public = Public(**facts)
        module = self._mechanism.prepare(build_module(self._spec, public, signal, 0), public)
        _load_arrays(module, self._weights)
        self._module = module.eval()

    def _outputs(self, X: Any) -> torch.Tensor:
        """Raw outputs of the net, a piece at a time."""
        check_is_fitted(self)
        inputs = encode_features(self, X, reset=False)
        raise_odd(self, inputs, odd_rows(inputs), "; fill or encode such values before")
        inputs = as_rows(inputs, self.feature_bounds_)
        with torch.no_grad():
            return torch.cat([self.module_(piece) for piece in inputs.split(_PREDICT_ROWS)])

    # ------------------------------------------------------------------ estimates
    def _given_estimates(self, problem: Problem) -> Estimates:
        """What the user gave as public."""
        given = Estimates()
        shape = problem.public.input_shape
        bounds = self.feature_bounds
        if isinstance(bounds, str) and bounds != "private":
            raise ValueError(f"feature_bounds={bounds!r} must be None, 'private', or public (low, high) per column")
        if bounds is not None and not isinstance(bounds, str):
            if problem.tokens:
                raise ValueError(
                    f"feature_bounds={shown(bounds)} has no meaning for tokens, which are looked up; pass None"
                )
            columns, names = (shape[0], getattr(self, "feature_names_in_", None)) if len(shape) == 1 else (1, None)
            given.feature_bounds = bounds_array("feature_bounds", bounds, columns, names)
            given.feature_bounds[list(problem.public.indicators)] = -1, 1
        elif bounds is not None and (kept := self._kept("feature_bounds_", (*shape, 2))) is not None:
            given.feature_bounds, given.indicators = kept, tuple(self._built_for[0]["indicators"])
            given.reused += ("feature bounds",)
        elif bounds is not None and self._pixels:
            given.feature_bounds = np.array([PIXELS])
        return given

    def _kept(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Bounds of the fit that this one goes on from: there, its weights mean what they mean."""
        kept = getattr(self, name, None) if self.warm_start and hasattr(self, "_weights") else None
        return kept if np.shape(kept) == shape else None

    def _missing(self, public: Public, tokens: bool = False) -> tuple[str, ...]:
        """Which estimates have to be released before training, by their names in the programme."""
        wanted = isinstance(self.feature_bounds, str) and len(public.input_shape) == 1 and not tokens
        return ("feature bounds",) if wanted else ()


def _load_arrays(module: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})


def _statement(plain: dict[str, Any]) -> PrivacyStatement:
    return PrivacyStatement.from_dict(plain)
