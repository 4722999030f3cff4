"""Sparse features: the same fits as of dense ones, without ever making the table dense."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone

from skdp import DPClassifier, DPRegressor
from skdp.audit import audit_one_run, audit_query
from skdp.mechanisms import MECHANISMS
from skdp.neural_network import precomputed
from skdp.neural_network.sparse_table import SparseTable
from skdp.pipeline import make_private_pipeline
from skdp.preprocessing import Column, DPOneHotEncoder, Schema, SchemaEncoder
from skdp.training.sparse_rows import SparseRows

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
N, COLUMNS = 240, 30


@pytest.fixture(scope="module")
def hot():
    """Two one-hot columns side by side, and labels that they decide."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 15, (2, N))
    X = sparse.csr_array((np.ones(2 * N), (np.tile(np.arange(N), 2), np.concatenate([a, 15 + b]))), shape=(N, COLUMNS))
    return X, (a < 7).astype(int)


def classifier(module="linear", **params):
    fast = {"classes": [0, 1], "epsilon": 3.0, "insecure_noise_seed": 1, "random_state": 0, "feature_bounds": None}
    return DPClassifier(module, **{**fast, "max_epochs": 2, **params})


@pytest.mark.parametrize("module", ["linear", "mlp", None])
@pytest.mark.parametrize("bounds", [None, "private", (0, 1), (-2, 2), np.tile([0.0, 1.0], (COLUMNS, 1))], ids=str)
def test_fits_and_predictions_are_those_of_dense_rows(module, bounds, hot):
    X, y = hot
    one = classifier(module, feature_bounds=bounds).fit(X, y)
    two = classifier(module, feature_bounds=bounds).fit(X.toarray(), y)
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X.toarray()), atol=1e-6)
    np.testing.assert_allclose(one.predict_proba(X.toarray()), two.predict_proba(X), atol=1e-6)
    assert one.privacy_.epsilon == two.privacy_.epsilon and one.privacy_.public == two.privacy_.public


@pytest.mark.parametrize("mechanism", sorted(MECHANISMS))
def test_every_mechanism_takes_them(mechanism, hot):
    X, y = hot
    one, two = (classifier("mlp", mechanism=mechanism).fit(part, y) for part in (X, X.toarray()))
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "coo_array"])
def test_any_format_and_any_weight(kind, hot):
    X, y = hot
    w = np.arange(N) % 3 / 2
    other = getattr(sparse, kind)(X)
    one, two = (classifier().fit(part, y, sample_weight=w) for part in (other, X.toarray()))
    assert (one.predict_proba(other) == two.predict_proba(X.toarray())).all()


def test_regressors(hot):
    X, y = hot
    options = {"y_bounds": (0, 1), "feature_bounds": None, "insecure_noise_seed": 1, "random_state": 0}
    one, two = (DPRegressor("linear", **options).fit(part, y) for part in (X, X.toarray()))
    np.testing.assert_allclose(one.predict(X), two.predict(X.toarray()), atol=1e-6)


@pytest.mark.parametrize("module", ["linear", None])
def test_the_table_is_never_dense_as_a_whole(module):
    """It has 40 million cells; the largest piece of it that is made has at most 17 million."""
    n, columns = 2000, 20_000
    rng = np.random.default_rng(0)
    place = rng.integers(0, columns, n)
    X = sparse.csr_array((np.ones(n), (np.arange(n), place)), shape=(n, columns))
    sizes, honest = [], SparseRows._dense

    def dense(self, matrix):
        sizes.append(matrix.shape[0] * matrix.shape[1])
        return honest(self, matrix)

    with mock.patch.object(SparseRows, "_dense", dense), mock.patch.object(SparseTable, "__getitem__", None):
        model = classifier(module, max_epochs=1, batch_size=40).fit(X, place < columns // 2)
        model.predict(X[:200])
    assert sizes and max(sizes) <= 2**24


def test_features_of_sparse_rows_stay_sparse_where_they_do_not_fit(hot):
    X, y = hot
    bounds = np.tile([0.0, 1.0], (COLUMNS, 1))  # known to be indicators
    plain = classifier(None, feature_bounds=bounds).fit(X, y)
    with mock.patch.object(precomputed, "_SPARSE_BYTES", 0), mock.patch.object(precomputed, "_MOSTLY_ZERO", 0.2):
        with mock.patch.object(precomputed, "SparseRows", wraps=SparseRows) as kept:
            thrifty = classifier(None, feature_bounds=bounds).fit(X, y)
    assert kept.called
    np.testing.assert_allclose(thrifty.predict_proba(X), plain.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_invalid_cells_are_refused_or_null(value, hot):
    X, y = hot
    bad = X.tolil()
    bad[7, 3] = value
    with pytest.raises(ValueError, match=r"X contains .* in column 3 \(1 row\)"):
        classifier().fit(bad.tocsr(), y)
    nulled = classifier(on_invalid="null").fit(bad.tocsr(), y)
    weights = np.where(np.arange(N) == 7, 0.0, 1.0)
    expected = classifier(on_invalid="null").fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(nulled.predict_proba(X), expected.predict_proba(X), atol=1e-6)
    with pytest.raises(ValueError, match="column 3"):
        nulled.predict(bad.tocsr())


def test_one_hot_encoder_and_model_in_one_pipeline(hot):
    """The encoder's range is handed over, so that nothing is spent on it."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.integers(0, 6, 1000).astype(str), "b": rng.integers(0, 4, 1000)})
    y = np.where(table["a"].isin(["1", "2"]), "yes", "no")
    model = DPClassifier(classes=["no", "yes"], insecure_noise_seed=0, random_state=0)
    pipes = []
    for known in ([[str(i) for i in range(6)], range(4)], None):
        for output in (True, False):
            pipe = make_private_pipeline(
                DPOneHotEncoder(known, sparse_output=output, insecure_noise_seed=3), model, epsilon=2.0
            )
            pipes.append(pipe.fit(table, y))
            assert pipe.score(table, y) > 0.95 and 1.99 < pipe.privacy_.epsilon <= 2
            assert not any("bounds" in line.name for line in pipe.privacy_.queries)
            assert clone(pipe).get_params()["dpclassifier__feature_bounds"] == "private"
        sparse_one, dense_one = pipes[-2:]
        assert sparse.issparse(sparse_one[0].transform(table))
        np.testing.assert_allclose(sparse_one.predict_proba(table), dense_one.predict_proba(table), atol=1e-6)
    weights = (rng.random(1000) < 0.8).astype(float)
    assert pipes[0].fit(table, y, sample_weight=weights).score(table, y) > 0.9


def test_schema_encoder_goes_in_as_well(hot):
    table = pd.DataFrame({"a": ["u", "v"] * 100, "b": np.linspace(0, 1, 200)})
    encoder = SchemaEncoder(
        Schema([Column("a", categories=("u", "v")), Column("b", low=0, high=1)]), sparse_output=True
    )
    pipe = make_private_pipeline(encoder, classifier(), epsilon=3.0).fit(table, (table["a"] == "v").astype(int))
    assert pipe.predict(table).shape == (200,)


def test_audits_take_them(hot):
    X, y = hot
    assert audit_one_run(classifier(epsilon=1.0), X, y, random_state=0).consistent
    model = classifier("mlp", epsilon=None, noise_multiplier=1.0, max_grad_norm=0.3)
    assert audit_query(model, X, y, draws=100).consistent


def test_tokens_have_to_be_dense(hot):
    X, y = hot
    model = classifier("text")
    with pytest.raises(TypeError, match=r"tokens are looked up and have to be dense; pass X.toarray\(\)"):
        model.fit(X, y)
    assert not hasattr(model, "_failed")


def test_sparse_rows_are_those_of_a_tensor():
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(20, 6)) * (rng.random((20, 6)) < 0.3)
    rows, tensor = SparseRows(sparse.csr_array(dense)), torch.tensor(dense, dtype=torch.float32)
    index = torch.tensor([3, 3, 19, 0])
    assert torch.equal(rows.index_select(0, index), tensor[index]) and torch.equal(rows[2:7], tensor[2:7])
    assert torch.equal(torch.cat(list(rows.split(7))), tensor) and rows.shape == tensor.shape
    assert len(list(SparseRows(sparse.csr_array((0, 6))).split(7))) == 1


def test_entries_stored_twice_add_up_and_what_is_given_stays():
    twice = sparse.coo_array((np.array([1.0, 2.0, np.nan]), ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    table = SparseTable(twice)
    np.testing.assert_array_equal(table[0:2], [[0, 3], [np.nan, 0]])
    assert table.invalid(10.0).toarray().tolist() == [[False, False], [True, False]]
    np.testing.assert_array_equal(table.without(np.array([False, True]))[0:2], [[0, 3], [0, 0]])
    np.testing.assert_array_equal(table[:, 1], [3, 0])
    assert table[:, np.array([False, True])].shape == (2, 1) and table[np.array([1, 1, 0])].shape == (3, 2)
    assert twice.nnz == 3
