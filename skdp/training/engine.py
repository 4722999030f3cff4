"""The training loop: a skorch net as holder of module, optimizer, callbacks and public history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from skorch.dataset import Dataset
from torch import Tensor, nn

from skdp.callbacks import FitCheckpoint
from skdp.contract import Plan, drive
from skdp.distributed import Ranks
from skdp.training.executor import TorchExecutor
from skdp.training.supported import train_mode

__all__ = ["Engine", "TailAverage"]


class _PublicLength:
    """Stands where skorch expects a data set: has its public length and no row."""

    def __init__(self, length: int):
        self._length = length

    def __len__(self) -> int:
        return self._length


class TailAverage:
    """Running mean of the iterates of the last steps: post-processing, hence free.

    Parameters
    ----------
    fraction : float
        Part of the planned steps, at the end, that is averaged; 0 for none.
    steps : int
        Planned number of steps.

    Examples
    --------
    >>> weight = nn.Parameter(torch.zeros(1))
    >>> average = TailAverage(0.5, steps=4)
    >>> for step in range(1, 5):
    ...     with torch.no_grad():
    ...         _ = weight.fill_(step)
    ...     average.update(step, {"weight": weight})
    >>> average.apply({"weight": weight})
    >>> weight.item()
    3.5
    """

    def __init__(self, fraction: float, steps: int):
        self._first = steps - int(round(fraction * steps))
        self.count = 0
        self.means: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, step: int, parameters: dict[str, nn.Parameter]) -> None:
        """Take in the iterate after `step` steps."""
        if step <= self._first:
            return
        self.count += 1
        if not self.means:
            self.means = {name: p.detach().clone() for name, p in parameters.items()}
            return
        means = [self.means[name] for name in parameters]
        torch._foreach_lerp_(means, [p.detach() for p in parameters.values()], 1 / self.count)

    @torch.no_grad()
    def apply(self, parameters: dict[str, nn.Parameter]) -> None:
        """Replace the last iterate by the mean, where there is one."""
        for name, mean in self.means.items():
            parameters[name].copy_(mean)


class Engine(NeuralNet):
    """A skorch net whose loop asks a plan instead of iterating over data.

    skorch's callbacks see the module, the optimizer and a history of public values. They get no rows and no
    training loss, because those are private and un-noised; the executor, which holds the rows, is no attribute.

    Parameters
    ----------
    module : torch.nn.Module
        Already built and on its device.
    build_optimizer : callable
        Maps the list of parameters to an optimizer.
    public_length : int
        Number of rows as far as it is public.
    classes : ndarray or None
        For classifiers, so that scoring callbacks can predict labels.
    output_to_prediction : callable
        Maps raw outputs to predictions.
    output_to_probabilities : callable or None
        For classifiers: maps raw outputs to probabilities.
    validation : tuple or None
        Public ``(inputs, targets, y)`` on which scoring callbacks may look after each epoch.
    lr_factor : callable or None
        Factor on the learning rate by the share of planned steps done.
    **kwargs
        skorch's own parameters.

    Attributes
    ----------
    state_ : dict
        Public state of the plan while it runs; ``state_["step"]`` counts finished steps.
    interrupted_ : bool
        Whether the user stopped the last run by an interrupt.
    lease_and_save : callable or None
        ``lease_and_save(callback, final=False)`` writes a checkpoint; needed where a `FitCheckpoint` is among the
        callbacks. A closure that gives no access to rows.

    Examples
    --------
    >>> net = nn.Linear(2, 1)
    >>> engine = Engine(net, build_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    ...                 criterion=nn.MSELoss(reduction="none"), train_split=None).initialize()
    >>> engine.optimizer_.param_groups[0]["lr"]
    0.1
    """

    lease_and_save: Callable[..., None] | None = None

    def __init__(
        self,
        module: nn.Module,
        *,
        build_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] = None,
        public_length: int = 0,
        classes: np.ndarray | None = None,
        output_to_prediction: Callable[[Tensor], np.ndarray] | None = None,
        output_to_probabilities: Callable[[Tensor], np.ndarray] | None = None,
        validation: tuple | None = None,
        lr_factor: Callable[[float], float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(module, **kwargs)
        self.build_optimizer = build_optimizer
        self.public_length = public_length
        self.classes = classes
        self.output_to_prediction = output_to_prediction
        self.output_to_probabilities = output_to_probabilities
        self.validation = validation
        self.lr_factor = lr_factor

    @property
    def _default_callbacks(self):
        return []

    @property
    def classes_(self) -> np.ndarray | None:
        """Class labels, for scikit-learn scorers inside callbacks."""
        return self.classes

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> Engine:
        """Build the optimizer from its specification."""
        self.optimizer_ = self.build_optimizer(list(self.module_.parameters()))
        return self

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(
            "the engine of a fit holds private rows while it runs, so it is not pickled (callbacks: leave f_pickle "
            "at None); pickle the fitted estimator instead"
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "regressor" if self.classes is None else "classifier"
        return tags

    def predict(self, X: Any) -> np.ndarray:
        """Predictions of the net in training, on public validation inputs."""
        return self.output_to_prediction(self._outputs(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities by the net in training, on public validation inputs."""
        return self.output_to_probabilities(self._outputs(X))

    def _outputs(self, X: Any) -> Tensor:
        X = X.X if isinstance(X, Dataset) else X
        with torch.no_grad():
            self.module_.eval()
            outputs = self.module_(torch.as_tensor(X, device=self.device))
            train_mode(self.module_)
        return outputs

    def run(
        self,
        plan: Plan,
        executor: TorchExecutor,
        state: dict,
        average: TailAverage,
        *,
        steps_per_epoch: int,
        on_epoch: Callable[[int], bool] = lambda epoch: False,
        post_step: Callable[[], None] | None = None,
        ranks: Ranks | None = None,
    ) -> bool:
        """Execute the plan from ``state["step"]`` on, then put the tail average into the module.

        Parameters
        ----------
        plan : Plan
        executor : TorchExecutor
        state : dict
            Public state of the plan, with ``"step"``.
        average : TailAverage
        steps_per_epoch : int
        on_epoch : callable
            Told the number of each finished epoch; true stops the training.
        post_step : callable, optional
            Called after each optimizer step.
        ranks : Ranks, optional
            Processes that run the same plan, where the executor sums over theirs.

        Returns
        -------
        bool
            True when all steps ran, False when a callback or the user stopped the training; `interrupted_` tells
            the latter. An interrupt that lands inside ``optimizer.step()`` leaves the last update partly applied,
            which is as private as a whole one.
        """
        self.state_, self.interrupted_ = state, False
        private = {"X": None, "y": None}
        data = {
            "dataset_train": _PublicLength(self.public_length),
            "dataset_valid": self._public_rows(),
        }
        self.notify("on_train_begin", **private)
        complete = True
        try:
            while state["step"] < plan.steps and complete:
                self.notify("on_epoch_begin", **private, **data)
                executor.follow_frozen_parameters()
                stop = min(plan.steps, state["step"] + steps_per_epoch)
                count = stop - state["step"]
                while state["step"] < stop:
                    self._one_step(plan, executor, state, average, post_step)
                self.history.record("train_batch_count", count)
                self._validate()
                self.notify("on_epoch_end", **private, **data)
                epoch = -(-state["step"] // steps_per_epoch)
                complete = not on_epoch(epoch) or state["step"] >= plan.steps
            if ranks is not None:
                ranks.roll_call("the end of training")  # none stops without the others
        except KeyboardInterrupt as interrupt:
            if ranks is not None:
                ranks.tell_interrupt(interrupt)
            self.interrupted_ = True
            complete = state["step"] >= plan.steps
        for _, callback in self.callbacks_:
            if isinstance(callback, FitCheckpoint):  # what can go on is the last iterate, not the average
                self.lease_and_save(callback, final=True)
        average.apply(dict(self.module_.named_parameters()))
        self.notify("on_train_end", **private)
        return complete

    def _one_step(self, plan, executor, state, average, post_step) -> None:
        model = executor.model
        self.notify("on_batch_begin", batch=None, training=True)
        update = drive(plan.step(model, state), executor.answer)
        if update is not None:
            for parameter, gradient in zip(model.parameters.values(), update.gradients, strict=True):
                parameter.grad = gradient
            for group in self.optimizer_.param_groups:
                if "noise_std" in group:
                    group["noise_std"] = _levels(update.noise_std, model.parameters.values(), group["params"])
                if self.lr_factor is not None:
                    group["lr"] = self.lr * self.lr_factor(state["step"] / plan.steps)
            self.notify("on_grad_computed", named_parameters=model.parameters.items(), training=True)
            self.optimizer_.step()
        if post_step is not None:
            post_step()
        # A parameter that a callback freezes next must not move on with an old gradient.
        self.optimizer_.zero_grad()
        state["step"] += 1
        average.update(state["step"], model.parameters)
        self.notify("on_batch_end", batch=None, y_pred=None, training=True)

    def _validate(self) -> None:
        """Loss on the public validation rows, where skorch's callbacks look for it."""
        if self.validation is None:
            return
        inputs, targets, _ = self.validation
        self.history.record("valid_loss", float(self.criterion_(self._outputs(inputs), targets).mean()))

    def _public_rows(self) -> Dataset | None:
        """The public validation rows in the form in which skorch's callbacks score them."""
        return self.validation and Dataset(self.validation[0], self.validation[2])


def _levels(noise_std: Any, trained: Iterable[nn.Parameter], wanted: list[nn.Parameter]) -> Any:
    """Noise level of the gradients of the wanted parameters; those of frozen ones have none."""
    if not isinstance(noise_std, Sequence):
        return noise_std
    positions = {id(parameter): i for i, parameter in enumerate(trained)}
    return [noise_std[positions[id(p)]] if id(p) in positions else 0.0 for p in wanted]


def check_callbacks(callbacks: list, validation: Any) -> None:
    """Refuse callbacks that would have to look at private rows or un-noised losses.

    Parameters
    ----------
    callbacks : list
    validation : tuple or None
        Public ``(X, y)``, where there are any.

    Raises
    ------
    ValueError
        For callbacks that score or stop without public validation data.
    """
    from skorch.callbacks import BatchScoring, EpochScoring

    for callback in callbacks:
        callback = callback[1] if isinstance(callback, tuple) else callback
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise ValueError(f"callbacks: {callback!r} is not a skorch callback")
        if not issubclass(kind, EarlyStopping | EpochScoring | BatchScoring):
            monitor = getattr(callback, "monitor", None)
            if issubclass(kind, LRScheduler) and "Plateau" not in str(getattr(callback, "policy", "")):
                continue  # it has a monitor by default and never looks at it
            if isinstance(monitor, str) and monitor.startswith("train"):
                raise ValueError(
                    f"callbacks: {kind.__name__}(monitor={monitor!r}) needs a training loss, which is private; use "
                    "monitor='valid_loss' with validation_public=(X, y), or monitor=None"
                )
            continue
        if issubclass(kind, BatchScoring) or getattr(callback, "on_train", False):
            raise ValueError(f"callbacks: {kind.__name__} would score private rows; score public ones instead")
        if validation is None:
            raise ValueError(
                f"callbacks: {kind.__name__} needs data to score; pass validation_public=(X, y) with public rows"
            )
