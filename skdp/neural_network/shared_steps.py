"""The steps of several fits of one architecture, run as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from skdp.contract import Answers, Query, Update, drive
from skdp.neural_network.ready import ReadyFit
from skdp.training import TailAverage
from skdp.training.stacked import StackedExecutor
from skdp.training.threads import one_thread

__all__ = ["drive_all", "is_plain_descent", "train_together"]

# Gradient descent with these three numbers is what is run for many fits at once; all other options stay as they are.
_NUMBERS = ("lr", "momentum", "weight_decay")
_NEUTRAL = {"dampening": 0, "nesterov": False, "maximize": False, "differentiable": False}


def train_together(fits: Sequence[ReadyFit]) -> None:
    """Run all steps of fits that agree in architecture, sampler, number of steps, clipping and averaging.

    Parameters
    ----------
    fits : list of ReadyFit
    """
    plans = [fit.run.programme.plan for fit in fits]
    models = [fit.executor.model for fit in fits]
    states = [fit.run.first_state() for fit in fits]
    for fit, plan, model, state in zip(fits, plans, models, states, strict=True):
        drive(plan.begin(model, state), fit.executor.answer)
    stack = StackedExecutor([fit.executor for fit in fits])
    descent = _Descent(fits, stack.weights)
    settings, steps = fits[0].run.programme.settings, plans[0].steps
    average = TailAverage(settings.average, steps)
    with one_thread():  # passes are small, and on a busy machine two threads mostly wait for each other
        for step in range(steps):
            asking = [plan.step(model, state) for plan, model, state in zip(plans, models, states, strict=True)]
            descent.step(step / steps, drive_all(asking, stack.answer))
            for state in states:
                state["step"] = step + 1
            average.update(step + 1, {"": stack.weights})
    average.apply({"": stack.weights})
    for fit in fits:
        fit.run.steps_done, fit.complete = steps, True


def drive_all(steps: Sequence[Any], answer: Callable[[list[Query]], list[Answers]]) -> list[Update]:
    """Run one step of each of several plans, whose queries are answered together; what each returned.

    Parameters
    ----------
    steps : list of generator
        What ``Plan.step`` gave, of plans that ask equally often.
    answer : callable
        ``StackedExecutor.answer``.
    """
    answers: list[Any] = [None] * len(steps)
    while True:
        queries, updates = [], []
        for step, reply in zip(steps, answers, strict=True):
            try:
                queries.append(step.send(reply))
            except StopIteration as end:
                updates.append(end.value)
        if not queries:
            return updates
        answers = answer(queries)


def is_plain_descent(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer is gradient descent with a learning rate, heavy ball and weight decay, and no more."""
    if type(optimizer) is not torch.optim.SGD or len(optimizer.param_groups) != 1:
        return False
    return all(optimizer.param_groups[0][name] == value for name, value in _NEUTRAL.items())


class _Descent:
    """`torch.optim.SGD` of every fit on its row of the weights, with learning rate, momentum and decay of its own."""

    def __init__(self, fits: Sequence[ReadyFit], weights: Tensor) -> None:
        groups = [fit.engine.optimizer_.param_groups[0] for fit in fits]
        _, self._momentum, self._decay = (torch.tensor([[float(g[name])] for g in groups]) for name in _NUMBERS)
        self._weights = weights
        self._gradients = torch.empty_like(weights)
        self._moving = torch.zeros_like(weights)
        self._engines = [fit.engine for fit in fits]
        self._modules = [(fit.executor.model, fit.engine.module_) for fit in fits]

    @torch.no_grad()
    def step(self, done: float, updates: Sequence[Update]) -> None:
        """Move all weights, where a share `done` of the steps is behind them."""
        for row, update in zip(self._gradients, updates, strict=True):
            torch.cat([gradient.reshape(-1) for gradient in update.gradients], out=row)
        if self._decay.any():
            self._gradients.addcmul_(self._decay, self._weights)
        self._moving.mul_(self._momentum).add_(self._gradients)
        rates = [e.lr if e.lr_factor is None else e.lr * e.lr_factor(done) for e in self._engines]
        self._weights.addcmul_(torch.tensor(rates)[:, None], self._moving, value=-1)
        for (model, module), update in zip(self._modules, updates, strict=True):
            if hasattr(module, "post_step"):
                for parameter, gradient in zip(model.parameters.values(), update.gradients, strict=True):
                    parameter.grad = gradient
                module.post_step()
                module.zero_grad()
