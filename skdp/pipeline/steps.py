"""Which steps of a scikit-learn pipeline look at private rows, and whether they pay for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.kernel_approximation import RBFSampler, SkewedChi2Sampler
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, PolynomialFeatures
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from sklearn.utils import get_tags

from skdp.accounting.ledger_sessions import LedgerAware

__all__ = ["StepCheck", "check_steps"]

CHARGED, PUBLIC, RELEASED, UNPAID, ALONE = "charged", "public", "released", "unpaid", "alone"


@dataclass(frozen=True)
class StepCheck:
    """What one step of a pipeline does with private rows.

    Parameters
    ----------
    path : str
        Name of the step, nested ones joined by ``__`` as in ``set_params``.
    estimator : object
    verdict : {"charged", "public", "released", "unpaid", "alone"}
        It pays for what it releases; it learns nothing from rows; it works on rows that were released with noise; it
        looks at rows without paying, or nobody knows; it pays, but from a budget of its own that no other step shares.
    reason : str
    columns : object, optional
        What a column transformer gives it, in that one's terms; None is everything.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> check_steps(StandardScaler())[0].verdict
    'unpaid'
    """

    path: str
    estimator: Any
    verdict: str
    reason: str
    columns: Any = None


def check_steps(estimator: Any) -> list[StepCheck]:
    """Walk through pipelines, column transformers and unions down to what learns from rows.

    Parameters
    ----------
    estimator : object
        A pipeline or any other estimator.

    Returns
    -------
    list of StepCheck
        One per step that is not itself a collection of steps, in order.

    Notes
    -----
    A verdict follows from types and parameters; no row is looked at. What is not known to learn nothing is "unpaid".

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import Normalizer, StandardScaler
    >>> from skdp import DPClassifier
    >>> for step in check_steps(make_pipeline(Normalizer(), StandardScaler(), DPClassifier())):
    ...     print(step.path, step.verdict)
    normalizer public
    standardscaler unpaid
    dpclassifier charged
    """
    found: list[StepCheck] = []
    released = False
    for path, step, columns in _leaves(estimator, ""):
        verdict, reason = _judge(step)
        if released and verdict == UNPAID:
            verdict, reason = RELEASED, "works on rows that an earlier step released with noise"
        released = released or (getattr(step, "releases_rows", False) and path == path.partition("__")[0])
        found.append(StepCheck(path, step, verdict, reason, columns))
    return found


def _leaves(estimator: Any, path: str, columns: Any = None) -> Iterator[tuple[str, Any, Any]]:
    parts = None
    if not hasattr(estimator, "privacy_charge"):
        if isinstance(estimator, Pipeline):
            # Behind the first step nobody knows the columns before rows are read.
            parts = [(name, part, columns if i == 0 else None) for i, (name, part) in enumerate(estimator.steps)]
        elif isinstance(estimator, FeatureUnion):
            parts = [(name, part, columns) for name, part in estimator.transformer_list]
        elif isinstance(estimator, ColumnTransformer):
            parts = [*estimator.transformers, ("remainder", estimator.remainder, None)]
            if _counts_zeros(estimator):
                yield path or type(estimator).__name__.lower(), estimator, columns
    if parts is None:
        if estimator is not None and not isinstance(estimator, str):  # "passthrough" and "drop" do nothing
            yield path or type(estimator).__name__.lower(), estimator, columns
        return
    for name, part, own in parts:
        yield from _leaves(part, f"{path}__{name}" if path else name, own)


def _counts_zeros(columns: ColumnTransformer) -> bool:
    """Whether what comes out is sparse or dense by how many cells of the rows are 0.

    At 1 it is sparse: of the columns of a category at most one is not 0, whatever the row.
    """
    parts = [*(part for _, part, _ in columns.transformers), columns.remainder]
    steps = [step for part in parts for _, step, _ in _leaves(part, "")]
    return 0 < columns.sparse_threshold < 1 and any(
        getattr(step, "sparse_output", False)
        or getattr(step, "encode", "") == "onehot"
        or isinstance(step, FeatureHasher | HashingVectorizer)
        for step in steps
    )


def _judge(step: Any) -> tuple[str, str]:
    if isinstance(step, ColumnTransformer):
        return UNPAID, (
            "makes rows sparse or dense by how many of their cells are 0, on which clip norms rest: pass "
            "sparse_threshold=0 for dense rows, 1 for sparse ones, or sparse_output=False to its encoders"
        )
    if hasattr(step, "privacy_charge"):
        return CHARGED, "names its price before it looks at rows"
    if isinstance(step, LedgerAware):
        return ALONE, "pays from its own epsilon, and names no price before"
    if isinstance(step, FrozenEstimator):
        return PUBLIC, "was fitted before and learns nothing here"
    if isinstance(step, FunctionTransformer):
        return PUBLIC, "computes each row from that row alone, as far as func= does"
    if _knows_all(step):
        return PUBLIC, "learns nothing but the number and names of columns"
    try:
        if not get_tags(step).requires_fit:
            return PUBLIC, "learns nothing"
    except Exception:  # noqa: BLE001 - a foreign object without scikit-learn's tags
        return UNPAID, "is no scikit-learn estimator"
    return UNPAID, "learns from private rows without paying"


def _knows_all(step: Any) -> bool:
    """Whether a fit of this scikit-learn transformer uses the shape of X alone."""
    match step:
        case PolynomialFeatures() | SkewedChi2Sampler():
            return True
        case RBFSampler():
            return step.gamma != "scale"
        case GaussianRandomProjection() | SparseRandomProjection():
            return step.n_components != "auto"
        case OneHotEncoder() | OrdinalEncoder():
            # An error about an unknown category would quote it.
            given = not isinstance(step.categories, str) and step.handle_unknown != "error"
            return given and step.min_frequency is step.max_categories is None
        case SimpleImputer():
            return step.strategy == "constant" and step.keep_empty_features and not step.add_indicator
        case MissingIndicator():
            return step.features == "all"
    return False
