"""Private standardisation of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils.validation import check_is_fitted

from skdp.contract import Charge, Public, drive
from skdp.preprocessing.private_columns import RANGE_SHARE, PrivateColumns, part, read_columns
from skdp.releases import moments_queries, moments_touch

__all__ = ["DPStandardScaler"]


class DPStandardScaler(OneToOneFeatureMixin, PrivateColumns):
    """Shift and scale columns by private means and standard deviations.

    One noisy sum gives both, at the price of the means. Columns without public bounds get a range from two noisy
    histograms first, for 60 % of the squared signal; values beyond a range count as its ends.

    Parameters
    ----------
    feature_bounds : (low, high), array-like of shape (n_features, 2), dict or None, default=None
        Public range of the columns: one for all, one each (NaN where it is private), or by column name (or number) for
        some. With all of them public the whole budget goes to the means.
    mean, scale : array-like of shape (n_features,) or None, default=None
        Public means and standard deviations. With both given the fit costs nothing.
    with_mean, with_std : bool, default=True
        As in :class:`~sklearn.preprocessing.StandardScaler`: a sparse matrix needs ``with_mean=False``, and stays one.
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
    mean_ : ndarray of shape (n_features,) or None
    var_, scale_ : ndarray of shape (n_features,) or None
        A variance is at least what noise alone may show.
    feature_bounds_ : ndarray of shape (n_features, 2)
        Public or released ranges.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.

    Notes
    -----
    *Formal guarantee.* The attributes are (epsilon, delta)-differentially private for `adjacency`; see
    `skdp.releases.moments_queries` and `skdp.releases.bounds_queries`. What `transform` gives is computed from its row
    and the attributes, so a private model may be trained on it: its budget and this one add up. Missing values (NaN)
    count for nothing and stay missing.

    Examples
    --------
    >>> from skdp.preprocessing import DPStandardScaler
    >>> ages = np.random.default_rng(0).normal(40, 10, size=(20000, 1))
    >>> scaler = DPStandardScaler(epsilon=1.0, feature_bounds=(0, 100)).fit(ages)
    >>> bool(abs(scaler.mean_[0] - 40) < 0.5), bool(abs(scaler.scale_[0] - 10) < 0.5)
    (True, True)
    """

    def __init__(
        self,
        *,
        feature_bounds: Any = None,
        mean: Any = None,
        scale: Any = None,
        with_mean: bool = True,
        with_std: bool = True,
        epsilon: float | None = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        insecure_noise_seed: int | None = None,
    ):
        self.feature_bounds = feature_bounds
        self.mean = mean
        self.scale = scale
        self.with_mean = with_mean
        self.with_std = with_std
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
        touches = ()
        if self._asks:
            ranges = self._range_touches(public, part(scale, RANGE_SHARE))
            touches = (*ranges, moments_touch("column", part(scale, 1 - RANGE_SHARE) if ranges else scale))
        return Charge(touches, public.adjacency, public.unit)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> DPStandardScaler:
        """Spend the budget on means and standard deviations.

        Parameters
        ----------
        X : array-like, table or sparse matrix of shape (n_samples, n_features)
            What a sparse matrix does not store counts as zero. It is read a piece of its rows at a time.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of 0 makes a row the null row, which adds to no bin and no sum but stays in the number of rows;
            with any other weight the row counts once.

        Returns
        -------
        DPStandardScaler
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.
        """
        self._check_budget()
        self._check_centring(X)
        X = read_columns(self, X, reset=True, accept_sparse=True)
        columns = X.shape[1]
        known, mean, scale = self._given_ranges(columns), self._given("mean", columns), self._given("scale", columns)
        public = self._public(*X.shape)
        facts = self._range_facts() + [f"{name} of the columns" for name in ("mean", "scale") if self._is_given(name)]
        with self._spending(
            public, self._with_private(X, known), np.zeros(len(X), bool), facts=facts, sample_weight=sample_weight
        ) as (
            executor,
            touches,
        ):
            if touches:
                known = self._release_ranges(executor, touches, known, public.n)
                moments = drive(moments_queries(touches["column moments"], "X", known, public.n), executor.answer)
                variance = moments.variance if mean is None else moments.variance + (moments.mean - mean) ** 2
                mean = moments.mean if mean is None else mean
                scale = np.where(variance > 0, variance, 1.0) ** 0.5 if scale is None else scale
        self.feature_bounds_ = np.where(np.isnan(known), (-np.finfo(float).max, np.finfo(float).max), known)
        self.mean_ = mean if self.with_mean else None
        self.scale_ = scale if self.with_std else None
        self.var_ = None if self.scale_ is None else self.scale_**2
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Shift and scale rows.

        Parameters
        ----------
        X : array-like, table or sparse matrix of shape (n_samples, n_features)
            Missing values stay missing; infinite ones become the end of their column's range.

        Returns
        -------
        ndarray or csr_array of shape (n_samples, n_features)
            Sparse if X is.
        """
        check_is_fitted(self)
        if sparse.issparse(X):
            return self._scaled_matrix(X)
        X = self._finite(X)
        with np.errstate(over="ignore"):  # a warning would tell of a huge value
            X = X if self.mean_ is None else X - self.mean_
            return X if self.scale_ is None else X / self.scale_

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Take the shift and the scale back.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray or csr_array of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        if sparse.issparse(X):
            self._check_centring(X)
            return sparse.csr_array(X if self.scale_ is None else X.multiply(self.scale_))
        X = np.asarray(X, dtype=float)
        X = X if self.scale_ is None else X * self.scale_
        return X if self.mean_ is None else X + self.mean_

    # ------------------------------------------------------------------ sparse matrices
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self.with_mean
        return tags

    def _check_centring(self, X: Any) -> None:
        if self.with_mean and sparse.issparse(X):
            raise TypeError(
                "Sparse data was passed for X, and taking the mean off would make it dense: pass with_mean=False, or "
                "X.toarray() if it is small"
            )

    def _scaled_matrix(self, X: Any) -> Any:
        """A sparse matrix whose stored values are scaled; zeros stay."""
        self._check_centring(X)
        matrix = read_columns(self, X, reset=False, accept_sparse=True).matrix
        low, high = self.feature_bounds_[matrix.indices].T
        values = np.where(np.isinf(matrix.data), np.clip(matrix.data, low, high), matrix.data)
        with np.errstate(over="ignore"):  # a warning would tell of a huge value
            values = values if self.scale_ is None else values / self.scale_[matrix.indices]
        return sparse.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)

    # ------------------------------------------------------------------ public means and deviations
    def _is_given(self, name: str) -> bool:
        return getattr(self, name) is not None

    @property
    def _asks(self) -> bool:
        """Whether anything has to be learned from rows."""
        return (self.with_mean and not self._is_given("mean")) or (self.with_std and not self._is_given("scale"))

    def _given(self, name: str, columns: int) -> np.ndarray | None:
        if not self._is_given(name):
            return None
        values = np.asarray(getattr(self, name), dtype=float)
        if values.shape not in ((), (columns,)) or not np.isfinite(values).all():
            raise ValueError(
                f"{name} has shape {values.shape}; pass one finite number, or one for each of {columns} columns"
            )
        if name == "scale" and not (values > 0).all():
            raise ValueError("scale must be positive in every column")
        return np.broadcast_to(values, (columns,)).copy()
