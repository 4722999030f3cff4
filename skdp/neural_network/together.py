"""Several fits side by side: those of one architecture in shared steps, the others one after the other."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from skdp.contract import Poisson
from skdp.distributed import current
from skdp.mechanisms import DPSGD
from skdp.neural_network.base import DPEstimator, one_at_a_time
from skdp.neural_network.ready import ReadyFit
from skdp.neural_network.shared_steps import is_plain_descent, train_together
from skdp.training.stacked import architecture

__all__ = ["LARGEST_BATCH", "fit_together"]

LARGEST_BATCH = 1024
"""Expected rows of a step up to which fits share it; above, it costs as much as its rows do (benchmarks/sweep.py)."""

# More fits than this gain nothing from each other, and all of them hold their rows until the last is charged for.
_MOST = 32
_BYTES = 1 << 30


@one_at_a_time
def fit_together(estimators: Sequence[Any], parts: Sequence[tuple[Any, Any, Any]]) -> None:
    """Fit every estimator on its own rows, as its own `fit` would, in shared steps where that is faster.

    Parameters
    ----------
    estimators : list of estimator
        Fitted in place. After an error each counts in its `privacy_` what it spent.
    parts : list of (X, y, sample_weight)
        One per estimator.

    Notes
    -----
    *Formal guarantee.* Every fit has its own charge, reserved before its rows are read, its own samples and its own
    noise, so its statement is the one that `fit` would give, and statements compose.
    """
    waiting: list[tuple[DPEstimator, tuple[Any, Any, Any]]] = []
    for estimator, part in zip(estimators, parts, strict=True):
        if not _may_wait(estimator):
            X, y, weight = part
            estimator.fit(X, y, **({} if weight is None else {"sample_weight": weight}))
            continue
        waiting.append((estimator, part))
        if len(waiting) >= _at_most(part[0]):
            _fit_side_by_side(waiting)
            waiting = []
    _fit_side_by_side(waiting)


def _may_wait(estimator: Any) -> bool:
    """Whether nobody watches the steps of a fit, so that others may run them."""
    if current() is not None:
        return False  # every step of each is shared with other processes
    if not isinstance(estimator, DPEstimator) or estimator.warm_start or estimator.validation_public is not None:
        return False
    return not (estimator.callbacks or estimator.verbose or getattr(estimator, "_skl_callbacks", None))


def _at_most(X: Any) -> int:
    """Number of fits whose rows, in single and double precision, are in memory at a time."""
    return max(1, min(_MOST, _BYTES // max(1, 12 * math.prod(np.shape(X)))))


def _fit_side_by_side(fits: list[tuple[DPEstimator, tuple[Any, Any, Any]]]) -> None:
    """Charge for all and build them, train them in groups, state them."""
    with ExitStack() as stack:
        groups: dict[Hashable, list[ReadyFit]] = {}
        for number, (estimator, part) in enumerate(fits):
            ready = stack.enter_context(estimator._fitting(*part))
            kind = _kind(ready)
            groups.setdefault(number if kind is None else kind, []).append(ready)
        for group in groups.values():
            if len(group) == 1:
                group[0].train()
            else:
                train_together(group)


def _kind(fit: ReadyFit) -> Hashable | None:
    """What fits must agree in to share their steps; None for those that go their own way. All of it is public."""
    estimator, programme = fit.run.estimator, fit.run.programme
    sampler = programme.plan.charge.touches[0].sampler
    if type(programme.mechanism) is not DPSGD or estimator.clipping == "adaptive" or not isinstance(sampler, Poisson):
        return None
    if sampler.rate >= 1 or sampler.rate * programme.public.n > LARGEST_BATCH:
        return None
    form = architecture(fit.executor) if is_plain_descent(fit.engine.optimizer_) else None
    if form is None:
        return None
    numbers = tuple(sorted(programme.mechanism.get_params().items()))
    return form, sampler, programme.plan.steps, programme.settings.average, estimator.clipping, numbers
