"""Missing values filled by private statistics of their column."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skdp.contract import Charge, Counts, Gaussian, Poisson, Public, Query, Touch, drive
from skdp.preprocessing.categories import TEXT_OR_NUMBERS, category_of, given_categories, keys_of, read_cells
from skdp.preprocessing.one_hot_encoder import positions
from skdp.preprocessing.private_columns import COLUMNS, RANGE_SHARE, PrivateColumns, part, read_columns
from skdp.releases import moments_queries, moments_touch, quantile_queries, quantile_touches

__all__ = ["DPSimpleImputer"]

STRATEGIES = ("mean", "median", "most_frequent", "constant")


class DPSimpleImputer(PrivateColumns):
    """Fill missing values with a private mean, median or most frequent category, or with a constant.

    Means and medians are computed within ranges; columns without public bounds get one from two noisy histograms first,
    for 60 % of the squared signal.

    Parameters
    ----------
    strategy : {"mean", "median", "most_frequent", "constant"}, default="mean"
        ``"most_frequent"`` needs public `categories`; ``"constant"`` costs nothing.
    fill_value : number or str, default=0
        For ``strategy="constant"``.
    add_indicator : bool, default=False
        Whether outputs of 0 and 1 that mark missing values follow, one for *every* column: which columns have missing
        values is private.
    feature_bounds : (low, high), array-like of shape (n_features, 2), dict or None, default=None
        Public range of the columns: one for all, one each (NaN where it is private), or by column name (or number) for
        some. With all of them public the whole budget goes to means or medians.
    categories : list of list, dict or None, default=None
        Public categories of every column, for ``strategy="most_frequent"``.
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
    statistics_ : ndarray of shape (n_features,)
        What missing values are filled with.
    feature_bounds_ : ndarray of shape (n_features, 2)
        Public or released ranges, for means and medians.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.

    Notes
    -----
    *Formal guarantee.* The attributes are (epsilon, delta)-differentially private for `adjacency`; see
    `skdp.releases.moments_queries`, `skdp.releases.quantile_queries` and, for categories, `skdp.contract.Counts`.

    Examples
    --------
    >>> from skdp.preprocessing import DPSimpleImputer
    >>> ages = np.random.default_rng(0).normal(40, 10, size=(20000, 1))
    >>> ages[::7] = np.nan
    >>> filled = DPSimpleImputer(epsilon=1.0, feature_bounds=(0, 100)).fit_transform(ages)
    >>> bool(abs(filled[0, 0] - 40) < 0.5), bool(np.isnan(filled).any())
    (True, False)
    """

    def __init__(
        self,
        strategy: str = "mean",
        *,
        fill_value: Any = 0,
        add_indicator: bool = False,
        feature_bounds: Any = None,
        categories: Any = None,
        epsilon: float | None = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        insecure_noise_seed: int | None = None,
    ):
        self.strategy = strategy
        self.fill_value = fill_value
        self.add_indicator = add_indicator
        self.feature_bounds = feature_bounds
        self.categories = categories
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
        touches: tuple[Touch, ...] = ()
        if self.strategy == "most_frequent":
            touches = (Touch("column frequencies", Poisson(1.0), scale and Gaussian((scale,)), 1),)
        elif self.strategy != "constant":
            touches = self._range_touches(public, part(scale, RANGE_SHARE))
            rest = part(scale, 1 - RANGE_SHARE) if touches else scale
            mean = self.strategy == "mean"
            touches += (moments_touch("column", rest),) if mean else quantile_touches("column", rest)
        return Charge(touches, public.adjacency, public.unit)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> DPSimpleImputer:
        """Spend the budget on what missing values are filled with.

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
        DPSimpleImputer
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.
        """
        self._check_budget()
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy={self.strategy!r} must be one of {', '.join(map(repr, STRATEGIES))}")
        if self._numeric:
            X = read_columns(self, X, reset=True)
            self._fit_numbers(X, sample_weight)
        else:
            self._fit_cells(read_cells(self, X, reset=True), sample_weight)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Fill missing values.

        Parameters
        ----------
        X : array-like or table of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Numbers, or objects where categories were filled in.
        """
        check_is_fitted(self)
        if self._numeric:
            X = self._finite(X)
            missing = np.isnan(X)
        else:
            cells = read_cells(self, X, reset=False)
            pairs = zip(self._names(), cells, strict=True)
            missing = np.column_stack([pd.isna(keys_of(name, own)) for name, own in pairs])
            X = np.column_stack([own.astype(object) for own in cells])
        filled = np.where(missing, self.statistics_, X)
        return np.hstack([filled, missing.astype(filled.dtype)]) if self.add_indicator else filled

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
        marks = [f"missingindicator_{name}" for name in names] if self.add_indicator else []
        return np.array([*names, *marks], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = not self._numeric
        return tags

    # ------------------------------------------------------------------ numbers and categories
    @property
    def _numeric(self) -> bool:
        """Whether columns are read as numbers."""
        text = self.strategy == "constant" and not isinstance(self.fill_value, numbers.Real)
        return self.strategy != "most_frequent" and not text

    def _fit_numbers(self, X: np.ndarray, sample_weight: Any) -> None:
        known, public = self._given_ranges(X.shape[1]), self._public(*X.shape)
        with self._spending(
            public,
            self._with_private(X, known),
            np.zeros(len(X), bool),
            facts=self._range_facts(),
            sample_weight=sample_weight,
        ) as (executor, touches):
            if self.strategy == "constant":
                self.statistics_ = np.full(X.shape[1], float(self.fill_value))
                self.feature_bounds_ = np.where(np.isnan(known), (-np.finfo(float).max, np.finfo(float).max), known)
                return
            bounds = self._release_ranges(executor, touches, known, public.n)
            if self.strategy == "mean":
                touch = touches["column moments"]
                self.statistics_ = drive(moments_queries(touch, "X", bounds, public.n), executor.answer).mean
            else:
                query = quantile_queries((touches["column quantiles"],), "X", bounds)
                self.statistics_ = drive(query, executor.answer).quantile(0.5)
            self.feature_bounds_ = bounds

    def _fit_cells(self, cells: list[np.ndarray], sample_weight: Any) -> None:
        names, n = self._names(), len(cells[0])
        arrays, facts = {}, [COLUMNS]
        if self.strategy == "most_frequent":
            keys = given_categories(self.categories, names, len(cells))
            private = [str(name) for name, own in zip(names, keys, strict=True) if own is None]
            if private:
                raise ValueError(
                    f"strategy='most_frequent' needs the public categories=[...] of columns {', '.join(private)}; "
                    "numbers without categories have a mean or a median"
                )
            codes = [positions(own, keys_of(name, c)) for name, own, c in zip(names, keys, cells, strict=True)]
            listed = [np.where(code < len(own), code, np.nan) for code, own in zip(codes, keys, strict=True)]
            arrays["codes"] = np.column_stack(listed)
            facts += ["categories", TEXT_OR_NUMBERS]
        public = self._public(n, len(cells))
        with self._spending(public, arrays, np.zeros(n, bool), facts=facts, sample_weight=sample_weight) as (
            executor,
            touches,
        ):
            statistics = np.full(len(cells), self.fill_value, dtype=object)
            if touches:
                bins = max(map(len, keys))
                value = Counts("codes", np.tile(np.arange(bins - 1) + 0.5, (len(keys), 1)))
                (counts,) = executor.answer(Query(touches["column frequencies"], (value,)))
                statistics[:] = [
                    category_of(own[int(row[: len(own)].argmax())]) for own, row in zip(keys, counts, strict=True)
                ]
        self.statistics_ = statistics

    def _names(self) -> list:
        return list(getattr(self, "feature_names_in_", range(self.n_features_in_)))
