"""In which steps of a pipeline an audit can null its canaries."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from skdp.pipeline import PrivatePipeline, check_steps
from skdp.pipeline.steps import PUBLIC
from skdp.pipeline.weights import private_leaves, routes, takes_weights

__all__ = ["nulled_steps", "weighted_part"]


def weighted_part(estimator: Any) -> Any:
    """What weights are handed to: a private pipeline as a whole, or else the last step of a pipeline."""
    return _path(estimator)[1]


def nulled_steps(estimator: Any) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Under which name weights reach an estimator, the steps in which they null a row, and steps that see it anyway.

    Raises
    ------
    ValueError
        There is no way to null a row.
    """
    prefix, part = _path(estimator)
    name = "sample_weight" if routes() else f"{prefix}sample_weight"
    if isinstance(part, PrivatePipeline):
        leaves = private_leaves(part.steps)
        audited = tuple(f"{prefix}{leaf.path}" for leaf in leaves if takes_weights(leaf.estimator))
    else:
        audited = (prefix.removesuffix("__"),) if has_fit_parameter(part, "sample_weight") else ()
    if not audited:
        raise ValueError(
            f"estimator={type(part).__name__} takes no sample_weight in fit, so canaries cannot be nulled; wrap it "
            "in one whose fit sets the records of weight 0 to its null row"
        )
    if part is estimator and not isinstance(part, PrivatePipeline):
        return name, (), ()
    if isinstance(part, PrivatePipeline):
        unseen = [f"{prefix}{leaf.path}" for leaf in leaves if f"{prefix}{leaf.path}" not in audited]
    else:
        unseen = [step.path for step in check_steps(estimator) if step.verdict != PUBLIC and step.path not in audited]
    return name, audited, tuple(unseen)


def _path(estimator: Any) -> tuple[str, Any]:
    prefix = ""
    while isinstance(estimator, Pipeline) and not isinstance(estimator, PrivatePipeline):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    return prefix, estimator
