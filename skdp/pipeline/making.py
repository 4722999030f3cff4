"""Private pipelines whose steps are named after their classes."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import make_pipeline

from skdp.pipeline.private import PrivatePipeline

__all__ = ["make_private_pipeline"]


def make_private_pipeline(*steps: Any, epsilon: float | None = 1.0, **params: Any) -> PrivatePipeline:
    """A `PrivatePipeline` of steps that are named after their classes, as `sklearn.pipeline.make_pipeline` does.

    Parameters
    ----------
    *steps : estimators
        Their own ``epsilon`` is not used.
    epsilon : float or None, default=1.0
        Budget of all steps together.
    **params
        Further parameters of `PrivatePipeline`.

    Returns
    -------
    PrivatePipeline

    Examples
    --------
    >>> from skdp import DPClassifier
    >>> from skdp.preprocessing import DPStandardScaler
    >>> [name for name, _ in make_private_pipeline(DPStandardScaler(), DPClassifier(), epsilon=2.0).steps]
    ['dpstandardscaler', 'dpclassifier']
    """
    return PrivatePipeline(make_pipeline(*steps).steps, epsilon=epsilon, **params)
