"""Private scaling of columns to a range."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils.validation import check_is_fitted

from skdp.contract import Charge, Public
from skdp.preprocessing.private_columns import PrivateColumns, read_columns

__all__ = ["DPMinMaxScaler"]


class DPMinMaxScaler(OneToOneFeatureMixin, PrivateColumns):
    """Map columns to a range by public bounds, or by private ones that hold nearly all values.

    A minimum is one person's value, so no private scaler can find it. Ranges come from two noisy histograms in its
    place, and what lies outside is clipped.

    Parameters
    ----------
    feature_range : tuple (low, high), default=(0, 1)
        Range of what comes out.
    clip : bool, default=True
        Whether values outside a column's range are clipped to it. False lets them out of `feature_range`, as
        :class:`~sklearn.preprocessing.MinMaxScaler` does by default.
    feature_bounds : (low, high), array-like of shape (n_features, 2), dict or None, default=None
        Public range of the columns: one for all, one each (NaN where it is private), or by column name (or number) for
        some. With all of them public the fit costs nothing.
    epsilon : float or None, default=1.0
        Budget of one fit; None together with `noise_multiplier`.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n).
    adjacency : {"zero-out", "replace-one", "add-remove"}, default="zero-out"
        What one neighbour differs in: a row nulled, replaced, or added or removed.
    n_public : int, optional
        Public number of rows, for ``adjacency="add-remove"`` only.
    noise_multiplier : float, optional
        Standard deviation of the noise over sensitivity of one release that costs as much as the fit; instead of
        `epsilon`.
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    privacy_ : PrivacyStatement
    data_min_, data_max_, data_range_ : ndarray of shape (n_features,)
        Public or released ranges.
    scale_, min_ : ndarray of shape (n_features,)
        ``X * scale_ + min_`` is what comes out, before clipping.
    feature_bounds_ : ndarray of shape (n_features, 2)
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.

    Notes
    -----
    *Formal guarantee.* The attributes are (epsilon, delta)-differentially private for `adjacency`; see
    `skdp.releases.bounds_queries`. Missing values (NaN) count for nothing and stay missing.

    Examples
    --------
    >>> from skdp.preprocessing import DPMinMaxScaler
    >>> ages = np.random.default_rng(0).integers(18, 80, size=(20000, 1))
    >>> DPMinMaxScaler(feature_bounds=(0, 100)).fit(ages).privacy_.epsilon
    0.0
    >>> scaler = DPMinMaxScaler(epsilon=1.0).fit(ages)
    >>> bool(10 < scaler.data_min_[0] < 25 and 70 < scaler.data_max_[0] < 90)
    True
    """

    def __init__(
        self,
        feature_range: tuple[float, float] = (0, 1),
        *,
        clip: bool = True,
        feature_bounds: Any = None,
        epsilon: float | None = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        insecure_noise_seed: int | None = None,
    ):
        self.feature_range = feature_range
        self.clip = clip
        self.feature_bounds = feature_bounds
        self.epsilon = epsilon
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.noise_multiplier = noise_multiplier
        self.insecure_noise_seed = insecure_noise_seed

    def privacy_charge(self, public: Public, scale: float | None) -> Charge:
        """What a fit costs at a noise scale, from public facts alone.

        Parameters
        ----------
        public : Public
        scale : float or None
            None is no noise.

        Returns
        -------
        Charge
        """
        return Charge(self._range_touches(public, scale), public.adjacency, public.unit)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> DPMinMaxScaler:
        """Spend the budget on ranges, where they are not public.

        Parameters
        ----------
        X : array-like or table of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of 0 makes a row the null row, which adds to no bin and no sum but stays in the number of rows;
            with any other weight the row counts once.

        Returns
        -------
        DPMinMaxScaler
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.
        """
        self._check_budget()
        low, high = self.feature_range
        if not low < high:
            raise ValueError(f"feature_range={self.feature_range!r} must have its minimum below its maximum")
        X = read_columns(self, X, reset=True)
        known, public = self._given_ranges(X.shape[1]), self._public(*X.shape)
        with self._spending(
            public,
            self._with_private(X, known),
            np.zeros(len(X), bool),
            facts=self._range_facts(),
            sample_weight=sample_weight,
        ) as (executor, touches):
            self.feature_bounds_ = self._release_ranges(executor, touches, known, public.n)
        self.data_min_, self.data_max_ = self.feature_bounds_.T
        self.data_range_ = self.data_max_ - self.data_min_
        self.scale_ = (high - low) / self.data_range_
        self.min_ = low - self.data_min_ * self.scale_
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Scale rows.

        Parameters
        ----------
        X : array-like or table of shape (n_samples, n_features)
            Missing values stay missing; infinite ones become the end of their column's range.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        with np.errstate(over="ignore"):  # a warning would tell of a huge value
            X = self._finite(X) * self.scale_ + self.min_
        return np.clip(X, *self.feature_range) if self.clip else X

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Take the scaling back.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        return (np.asarray(X, dtype=float) - self.min_) / self.scale_
