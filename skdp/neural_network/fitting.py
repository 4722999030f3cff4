"""One fit from reserved charge to statement: estimates, net, loop. The only caller of the executors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from skorch.callbacks import EpochTimer, PrintLog

from skdp.accounting import FitBook
from skdp.callbacks import FitCheckpoint
from skdp.contract import drive
from skdp.exceptions import UnsupportedModuleError
from skdp.nets.building import build_module
from skdp.neural_network.checkpoint import SavedFit, save
from skdp.neural_network.devices import resolve_device
from skdp.neural_network.losses import ClassLoss, SquaredLoss, class_probabilities
from skdp.neural_network.problem import Problem
from skdp.neural_network.programme import Programme
from skdp.optimizers import SGD, resolve_optimizer
from skdp.releases import ArrayExecutor, bounds_queries, class_counts_queries
from skdp.training import (
    Engine,
    NetModel,
    PerExample,
    PrivateRows,
    SecretRandomness,
    TailAverage,
    TorchExecutor,
    check_rows_independent,
)
from skdp.training.executor import trainable_parameters

__all__ = ["Estimates", "FitRun"]

_PIECE_BYTES = 2**28
_FEATURE_CACHE_BYTES = 2**30


@dataclass
class Estimates:
    """What was released before training, or given as public; arrays by column.

    Parameters
    ----------
    feature_bounds : ndarray of shape (n_features, 2) or None
    target_bounds : ndarray of shape (n_targets, 2) or None
    class_weights : ndarray of shape (n_classes,) or None
    warnings : list of str
    indicators : tuple of int
        Columns of 0 and 1; their bounds are (-1, 1), which leaves them as they are.
    """

    feature_bounds: np.ndarray | None = None
    target_bounds: np.ndarray | None = None
    class_weights: np.ndarray | None = None
    warnings: list[str] = field(default_factory=list)
    indicators: tuple[int, ...] = ()


class FitRun:
    """Carries one fit through its stages; holds the rows and is thrown away afterwards.

    Parameters
    ----------
    estimator : DPClassifier or DPRegressor
        Its public parameters.
    problem : Problem
    programme : Programme
    book : FitBook
        With the programme's charge reserved.
    """

    def __init__(self, estimator: Any, problem: Problem, programme: Programme, book: FitBook):
        self.estimator = estimator
        self.problem = problem
        self.programme = programme
        self.book = book
        self.device = resolve_device(estimator.device, programme, problem)
        self.randomness = SecretRandomness(self.device, estimator.insecure_noise_seed)

    # -------------------------------------------------------------- before training
    def build_net(self, start: dict[str, np.ndarray] | None = None) -> None:
        """Build the net and try it on made-up rows, so that what cannot be trained costs nothing."""
        estimator, programme = self.estimator, self.programme
        module = build_module(programme.spec, programme.public, programme.signal, estimator.random_state)
        if estimator.init_params is not None:
            _load_weights(module, estimator.init_params, "init_params does")
        if start is not None:
            _load_weights(module, start, "warm_start=True: the weights of the last fit do")
        self.module = module.to(self.device).train()
        self.loss = ClassLoss() if self.problem.classes is not None else SquaredLoss()
        self._check_module()
        PerExample(module)  # refuses layers that mix records

    def release_estimates(self, given: Estimates) -> Estimates:
        """Ask for whatever the programme estimates before training, and add it to what was given as public."""
        problem, touches = self.problem, self.programme.estimates
        n = problem.public.n
        inputs, targets = problem.inputs, problem.targets.reshape(len(problem.targets), -1)
        executor = ArrayExecutor(
            {"X": inputs, "y": targets.astype(np.float64)},
            problem.null,
            spend=self._spend,
            normal=self.randomness.array_normal,
        )
        if "feature bounds" in touches:
            groups = inputs.shape[1]
            ranges = drive(bounds_queries(touches["feature bounds"], "X", groups, n), executor.answer)
            given.feature_bounds = np.where(ranges.indicator[:, None], (-1.0, 1.0), ranges.bounds)
            given.indicators = tuple(np.flatnonzero(ranges.indicator).tolist())
            hidden = int((~ranges.found).sum())
            if hidden:
                given.warnings.append(
                    f"feature_bounds='private': noise hides the range of {hidden} of {groups} columns, "
                    "taken as [-1, 1]; pass feature_bounds with public (low, high) per column"
                )
        if "target bounds" in touches:
            groups = targets.shape[1]
            ranges = drive(bounds_queries(touches["target bounds"], "y", groups, n), executor.answer)
            given.target_bounds = ranges.bounds
            if not ranges.found.all():
                given.warnings.append(
                    "y_bounds=None: noise hides the range of y, taken as [-1, 1]; pass y_bounds=(low, high)"
                )
        if "class counts" in touches:
            (touch,) = touches["class counts"]
            counts = drive(class_counts_queries(touch, len(problem.classes)), executor.answer)
            given.class_weights = counts.sum() / (len(counts) * counts)
        return given

    def build(self, estimates: Estimates) -> tuple[Engine, TorchExecutor, TailAverage]:
        """Optimizer and executor around the net, on the device."""
        programme, module = self.programme, self.module
        engine = self._engine(module, self.loss, estimates)
        trained, rows = _precompute_features(module, self._private_rows(estimates))
        executor = TorchExecutor(
            NetModel(module, trainable_parameters(module), self.device),
            rows,
            forward=trained,
            loss=self.loss,
            per_example=PerExample(trained),
            spend=self._spend,
            randomness=self.randomness,
            piece=self._piece(trained, rows),
        )
        return engine, executor, TailAverage(programme.settings.average, programme.settings.steps)

    # -------------------------------------------------------------- training
    def train(
        self,
        engine: Engine,
        executor: TorchExecutor,
        average: TailAverage,
        estimates: Estimates,
        *,
        context: Any = None,
        saved: Any = None,
    ) -> bool:
        """Run the plan; True when it ran to its end."""
        plan = self.programme.plan
        state: dict[str, Any] = {"step": 0, "rng": np.random.default_rng(self._public_seed())}
        self._live = (engine, executor, average, estimates, state)
        engine.journal = self
        if saved is None:
            drive(plan.begin(executor.model, state), executor.answer)
        else:
            self._restore(saved.training)
        complete = engine.run(
            plan,
            executor,
            state,
            average,
            steps_per_epoch=self.programme.steps_per_epoch,
            on_epoch=_epoch_reporter(self.estimator, context),
            post_step=getattr(engine.module_, "post_step", None),
        )
        self.steps_done = state["step"]
        return complete

    def _public_seed(self) -> int:
        return int(check_random_state(self.estimator.random_state).randint(2**31 - 1))

    # -------------------------------------------------------------- the checkpoint file
    @property
    def checkpoint(self) -> FitCheckpoint | None:
        """The callback that writes checkpoints, where the user passed one."""
        callbacks = [c[1] if isinstance(c, tuple) else c for c in self.estimator.callbacks or []]
        return next((c.initialize() for c in callbacks if isinstance(c, FitCheckpoint)), None)

    @property
    def lease(self) -> int | None:
        """Queries of a touch that may be asked before the next write; None for all of them."""
        return self.checkpoint and self.checkpoint.every

    def save_reservation(self) -> None:
        """Put the charge on disk before a row is read."""
        if self.checkpoint is not None:
            save(self.checkpoint.path, self._saved())

    def lease_and_save(self, callback: FitCheckpoint, final: bool = False) -> None:
        """Lease the next steps, then write them down together with the state that they start from."""
        reservation = self.book.reservation
        if final:
            self.book.settle(reservation)
        else:
            spent = self.book.executed(reservation)
            self.book.extend(reservation, {name: count + callback.every for name, count in spent.items()})
        engine, executor, average, estimates, state = self._live
        training = {
            "module": engine.module_.state_dict(),
            "optimizer": engine.optimizer_.state_dict(),
            "state": state,
            "average": (average.count, average.means),
            "history": list(engine.history),
        }
        save(callback.path, self._saved(estimates, training))

    def _saved(self, estimates: Estimates | None = None, training: dict | None = None) -> SavedFit:
        public, delta = self.programme.public, self.programme.delta
        return SavedFit(clone(self.estimator), public, delta, self.book, estimates, training)

    def _restore(self, training: dict[str, Any]) -> None:
        engine, _, average, _, state = self._live
        engine.module_.load_state_dict(training["module"])
        engine.optimizer_.load_state_dict(training["optimizer"])
        average.count, average.means = training["average"]
        engine.history.extend(training["history"])
        state.update(training["state"])
        # Leased steps are forfeited: the plan goes on behind them.
        spent = self.book.executed(self.book.reservation)
        state["step"] = max(spent[touch.name] for touch in self.programme.plan.charge.touches)

    # -------------------------------------------------------------- parts of the build
    def _spend(self, touch: Any) -> int:
        return self.book.spend(self.book.reservation, touch)

    def _private_rows(self, estimates: Estimates) -> PrivateRows:
        problem, device = self.problem, self.device
        inputs = scale_inputs(problem.inputs, estimates.feature_bounds)
        weights = problem.weights
        if problem.classes is not None:
            targets = torch.from_numpy(problem.targets.astype(np.int64))
            if estimates.class_weights is not None:
                # Relative to the largest: what is above 1 would mostly be lost to clipping.
                per_row = (estimates.class_weights / estimates.class_weights.max())[problem.targets]
                weights = per_row if weights is None else weights * per_row
        else:
            targets = torch.from_numpy(scale_targets(problem.targets, estimates.target_bounds))
        if weights is not None:
            weights = torch.from_numpy(weights.astype(np.float32)).to(device)
        return PrivateRows(as_inputs(inputs).to(device), targets.to(device), weights)

    def _check_module(self) -> None:
        """Shape and independence of records, tried on made-up rows."""
        module, problem = self.module, self.problem
        shape = problem.inputs.shape[1:]
        if problem.tokens:
            made_up = torch.zeros((4, *shape), dtype=torch.int64, device=self.device)
        else:
            own = torch.Generator().manual_seed(0)
            made_up = torch.rand((4, *shape), generator=own).to(self.device)
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                outputs = module(made_up)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise ValueError(
                f"module={type(module).__name__} cannot take rows of shape {tuple(shape)}: {error}"
            ) from error
        public = self.programme.public
        allowed = {(4, public.n_outputs)} | ({(4,)} if public.n_outputs == 1 else set())
        if public.task == "binary":
            allowed.add((4, 2))
        if not isinstance(outputs, torch.Tensor) or tuple(outputs.shape) not in allowed:
            found = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise ValueError(
                f"module={type(module).__name__} gives {found} for 4 rows; a {public.task} problem needs "
                f"{' or '.join(map(str, sorted(allowed)))}"
            )
        kind = torch.float32 if problem.classes is None else torch.int64
        targets = torch.zeros((4, *problem.targets.shape[1:]), dtype=kind, device=self.device)
        check_rows_independent(module, self.loss, made_up, targets)

    def _engine(self, module: Any, loss: Any, estimates: Estimates) -> Engine:
        estimator, settings = self.estimator, self.programme.settings
        optimizer = SGD(momentum=settings.momentum) if estimator.optimizer == "auto" else estimator.optimizer
        specification = resolve_optimizer(optimizer)
        log = [EpochTimer(), PrintLog()] if estimator.verbose else []
        engine = Engine(
            module,
            build_optimizer=lambda parameters: specification.build(parameters, settings.lr),
            public_length=self.programme.public.n,
            classes=self.problem.classes,
            output_to_prediction=estimator._labels,
            output_to_probabilities=lambda outputs: class_probabilities(outputs).cpu().numpy(),
            use_caching=False,
            validation=self._validation(estimates),
            lr_factor=lr_factor(estimator.lr_schedule),
            criterion=loss,
            callbacks=[*(estimator.callbacks or []), *log],
            lr=settings.lr,
            max_epochs=-(-settings.steps // self.programme.steps_per_epoch),
            batch_size=max(1, round(settings.sampling_rate * self.programme.public.n)),
            device=str(self.device),
            train_split=None,
            verbose=estimator.verbose,
        )
        return engine.initialize()

    def _validation(self, estimates: Estimates) -> tuple | None:
        """Public validation rows in the form that the net and skorch's callbacks need."""
        if self.estimator.validation_public is None:
            return None
        X, y = self.estimator.validation_public
        inputs, y, targets = self.estimator._encode_validation(X, y)
        inputs = as_inputs(scale_inputs(inputs, estimates.feature_bounds)).to(self.device)
        if self.problem.classes is None:
            targets = scale_targets(targets, estimates.target_bounds)
        return inputs, torch.from_numpy(targets).to(self.device), y

    def _piece(self, forward: Callable, rows: PrivateRows) -> int:
        """Rows per backward pass, from the memory that a made-up row takes."""
        given = self.estimator.max_physical_batch_size
        if given != "auto":
            return int(given)
        sizes: list[int] = []

        def count(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        two = torch.zeros_like(rows.inputs[:1]).repeat(2, *[1] * (rows.inputs.ndim - 1))
        with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            forward(two)
        per_row = max(1, sum(sizes) // 2 + rows.inputs[:1].numel() * 4)
        return max(16, _PIECE_BYTES // (3 * per_row))


def scale_inputs(inputs: np.ndarray, bounds: np.ndarray | None) -> np.ndarray:
    """Columns clipped to their bounds and mapped to [-1, 1]; as they are without bounds."""
    if bounds is None:
        return inputs
    low, high = bounds[:, 0], bounds[:, 1]
    return 2 * (np.clip(inputs, low, high) - low) / (high - low) - 1


def scale_targets(targets: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Targets clipped to their bounds and mapped to [-1, 1], as float32."""
    low, high = (bounds[0] if targets.ndim == 1 else bounds.T) if len(bounds) == 1 else bounds.T
    return (2 * (np.clip(targets, low, high) - low) / (high - low) - 1).astype(np.float32)


def as_inputs(inputs: np.ndarray) -> torch.Tensor:
    """A float32 tensor, or int64 tokens as they are."""
    kind = np.int64 if inputs.dtype.kind == "i" else np.float32
    return torch.from_numpy(np.ascontiguousarray(inputs.astype(kind, copy=False)))


def lr_factor(schedule: Any) -> Callable[[float], float] | None:
    """Factor on the learning rate by the share of planned steps done."""
    known = {
        None: None,
        "cosine": lambda done: 0.5 * (1 + np.cos(np.pi * done)),
        "linear": lambda done: 1 - done,
    }
    if callable(schedule):
        return schedule
    if schedule not in known:
        raise ValueError(
            f"lr_schedule={schedule!r} must be None, 'cosine', 'linear', or a function of the share of steps done"
        )
    return known[schedule]


def _precompute_features(module: Any, rows: PrivateRows) -> tuple[Callable, PrivateRows]:
    """Run a frozen, record-wise front part once instead of in every step, where its output fits into memory."""
    if not getattr(module, "precompute_features", False):
        return module, rows
    with torch.no_grad():
        width = module.features(rows.inputs[:0]).shape[1:].numel()
        if len(rows) * width * 4 > _FEATURE_CACHE_BYTES:
            return module, rows
        pieces = [module.features(piece) for piece in rows.inputs.split(8192)]
    return module.head, PrivateRows(torch.cat(pieces), rows.targets, rows.weights)


def _epoch_reporter(estimator: Any, context: Any) -> Callable[[int], bool]:
    """Tell scikit-learn's callbacks about every epoch, without rows or losses; True stops the training."""
    if context is None or not hasattr(estimator, "_skl_callbacks"):
        return lambda epoch: False

    def report(epoch: int) -> bool:
        step = context.subcontext(task_name=f"epoch {epoch}")
        step.call_on_fit_task_begin(estimator=estimator)
        return bool(step.call_on_fit_task_end(estimator=estimator))

    return report


def _load_weights(module: Any, initial: Any, what: str) -> None:
    """Start from given weights: a state dict or a module."""
    state = initial.state_dict() if isinstance(initial, torch.nn.Module) else initial
    state = {name: torch.as_tensor(value) for name, value in state.items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise UnsupportedModuleError(f"{what} not fit module={type(module).__name__}: {error}") from error


def warn_all(messages: list[str], category: type[Warning] = UserWarning) -> None:
    """Show messages that also stand in the statement."""
    for message in messages:
        warnings.warn(message, category, stacklevel=6)
