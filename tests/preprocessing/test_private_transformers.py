"""Private transformers do what their scikit-learn twins do: exactly without noise, closely with it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import decomposition, impute, preprocessing

from skdp.exceptions import PrivateBoundsWarning
from skdp.preprocessing import (
    DPPCA,
    DPKBinsDiscretizer,
    DPMinMaxScaler,
    DPQuantileTransformer,
    DPSimpleImputer,
    DPStandardScaler,
)

silent = pytest.mark.filterwarnings("ignore::skdp.exceptions.NotPrivateWarning")
BOUNDS = [(-6.0, 6.0), (0.0, 12.0), (-2.0, 40.0)]


def table(n=4000, missing=True):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=n), rng.uniform(0, 12, n), rng.gamma(2, 3, n)])
    X[:, 2] += X[:, 0]
    X = np.clip(X, *np.transpose(BOUNDS))
    if missing:
        X[::7, 1] = np.nan
    return X


# ------------------------------------------------------------------ without noise
@silent
@pytest.mark.parametrize("options", [{}, {"with_mean": False}, {"with_std": False}])
def test_standard_scaler_without_noise(options):
    X = table()
    twin = preprocessing.StandardScaler(**options).fit(X)
    ours = DPStandardScaler(epsilon=math.inf, feature_bounds=BOUNDS, **options).fit(X)
    np.testing.assert_allclose(ours.transform(X), twin.transform(X), atol=1e-9)
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(X)), X, atol=1e-9)


@silent
def test_standard_scaler_without_noise_or_bounds_is_close():
    X = table()
    ours, twin = DPStandardScaler(epsilon=math.inf).fit(X), preprocessing.StandardScaler().fit(X)
    np.testing.assert_allclose(ours.mean_, twin.mean_, atol=0.05)
    np.testing.assert_allclose(ours.scale_, twin.scale_, rtol=0.05)


@silent
def test_a_constant_column_is_not_divided_by_zero():
    ours = DPStandardScaler(epsilon=math.inf, feature_bounds=(0, 10)).fit(np.full((50, 1), 5.0))
    np.testing.assert_allclose(ours.transform([[5.0]]), 0, atol=1e-9)
    assert ours.scale_[0] == pytest.approx(1, abs=1e-6) or ours.scale_[0] < 1e-6


@silent
def test_a_public_mean_is_used_as_it_is():
    X = table(missing=False)
    ours = DPStandardScaler(epsilon=math.inf, feature_bounds=BOUNDS, mean=[0, 6, 6]).fit(X)
    np.testing.assert_array_equal(ours.mean_, [0, 6, 6])
    np.testing.assert_allclose(ours.scale_, ((X - [0, 6, 6]) ** 2).mean(axis=0) ** 0.5)


def test_min_max_scaler_with_public_bounds_is_its_twin():
    X = table()
    ends = np.transpose(BOUNDS)
    twin = preprocessing.MinMaxScaler((-1, 1)).fit(ends)
    ours = DPMinMaxScaler((-1, 1), feature_bounds=BOUNDS).fit(X)
    np.testing.assert_allclose(ours.transform(X), twin.transform(X), atol=1e-12)
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(X)), X, atol=1e-12)
    beyond = [[-9.0, np.inf, -np.inf]]
    np.testing.assert_array_equal(ours.transform(beyond), [[-1, 1, -1]])
    np.testing.assert_allclose(
        DPMinMaxScaler(feature_bounds=BOUNDS, clip=False).fit(X).transform(beyond), [[-0.25, 1, 0]]
    )


@silent
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_quantile_transformer_without_noise(distribution):
    X = table()
    twin = preprocessing.QuantileTransformer(n_quantiles=1000, output_distribution=distribution).fit(X)
    ours = DPQuantileTransformer(
        n_quantiles=1000, output_distribution=distribution, epsilon=math.inf, feature_bounds=BOUNDS
    ).fit(X)
    inner = table()[np.nanmin(twin.transform(X), axis=1) > (0.01 if distribution == "uniform" else -2)]
    off = np.nanmax(np.abs(ours.transform(inner) - twin.transform(inner)), axis=1)
    assert np.quantile(off, 0.95) < (0.01 if distribution == "uniform" else 0.1)
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(inner)), inner, atol=0.05)
    assert np.isnan(ours.transform(X)).sum() == np.isnan(X).sum()


@silent
@pytest.mark.parametrize("encode", ["onehot", "onehot-dense", "ordinal"])
@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_k_bins_without_noise(encode, strategy):
    X = table(missing=False)
    X[0], X[1] = np.transpose(BOUNDS)
    with np.errstate(all="ignore"):
        twin = preprocessing.KBinsDiscretizer(4, encode=encode, strategy=strategy, quantile_method="linear").fit(X)
    ours = DPKBinsDiscretizer(4, encode=encode, strategy=strategy, epsilon=math.inf, feature_bounds=BOUNDS).fit(X)
    for own, other in zip(ours.bin_edges_, twin.bin_edges_, strict=True):
        np.testing.assert_allclose(own, other, atol=0.06)
    a, b = ours.transform(X), twin.transform(X)
    a, b = (m.toarray() if encode == "onehot" else m for m in (a, b))
    assert a.shape == b.shape and (a != b).any(axis=1).mean() < 0.03
    assert list(ours.get_feature_names_out()) == list(twin.get_feature_names_out())
    np.testing.assert_allclose(ours.inverse_transform(a), twin.inverse_transform(a), atol=0.06)


def test_k_bins_leave_missing_values_out():
    ours = DPKBinsDiscretizer(2, encode="onehot-dense", strategy="uniform", feature_bounds=(0, 1)).fit(
        [[0.2], [np.nan]]
    )
    np.testing.assert_array_equal(ours.transform([[0.2], [0.9], [np.nan]]), [[1, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(ours.inverse_transform([[1, 0], [0, 0]]), [[0.25], [np.nan]])


@silent
@pytest.mark.parametrize("strategy", ["mean", "median", "constant"])
def test_imputer_without_noise(strategy):
    X = table()
    ours = DPSimpleImputer(strategy, fill_value=3, epsilon=math.inf, feature_bounds=BOUNDS).fit(X)
    twin = impute.SimpleImputer(strategy=strategy, fill_value=3).fit(X)
    np.testing.assert_allclose(ours.transform(X), twin.transform(X), atol=1e-9 if strategy != "median" else 0.05)


@silent
def test_imputer_of_categories_without_noise():
    X = pd.DataFrame({"town": ["Ulm", "Ulm", "Bonn", None], "floor": pd.array([1, 2, 2, None], dtype="Int64")})
    ours = DPSimpleImputer(
        "most_frequent",
        categories={"town": ["Bonn", "Ulm", "Zell"], "floor": range(4)},
        epsilon=math.inf,
        add_indicator=True,
    )
    out = ours.set_output(transform="pandas").fit_transform(X)
    assert out.iloc[3].tolist() == ["Ulm", 2, True, True] and out.iloc[2].tolist() == ["Bonn", 2, False, False]
    assert out.columns.tolist() == ["town", "floor", "missingindicator_town", "missingindicator_floor"]
    filled = DPSimpleImputer("constant", fill_value="?").fit_transform(X)
    assert filled[3].tolist() == ["?", "?"]
    with pytest.raises(ValueError, match="public categories=.* of columns floor"):
        DPSimpleImputer("most_frequent", categories={"town": ["Ulm"]}).fit(X)


@silent
@pytest.mark.parametrize("whiten", [False, True])
def test_pca_without_noise(whiten):
    X = table(missing=False)
    twin = decomposition.PCA(2, whiten=whiten).fit(X)
    ours = DPPCA(2, whiten=whiten, epsilon=math.inf, feature_bounds=BOUNDS).fit(X)
    np.testing.assert_allclose(np.abs(ours.components_), np.abs(twin.components_), atol=1e-8)
    for name in ("explained_variance_", "explained_variance_ratio_", "mean_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(twin, name), atol=1e-8)
    np.testing.assert_allclose(np.abs(ours.transform(X)), np.abs(twin.transform(X)), atol=1e-7)
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(X)), twin.inverse_transform(twin.transform(X)))
    assert list(ours.get_feature_names_out()) == ["dppca0", "dppca1"]


# ------------------------------------------------------------------ accuracy at epsilon 1 and 10,000 rows
def test_accuracy_with_public_bounds():
    X = table(10_000)
    ours = DPStandardScaler(feature_bounds=BOUNDS, insecure_noise_seed=0).fit(X)
    np.testing.assert_allclose(ours.mean_, np.nanmean(X, axis=0), atol=0.1)
    np.testing.assert_allclose(ours.scale_, np.nanstd(X, axis=0), rtol=0.1)
    median = DPSimpleImputer("median", feature_bounds=BOUNDS, insecure_noise_seed=0).fit(X).statistics_
    np.testing.assert_allclose(median, np.nanmedian(X, axis=0), atol=0.15)
    bins = DPKBinsDiscretizer(4, encode="ordinal", feature_bounds=BOUNDS, insecure_noise_seed=0).fit_transform(X)
    shares = [np.bincount(own[~np.isnan(own)].astype(int)) / (~np.isnan(own)).sum() for own in bins.T]
    np.testing.assert_allclose(shares, 0.25, atol=0.02)


def test_accuracy_without_public_bounds():
    X = table(10_000)
    scaler = DPStandardScaler(insecure_noise_seed=0).fit(X)
    np.testing.assert_allclose(scaler.mean_, np.nanmean(X, axis=0), atol=0.25)
    np.testing.assert_allclose(scaler.scale_, np.nanstd(X, axis=0), rtol=0.15)
    even = DPQuantileTransformer(insecure_noise_seed=0).fit_transform(X)
    assert np.abs(np.nanmedian(even, axis=0) - 0.5).max() < 0.03
    inside = (X >= (fit := DPMinMaxScaler(insecure_noise_seed=0).fit(X)).data_min_) & (X <= fit.data_max_)
    assert (inside.sum(axis=0) / (~np.isnan(X)).sum(axis=0)).min() > 0.95


def test_accuracy_of_components():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10_000, 2)) @ rng.normal(size=(2, 10)) * 0.15 + 0.05 * rng.normal(size=(10_000, 10))
    exact = decomposition.PCA(2).fit(X)
    ours = DPPCA(2, insecure_noise_seed=0, max_norm=1.0).fit(X)
    cosines = np.linalg.svd(exact.components_ @ ours.components_.T)[1]
    assert cosines.min() > 0.99
    assert ours.explained_variance_.sum() == pytest.approx(
        exact.explained_variance_.sum(), rel=0.15
    )  # rows are shortened
    np.testing.assert_allclose(ours.components_ @ ours.components_.T, np.eye(2), atol=1e-9)


# ------------------------------------------------------------------ kinds of tables
def test_columns_of_all_numeric_types_are_read():
    X = pd.DataFrame(
        {
            "integer": np.arange(40),
            "flag": np.arange(40) % 2 == 0,
            "nullable": pd.array([1, None] * 20, dtype="Int64"),
            "maybe": pd.array([True, None] * 20, dtype="boolean"),
            "level": pd.Categorical([1, 2] * 20),
        }
    )
    out = DPMinMaxScaler(feature_bounds=(0, 40)).fit_transform(X)
    np.testing.assert_allclose(out[1], [1 / 40, 0, np.nan, np.nan, 2 / 40])
    assert (
        DPMinMaxScaler(feature_bounds={"integer": (0, 40), "flag": (0, 1)}, epsilon=5.0).fit(X).privacy_.epsilon > 4.9
    )
    with pytest.raises(ValueError, match="feature_bounds names columns that X does not have: 'age'"):
        DPMinMaxScaler(feature_bounds={"age": (0, 40)}).fit(X)


class Frame:
    """A table of another library, as far as it is looked at."""

    def __init__(self, columns):
        self._columns, self.columns = columns, list(columns)

    def __getitem__(self, name):
        return pd.Series(self._columns[name])

    def __len__(self):
        return len(next(iter(self._columns.values())))


def test_tables_of_other_libraries_are_read():
    ours = DPMinMaxScaler(feature_bounds=(0, 4)).fit(Frame({"a": [1.0, None], "b": [2, 4]}))
    np.testing.assert_allclose(ours.transform(Frame({"a": [1.0, None], "b": [2, 4]})), [[0.25, 0.5], [np.nan, 1]])
    assert list(ours.feature_names_in_) == ["a", "b"]


def test_a_hidden_range_is_said_to_be():
    with pytest.warns(PrivateBoundsWarning, match="noise hides the range of columns 'a'"):
        scaler = DPMinMaxScaler(epsilon=0.02).fit(pd.DataFrame({"a": np.arange(200.0)}))
    np.testing.assert_array_equal(scaler.feature_bounds_, [[-1, 1]])


@silent
@pytest.mark.parametrize("values", [[1, 2], [False, True], [0.5, 2.0]])
def test_codes_may_be_missing(values):
    coded = pd.DataFrame({"level": pd.Categorical([*values * 20, None], categories=values)})
    plain = pd.DataFrame({"level": [*map(float, values * 20), np.nan]})
    ours, theirs = (DPStandardScaler(feature_bounds=(0, 4), epsilon=np.inf).fit(X) for X in (coded, plain))
    np.testing.assert_array_equal(ours.mean_, theirs.mean_)
    np.testing.assert_array_equal(ours.transform(coded), theirs.transform(plain))
    np.testing.assert_array_equal(ours.transform(coded[:-1]), theirs.transform(plain[:-1]))


@pytest.mark.parametrize(
    "transformer, words",
    [
        (DPMinMaxScaler((1, 0)), "feature_range"),
        (DPStandardScaler(mean=[1.0]), "mean has shape"),
        (DPStandardScaler(scale=-1.0), "scale must be positive"),
        (DPQuantileTransformer(n_quantiles=1), "n_quantiles"),
        (DPQuantileTransformer(output_distribution="cauchy"), "output_distribution"),
        (DPKBinsDiscretizer(1), "n_bins"),
        (DPKBinsDiscretizer(encode="two-hot"), "encode"),
        (DPSimpleImputer("mode"), "strategy"),
        (DPPCA(9), "n_components"),
        (DPPCA(max_norm=0), "max_norm"),
        (DPPCA(feature_bounds=None), "must be public"),
        (DPPCA(mean=np.nan), "mean must be finite"),
    ],
)
def test_impossible_parameters_spend_nothing(transformer, words):
    with pytest.raises(ValueError, match=words):
        transformer.fit(table(50))
    assert not hasattr(transformer, "_statement")
