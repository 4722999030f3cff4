"""Which steps of a pipeline look at private rows without paying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skdp.pipeline.steps import UNPAID, StepCheck, check_steps

__all__ = ["PipelineCheck", "check_pipeline"]


@dataclass(frozen=True)
class PipelineCheck:
    """What the steps of a pipeline do with private rows; print it.

    Parameters
    ----------
    steps : tuple of StepCheck

    Examples
    --------
    >>> from skdp import DPClassifier
    >>> check_pipeline(DPClassifier()).holds
    True
    """

    steps: tuple[StepCheck, ...]

    @property
    def unpaid(self) -> tuple[StepCheck, ...]:
        """Steps that look at private rows without paying, or of which nobody knows."""
        return tuple(step for step in self.steps if step.verdict == UNPAID)

    @property
    def holds(self) -> bool:
        """Whether the statements of the private steps tell the whole story."""
        return not self.unpaid

    def __str__(self) -> str:
        """A table of steps and verdicts."""
        if not self.steps:
            return "no step learns anything"
        name = max(len(step.path) for step in self.steps)
        kind = max(len(type(step.estimator).__name__) for step in self.steps)
        lines = [
            f"{step.path:{name}}  {type(step.estimator).__name__:{kind}}  {step.verdict:8}  {step.reason}"
            for step in self.steps
        ]
        return "\n".join(lines)

    __repr__ = __str__


def check_pipeline(pipeline: Any) -> PipelineCheck:
    """Say of every step of a pipeline whether it looks at private rows without paying.

    A scaler, imputer or feature selection that is fitted on private rows leaks them past every epsilon of a later
    step. `skdp.pipeline.PrivatePipeline` refuses such steps; this function shows them in any scikit-learn pipeline.

    Parameters
    ----------
    pipeline : estimator
        A pipeline, column transformer, union, or any single estimator; fitted or not.

    Returns
    -------
    PipelineCheck

    Notes
    -----
    Verdicts follow from types and parameters alone: no row is needed. A `FunctionTransformer` counts as public, as if
    its function computed each row from that row alone. What is unknown counts as unpaid.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdp import DPClassifier
    >>> from skdp.audit import check_pipeline
    >>> check_pipeline(make_pipeline(StandardScaler(), DPClassifier()))
    standardscaler  StandardScaler  unpaid    learns from private rows without paying
    dpclassifier    DPClassifier    charged   names its price before it looks at rows
    """
    return PipelineCheck(tuple(check_steps(pipeline)))
