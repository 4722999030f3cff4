"""Private principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils.validation import check_is_fitted

from skdp.accounting.checks import is_real
from skdp.contract import Charge, Gaussian, Poisson, Public, Query, RowSum, Touch
from skdp.preprocessing.private_columns import PrivateColumns, read_columns

__all__ = ["DPPCA"]

# Weight of a row's centred values against its products, relative to the clip norm. Noise of the mean reaches the
# components in the second order only.
_MEAN_WEIGHT = 0.5


class DPPCA(ClassNamePrefixFeaturesOutMixin, PrivateColumns):
    r"""Project columns onto private principal components.

    Columns are scaled to [-1, 1] by their public bounds, rows shortened to an L2 norm, and noise is added once to the
    sum of their outer products ("analyze Gauss"); components are eigenvectors of that.

    Parameters
    ----------
    n_components : int or None, default=None
        None keeps as many as there are columns.
    whiten : bool, default=False
        Whether outputs are scaled to variance 1.
    feature_bounds : (low, high) or array-like of shape (n_features, 2), default=(-1, 1)
        Public range of the columns, relative to whose middle rows are measured; values beyond count as its ends. Scale
        columns first, by public bounds or with `DPMinMaxScaler` or `DPStandardScaler`.
    max_norm : float or "auto", default="auto"
        Clip norm of the rows, in units of half the width of `feature_bounds`; ``"auto"`` is the root of a third of the
        number of columns, the norm of a row that is spread evenly.
    mean : array-like of shape (n_features,) or None, default=None
        Public mean of the columns, about which rows are measured then; None releases it in the same sum.
    epsilon : float or None, default=1.0
        Budget of one fit; None together with `noise_multiplier`.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n).
    adjacency : {"zero-out", "replace-one", "add-remove"}, default="zero-out"
        What one neighbour differs in: a row nulled, replaced, or added or removed.
    n_public : int, optional
        Public number of rows, for ``adjacency="add-remove"`` only.
    noise_multiplier : float, optional
        Standard deviation of the noise over the sensitivity; instead of `epsilon`.
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    privacy_ : PrivacyStatement
    components_ : ndarray of shape (n_components, n_features)
        Orthonormal, by falling variance; the largest entry of each is positive.
    explained_variance_, explained_variance_ratio_ : ndarray of shape (n_components,)
        Eigenvalues of the noisy covariance, negative ones set to 0.
    mean_ : ndarray of shape (n_features,)
        Public or released.
    n_components_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.

    Notes
    -----
    *Formal guarantee.* A row :math:`c` of norm at most :math:`C` contributes :math:`(wC\,c,\ c c^\top)`, of which the
    matrix is given by its upper triangle with entries off the diagonal times :math:`\sqrt 2`, so that its L2 norm is
    :math:`\lVert c c^\top\rVert_F = \lVert c\rVert^2`. The sensitivity is :math:`C^2\sqrt{1 + w^2}` under zero-out and
    add-remove, with :math:`w = 1/2`, or 0 for a public mean. The noise is symmetric: a standard deviation of one on the
    diagonal and of :math:`1/\sqrt 2` off it. Everything after is post-processing. A missing value counts as the middle
    of its column's bounds (or the public mean). With ``epsilon=inf`` rows are not shortened.

    References
    ----------
    Dwork, Talwar, Thakurta, Zhang, *Analyze Gauss: optimal bounds for privacy-preserving principal component analysis*,
    STOC 2014.

    Examples
    --------
    >>> from skdp.preprocessing import DPPCA
    >>> line = np.random.default_rng(0).uniform(-1, 1, size=(20000, 1)) * [[1.0, 0.5, 0.0]]
    >>> pca = DPPCA(1, epsilon=1.0).fit(line)
    >>> bool(abs(pca.components_[0] @ [1.0, 0.5, 0.0]) > 0.99 * 1.25**0.5)
    True
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        whiten: bool = False,
        feature_bounds: Any = (-1, 1),
        max_norm: float | str = "auto",
        mean: Any = None,
        epsilon: float | None = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        insecure_noise_seed: int | None = None,
    ):
        self.n_components = n_components
        self.whiten = whiten
        self.feature_bounds = feature_bounds
        self.max_norm = max_norm
        self.mean = mean
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
        touch = Touch("second moments", Poisson(1.0), scale and Gaussian((scale,)), 1)
        return Charge((touch,), public.adjacency, public.unit)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> DPPCA:
        """Spend the budget on the second moments.

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
        DPPCA
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.
        """
        self._check_budget()
        if not (self.max_norm == "auto" or (is_real(self.max_norm) and 0 < self.max_norm < np.inf)):
            raise ValueError(f"max_norm={self.max_norm!r} must be 'auto' or positive and finite")
        X = read_columns(self, X, reset=True)
        columns = X.shape[1]
        kept = columns if self.n_components is None else self.n_components
        if not (isinstance(kept, int | np.integer) and 1 <= kept <= columns):
            raise ValueError(f"n_components={kept!r} must be a whole number from 1 to the {columns} columns")
        bounds = self._given_ranges(columns)
        if np.isnan(bounds).any():
            raise ValueError(
                f"feature_bounds={self.feature_bounds!r} must be public for all columns; scale them first, for "
                "instance with DPMinMaxScaler(feature_range=(-1, 1)), which finds private ranges"
            )
        middle, half = bounds.mean(axis=1), np.diff(bounds, axis=1)[:, 0] / 2
        if self.mean is not None:
            middle = np.broadcast_to(np.asarray(self.mean, dtype=float), (columns,)).copy()
            if not np.isfinite(middle).all():
                raise ValueError("mean must be finite in every column")
        norm = (columns / 3) ** 0.5 if self.max_norm == "auto" else float(self.max_norm)
        public = self._public(len(X), columns)
        facts = self._range_facts() + ["mean of the columns"] * (self.mean is not None)
        with self._spending(public, {"X": X}, np.zeros(len(X), bool), facts=facts, sample_weight=sample_weight) as (
            executor,
            touches,
        ):
            (touch,) = touches.values()
            # Without noise nothing has to be shortened; no row within its bounds is longer than this.
            norm = norm if touch.noise else 2 * columns**0.5
            weight = 0.0 if self.mean is not None else _MEAN_WEIGHT
            row_map = _OuterProducts(middle, half, bounds, norm, weight)
            value = RowSum("X", row_map, norm**2 * (1 + weight**2) ** 0.5)
            (total,) = executor.answer(Query(touch, (value,)))
        first, second = row_map.unpacked(total / public.n)
        covariance = second - np.outer(first, first)
        # Back to the units of the columns.
        covariance *= np.outer(half, half)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1].T
        signs = np.sign(vectors[np.arange(columns), np.abs(vectors).argmax(axis=1)])
        self.n_components_ = int(kept)
        self.components_ = (vectors * signs[:, None])[:kept]
        # n - 1, as scikit-learn has it.
        self.explained_variance_ = values[:kept] * public.n / max(public.n - 1, 1)
        self.explained_variance_ratio_ = values[:kept] / max(values.sum(), 1e-300)
        self.mean_ = middle + half * first
        self.feature_bounds_ = bounds
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Project rows onto the components.

        Parameters
        ----------
        X : array-like or table of shape (n_samples, n_features)
            A missing value counts as the mean of its column.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        X = self._finite(X)
        with np.errstate(all="ignore"):  # a warning would tell of a huge value
            projected = np.where(np.isnan(X), 0.0, X - self.mean_) @ self.components_.T
            return projected / self._widths() if self.whiten else projected

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Rows that lie in the span of the components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        X = np.asarray(X, dtype=float)
        return (X * self._widths() if self.whiten else X) @ self.components_ + self.mean_

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _widths(self) -> np.ndarray:
        return np.maximum(self.explained_variance_, np.finfo(float).eps) ** 0.5


@dataclass(frozen=True, eq=False)
class _OuterProducts:
    """Rows relative to their middle, shortened to a norm, and the upper triangle of their outer product."""

    middle: np.ndarray
    half: np.ndarray
    bounds: np.ndarray
    norm: float
    weight: float

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        rows = np.where(np.isnan(rows), self.middle, np.clip(rows, *self.bounds.T))
        rows = (rows - self.middle) / self.half
        rows = rows * np.minimum(1, self.norm / np.maximum(np.linalg.norm(rows, axis=1), 1e-300))[:, None]
        i, j = np.triu_indices(len(self.middle))
        products = rows[:, i] * rows[:, j] * np.where(i == j, 1, 2**0.5)
        return np.hstack([rows * (self.weight * self.norm), products]) if self.weight else products

    def unpacked(self, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean of the rows, and the symmetric matrix of their products."""
        columns = len(self.middle)
        first = total[:columns] / (self.weight * self.norm) if self.weight else np.zeros(columns)
        i, j = np.triu_indices(columns)
        matrix = np.zeros((columns, columns))
        matrix[i, j] = total[columns if self.weight else 0 :] / np.where(i == j, 1, 2**0.5)
        return first, matrix + np.triu(matrix, 1).T
