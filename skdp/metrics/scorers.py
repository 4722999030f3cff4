"""Calibration metrics as scorers for searches: greater is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from sklearn.metrics import get_scorer as sklearn_scorer
from sklearn.metrics import get_scorer_names, make_scorer

from skdp.metrics.calibration_errors import (
    adaptive_calibration_error,
    classwise_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
)
from skdp.metrics.losses import brier_score, negative_log_likelihood

__all__ = ["SCORERS", "get_scorer"]

_probabilities = partial(make_scorer, greater_is_better=False, response_method="predict_proba")

SCORERS: Mapping[str, Callable[[Any, Any, Any], float]] = MappingProxyType({
    "neg_ece": _probabilities(expected_calibration_error),
    "neg_adaptive_ece": _probabilities(adaptive_calibration_error),
    "neg_classwise_ece": _probabilities(classwise_calibration_error),
    "neg_mce": _probabilities(maximum_calibration_error),
    "neg_nll": _probabilities(negative_log_likelihood),
    "neg_brier": _probabilities(brier_score),
})  # fmt: skip
"""Scorers by name; none of them is private."""


def get_scorer(name):
    """A scorer by name, for ``scoring=`` of anything in scikit-learn.

    scikit-learn's own list of strings is closed to other packages, so ``scoring="neg_ece"`` is an error there; pass
    what this function returns.

    Parameters
    ----------
    name : str
        ``"neg_ece"``, ``"neg_adaptive_ece"``, ``"neg_classwise_ece"``, ``"neg_mce"``, ``"neg_nll"``, ``"neg_brier"``,
        or any name that scikit-learn knows.

    Returns
    -------
    callable
        ``scorer(estimator, X, y)``, greater is better.

    Raises
    ------
    ValueError
        If nobody knows the name.

    Notes
    -----
    Scores are exact: on private records they are not private. `PrivateScore` is a scorer that is.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skdp.metrics import get_scorer
    >>> X, y = make_classification(500, random_state=0)
    >>> scoring = {"accuracy": "accuracy", "ece": get_scorer("neg_ece")}
    >>> search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, scoring=scoring, refit="ece").fit(X, y)
    >>> bool(-0.2 < search.best_score_ < 0)
    True
    """
    if name in SCORERS:
        return SCORERS[name]
    if name in get_scorer_names():
        return sklearn_scorer(name)
    raise ValueError(f"name={name!r} must be one of {', '.join(SCORERS)}, or one of scikit-learn's names")
