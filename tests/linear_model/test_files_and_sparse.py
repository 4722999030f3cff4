"""Linear models on rows in mapped files and on sparse rows: the fits of dense rows in memory, without a copy."""

from __future__ import annotations

import math
import tracemalloc
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.preprocessing import normalize
from suite import assert_same_transcript, largest_move, public_state, record, replay

from skdp.datasets import open_rows
from skdp.exceptions import ProtocolError
from skdp.linear_model import DPADMMClassifier, DPLinearClassifier, DPLinearRegressor, terms
from skdp.linear_model import rows as linear_rows
from skdp.linear_model.admm.store import SiteStore
from skdp.neural_network import mapped_table
from skdp.neural_network.mapped_table import MappedTable
from skdp.pipeline import make_private_pipeline
from skdp.preprocessing import DPOneHotEncoder
from skdp.releases import row_pieces
from skdp.releases.row_pieces import ShiftedRows, StreamedRows

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
N, COLUMNS = 400, 6
SOLVERS = {
    "gradient descent": DPLinearClassifier("gradient-descent", max_iter=20, classes=[0, 1, 2]),
    "a private class weight": DPLinearClassifier(
        "gradient-descent", max_iter=20, classes=[0, 1, 2], loss="hinge", class_weight="balanced"
    ),  # fmt: skip
    "objective perturbation": DPLinearClassifier("objective-perturbation", classes=[0, 1, 2]),
    "regression": DPLinearRegressor("gradient-descent", max_iter=20, y_bounds=(0, 2)),
    "adassp": DPLinearRegressor("adassp", y_bounds=(0, 2)),
    "boosted": DPLinearRegressor("boosted-adassp", max_iter=5, y_bounds=(0, 2)),
}
BOUNDS = {"none": None, "private": "private", "symmetric": (-2, 2), "of columns": np.tile([-1.0, 3.0], (COLUMNS, 1))}


@pytest.fixture(scope="module")
def table():
    """Numbers half of which are zero, and labels that they decide."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, COLUMNS)) * (rng.random((N, COLUMNS)) < 0.5)
    return X.astype(np.float32), np.digitize(X[:, 0] + 0.1 * rng.normal(size=N), [-0.3, 0.3])


@pytest.fixture
def kept(save):
    """The two ways to keep an array: in a file, and sparse."""
    return {"mapped": save, "sparse": sparse.csr_array}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Of 70 rows or fewer."""
    monkeypatch.setattr(row_pieces, "_CELLS", 70 * COLUMNS)


def fitted(model, X, y, **options):
    given = {"insecure_noise_seed": 1, "epsilon": 3.0} | options
    weight = given.pop("sample_weight", None)
    return clone(model).set_params(**given).fit(X, y, sample_weight=weight)


def same(one, two, X, other):
    """Both models are one, and give the same for rows of either kind."""
    np.testing.assert_allclose(two.coef_, one.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(two.intercept_, one.intercept_, rtol=1e-8, atol=1e-10)
    answer = "decision_function" if hasattr(one, "classes_") else "predict"
    for model in (one, two):
        np.testing.assert_allclose(getattr(model, answer)(other), getattr(one, answer)(X), rtol=1e-7, atol=1e-9)
    said, stated = one.privacy_.to_dict(), two.privacy_.to_dict()
    if sparse.issparse(other):  # from which clip norms follow
        stated["public"].remove("that X is a sparse matrix")
    assert said == stated and one.n_iter_ == two.n_iter_


# ------------------------------------------------------------------ the same fit
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["mapped", "sparse"])
def test_fits_and_predictions_are_those_of_dense_rows(kind, solver, bounds, table, kept):
    X, y = table
    model, other = SOLVERS[solver], kept[kind](X)
    held = {"mapped": StreamedRows, "sparse": ShiftedRows}[kind]
    with mock.patch.object(linear_rows, held.__name__, wraps=held) as made:
        two = fitted(model, other, y, feature_bounds=BOUNDS[bounds])
    assert made.called
    same(fitted(model, X, y, feature_bounds=BOUNDS[bounds]), two, X, other)


@pytest.mark.parametrize("kind", ["mapped", "sparse"])
@pytest.mark.parametrize("solver", ["gradient descent", "objective perturbation", "adassp"])
def test_without_noise_and_with_weights(kind, solver, table, kept):
    X, y = table
    weights = np.arange(N) % 4 / 2
    options = {"epsilon": math.inf, "feature_bounds": (-3, 3), "sample_weight": weights, "fit_intercept": False}
    same(*(fitted(SOLVERS[solver], part, y, **options) for part in (X, kept[kind](X))), X, kept[kind](X))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("kind", ["mapped", "sparse"])
def test_odd_rows_are_refused_or_null_as_in_memory(kind, value, table, kept):
    X, y = table[0].astype(np.float64), table[1]
    bad = X.copy()
    bad[[7, 300], 3], other = value, None
    other = kept[kind](bad)
    for part in (bad, other):
        with pytest.raises(ValueError, match=r"X contains .* in column 3 \(2 rows\)"):
            fitted(SOLVERS["gradient descent"], part, y)
    for solver, model in SOLVERS.items():
        for bounds in (None, (0.5, 2)):  # of which zeros of null rows would be moved
            one, two = (fitted(model, part, y, on_invalid="null", feature_bounds=bounds) for part in (bad, other))
            np.testing.assert_allclose(two.coef_, one.coef_, rtol=1e-8, atol=1e-10, err_msg=solver)
    weights = np.where(bad[:, 3] == X[:, 3], 1.0, 0.0)
    clean = fitted(model, X, y, sample_weight=weights, feature_bounds=(0.5, 2))
    np.testing.assert_allclose(two.coef_, clean.coef_, rtol=1e-8)
    with pytest.raises(ValueError, match="column 3"):
        two.predict(other)


def test_unknown_labels(table, kept):
    X, y = table[0], np.where(np.arange(N) % 50 == 0, 7, table[1])
    for keep in kept.values():
        with pytest.raises(ValueError, match=r"not in classes=\[0, 1, 2\] \(8 rows\)"):
            fitted(SOLVERS["gradient descent"], keep(X), y)
        options = {"on_invalid": "null", "feature_bounds": (-2, 2)}
        one, two = (fitted(SOLVERS["gradient descent"], part, y, **options) for part in (X, keep(X)))
        same(one, two, X, keep(X))


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "csc_matrix", "coo_array"])
def test_any_sparse_format(kind, table):
    X, y = table
    other = getattr(sparse, kind)(X.astype(np.float64))
    model = fitted(SOLVERS["gradient descent"], other, y, feature_bounds=(-2, 2))
    same(fitted(SOLVERS["gradient descent"], X, y, feature_bounds=(-2, 2)), model, X, other)
    assert model.score(other, y) == model.score(X, y) > 0.5


def test_datasets_and_frames_of_files(table, tmp_path):
    X, y = table
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    with pytest.raises(TypeError, match="open_rows"):
        fitted(SOLVERS["gradient descent"], dataset, y)
    rows = open_rows(dataset, cache=tmp_path, version="1")
    with mock.patch.object(MappedTable, "__array__", side_effect=AssertionError("read as a whole")):
        model = fitted(SOLVERS["gradient descent"], rows.X, rows.y, feature_bounds="private")
        model.predict(rows.X)
    same(fitted(SOLVERS["gradient descent"], X, y, feature_bounds="private"), model, X, rows.X)


@pytest.mark.parametrize("kind", ["mapped", "sparse"])
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_sites(kind, rate, table, kept, tmp_path):
    X, y = table
    options = {"classes": [0, 1, 2], "rounds": 8, "n_agents": 3, "feature_bounds": (-3, 3), "sampling_rate": rate}
    for epsilon in (3.0, math.inf):
        one, two = (
            DPADMMClassifier(epsilon=epsilon, insecure_noise_seed=1, **options).fit(part, y)
            for part in (X, kept[kind](X))
        )
        np.testing.assert_allclose(two.coef_, one.coef_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["mapped", "sparse"])
def test_a_site_knows_its_rows_again(kind, table, kept, tmp_path):
    def store(X):
        rows = linear_rows.linear_rows(encoded(kind, kept[kind](X)), None, True)
        return SiteStore(tmp_path / "site", {"rounds": 3}, "north", [rows, np.zeros(N, bool)])

    one, other = table[0], table[0].copy()
    other[300, 2] += 1
    first = store(one)
    first.write({}, {}, {}, {"kept": 1})
    first.close()
    again = store(one)
    assert again.read()[-1] == {"kept": 1}
    again.close()
    with pytest.raises(ProtocolError, match="begun with other things than now: the rows"):
        store(other).read()


def encoded(kind, X):
    return MappedTable(X) if kind == "mapped" else linear_rows.SparseTable(X)


# ------------------------------------------------------------------ what is public decides, and only that
def test_wide_sparse_rows_are_taken_to_be_short_and_dense_ones_not():
    tables = {"sparse": linear_rows.SparseTable(sparse.csr_array((5, 800))), "dense": np.ones((5, 800))}
    lengths = {
        (kind, bounds): linear_rows.usual_length(table, given, 0, True)
        for kind, table in tables.items()
        for bounds, given in (("even", np.tile([-1.0, 1.0], (800, 1))), ("moved", np.tile([0.0, 1.0], (800, 1))))
    }
    dense = math.sqrt(401)
    assert lengths == {
        ("sparse", "even"): 2.0, ("sparse", "moved"): dense, ("dense", "even"): dense, ("dense", "moved"): dense
    }  # fmt: skip


def test_solvers_with_a_matrix_of_all_pairs_of_columns_refuse_many(table, monkeypatch):
    monkeypatch.setattr(terms, "_MOST_COLUMNS", 5)
    X, y = table
    for solver in ("objective perturbation", "adassp", "boosted"):
        with pytest.raises(ValueError, match="7 times 7 numbers; at most 5 columns; or pass solver='gradient-descent'"):
            fitted(SOLVERS[solver], sparse.csr_array(X), y)
    silent = DPLinearRegressor(y_bounds=(0, 2), feature_bounds=(-3, 3), epsilon=math.inf).fit(sparse.csr_array(X), y)
    assert silent.n_iter_ > 1, "gradient descent in the place of second moments"


def test_a_one_hot_encoder_before_it(table):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.integers(0, 6, 2000).astype(str), "b": rng.integers(0, 4, 2000)})
    y = frame["a"].isin(["1", "2"]).astype(int)
    pipes = [
        make_private_pipeline(
            DPOneHotEncoder([[str(i) for i in range(6)], range(4)], sparse_output=output),
            DPLinearClassifier(classes=[0, 1], insecure_noise_seed=0), epsilon=1.0,
        ).fit(frame, y)
        for output in (True, False)
    ]  # fmt: skip
    assert sparse.issparse(pipes[0][0].transform(frame)) and pipes[0].score(frame, y) > 0.95
    np.testing.assert_allclose(pipes[0].predict_proba(frame), pipes[1].predict_proba(frame), rtol=1e-9)


# ------------------------------------------------------------------ one row
CHANGES = {
    "as it was": lambda X, y, w: None,
    "huge": lambda X, y, w: X.__setitem__(7, 1e30),
    "NaN": lambda X, y, w: X.__setitem__((7, 1), np.nan),
    "infinite": lambda X, y, w: X.__setitem__(7, -np.inf),
    "denormal": lambda X, y, w: X.__setitem__(7, 1e-310),
    "heavy": lambda X, y, w: w.__setitem__(7, 1e300),
    "another label": lambda X, y, w: y.__setitem__(7, (y[7] + 1) % 3),
    "a wrong label": lambda X, y, w: y.__setitem__(7, 1e12),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["mapped", "sparse"])
def test_one_row_changes_no_query_and_no_answer_by_more_than_declared(kind, solver, change, table, kept):
    X, y, weights, null = table[0][:120].astype(np.float64), table[1][:120].astype(float), np.ones(120), np.ones(120)
    null[7] = 0
    X2, y2 = X.copy(), y.copy()
    CHANGES[change](X2, y2, weights)
    private = {"feature_bounds": "private", "on_invalid": "null", "insecure_noise_seed": 0}
    private |= {"epsilon": None, "noise_multiplier": 0.1, "delta": 1e-4}
    one, two = (clone(SOLVERS[solver]).set_params(**private) for _ in range(2))
    script = record(lambda: one.fit(kept[kind](X), y, null))
    moved = replay(lambda: two.fit(kept[kind](X2), y2, weights), script)
    assert_same_transcript(script, moved)
    assert largest_move(script, moved) <= 1 + 1e-9
    assert public_state(one) == public_state(two)
    if change == "as it was":
        assert largest_move(script, moved) > 0.3, "the harness did not see the row"


# ------------------------------------------------------------------ no copy
@pytest.mark.parametrize("solver", ["gradient descent", "objective perturbation", "adassp"])
def test_no_copy_of_rows_in_a_file(solver, save, monkeypatch):
    """Nothing that is half as large as the rows is ever allocated, which even half a byte a cell would be."""
    monkeypatch.setattr(mapped_table, "_CELLS", 2**16)
    monkeypatch.setattr(row_pieces, "_CELLS", 2**14)
    n, columns = 16_000, 120
    X = np.random.default_rng(0).random((n, columns), dtype=np.float32)
    y, size = np.arange(n) % 3, X.nbytes
    mapped = save(X)
    del X
    model = clone(SOLVERS[solver])
    model = model.set_params(feature_bounds="private", epsilon=1.0)
    if solver == "gradient descent":
        model.set_params(max_iter=2)
    model.fit(mapped[:400], y[:400])  # whatever is loaded only once
    tracemalloc.start()
    try:
        model.fit(mapped, y)
        model.predict(mapped)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 2


def test_a_wide_sparse_table_is_never_dense():
    """Texts of 20,000 words: 120 million cells, of which nothing as large as a hundredth is made."""
    n, words = 6000, 20_000
    rng = np.random.default_rng(0)
    places = np.minimum(rng.geometric(0.003, size=(n, 12)), words) - 1
    X = sparse.csr_array((np.ones(12 * n), places.ravel(), np.arange(0, 12 * n + 1, 12)), shape=(n, words))
    X = normalize(X)
    y = (X @ np.where(np.arange(words) % 2, 1.0, -1.0) > 0).astype(int)
    model = DPLinearClassifier(classes=[0, 1], feature_bounds=None, epsilon=4.0, insecure_noise_seed=0)
    model.fit(X[:500], y[:500])
    tracemalloc.start()
    try:
        score = model.fit(X, y).score(X, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * n * words / 100
    assert score > 0.7  # with noise for rows as long as dense ones would be, it is 0.55


_MODELS = {
    "gradient-descent": """
from skdp.linear_model import DPLinearClassifier
model = DPLinearClassifier("gradient-descent", classes=[0, 1], max_iter=2, feature_bounds=(0, 1))
""",
    "adassp": """
from skdp.linear_model import DPLinearRegressor
model = DPLinearRegressor("adassp", feature_bounds=(0, 1), y_bounds=(0, 1))
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("solver", _MODELS)
def test_own_memory_of_a_process(solver, own_memory_of_a_fit):
    """200 MB of rows cost a fifth of their size of own memory at most; in memory they would cost more than 800 MB."""
    assert own_memory_of_a_fit(_MODELS[solver]) < 40
