"""One fit from reserved charge to statement: estimates, net, loop. The only caller of the executors."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from skorch.callbacks import EpochTimer, PrintLog

from skdp.accounting import FitBook
from skdp.contract import drive
from skdp.distributed import Ranks
from skdp.exceptions import UnsupportedModuleError
from skdp.nets.building import build_module
from skdp.neural_network.checkpoint import Journal, restore_training
from skdp.neural_network.devices import resolve_device
from skdp.neural_network.estimates import Estimates, check_target_bounds, estimate_arrays, release_estimates
from skdp.neural_network.losses import ClassLoss, SquaredLoss, class_probabilities
from skdp.neural_network.precomputed import check_precomputed, precomputed
from skdp.neural_network.problem import Problem
from skdp.neural_network.programme import Programme, given_settings
from skdp.neural_network.ranked import agree_on_weights, for_this_rank, start_alike
from skdp.neural_network.scaling import as_rows, scale_targets
from skdp.neural_network.schedules import lr_factor
from skdp.optimizers import SGD, resolve_optimizer
from skdp.releases import ArrayExecutor
from skdp.training import (
    Engine,
    NetModel,
    PerExample,
    PrivateRows,
    SecretRandomness,
    TailAverage,
    TorchExecutor,
    check_rows_independent,
    rows_per_pass,
)
from skdp.training.buffers import scratch_buffers
from skdp.training.chain import chain_of
from skdp.training.pieces import made_up_records, tried_on
from skdp.training.supported import train_mode, trainable_parameters
from skdp.training.threads import one_thread, worthwhile_threads

__all__ = ["Estimates", "FitRun"]


class FitRun:
    """Carries one fit through its stages; holds the rows and is thrown away afterwards.

    Parameters
    ----------
    estimator : DPClassifier or DPRegressor
        Its public parameters.
    problem : Problem
    programme : Programme
    book : FitBook
    spent : int
        Queries that were answered before, where a fit goes on.
    ranks : Ranks, optional
        Processes that share the fit.
    """

    def __init__(self, estimator: Any, problem: Problem, programme: Programme, book: FitBook, spent: int = 0,
                 ranks: Ranks | None = None):  # fmt: skip
        self.estimator = estimator
        self.problem = problem
        self.programme = programme
        self.book = book
        self.device = resolve_device(estimator.device, programme, problem)
        self.ranks = ranks
        rank = None if ranks is None else ranks.rank
        self.randomness = SecretRandomness(self.device, estimator.insecure_noise_seed, spent, rank)
        self.random_state = estimator.random_state
        if ranks is not None and self.random_state is None:
            self.random_state = ranks.broadcast(secrets.randbits(31), "random_state")

    # -------------------------------------------------------------- before training
    def check_estimates(self) -> None:
        """Refuse, from public numbers and before anything is spent, a range of y that noise is sure to hide."""
        touches = self.programme.estimates.get("target bounds")
        check_target_bounds(touches, self.programme.public, self.programme.epsilon)

    def know(self, indicators: tuple[int, ...]) -> None:
        """Let the net that is built next know which columns are indicators."""
        if indicators:
            given = given_settings(self.estimator, self.programme.public)
            self.programme = self.programme.knowing(indicators, given)

    def build_net(self, start: dict[str, np.ndarray] | None = None) -> None:
        """Build the net and try it on made-up rows, so that what cannot be trained costs nothing."""
        estimator, programme = self.estimator, self.programme
        module = build_module(programme.spec, programme.public, programme.signal, self.random_state)
        if estimator.init_params is not None:
            _load_weights(module, estimator.init_params, "init_params does")
        module = programme.mechanism.prepare(module, programme.public)
        if start is not None:
            _load_weights(module, start, "warm_start=True: the weights of the last fit do")
        start_alike(self.ranks, module)
        check_precomputed(module)
        self.module = train_mode(module.to(self.device))
        self.loss = ClassLoss() if self.problem.classes is not None else SquaredLoss()
        with one_thread():
            self._check_module()
        PerExample(module)  # refuses layers that mix records

    def array_executor(self) -> ArrayExecutor:
        """What answers the estimates that are made before training."""
        return ArrayExecutor(
            estimate_arrays(self.problem),
            self.problem.null,
            spend=self._spend,
            normal=self.randomness.array_normal,
            ranks=self.ranks,
        )

    def release_estimates(self, given: Estimates) -> Estimates:
        """Ask for whatever the programme estimates before training, and add it to what was given as public."""
        names = getattr(self.estimator, "feature_names_in_", None)
        return release_estimates(given, self.programme.estimates, self.problem, self.array_executor(), names)

    def build(self, estimates: Estimates) -> tuple[Engine, TorchExecutor, TailAverage]:
        """Optimizer and executor around the net, on the device."""
        settings = self.programme.settings
        engine = self._engine(self.module, self.loss, estimates)
        return engine, self.executor(estimates), TailAverage(settings.average, settings.steps)

    def executor(self, estimates: Estimates) -> TorchExecutor:
        """What answers the queries of the training."""
        module, given = self.module, self.estimator.max_physical_batch_size
        with scratch_buffers(module), self.randomness.net_draws():
            trained, rows = precomputed(module, self._private_rows(estimates))
        weights = estimates.class_weights
        weights = None if weights is None else torch.tensor(weights / weights.max(), dtype=torch.float32)
        targets = rows.targets if self.programme.mechanism.labels_are_public else None
        weights = weights if weights is None else weights.to(self.device)
        return TorchExecutor(
            NetModel(module, trainable_parameters(module), self.device, self.loss, weights, targets),
            rows,
            forward=trained,
            per_example=PerExample(trained),
            spend=self._spend,
            randomness=self.randomness,
            piece=rows_per_pass(trained, rows.inputs) if given == "auto" else int(given),
            shifting=self.programme.public.adjacency == "add-remove",
            ranks=self.ranks,
        )

    # -------------------------------------------------------------- training
    def train(
        self,
        engine: Engine,
        executor: TorchExecutor,
        average: TailAverage,
        estimates: Estimates,
        journal: Journal,
        *,
        context: Any = None,
        training: dict[str, Any] | None = None,
    ) -> bool:
        """Run the plan, from where `training` stands if given; True when it ran to its end."""
        plan = self.programme.plan
        state = self.first_state()
        journal.follow(engine, average, estimates, state)
        if training is None:
            drive(plan.begin(executor.model, state), executor.answer)
        else:
            # Leased steps are forfeited: the plan goes on behind them.
            spent = self.book.executed(self.book.reservation)
            spent = {touch.name: spent[touch.name] for touch in plan.charge.touches}
            restore_training(training, engine, average, state, max(spent.values()))
            state["spent"] = spent
        processes = 1 if self.ranks is None else self.ranks.size
        expected = math.ceil(self.programme.settings.sampling_rate * self.programme.public.n / processes)
        rehearsal = partial(executor.rehearse, expected)
        if hasattr(plan, "rehearse"):
            rehearsal = partial(plan.rehearse, executor.model, state)
        with worthwhile_threads(rehearsal) if self.device.type == "cpu" else nullcontext():
            complete = engine.run(
                plan,
                executor,
                state,
                average,
                steps_per_epoch=self.programme.steps_per_epoch,
                on_epoch=self._on_epoch(context),
                post_step=getattr(engine.module_, "post_step", None),
                ranks=self.ranks,
            )
        if self.ranks is not None:
            if engine.interrupted_:  # a callback may have raised between two ranks' updates
                start_alike(self.ranks, engine.module_)
                state["step"] = self.ranks.broadcast(state["step"], "steps done")
            agree_on_weights(self.ranks, engine.module_)
        self.steps_done = state["step"]
        return complete

    def _on_epoch(self, context: Any) -> Callable[[int], bool]:
        """What is told the number of each finished epoch; true stops the training, on all ranks."""
        ranks, report = self.ranks, _epoch_reporter(self.estimator, context)
        if ranks is None:
            return report

        def together(epoch: int) -> bool:
            agree_on_weights(ranks, self.module)
            return ranks.any(report(epoch) if ranks.leads else False, "whether to stop")

        return together

    def first_state(self) -> dict[str, Any]:
        """The plan's public state before its first step."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return {"step": 0, "rng": np.random.default_rng(seed)}

    # -------------------------------------------------------------- parts of the build
    def _spend(self, touch: Any) -> int:
        return self.book.spend(self.book.reservation, touch)

    def _private_rows(self, estimates: Estimates) -> PrivateRows:
        problem, device = self.problem, self.device
        inputs = as_rows(problem.inputs, estimates.feature_bounds)
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
            # Clipped, for a warning about an overflow would tell that there is such a weight.
            weights = np.minimum(weights, np.finfo(np.float32).max).astype(np.float32)
            weights = torch.from_numpy(weights).to(device)
        return PrivateRows(inputs.to(device), targets.to(device), weights)

    def _check_module(self) -> None:
        """Shape and independence of records, tried on made-up rows."""
        module, problem = self.module, self.problem
        shape = problem.inputs.shape[1:]
        own = torch.Generator().manual_seed(0)
        made_up = made_up_records(shape, problem.vocabulary).to(self.device)
        with tried_on(module, shape), torch.random.fork_rng(devices=[]), torch.no_grad(), scratch_buffers(module):
            outputs = module(made_up)
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
        if problem.classes is None:
            targets = 2 * torch.rand((4, *problem.targets.shape[1:]), generator=own) - 1
        else:
            targets = torch.arange(4) % len(problem.classes)
        targets = targets.to(self.device)
        if chain_of(module) is None:  # where nothing can mix records, there is nothing to try
            check_rows_independent(module, self.loss, made_up, targets)

    def _engine(self, module: Any, loss: Any, estimates: Estimates) -> Engine:
        estimator, settings = self.estimator, self.programme.settings
        optimizer = SGD(momentum=settings.momentum) if estimator.optimizer == "auto" else estimator.optimizer
        specification = resolve_optimizer(optimizer)
        log = [EpochTimer(), PrintLog()] if estimator.verbose and (self.ranks is None or self.ranks.leads) else []
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
            callbacks=[*for_this_rank(estimator.callbacks, self.ranks), *log],
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
        inputs = as_rows(inputs, estimates.feature_bounds).to(self.device)[:]
        if self.problem.classes is None:
            targets = scale_targets(targets, estimates.target_bounds)
        return inputs, torch.from_numpy(targets).to(self.device), y


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
