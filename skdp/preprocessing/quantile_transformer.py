"""Private mapping of columns to an even or a normal distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.preprocessing import QuantileTransformer
from sklearn.utils.validation import check_is_fitted

from skdp.contract import Charge, Public, drive
from skdp.preprocessing.private_columns import RANGE_SHARE, PrivateColumns, part, read_columns
from skdp.releases import quantile_queries, quantile_touches

__all__ = ["DPQuantileTransformer"]


class DPQuantileTransformer(OneToOneFeatureMixin, PrivateColumns):
    """Map columns to an even or a normal distribution by private quantiles.

    Quantiles of all columns come from one noisy query within their ranges. Columns without public bounds get a range
    from two noisy histograms first, for 60 % of the squared signal.

    Parameters
    ----------
    n_quantiles : int, default=100
        Number of quantiles kept; more than the noise lets see are of no use.
    output_distribution : {"uniform", "normal"}, default="uniform"
        What comes out: values in [0, 1], or normal ones.
    feature_bounds : (low, high), array-like of shape (n_features, 2), dict or None, default=None
        Public range of the columns: one for all, one each (NaN where it is private), or by column name (or number) for
        some. With all of them public the whole budget goes to quantiles.
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
    quantiles_ : ndarray of shape (n_quantiles, n_features)
    references_ : ndarray of shape (n_quantiles,)
        Levels of the quantiles.
    feature_bounds_ : ndarray of shape (n_features, 2)
        Public or released ranges.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.

    Notes
    -----
    *Formal guarantee.* The attributes are (epsilon, delta)-differentially private for `adjacency`; see
    `skdp.releases.quantile_queries`. Missing values (NaN) count for nothing and stay missing.

    Examples
    --------
    >>> from skdp.preprocessing import DPQuantileTransformer
    >>> wages = np.random.default_rng(0).lognormal(10, 1, size=(20000, 1))
    >>> even = DPQuantileTransformer(epsilon=1.0).fit_transform(wages)
    >>> bool(abs(np.mean(even < 0.25) - 0.25) < 0.03)
    True
    """

    def __init__(
        self,
        *,
        n_quantiles: int = 100,
        output_distribution: str = "uniform",
        feature_bounds: Any = None,
        epsilon: float | None = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        insecure_noise_seed: int | None = None,
    ):
        self.n_quantiles = n_quantiles
        self.output_distribution = output_distribution
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
        ranges = self._range_touches(public, part(scale, RANGE_SHARE))
        rest = quantile_touches("column", part(scale, 1 - RANGE_SHARE) if ranges else scale)
        return Charge(ranges + rest, public.adjacency, public.unit)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> DPQuantileTransformer:
        """Spend the budget on quantiles.

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
        DPQuantileTransformer
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.
        """
        self._check_budget()
        if self.output_distribution not in ("uniform", "normal"):
            raise ValueError(f"output_distribution={self.output_distribution!r} must be 'uniform' or 'normal'")
        if not (isinstance(self.n_quantiles, int | np.integer) and self.n_quantiles >= 2):
            raise ValueError(f"n_quantiles={self.n_quantiles!r} must be a whole number of at least 2")
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
            query = quantile_queries((touches["column quantiles"],), "X", self.feature_bounds_)
            found = drive(query, executor.answer)
        self.references_ = np.linspace(0, 1, self.n_quantiles)
        self.quantiles_ = found.quantile(self.references_)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Map values to their level, or to the normal number of that level.

        Parameters
        ----------
        X : array-like or table of shape (n_samples, n_features)
            Missing values stay missing; infinite ones become the end of their column's range.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        return self._twin().transform(self._finite(X))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Map levels back to values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        return self._twin().inverse_transform(np.asarray(X, dtype=float))

    def _twin(self) -> QuantileTransformer:
        """scikit-learn's transformer with released quantiles."""
        twin = QuantileTransformer(output_distribution=self.output_distribution)
        twin.quantiles_, twin.references_ = self.quantiles_, self.references_
        twin.n_quantiles_, twin.n_features_in_ = self.n_quantiles, self.n_features_in_
        return twin
