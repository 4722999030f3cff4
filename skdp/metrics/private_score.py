"""One score of a fitted model on private rows, with noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdp.accounting.checks import is_real
from skdp.contract import Charge, Gaussian, Poisson, Public, Query, RowSum, Touch, drive
from skdp.metrics.losses import log_losses, squared_distances
from skdp.metrics.private_rows import ROW_BY_ROW, classified_rows, predicted_rows
from skdp.metrics.weak_signal import warn_if_noise_hides
from skdp.releases import Spending

__all__ = ["PrivateScore"]

_CLASSIFICATION = ("accuracy", "neg_brier", "neg_log_loss")
_REGRESSION = ("neg_mse", "r2")
METRICS = (*_CLASSIFICATION, *_REGRESSION)
_MUCH = 0.05  # standard deviation of noise, as a share of the range of a score (of the most variance, for r2)


@dataclass(frozen=True)
class RowScores:
    """What one row adds to a score, within [-1/2, 1/2] per entry.

    Parameters
    ----------
    metric : str
    bound : float
        Log losses are cut there.
    y_bounds : tuple of float
    """

    metric: str
    bound: float
    y_bounds: tuple[float, float]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Contributions of shape (rows, entries)."""
        if self.metric in _REGRESSION:
            low, high = self.y_bounds
            prediction, target = (np.clip((rows - low) / (high - low), 0, 1) - 0.5).T
            residual = (target - prediction) ** 2
            if self.metric == "neg_mse":
                return residual[:, None] - 0.5
            return np.column_stack([residual - 0.5, target, 4 * target**2 - 0.5])
        proba, label = rows[:, :-1], rows[:, -1].astype(int)
        if self.metric == "accuracy":
            share = proba.argmax(axis=1) == label
        elif self.metric == "neg_brier":
            share = squared_distances(proba, label) / 2
        else:
            share = np.minimum(log_losses(proba, label), self.bound) / self.bound
        return share[:, None] - 0.5

    @property
    def entries(self) -> int:
        """Numbers per row."""
        return 3 if self.metric == "r2" else 1


class PrivateScore(Spending):
    r"""A scorer that adds noise: one private number for a fitted model on private rows.

    ``score(estimator, X, y)`` spends `epsilon` on every call; greater is better.

    Parameters
    ----------
    metric : {"accuracy", "neg_log_loss", "neg_brier", "neg_mse", "r2"}, default="accuracy"
    epsilon : float or None, default=1.0
        Of one call; None together with `noise_multiplier`.
    max_log_loss : float, default=5.0
        Log losses of single rows are cut there, in nats: sure of the truth with less than 0.7 % all count alike.
    y_bounds : (low, high), optional
        Public range of the targets, for regressors; targets and predictions beyond count as the bound.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n).
    adjacency : {"zero-out", "replace-one", "add-remove"}, default="zero-out"
    n_public : int, optional
        Declared number of rows; needed for (and only for) ``"add-remove"``.
    noise_multiplier : float, optional
        Standard deviation of the noise over sensitivity; instead of `epsilon`.
    on_invalid : {"raise", "null"}, default="raise"
        Rows without a valid label or prediction: an error, or rows that count as half right.
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    score_ : float
        The last score.
    std_error_ : float
        Standard deviation of its noise (for ``"r2"``, of the error's share in it).
    privacy_ : PrivacyStatement
        Of all calls together, which must have been decided on before the first result was seen.

    Notes
    -----
    *Formal guarantee.* A row adds a number in [0, 1], brought to [-1/2, 1/2] by taking off 1/2 (of which n/2 is public
    and added again): sensitivity 1/2 under zero-out and add-remove, half of what the plain sum has. ``"r2"`` sums three
    such numbers (squared error, target, squared target): :math:`\sqrt3/2`. The model is taken as public: what it
    learned from rows is on its own statement, and if they are the same rows `skdp.accounting.compose` adds both up.

    It can be passed as ``scoring=`` of a search, which then spends `epsilon` on every candidate and fold. With
    ``n_jobs`` calls happen in copies of this object, and `privacy_` knows nothing of them.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdp.metrics import PrivateScore
    >>> X, y = make_classification(3000, random_state=0)
    >>> model = LogisticRegression().fit(X[:1000], y[:1000])
    >>> score = PrivateScore("accuracy", epsilon=1.0)
    >>> abs(score(model, X[1000:], y[1000:]) - model.score(X[1000:], y[1000:])) < 6 * score.std_error_ < 0.05
    True
    """

    def __init__(
        self,
        metric: str = "accuracy",
        *,
        epsilon: float | None = 1.0,
        max_log_loss: float = 5.0,
        y_bounds: tuple[float, float] | None = None,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        on_invalid: str = "raise",
        insecure_noise_seed: int | None = None,
    ):
        self.metric = metric
        self.epsilon = epsilon
        self.max_log_loss = max_log_loss
        self.y_bounds = y_bounds
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.noise_multiplier = noise_multiplier
        self.on_invalid = on_invalid
        self.insecure_noise_seed = insecure_noise_seed

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """Score a fitted model on private rows.

        Parameters
        ----------
        estimator : fitted classifier with ``predict_proba``, or regressor
        X : array-like of shape (n, ...)
        y : array-like of shape (n,)

        Returns
        -------
        float

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.

        Warns
        -----
        WeakSignalWarning
            Where noise has a standard deviation of more than 5 % of the score's range.
        """
        scores = self._row_scores()
        self._check_budget()
        read = predicted_rows if self.metric in _REGRESSION else classified_rows
        rows = read(estimator, X, y, self.on_invalid)
        public = self._public(*rows.values.shape)
        value = RowSum("rows", scores, 0.5 * scores.entries**0.5)

        def queries(touch):
            (total,) = yield Query(touch, (value,))
            return total

        with self._spending(public, {"rows": rows.values}, rows.null, facts=rows.facts, assumptions=[ROW_BY_ROW]) as (
            executor,
            touches,
        ):
            (touch,) = touches.values()
            noise = touch.noise.combined * value.sensitivity / public.n if touch.noise else 0.0
            widest = 0.25 if self.metric == "r2" else 1.0
            warn_if_noise_hides(f"{self.metric}, as a share of its range", noise / widest, _MUCH, public.n)
            total = drive(queries(touch), executor.answer)
        self._calls = [*getattr(self, "_calls", []), self._statement]
        self.score_, self.std_error_ = self._finished(total / public.n, noise)
        return self.score_

    def _stated(self) -> list[dict[str, Any]]:
        """All calls of this object, those included that ended in an error after spending."""
        return [*getattr(self, "_failed", []), *getattr(self, "_calls", [])]

    def privacy_charge(self, public: Public, scale: float | None) -> Charge:
        """What one call costs at a noise multiplier.

        Parameters
        ----------
        public : Public
        scale : float or None

        Returns
        -------
        Charge
        """
        touch = Touch("score", Poisson(), scale and Gaussian((scale,)), 1)
        return Charge((touch,), public.adjacency, public.unit)

    def _row_scores(self) -> RowScores:
        if self.metric not in METRICS:
            raise ValueError(f"metric={self.metric!r} must be one of {', '.join(METRICS)}")
        bound = self.max_log_loss
        if not (is_real(bound) and 0 < bound < math.inf):
            raise ValueError(f"max_log_loss={bound!r} must be positive and finite")
        if self.metric in _CLASSIFICATION:
            return RowScores(self.metric, float(bound), (0.0, 1.0))
        try:
            low, high = (float(b) for b in self.y_bounds)
        except (TypeError, ValueError):
            low = high = 0.0
        if not (math.isfinite(high - low) and low < high):
            raise ValueError(
                f"y_bounds={self.y_bounds!r} must be the public range (low, high) of the targets for {self.metric!r}"
            )
        return RowScores(self.metric, 1.0, (low, high))

    def _finished(self, mean: np.ndarray, noise: float) -> tuple[float, float]:
        """The score and the standard deviation of its noise, from the mean contribution."""
        share = float(mean[0]) + 0.5
        if self.metric == "accuracy":
            return share, noise
        if self.metric in _CLASSIFICATION:
            width = 2.0 if self.metric == "neg_brier" else float(self.max_log_loss)
            return -width * share, width * noise
        if self.metric == "neg_mse":
            width = float(self.y_bounds[1] - self.y_bounds[0]) ** 2
            return -width * share, width * noise
        # Noise may leave no variance, but not less than it can hide itself.
        variance = max((float(mean[2]) + 0.5) / 4 - float(mean[1]) ** 2, noise, 1e-12)
        return 1 - share / variance, noise / variance
