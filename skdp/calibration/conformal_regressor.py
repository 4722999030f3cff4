"""Intervals that hold the target with a guaranteed chance, privately."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin, is_classifier
from sklearn.utils.validation import check_is_fitted

from skdp.calibration.conformal_base import ConformalSpending
from skdp.metrics.private_rows import predicted_rows

__all__ = ["DPConformalRegressor"]


@dataclass(frozen=True)
class Residual:
    """Absolute residual of rows of prediction and target, both within public bounds.

    Parameters
    ----------
    low, high : float
    """

    low: float
    high: float

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Scores within [0, high - low]."""
        prediction, target = np.clip(rows, self.low, self.high).T
        return np.abs(target - prediction)


class DPConformalRegressor(RegressorMixin, ConformalSpending):
    r"""Prediction intervals that hold the target with chance 1 - alpha at least, from a private threshold.

    Parameters
    ----------
    estimator : fitted regressor of one target
        It is not refitted. Wrap it in `sklearn.frozen.FrozenEstimator` where this object is cloned.
    alpha : float, default=0.1
        Share of rows whose target may be missed, at most 1/2.
    epsilon : float or None, default=1.0
        Budget of one `fit`; None together with `noise_multiplier`.
    y_bounds : (low, high), optional
        Public range of the target. None takes the model's ``y_bounds_``, as `skdp.DPRegressor` has it (public or
        released). Targets and predictions beyond count as the bound, and intervals end there.
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
        Rows without a finite target or prediction: an error, or rows that count as half covered, which raises the
        threshold; under ``"add-remove"`` they are left out.
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    threshold_ : float
        Half the width of an interval; a 1024th of the range is the finest step.
    y_bounds_ : tuple of float
    level_ : float
        What share of calibration rows the threshold has to hold: above 1 - alpha, for the noise.
    privacy_ : PrivacyStatement
        Of this fit alone.
    total_privacy_ : PrivacyStatement
        Of the wrapped model and this fit, where the model has a ``privacy_``.

    Notes
    -----
    *Formal guarantee of coverage.* If calibration rows and a new row are exchangeable, the interval of the new row
    holds its target (brought into the bounds) with chance 1 - alpha at least, over rows **and noise**, whatever the
    model. Derived in `skdp.calibration.conformal`.

    *Formal guarantee of privacy.* Ten noisy counts of rows whose residual is below a public or released value, each of
    L2 sensitivity 1/2 (zero-out; 1 under add-remove), together one Gaussian. The model is taken as public.

    References
    ----------
    Angelopoulos, Bates, Zrnic, Jordan, *Private prediction sets*, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from skdp.calibration import DPConformalRegressor
    >>> from skdp.metrics import interval_coverage
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, (6000, 2))
    >>> y = X[:, 0] + 0.3 * rng.standard_normal(6000)
    >>> model = LinearRegression().fit(X[:2000], y[:2000])
    >>> intervals = DPConformalRegressor(model, y_bounds=(-3, 3)).fit(X[2000:4000], y[2000:4000])
    >>> interval_coverage(y[4000:], intervals.predict_interval(X[4000:])) > 0.87
    True
    """

    _steps = 10

    def __init__(
        self,
        estimator: Any = None,
        *,
        alpha: float = 0.1,
        epsilon: float | None = 1.0,
        y_bounds: tuple[float, float] | None = None,
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
        self.y_bounds = y_bounds
        self.split = split
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.noise_multiplier = noise_multiplier
        self.on_invalid = on_invalid
        self.insecure_noise_seed = insecure_noise_seed

    def fit(self, X: Any, y: Any) -> DPConformalRegressor:
        """Find the threshold on private rows; the model stays as it is.

        Parameters
        ----------
        X : array-like of shape (n, ...)
        y : array-like of shape (n,)

        Returns
        -------
        DPConformalRegressor
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.

        Warns
        -----
        WeakSignalWarning
            Where rows are so few that intervals have to span the whole range.
        """
        self._check_parameters()
        if is_classifier(self.estimator):
            raise ValueError(
                f"estimator={type(self.estimator).__name__} predicts classes, and this gives intervals of numbers; use "
                "DPConformalClassifier"
            )
        low, high = self._bounds()
        rows = predicted_rows(self.estimator, X, y, self.on_invalid)
        self._find_threshold(rows, Residual(low, high), high - low)
        self.y_bounds_ = low, high
        return self

    def predict_interval(self, X: Any) -> np.ndarray:
        """Lower and upper end of each row's interval.

        Parameters
        ----------
        X : array-like of shape (n, ...)

        Returns
        -------
        ndarray of shape (n, 2)
        """
        check_is_fitted(self)
        centre = np.clip(np.asarray(self.predict(X), dtype=float), *self.y_bounds_)
        ends = np.column_stack([centre - self.threshold_, centre + self.threshold_])
        return np.clip(ends, *self.y_bounds_)

    def _bounds(self) -> tuple[float, float]:
        given = getattr(self.estimator, "y_bounds_", None) if self.y_bounds is None else self.y_bounds
        try:
            found = np.zeros(0) if given is None else np.asarray(given, dtype=float).ravel()
        except (TypeError, ValueError):
            found = np.zeros(0)
        if found.shape != (2,) or not (math.isfinite(found[1] - found[0]) and found[0] < found[1]):
            raise ValueError(
                f"y_bounds={self.y_bounds!r} must be the public range of the target, low before high, such as "
                "(0, 100), and known from elsewhere than these rows; it may be left out for a model with y_bounds_ of "
                "one target, as DPRegressor has"
            )
        return float(found[0]), float(found[1])
