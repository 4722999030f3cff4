"""What `DPClassifier` and `DPRegressor` share: parameters, the fit, persistence, outputs."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skdp.accounting import FitBook, PrivacyStatement, compose, resolve_delta
from skdp.contract import Charge, Public
from skdp.exceptions import InsecureNoiseWarning, NotPrivateWarning
from skdp.mechanisms import resolve_mechanism
from skdp.nets.building import build_module
from skdp.neural_network.checkpoint import restore
from skdp.neural_network.fitting import Estimates, FitRun, as_inputs, scale_inputs, warn_all
from skdp.neural_network.parameters import bounds_array, check_parameters
from skdp.neural_network.problem import Problem, encode_features
from skdp.neural_network.programme import Programme, draw_up, given_settings
from skdp.optimizers import resolve_optimizer
from skdp.training import check_callbacks

__all__ = ["DPEstimator"]

_PREDICT_ROWS = 8192


class DPEstimator(CallbackSupportMixin, BaseEstimator):
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
                        f"{name!r} cannot be set because {outer}={getattr(self, outer, None)!r} has no parameters of "
                        f"its own; pass a specification, for instance mechanism=DPSGD() to tune {inner!r} on it"
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
        return tags

    # ------------------------------------------------------------------ fitting
    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DPEstimator:
        """Train privately.

        Parameters
        ----------
        X : array-like, table or tensor of shape (n, n_features) or (n, ...)
        y : array-like of shape (n,) or (n, n_targets)
        sample_weight : array-like of shape (n,), optional
            Multiplies a record's loss before its gradient is clipped, so weights never raise the sensitivity; a
            weight of 0 makes a record the null row.

        Returns
        -------
        self
            Fitted. After an error it is what it was before.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.
        CalibrationError
            When no noise reaches the budget.
        """
        context = self._init_callback_context(max_subtasks=None)
        context.call_on_fit_task_begin(estimator=self)
        work = copy.copy(self)
        check_parameters(work)
        check_callbacks(list(work.callbacks or []), work.validation_public)
        resolve_optimizer("sgd" if work.optimizer == "auto" else work.optimizer)
        problem = work._problem(X, y, sample_weight)
        given = work._given_estimates(problem)
        delta = resolve_delta(work.delta, problem.public.n)
        programme = draw_up(work, problem.public, delta, work._missing(problem.public, problem.tokens))
        work._train(problem, programme, given, FitBook(), context=context)
        self.__dict__ = work.__dict__
        context.call_on_fit_task_end(estimator=self)
        return self

    @classmethod
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
        saved = restore(path, cls)
        work = saved.estimator
        problem = work._problem(X, y, sample_weight)
        if problem.public != saved.public:
            raise ValueError(f"the data has changed: the stopped fit saw {saved.public}, this is {problem.public}")
        programme = draw_up(work, problem.public, saved.delta, work._missing(problem.public, problem.tokens))
        work._train(problem, programme, saved.estimates, saved.book, saved=saved)
        return work

    def privacy_charge(self, public: Public, scale: float) -> Charge:
        """What a fit would cost at a noise multiplier, from public facts alone.

        Parameters
        ----------
        public : Public
        scale : float
            Noise multiplier of a training step.

        Returns
        -------
        Charge
        """
        work = copy.copy(self).set_params(epsilon=None, noise_multiplier=scale)
        return draw_up(work, public, resolve_delta(self.delta, public.n), work._missing(public)).charge

    def _train(self, problem: Problem, programme: Programme, estimates: Estimates, book: FitBook, *,
               context: Any = None, saved: Any = None) -> None:  # fmt: skip
        """Reserve, release, train, settle; sets the fitted state on this working copy."""
        before = getattr(self, "_weights", None) if self.warm_start else None
        earlier = self.privacy_ if before is not None else None
        if problem.classes is not None:
            self.classes_ = problem.classes
        run = FitRun(self, problem, programme, book)
        run.build_net(before)
        if saved is None:
            book.reserve(programme.charge, lease=run.lease)
            run.save_reservation()
            estimates = run.release_estimates(estimates)
        else:
            book.reopen(book.reservation, programme.charge, lease=run.lease)
        if estimates.indicators:
            programme = run.programme = programme.knowing(estimates.indicators, given_settings(self, programme.public))
            run.build_net(before)
        self.feature_bounds_ = estimates.feature_bounds
        self.y_bounds_ = estimates.target_bounds
        self._one_target = problem.targets.ndim == 1
        engine, executor, average = run.build(estimates)
        complete = run.train(engine, executor, average, estimates, context=context, saved=saved)
        executed = book.settle(book.reservation)
        average.apply(dict(engine.module_.named_parameters()))

        self._module = engine.module_.cpu().eval()
        self._weights = {name: t.detach().numpy().copy() for name, t in self._module.state_dict().items()}
        self._spec = copy.deepcopy(programme.spec)
        self._built_for = (vars(programme.public), programme.signal)
        self._clip_norm = programme.settings.max_grad_norm
        self.n_iter_ = max(1, -(-run.steps_done // programme.steps_per_epoch))
        self._set_statement(problem, programme, estimates, executed, complete, saved is not None, earlier)

    def _set_statement(self, problem, programme, estimates, executed, complete, resumed, earlier) -> None:
        facts, notes = list(problem.facts), list(problem.warnings)
        assumptions = []
        if estimates.feature_bounds is not None and "feature bounds" not in programme.estimates:
            facts.append("feature bounds")
        if estimates.target_bounds is not None and "target bounds" not in programme.estimates:
            facts.append("bounds of y")
        if isinstance(getattr(self, "class_weight", None), dict):
            facts.append("class weights")
        if self.init_params is not None:
            assumptions.append("the weights in init_params were made from public data")
        if self.validation_public is not None:
            assumptions.append("the rows in validation_public are public")
        if self.insecure_noise_seed is not None:
            message = "insecure_noise_seed is set: whoever knows it can remove the noise; for tests and papers only"
            notes.append(message)
            warn_all([message], InsecureNoiseWarning)
        if programme.scale is None:
            message = "epsilon=inf: this fit is NOT PRIVATE"
            notes.append(message)
            warn_all([message], NotPrivateWarning)
        warn_all(estimates.warnings)
        status = "interrupted" if not complete else "resumed" if resumed else "complete"
        statement = PrivacyStatement.from_charge(
            programme.charge,
            programme.delta,
            executed=executed,
            mechanism=resolve_mechanism(self.mechanism).__class__.__name__ + f", {self.clipping} clipping",
            n=programme.public.n,
            target_epsilon=self.epsilon,
            certificate=programme.certificate,
            public=facts,
            assumptions=assumptions,
            warnings=[*notes, *estimates.warnings],
            status=status,
        )
        if earlier is not None:
            statement = compose([earlier, statement])
        self._statement = json.loads(statement.to_json())

    # ------------------------------------------------------------------ the fitted state
    @property
    def privacy_(self) -> PrivacyStatement:
        """Statement of what the fits so far cost."""
        check_is_fitted(self)
        return PrivacyStatement.from_json(json.dumps(self._statement))

    @property
    def module_(self) -> nn.Module:
        """The trained net, on the CPU and in evaluation mode."""
        check_is_fitted(self)
        if getattr(self, "_module", None) is None:
            facts, signal = self._built_for
            module = build_module(self._spec, Public(**facts), signal, 0)
            _load_arrays(module, self._weights)
            self._module = module.eval()
        return self._module

    def _outputs(self, X: Any) -> torch.Tensor:
        """Raw outputs of the net, a piece at a time."""
        check_is_fitted(self)
        inputs = encode_features(self, X, reset=False)
        shape = tuple(self._built_for[0]["input_shape"])
        if inputs.shape[1:] != shape:
            raise ValueError(
                f"X has rows of shape {inputs.shape[1:]}, but the model was fitted on rows of shape {shape}"
            )
        finite = np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)
        if not finite.all():
            raise ValueError(f"Input X contains NaN or infinity in row {int((~finite).argmax())}; encode it before")
        inputs = as_inputs(scale_inputs(inputs, self.feature_bounds_))
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
            given.feature_bounds = bounds_array("feature_bounds", bounds, shape[0] if len(shape) == 1 else 1)
            given.feature_bounds[list(problem.public.indicators)] = -1, 1
        return given

    def _missing(self, public: Public, tokens: bool = False) -> tuple[str, ...]:
        """Which estimates have to be released before training, by their names in the programme."""
        wanted = isinstance(self.feature_bounds, str) and len(public.input_shape) == 1 and not tokens
        return ("feature bounds",) if wanted else ()


def _load_arrays(module: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
