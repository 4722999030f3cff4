"""One column of 0 and 1 for each category that is public or that enough rows have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skdp.accounting import resolve_delta
from skdp.accounting.checks import is_real
from skdp.contract import Charge, Public, drive
from skdp.preprocessing.categories import TEXT_OR_NUMBERS, category_of, given_categories, keys_of, read_cells
from skdp.preprocessing.private_columns import COLUMNS
from skdp.releases import Spending, discovery_queries, discovery_touch

__all__ = ["DELTA_SHARE", "DPOneHotEncoder", "most_common"]

# Share of delta with which a category of a single row may be let through. Thresholds hardly depend on it: at a tenth or
# a half of delta = 1e-6 they are 5.2 and 4.9 standard deviations.
DELTA_SHARE = 0.1


class DPOneHotEncoder(TransformerMixin, Spending):
    r"""Encode categories as columns of 0 and 1, by public lists or by what enough rows have.

    Categories of a column without a public list are counted with noise; those above a threshold get a column of their
    own. Every column gets two more: "other", for values that have none, and "missing".

    Parameters
    ----------
    categories : list of (list or None), dict or None, default=None
        Public categories: one list for each column (None where they are private), or by column name (or number) for
        some. With all of them public the fit costs nothing.
    min_frequency : int, float or None, default=None
        Released categories with fewer rows, or a smaller share of them, by their noisy number, go to "other" as well.
    max_categories : int or None, default=None
        Most released categories of a column; the others go to "other".
    sparse_output : bool, default=True
        Return a ``scipy.sparse.csr_array``.
    dtype : numpy type, default=numpy.float64
        Type of the output.
    epsilon : float or None, default=1.0
        Budget of one fit; None together with `noise_multiplier`.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n). A tenth of it is what thresholds may fail with.
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
    categories_ : list of ndarray
        Categories of each column that have a column of their own: public ones in their order, released ones sorted.
    output_bounds_ : ndarray of shape (n_features_out, 2)
        (0, 1) for every output, as ``feature_bounds`` of a model that follows.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.

    Notes
    -----
    *Formal guarantee.* The attributes are (epsilon, delta)-differentially private for `adjacency`. Noise on the count
    of a category has standard deviation :math:`\sigma = z\sqrt d` for :math:`d` columns with private categories, and a
    category appears if its noisy count exceeds :math:`1 + \sigma\,\Phi^{-1}(1 - \delta_f / d)`, so that one which a
    single row holds appears with probability :math:`\delta_f / d`; :math:`\delta_f`, a tenth of delta (under
    replace-one a twentieth for each of the two rows), is added to the delta of the noise. The proof is in
    `skdp.releases.discovery_queries`. White space around text is ignored, and ``True`` is not 1.

    Examples
    --------
    >>> import pandas as pd
    >>> from skdp.preprocessing import DPOneHotEncoder
    >>> towns = pd.DataFrame({"town": ["Ulm"] * 600 + ["Bonn"] * 399 + ["Zell"]})
    >>> encoder = DPOneHotEncoder(epsilon=1.0).fit(towns)
    >>> encoder.get_feature_names_out().tolist()
    ['town_Bonn', 'town_Ulm', 'town_other', 'town_missing']
    >>> DPOneHotEncoder({"town": ["Ulm", "Bonn", "Zell"]}).fit(towns).privacy_.epsilon
    0.0
    """

    gives_output_bounds = True

    def __init__(
        self,
        categories: Any = None,
        *,
        min_frequency: float | None = None,
        max_categories: int | None = None,
        sparse_output: bool = True,
        dtype: Any = np.float64,
        epsilon: float | None = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        insecure_noise_seed: int | None = None,
    ):
        self.categories = categories
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.sparse_output = sparse_output
        self.dtype = dtype
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
        given = self.categories
        known = len(given) if isinstance(given, Mapping) else sum(own is not None for own in given or ())
        if known >= public.input_shape[-1]:
            return Charge((), public.adjacency, public.unit)
        fail = 0.0 if scale is None else DELTA_SHARE * resolve_delta(self.delta, public.n)
        return Charge((discovery_touch("column", scale),), public.adjacency, public.unit, fail)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> DPOneHotEncoder:
        """Spend the budget on categories, where they are not public.

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
        DPOneHotEncoder
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.
        """
        self._check_budget()
        for name in ("min_frequency", "max_categories"):
            value = getattr(self, name)
            if value is not None and not (is_real(value) and value > 0):
                raise ValueError(f"{name}={value!r} must be None or positive")
        cells = read_cells(self, X, reset=True)
        names = self._names()
        keys = given_categories(self.categories, names, len(cells))
        private = [i for i, own in enumerate(keys) if own is None]
        columns = [keys_of(names[i], cells[i]) for i in private]
        arrays = {"categories": np.column_stack(columns)} if private else {}
        n = len(cells[0])
        public = self._public(n, len(cells))
        facts = [COLUMNS] + ["categories"] * (len(private) < len(keys)) + [TEXT_OR_NUMBERS] * bool(private)
        with self._spending(public, arrays, np.zeros(n, bool), facts=facts, sample_weight=sample_weight) as (
            executor,
            touches,
        ):
            if private:
                fail = self.privacy_charge(public, 1.0).delta_fail
                touch = touches["column categories"]
                query = discovery_queries(touch, "categories", len(private), fail, public.adjacency)
                found = drive(query, executor.answer)
                for i, (own, counts) in zip(private, found, strict=True):
                    keys[i] = most_common(own, counts, public.n, self.min_frequency, self.max_categories)
        self._keys = keys
        self.categories_ = [_as_array([category_of(key) for key in own]) for own in keys]
        return self

    def transform(self, X: Any) -> Any:
        """Encode rows.

        Parameters
        ----------
        X : array-like or table of shape (n_samples, n_features)

        Returns
        -------
        csr_array or ndarray of shape (n_samples, n_features_out)
        """
        check_is_fitted(self)
        cells = read_cells(self, X, reset=False)
        n, places, start = len(cells[0]), [], 0
        for name, own, column in zip(self._names(), self._keys, cells, strict=True):
            places.append(start + positions(own, keys_of(name, column)))
            start += len(own) + 2
        rows = np.repeat(np.arange(n), len(places))
        ones = np.ones(len(rows), dtype=self.dtype)
        hot = sparse.csr_array((ones, (rows, np.column_stack(places).ravel())), shape=(n, start))
        return hot if self.sparse_output else hot.toarray()

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Categories of encoded rows; None for "other", NaN for "missing".

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features_out)

        Returns
        -------
        ndarray of object of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        X = X.toarray() if sparse.issparse(X) else np.asarray(X)
        found, start = np.empty((len(X), len(self._keys)), dtype=object), 0
        for column, own in enumerate(self.categories_):
            values = np.empty(len(own) + 2, dtype=object)
            values[:] = [*own.tolist(), None, np.nan]
            found[:, column] = values[X[:, start : start + len(values)].argmax(axis=1)]
            start += len(values)
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
        pairs = zip(names, self.categories_, strict=True)
        return np.array([f"{name}_{end}" for name, own in pairs for end in (*own, "other", "missing")], dtype=object)

    @property
    def output_bounds_(self) -> np.ndarray:
        """Range of every output."""
        check_is_fitted(self)
        return np.tile([0.0, 1.0], (sum(len(own) + 2 for own in self._keys), 1))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_keys")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        tags.non_deterministic = self.insecure_noise_seed is None
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _names(self) -> list:
        return list(getattr(self, "feature_names_in_", range(self.n_features_in_)))


def most_common(
    keys: np.ndarray, counts: np.ndarray, n: int, min_frequency: float | None, max_categories: int | None
) -> list[str]:
    """Released keys that are frequent enough by their noisy counts, sorted as values."""
    least = 0 if min_frequency is None else min_frequency * n if min_frequency < 1 else min_frequency
    order = np.argsort(-counts, kind="stable")[:max_categories]
    kept = [str(keys[i]) for i in order if counts[i] >= least]
    return sorted(kept, key=lambda key: (key[0], category_of(key)))


def positions(keys: list[str], cells: np.ndarray) -> np.ndarray:
    """Position of each cell's key in a list, of which "other" is the next and "missing" the one behind."""
    known = {key: i for i, key in enumerate(keys)}
    index, distinct = pd.factorize(cells)  # -1 for None, which finds the last place
    return np.array([*(known.get(cell, len(keys)) for cell in distinct), len(keys) + 1])[index]


def _as_array(categories: list) -> np.ndarray:
    """Of one type where all categories are numbers or text, of objects elsewhere."""
    kinds = {type(category) for category in categories}
    if kinds <= {int, float} or len(kinds) == 1:
        return np.array(categories) if kinds != {str} else np.array(categories, dtype=object)
    array = np.empty(len(categories), dtype=object)
    array[:] = categories
    return array
