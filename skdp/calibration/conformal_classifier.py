"""Sets of classes that hold the truth with a guaranteed chance, privately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from skdp.calibration.conformal_base import ConformalSpending
from skdp.metrics.private_rows import classified_rows

__all__ = ["DPConformalClassifier"]


@dataclass(frozen=True)
class DoubtOfTruth:
    """One less the probability of the true class, of rows of probabilities and label."""

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Scores within [0, 1]."""
        label = rows[:, -1].astype(int)
        return 1 - rows[np.arange(len(rows)), label]


class DPConformalClassifier(ClassifierMixin, ConformalSpending):
    r"""Prediction sets that hold the true class with chance 1 - alpha at least, from a private threshold.

    Parameters
    ----------
    estimator : fitted classifier with ``predict_proba``
        It is not refitted. Wrap it in `sklearn.frozen.FrozenEstimator` where this object is cloned.
    alpha : float, default=0.1
        Share of rows whose class may be missed, at most 1/2.
    epsilon : float or None, default=1.0
        Budget of one `fit`; None together with `noise_multiplier`.
    split : {"disjoint"}, default="disjoint"
        Your declaration that the rows given to `fit` were set apart from those that the model was trained on, without
        looking at their values.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n), and at most the delta of the model.
    adjacency : {"zero-out", "replace-one", "add-remove"}, default="zero-out"
    n_public : int, optional
        Declared number of rows; needed for (and only for) ``"add-remove"``.
    noise_multiplier : float, optional
        Standard deviation of the noise over sensitivity, of all counts together; instead of `epsilon`.
    on_invalid : {"raise", "null"}, default="raise"
        Rows without a valid label or prediction: an error, or rows that count as half covered, which raises the
        threshold; under ``"add-remove"`` they are left out.
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    threshold_ : float
        A class is in the set if its probability is at least 1 less this; a 256th is the finest step.
    level_ : float
        What share of calibration rows the threshold has to hold: above 1 - alpha, for the noise.
    classes_ : ndarray of shape (n_classes,)
    privacy_ : PrivacyStatement
        Of this fit alone.
    total_privacy_ : PrivacyStatement
        Of the wrapped model and this fit, where the model has a ``privacy_``.

    Notes
    -----
    *Formal guarantee of coverage.* If calibration rows and a new row are exchangeable, the set of the new row holds its
    class with chance 1 - alpha at least, over rows **and noise**, whatever the model. Derived in
    `skdp.calibration.conformal`: noisy counts have to exceed the classical rank by a margin that noise exceeds with
    chance :math:`\beta` only, and :math:`\beta` is taken from :math:`\alpha`. The chance is over all rows: single
    groups may be covered less (`skdp.metrics.group_report`).

    *Formal guarantee of privacy.* Eight noisy counts of rows whose score is below a public or released value, each of
    L2 sensitivity 1/2 (zero-out; 1 under add-remove), together one Gaussian. The model is taken as public.

    References
    ----------
    Angelopoulos, Bates, Zrnic, Jordan, *Private prediction sets*, 2021. Sadinle, Lei, Wasserman, *Least ambiguous
    set-valued classifiers with bounded error levels*, JASA 2019 (the score).

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdp.calibration import DPConformalClassifier
    >>> from skdp.metrics import set_coverage
    >>> X, y = make_classification(6000, n_classes=3, n_informative=4, random_state=0)
    >>> model = LogisticRegression().fit(X[:2000], y[:2000])
    >>> sets = DPConformalClassifier(model, alpha=0.1, epsilon=1.0).fit(X[2000:4000], y[2000:4000])
    >>> set_coverage(y[4000:], sets.predict_set(X[4000:]), sets.classes_) > 0.87
    True
    """

    _steps = 8

    def __init__(
        self,
        estimator: Any = None,
        *,
        alpha: float = 0.1,
        epsilon: float | None = 1.0,
        split: str = "disjoint",
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        on_invalid: str = "raise",
        insecure_noise_seed: int | None = None,
    ):
        self.estimator = estimator
        self.alpha = alpha
        self.epsilon = epsilon
        self.split = split
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.noise_multiplier = noise_multiplier
        self.on_invalid = on_invalid
        self.insecure_noise_seed = insecure_noise_seed

    def fit(self, X: Any, y: Any) -> DPConformalClassifier:
        """Find the threshold on private rows; the model stays as it is.

        Parameters
        ----------
        X : array-like of shape (n, ...)
        y : array-like of shape (n,)

        Returns
        -------
        DPConformalClassifier
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.

        Warns
        -----
        WeakSignalWarning
            Where rows are so few that sets have to hold every class.
        """
        self._check_parameters()
        rows = classified_rows(self.estimator, X, y, self.on_invalid)
        self._find_threshold(rows, DoubtOfTruth(), 1.0)
        return self

    def predict_set(self, X: Any) -> np.ndarray:
        """Which classes are in the prediction set of each row; the predicted class always is.

        Parameters
        ----------
        X : array-like of shape (n, ...)

        Returns
        -------
        ndarray of bool of shape (n, n_classes)
        """
        proba = self.predict_proba(X)
        held = 1 - proba <= self.threshold_
        held[np.arange(len(proba)), proba.argmax(axis=1)] = True
        return held

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the wrapped model, as they are.

        Parameters
        ----------
        X : array-like of shape (n, ...)

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        check_is_fitted(self)
        return np.asarray(self.estimator.predict_proba(X), dtype=float)
