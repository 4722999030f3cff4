"""Private bins of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skdp.contract import Charge, Public, drive
from skdp.preprocessing.private_columns import RANGE_SHARE, PrivateColumns, part, read_columns
from skdp.releases import quantile_queries, quantile_touches

__all__ = ["DPKBinsDiscretizer"]

ENCODINGS, STRATEGIES = ("onehot", "onehot-dense", "ordinal"), ("quantile", "uniform")


class DPKBinsDiscretizer(PrivateColumns):
    """Bin columns evenly between their bounds, or into bins that hold about as many rows each.

    Even bins need no more than a range, which costs nothing where it is public. Quantiles of all columns come from one
    noisy query; columns without public bounds get a range from two noisy histograms first, for 60 % of the squared
    signal.

    Parameters
    ----------
    n_bins : int or array-like of shape (n_features,), default=5
    encode : {"onehot", "onehot-dense", "ordinal"}, default="onehot"
        A sparse or dense column for each bin, or the number of the bin.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins with about as many rows each, or of one width.
    feature_bounds : (low, high), array-like of shape (n_features, 2), dict or None, default=None
        Public range of the columns: one for all, one each (NaN where it is private), or by column name (or number) for
        some. With all of them public, ``strategy="uniform"`` costs nothing.
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
    bin_edges_ : ndarray of shape (n_features,) of ndarray of shape (n_bins + 1,)
    n_bins_ : ndarray of shape (n_features,)
        Bins of each column; quantiles that coincide leave fewer than asked for.
    feature_bounds_ : ndarray of shape (n_features, 2)
        Public or released ranges.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.

    Notes
    -----
    *Formal guarantee.* The attributes are (epsilon, delta)-differentially private for `adjacency`; see
    `skdp.releases.quantile_queries` and `skdp.releases.bounds_queries`. A missing value (NaN) counts for nothing, is in
    no bin, and stays missing as a number of a bin.

    Examples
    --------
    >>> from skdp.preprocessing import DPKBinsDiscretizer
    >>> wages = np.random.default_rng(0).lognormal(10, 1, size=(20000, 1))
    >>> bins = DPKBinsDiscretizer(4, encode="ordinal", epsilon=1.0).fit_transform(wages)
    >>> bool((abs(np.bincount(bins.ravel().astype(int)) / 20000 - 0.25) < 0.03).all())
    True
    """

    def __init__(
        self,
        n_bins: Any = 5,
        *,
        encode: str = "onehot",
        strategy: str = "quantile",
        feature_bounds: Any = None,
        epsilon: float | None = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        insecure_noise_seed: int | None = None,
    ):
        self.n_bins = n_bins
        self.encode = encode
        self.strategy = strategy
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
        if self.strategy == "uniform":
            touches = self._range_touches(public, scale)
        else:
            touches = self._range_touches(public, part(scale, RANGE_SHARE))
            touches += quantile_touches("column", part(scale, 1 - RANGE_SHARE) if touches else scale)
        return Charge(touches, public.adjacency, public.unit)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> DPKBinsDiscretizer:
        """Spend the budget on ranges and quantiles, as far as they are needed.

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
        DPKBinsDiscretizer
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.
        """
        self._check_budget()
        for name, allowed in (("encode", ENCODINGS), ("strategy", STRATEGIES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(map(repr, allowed))}")
        X = read_columns(self, X, reset=True)
        numbers = np.asarray(self.n_bins)
        if numbers.shape not in ((), (X.shape[1],)) or numbers.dtype.kind not in "iu" or not (numbers >= 2).all():
            raise ValueError(f"n_bins={self.n_bins!r} must be a whole number of at least 2, or one for each column")
        known, public = self._given_ranges(X.shape[1]), self._public(*X.shape)
        with self._spending(
            public,
            self._with_private(X, known),
            np.zeros(len(X), bool),
            facts=self._range_facts(),
            sample_weight=sample_weight,
        ) as (executor, touches):
            self.feature_bounds_ = self._release_ranges(executor, touches, known, public.n)
            if "column quantiles" in touches:
                query = quantile_queries((touches["column quantiles"],), "X", self.feature_bounds_)
                distribution = drive(query, executor.answer)
        edges = np.empty(X.shape[1], dtype=object)
        for column, bins in enumerate(np.broadcast_to(numbers, X.shape[1])):
            if self.strategy == "uniform":
                edges[column] = np.linspace(*self.feature_bounds_[column], bins + 1)
            else:
                edges[column] = _apart(distribution.quantile(np.linspace(0, 1, bins + 1))[:, column])
        self.bin_edges_ = edges
        self.n_bins_ = np.array([len(own) - 1 for own in edges])
        return self

    def transform(self, X: Any) -> Any:
        """Put values into bins.

        Parameters
        ----------
        X : array-like or table of shape (n_samples, n_features)

        Returns
        -------
        ndarray or csr_array of shape (n_samples, n_features_out)
        """
        check_is_fitted(self)
        X = read_columns(self, X, reset=False)
        columns = zip(X.T, self.bin_edges_, strict=True)
        bins = np.column_stack([np.searchsorted(edges[1:-1], column, side="right") for column, edges in columns])
        missing = np.isnan(X)
        if self.encode == "ordinal":
            return np.where(missing, np.nan, bins)
        row, column = np.nonzero(~missing)
        place = bins[row, column] + (np.cumsum(self.n_bins_) - self.n_bins_)[column]
        shape = (len(X), int(self.n_bins_.sum()))
        hot = sparse.csr_array((np.ones(len(row)), (row, place)), shape=shape)
        return hot if self.encode == "onehot" else hot.toarray()

    def inverse_transform(self, X: Any) -> np.ndarray:
        """The middle of each value's bin; missing where there is none.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features_out)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        X = X.toarray() if sparse.issparse(X) else np.asarray(X, dtype=float)
        if self.encode != "ordinal":
            blocks = np.split(X, np.cumsum(self.n_bins_)[:-1], axis=1)
            X = np.column_stack([np.where(block.any(axis=1), block.argmax(axis=1), np.nan) for block in blocks])
        middles = [(edges[:-1] + edges[1:]) / 2 for edges in self.bin_edges_]
        found = np.full(X.shape, np.nan)
        for column, own in enumerate(middles):
            seen = ~np.isnan(X[:, column])
            found[seen, column] = own[X[seen, column].astype(int)]
        return found

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the outputs.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the columns, where X had none.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        if self.encode == "ordinal":
            return names
        pairs = zip(names, self.n_bins_, strict=True)
        return np.array([f"{name}_{float(k)}" for name, bins in pairs for k in range(bins)], dtype=object)


def _apart(edges: np.ndarray) -> np.ndarray:
    """Edges that lie apart: without a bin that is empty within rounding, and never fewer than two."""
    wide = np.diff(edges) > 1e-8 * max(abs(edges[0]), abs(edges[-1]), 1e-300)
    kept = edges[np.append(True, wide)]
    return kept if len(kept) > 1 else np.array([edges[0], edges[0] + max(abs(edges[0]), 1.0)])
