"""Sparse matrices in private transformers: what takes them, and that all others refuse them before they spend."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from skdp import DPClassifier
from skdp.pipeline import make_private_pipeline
from skdp.preprocessing import (
    DPPCA,
    DPFeatureRelease,
    DPKBinsDiscretizer,
    DPMinMaxScaler,
    DPOneHotEncoder,
    DPQuantileTransformer,
    DPSimpleImputer,
    DPStandardScaler,
    DPTableVectorizer,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def matrix():
    rng = np.random.default_rng(0)
    return sparse.csr_array(rng.uniform(0, 5, (400, 4)) * (rng.random((400, 4)) < 0.4))


@pytest.mark.parametrize("bounds", [(0, 5), None, [(0, 5), (np.nan, np.nan), (0, 5), (0, 5)]], ids=str)
@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix", "coo_array"])
def test_a_scaler_without_centring_scales_them_as_it_does_dense_ones(kind, bounds, matrix):
    scaler = DPStandardScaler(with_mean=False, feature_bounds=bounds, epsilon=5.0, insecure_noise_seed=0)
    X = getattr(sparse, kind)(matrix)
    one, two = clone(scaler).fit(X), clone(scaler).fit(matrix.toarray())
    np.testing.assert_allclose(one.scale_, two.scale_, rtol=1e-12)
    assert one.privacy_.epsilon == two.privacy_.epsilon
    scaled = one.transform(X)
    assert sparse.issparse(scaled) and scaled.nnz == matrix.nnz
    np.testing.assert_allclose(scaled.toarray(), two.transform(matrix.toarray()), rtol=1e-12)
    np.testing.assert_allclose(one.inverse_transform(scaled).toarray(), matrix.toarray(), rtol=1e-12)
    weights = (np.arange(400) % 2).astype(float)
    one, two = (clone(scaler).fit(part, sample_weight=weights) for part in (X, matrix.toarray()))
    np.testing.assert_allclose(one.scale_, two.scale_, rtol=1e-12)


def test_missing_and_infinite_entries_count_as_in_dense_ones(matrix):
    odd = matrix.tolil()
    odd[3, 0], odd[5, 1] = np.nan, np.inf
    odd = odd.tocsr()
    scaler = DPStandardScaler(with_mean=False, feature_bounds=(0, 5), epsilon=5.0, insecure_noise_seed=0)
    one, two = clone(scaler).fit(odd), clone(scaler).fit(odd.toarray())
    np.testing.assert_allclose(one.scale_, two.scale_, rtol=1e-12)
    np.testing.assert_allclose(one.transform(odd).toarray(), two.transform(odd.toarray()), rtol=1e-12)


def test_scaled_sparse_rows_go_on_into_a_model(matrix):
    y = (matrix.toarray()[:, 0] > 0).astype(int)
    model = DPClassifier("linear", classes=[0, 1], feature_bounds=None, insecure_noise_seed=1, random_state=0)
    scaler = DPStandardScaler(with_mean=False, feature_bounds=(0, 5), insecure_noise_seed=0)
    pipes = [make_private_pipeline(scaler, model, epsilon=5.0).fit(X, y) for X in (matrix, matrix.toarray())]
    np.testing.assert_allclose(pipes[0].predict_proba(matrix), pipes[1].predict_proba(matrix.toarray()), atol=1e-6)


REFUSING = {
    "centring": DPStandardScaler(feature_bounds=(0, 5)),
    "min-max": DPMinMaxScaler(),
    "quantile": DPQuantileTransformer(),
    "bins": DPKBinsDiscretizer(),
    "mean": DPSimpleImputer(),
    "most frequent": DPSimpleImputer("most_frequent", categories=[[0, 1]] * 4),
    "one-hot": DPOneHotEncoder(),
    "components": DPPCA(feature_bounds=(0, 5)),
    "table": DPTableVectorizer(),
    "release": DPFeatureRelease(),
}


@pytest.mark.parametrize("case", REFUSING)
def test_others_refuse_them_with_the_remedy_and_spend_nothing(case, matrix):
    transformer = clone(REFUSING[case])
    with pytest.raises(TypeError, match=r"Sparse data was passed.*toarray\(\)"):
        transformer.fit_transform(matrix)
    assert not hasattr(transformer, "_statement") and not hasattr(transformer, "_failed")
    if case == "release":  # its budget is of another unit than a model's
        return
    pipe = make_private_pipeline(clone(transformer), DPClassifier("linear", classes=[0, 1]))
    with pytest.raises(TypeError, match=r"toarray\(\)"):
        pipe.fit(matrix, np.arange(400) % 2)
    assert not hasattr(pipe, "_failed")
