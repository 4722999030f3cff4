"""Sample weights of a private pipeline: handed to every private step that takes them, and to no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sklearn import config_context, get_config
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import _num_samples, has_fit_parameter

from skdp.pipeline.steps import CHARGED, StepCheck, check_steps
from skdp.releases.null_rows import null_rows

__all__ = ["check_weights", "handed_on", "private_leaves", "routes", "takes_weights"]


def routes() -> bool:
    """Whether the user has scikit-learn route metadata, by requests of their own."""
    return bool(get_config()["enable_metadata_routing"])


def takes_weights(step: Any) -> bool:
    """Whether the weights of a private pipeline reach a step: all that take one, or those that request it."""
    if not has_fit_parameter(step, "sample_weight"):
        return False
    return not routes() or _requested(step) not in (None, False)


def private_leaves(steps: list) -> list[StepCheck]:
    """Private steps, and in place of private pipelines the private steps of these."""
    found = []
    for check in _leaves(steps):
        found += [check] if check.verdict == CHARGED else []
    return found


def check_weights(sample_weight: Any, X: Any, params: Mapping[str, Any]) -> None:
    """Refuse weights before anything is spent.

    Raises
    ------
    ValueError
        For weights that are no weights, or that come together with parameters of single steps.
    """
    if sample_weight is None:
        return
    null_rows(sample_weight, _num_samples(X))
    if params and not routes():
        raise ValueError(
            f"sample_weight goes to every private step, and cannot be passed together with {', '.join(params)}; pass "
            "step__sample_weight for single steps, or sklearn.set_config(enable_metadata_routing=True) and requests"
        )


@contextmanager
def handed_on(steps: list, sample_weight: Any, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Parameters for `Pipeline.fit` of these steps, under which in this block weights reach private steps alone.

    Where the user routes metadata, the requests of the steps decide. Elsewhere scikit-learn's routing is used in this
    block, with requests that are set here: only it reaches into column transformers and unions. A request that a step
    has keeps its word.
    """
    if sample_weight is None:
        yield dict(params)
        return
    given = {**params, "sample_weight": sample_weight}
    if routes():
        yield given
        return
    with config_context(enable_metadata_routing=True):
        for check in _leaves(steps):
            if has_fit_parameter(check.estimator, "sample_weight") and _requested(check.estimator) is None:
                check.estimator.set_fit_request(sample_weight=check.verdict == CHARGED)
        yield given


def _leaves(steps: list) -> Iterator[StepCheck]:
    for check in check_steps(Pipeline(steps)):
        if check.verdict == CHARGED and isinstance(check.estimator, Pipeline):
            for inner in _leaves(check.estimator.steps):
                yield StepCheck(f"{check.path}__{inner.path}", inner.estimator, inner.verdict, inner.reason)
        else:
            yield check


def _requested(step: Any) -> Any:
    return get_routing_for_object(step).fit.requests.get("sample_weight")
