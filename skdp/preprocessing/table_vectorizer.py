"""A mixed table as numbers in [-1, 1], by private ranges and categories and whatever is public."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skdp.accounting import resolve_delta
from skdp.accounting.checks import is_real
from skdp.contract import Charge, Gaussian, Poisson, Public, Touch, drive
from skdp.exceptions import PrivateBoundsWarning
from skdp.preprocessing.categories import TEXT_OR_NUMBERS, category_of, key_of
from skdp.preprocessing.one_hot_encoder import DELTA_SHARE, most_common, positions
from skdp.preprocessing.private_columns import part
from skdp.preprocessing.table_layout import (
    TableColumn,
    as_table,
    declared_types,
    known_columns,
    read_table,
    table_columns,
    unread_cells,
)
from skdp.releases import Spending, bounds_queries, bounds_touches, discovery_queries, discovery_touch
from skdp.user_line import private_rows, rows_are_private, warn_user

__all__ = ["DPTableVectorizer"]

SCHEMA = "schema: ranges, categories and kinds of the columns that it names, as declared"

# Names of columns that are usually numbers of persons or records.
IDENTIFIER = re.compile(
    r"(?i:(^|[^a-z])(id|ids|uuid|guid|key|nr|nbr|no|number|ssn|email|phone)$)"
    r"|[a-z](I[dD]s?|U[uU][iI][dD]|G[uU][iI][dD]|Key|Nr|Nbr|No|Number|S[sS][nN]|Email|Phone)$"
)


class DPTableVectorizer(TransformerMixin, Spending):
    r"""Turn a mixed table with missing values into numbers in [-1, 1] for a private model.

    Numeric columns and dates are clipped to a range and mapped to [-1, 1]; categories become columns of 0 and 1, with
    one more for other values; booleans stay. A column that may have missing values gets an indicator of them, and 0 in
    all its other outputs where it has none. Ranges and categories that are not public are released with noise.

    The output is a pandas table in which indicators are of boolean type. That is how
    ``DPClassifier(feature_bounds=None)`` knows them.

    Parameters
    ----------
    schema : Schema, dict or None, default=None
        What is public of some or all columns: by name, bounds as a tuple ``(low, high)``, a list of categories
        (``[False, True]`` is a boolean), or a `Column`; columns without names are x0, x1 and so on. A column of which
        everything is public costs nothing, and with all of them public the fit does not.
    max_categories : int or None, default=100
        Most released categories of a column; rarer ones count as other.
    epsilon : float or None, default=1.0
        Budget of one fit; None together with `noise_multiplier`.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n). A tenth of it is what the thresholds of categories may fail
        with.
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
    columns_ : dict of str to (tuple or list)
        Range or categories of each column, public or released, as `schema` takes them.
    kinds_ : dict of str to {"numeric", "date", "boolean", "categorical"}
        Of each column, by its declared type and public knowledge.
    output_bounds_ : ndarray of shape (n_outputs, 2)
        (0, 1) for indicators, (-1, 1) for numbers, as ``feature_bounds`` of a model that is given an array.
    binary_features_ : ndarray of bool of shape (n_outputs,)
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.

    Notes
    -----
    *Formal guarantee.* The attributes are (epsilon, delta)-differentially private for `adjacency`. Of :math:`r` columns
    a range is released by two histograms each (`skdp.releases.bounds_queries`), of :math:`c` columns categories
    (`skdp.releases.discovery_queries`). Every one of these columns gets the same share of the squared signal: at noise
    multiplier :math:`z` of the whole, counts of categories have noise of standard deviation :math:`z\sqrt{r + c}`, and
    those of the two histograms :math:`\sqrt 2` times as much. Names and declared types of the columns are public, and
    so is everything in `schema`. Each output row is computed from its own input row.

    Numbers are mapped evenly. Quantiles of the numeric columns, for a part of the budget, made models of Adult worse,
    and those of credit default and of hospital readmissions no better.

    Examples
    --------
    >>> from skdp.datasets import load_adult
    >>> from skdp.preprocessing import DPTableVectorizer
    >>> adult = load_adult()
    >>> vectorizer = DPTableVectorizer({"age": (17, 90), "sex": ["Female", "Male"]}, epsilon=0.5)
    >>> X = vectorizer.fit_transform(adult.X_train)
    >>> X.columns[:2].tolist(), [name for name in X if name.startswith("sex")]
    (['age', 'missingindicator_age'], ['sex_Female', 'sex_Male', 'sex_other'])
    """

    gives_output_bounds = True

    def __init__(
        self,
        schema: Any = None,
        *,
        max_categories: int | None = 100,
        epsilon: float | None = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        insecure_noise_seed: int | None = None,
    ):
        self.schema = schema
        self.max_categories = max_categories
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
            Where the types of the columns are not among the public facts, one line that costs as much as all of them.
        """
        known = known_columns(self.schema)
        if not public.columns:
            if len(known) >= public.input_shape[-1]:
                return Charge((), public.adjacency, public.unit)
            touch = Touch("columns", Poisson(1.0), scale and Gaussian((scale,)), 1)
            return Charge((touch,), public.adjacency, public.unit, self._delta_fail(public, scale))
        columns = table_columns(public.columns, known)
        ranges, lists = (len(_private(columns, what)) for what in ("range", "categories"))
        # Of splits from a quarter to four times as much for a range, this lost hardly a category and no range.
        share = ranges / max(ranges + lists, 1)
        touches = bounds_touches("column", part(scale, share / 2)) if ranges else ()
        touches += (discovery_touch("column", part(scale, 1 - share)),) if lists else ()
        return Charge(touches, public.adjacency, public.unit, self._delta_fail(public, scale) if lists else 0.0)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> DPTableVectorizer:
        """Spend the budget on ranges and categories that are not public.

        Parameters
        ----------
        X : table or array-like of shape (n_samples, n_features)
            A pandas or polars table. The kind of a column follows from its declared type.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            A weight of 0 makes a row the null row, which adds to no bin and no sum but stays in the number of rows;
            with any other weight the row counts once.

        Returns
        -------
        DPTableVectorizer
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.

        Warns
        -----
        PrivateBoundsWarning
            For columns of which noise hides the range or all categories.
        """
        self._check_budget()
        if self.max_categories is not None and not (is_real(self.max_categories) and self.max_categories >= 1):
            raise ValueError(f"max_categories={self.max_categories!r} must be None or a whole number of at least 1")
        table = as_table(X)
        validate_data(self, X, reset=True, skip_check_array=True)
        types = declared_types(table)
        columns = table_columns(types, known_columns(self.schema))
        cells = read_table(table, columns)
        if len(table) == 0:
            raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required")
        self._columns = columns
        self._warn_of_identifiers()
        public = self._public(len(table), len(columns), columns=types)
        ranges, lists = _private(columns, "range"), _private(columns, "categories")
        arrays = {
            "numbers": np.column_stack([cells[i] for i in ranges] or [np.empty((len(table), 0))]),
            "keys": np.column_stack([cells[i] for i in lists] or [np.empty((len(table), 0), dtype=object)]),
        }
        facts = ["the number, names and declared types of the columns"] + [SCHEMA] * (self.schema is not None)
        facts += [TEXT_OR_NUMBERS] * any(column.kind == "categorical" for column in columns)
        found: dict[int, Any] = {}
        with self._spending(public, arrays, np.zeros(len(table), bool), facts=facts, sample_weight=sample_weight) as (
            executor,
            touches,
        ):
            if ranges:
                pair = touches["column magnitude"], touches["column range"]
                released = drive(bounds_queries(pair, "numbers", len(ranges), public.n), executor.answer)
                for k, i in enumerate(ranges):
                    found[i] = None if released.indicator[k] else tuple(released.bounds[k].tolist())
                doubt = released.doubt([columns[i].name for i in ranges])
                self._warn_of(doubt)
            if lists:
                touch, fail = touches["column categories"], self._delta_fail(public, 1.0)
                query = discovery_queries(touch, "keys", len(lists), fail, public.adjacency)
                for i, (keys, counts) in zip(lists, drive(query, executor.answer), strict=True):
                    found[i] = most_common(keys, counts, public.n, None, self.max_categories)
                bare = [columns[i].name for i in lists if not found[i]]
                self._warn_of(f"no category of columns {', '.join(map(repr, bare))} has enough rows" if bare else "")
        self._lay_out(found)
        return self

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> pd.DataFrame:
        """Spend the budget as `fit` does, then encode the same rows, of which no warning tells.

        Parameters
        ----------
        X : table or array-like of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            As in `fit`; rows of weight 0 are encoded like all others.

        Returns
        -------
        pandas.DataFrame of shape (n_samples, n_outputs)
            Still private: these are the rows, each by itself.
        """
        self.fit(X, y, sample_weight)
        with private_rows():
            return self.transform(X)

    def transform(self, X: Any) -> pd.DataFrame:
        """Encode rows, such as those to predict.

        Parameters
        ----------
        X : table or array-like of shape (n_samples, n_features)

        Returns
        -------
        pandas.DataFrame of shape (n_samples, n_outputs)
            Numbers in [-1, 1], and booleans.

        Warns
        -----
        UserWarning
            With name and exact count, where cells of a column of numbers, dates or booleans hold something else, which
            is taken as missing. Not in `fit_transform`, nor where skdp itself reads private rows.
        """
        check_is_fitted(self)
        table = as_table(X)
        validate_data(self, X, reset=False, skip_check_array=True)
        outputs: list[np.ndarray] = []
        read = read_table(table, self._columns)
        if not rows_are_private():
            self._warn_of_unread(unread_cells(table, self._columns, read))
        for column, content, cells in zip(self._columns, self._contents, read, strict=True):
            outputs += _encoded(column, content, cells)
        index = X.index if isinstance(X, pd.DataFrame) else None
        frame = pd.DataFrame(dict(enumerate(outputs)), index=index)
        frame.columns = list(self._names)
        return frame

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the outputs.

        Parameters
        ----------
        input_features : array-like of str, optional
            Must be the names seen in `fit`, if given.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        seen = getattr(self, "feature_names_in_", None)
        if input_features is not None:
            if len(input_features) != self.n_features_in_:
                raise ValueError(
                    f"input_features should have length equal to number of features ({self.n_features_in_}), "
                    f"got {len(input_features)}"
                )
            if seen is not None and list(input_features) != list(seen):
                raise ValueError("input_features is not equal to feature_names_in_")
        return np.asarray(self._names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_names")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        tags.non_deterministic = self.insecure_noise_seed is None
        tags.transformer_tags.preserves_dtype = []
        return tags

    # ------------------------------------------------------------------ what is private, and warnings about it
    def _delta_fail(self, public: Public, scale: float | None) -> float:
        return 0.0 if scale is None else DELTA_SHARE * resolve_delta(self.delta, public.n)

    def _warn_of(self, doubt: str) -> None:
        if doubt:
            warn_user(f"{doubt}; pass what is public of them in schema=, or leave them out", PrivateBoundsWarning)

    def _warn_of_unread(self, unread: dict[str, int]) -> None:
        kinds = {"numeric": "numbers", "date": "dates", "boolean": "booleans or 0 and 1"}
        for name, count in unread.items():
            what = "1 cell was" if count == 1 else f"{count} cells were"
            warn_user(f"column {name!r}: {what} taken as missing; the model expects {kinds[self.kinds_[name]]}")

    def _warn_of_identifiers(self) -> None:
        """By names alone: whether all values differ is private."""
        named = [column.name for column in self._columns if IDENTIFIER.search(column.name)]
        if named:
            warn_user(
                f"columns {', '.join(map(repr, named))} are named like identifiers, which cost budget and tell a model "
                "nothing; leave them out",
                UserWarning,
            )

    # ------------------------------------------------------------------ layout, all public or released
    def _lay_out(self, found: dict[int, Any]) -> None:
        """Contents and names of the outputs: a range, keys of categories, or None for a column of 0 and 1."""
        contents, names, binary = [], [], []
        self.columns_ = {}
        self.kinds_ = {column.name: column.kind for column in self._columns}
        for i, column in enumerate(self._columns):
            content = found.get(i) if column.knowledge is None else _known(column)
            name = column.name
            if isinstance(content, list):
                values = [category_of(key) for key in content]
                self.columns_[name] = values
                own = [f"{name}_{value}" for value in (*values, "other")]
                binary += [True] * len(own)
            else:
                self.columns_[name] = [False, True] if content is None else content[:2]
                own = [name]
                binary.append(content is None)
            names += own + [f"missingindicator_{name}"] * column.nullable
            binary += [True] * column.nullable
            contents.append(content)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two outputs would be called {', '.join(map(repr, twice))}; rename a column or category")
        self._contents, self._names = contents, tuple(names)
        self.binary_features_ = np.array(binary)
        self.output_bounds_ = np.where(self.binary_features_[:, None], (0.0, 1.0), (-1.0, 1.0))


def _private(columns: list[TableColumn], what: str) -> list[int]:
    """Columns whose range, or whose categories, are to be released."""
    kinds = ("numeric", "date") if what == "range" else ("categorical",)
    return [i for i, column in enumerate(columns) if column.knowledge is None and column.kind in kinds]


def _known(column: TableColumn) -> Any:
    knowledge = column.knowledge
    if column.kind == "boolean":
        return None
    if knowledge.kind == "categorical":
        return [key_of(category) for category in knowledge.categories]
    return (knowledge.low, knowledge.high, *([knowledge.transform] if knowledge.transform != "linear" else []))


def _encoded(column: TableColumn, content: Any, cells: np.ndarray) -> list[np.ndarray]:
    """Outputs of one column: its values, and which are missing."""
    if isinstance(content, list):
        place = positions(content, cells)
        return [place == k for k in range(len(content) + 1 + column.nullable)]
    missing = np.isnan(cells)
    if content is None:
        values = cells > 0.5
    else:
        low, high, *log = content
        above, width = np.clip(cells, low, high) - low, high - low
        above, width = (np.log1p(above), np.log1p(width)) if log else (above, width)
        # What nets compute in; half the memory where there are millions of rows.
        values = np.where(missing, 0.0, np.clip(2 * (above / width) - 1, -1.0, 1.0)).astype(np.float32)
    return [values, missing] if column.nullable else [values]
