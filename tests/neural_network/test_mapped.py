"""Rows in memory-mapped files: the same fits as of rows in memory, and never a copy of all of them."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.model_selection import GridSearchCV, KFold
from skorch.callbacks import Callback

from skdp import DPClassifier, DPRegressor
from skdp.audit import audit_query
from skdp.callbacks import FitCheckpoint
from skdp.datasets.mapped_frame import mapped_frame
from skdp.linear_model import DPADMMClassifier
from skdp.mechanisms import MECHANISMS, RGP
from skdp.neural_network import base, mapped_table
from skdp.neural_network.mapped_table import MappedTable, is_mapped
from skdp.neural_network.scaling import as_rows
from skdp.neural_network.sparse_table import SparseTable
from skdp.training.mapped_rows import MappedRows

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
N, COLUMNS = 600, 6


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, COLUMNS)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def classifier(module="linear", **params):
    fast = {"classes": [0, 1], "epsilon": 3.0, "insecure_noise_seed": 1, "random_state": 0, "feature_bounds": None}
    return DPClassifier(module, **{**fast, "max_epochs": 2, **params})


def same(one, two, X, mapped):
    """Both models give the same numbers, for rows in memory and in a file, and state the same."""
    answer = "predict_proba" if hasattr(one, "predict_proba") else "predict"
    expected = getattr(one, answer)(X)
    np.testing.assert_allclose(getattr(two, answer)(X), expected, rtol=1e-6)
    np.testing.assert_allclose(getattr(two, answer)(mapped), expected, rtol=1e-6)
    assert one.privacy_.to_dict() == two.privacy_.to_dict()


@pytest.fixture
def lazily(monkeypatch):
    """Shapes of what was read of mapped rows."""
    read, honest = [], MappedTable.stored
    monkeypatch.setattr(MappedTable, "stored", lambda table, key: read.append(key) or honest(table, key))
    return read


# ------------------------------------------------------------------ the same fit
@pytest.mark.parametrize("module", ["linear", "mlp", None])
@pytest.mark.parametrize("bounds", [None, "private", (-2, 2), np.tile([-1.0, 3.0], (COLUMNS, 1))], ids=str)
def test_classifiers(module, bounds, rows, save, lazily):
    X, y = rows
    mapped, labels = save(X), save(y, "y")
    one, two = (classifier(module, feature_bounds=bounds).fit(*part) for part in ((X, y), (mapped, labels)))
    assert lazily
    same(one, two, X, mapped)


@pytest.mark.parametrize("y_bounds", [None, (-3, 3)])
def test_regressors_and_weights(y_bounds, rows, save):
    X, _ = rows
    y, w = 2 * X[:, 1], np.arange(N) % 3 / 2
    options = {"y_bounds": y_bounds, "feature_bounds": (-3, 3), "insecure_noise_seed": 1, "random_state": 0}
    mapped, targets, weights = save(X), save(y, "y"), save(w, "w")
    one = DPRegressor("linear", epsilon=8.0, **options).fit(X, y, sample_weight=w)
    two = DPRegressor("linear", epsilon=8.0, **options).fit(mapped, targets, sample_weight=weights)
    same(one, two, X, mapped)
    assert two.score(mapped, targets) == pytest.approx(one.score(X, y))


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4", "int8", "uint8", "int64", "bool"])
@pytest.mark.parametrize("bounds", [None, "private"])
def test_types_of_numbers(dtype, bounds, rows, save):
    X = (3 * rows[0]).clip(0, 100).astype(dtype)
    mapped = save(X)
    one, two = (classifier(feature_bounds=bounds).fit(part, rows[1]) for part in (X, mapped))
    same(one, two, X, mapped)


@pytest.mark.parametrize("mechanism", sorted(MECHANISMS))
def test_every_mechanism(mechanism, rows, save):
    X, y = rows
    if mechanism == "rgp":
        mechanism = RGP(rank=1)
    one, two = (classifier("mlp", mechanism=mechanism).fit(part, y) for part in (X, save(X)))
    np.testing.assert_allclose(two.predict_proba(X), one.predict_proba(X), rtol=1e-5)


def test_images_and_tokens(save):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    for X, module in (
        (rng.integers(0, 255, (60, 8, 8)).astype(np.uint8), "mlp"),
        (rng.integers(0, 255, (60, 1, 8, 8)).astype(np.uint8), None),
        (rng.integers(0, 40, (60, 5)), torch.nn.Sequential(torch.nn.EmbeddingBag(40, 4), torch.nn.Linear(4, 2))),
    ):
        mapped = save(X)
        one, two = (classifier(module, feature_bounds="private").fit(part, y) for part in (X, mapped))
        same(one, two, X, mapped)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_invalid_rows_are_refused_or_null(value, rows, save):
    X, y = rows[0].copy(), rows[1]
    X[[7, 300], 3] = value
    mapped = save(X)
    kind = "NaN" if np.isnan(value) else "infinity"
    for part in (X, mapped, pd.DataFrame(mapped, columns=list("abcdef"), copy=False)):
        column = "'d'" if hasattr(part, "columns") else "3"
        with pytest.raises(ValueError, match=f"X contains {kind}.* in column {column} \\(2 rows\\)"):
            classifier().fit(part, y)
    # Bounds are such that zeros of a null row would not stay zeros.
    for bounds in (None, (0.5, 2), "private"):
        one, two = (classifier(on_invalid="null", feature_bounds=bounds).fit(part, y) for part in (X, mapped))
        same(one, two, rows[0], save(rows[0], "good"))
    with pytest.raises(ValueError, match="column 3"):
        two.predict(mapped)
    assert np.isnan(value) == np.isnan(np.load(mapped.filename)[7, 3])  # the file is as it was


def test_unknown_labels(rows, save):
    X, y = rows[0], np.where(np.arange(N) % 50 == 0, 7, rows[1])
    mapped, labels = save(X), save(y, "y")
    with pytest.raises(ValueError, match=r"not in classes=\[0, 1\] \(12 rows\)"):
        classifier().fit(mapped, labels)
    one, two = (classifier(on_invalid="null").fit(*part) for part in ((X, y), (mapped, labels)))
    same(one, two, X, mapped)


def test_resumed(tmp_path, rows, save):
    """A fit that was stopped goes on from the file's rows as it does from those in memory."""
    X, y = rows
    mapped = save(X)
    for name, part in (("memory", X), ("mapped", mapped)):
        path = tmp_path / name
        model = classifier(max_epochs=6, batch_size=60, callbacks=[FitCheckpoint(path, every=5), Stop(22)])
        with pytest.raises(RuntimeError, match="stopped"):
            model.fit(part, y)
    one, two = (DPClassifier.resume(tmp_path / name, part, y) for name, part in (("memory", X), ("mapped", mapped)))
    same(one, two, X, mapped)


class Stop(Callback):
    """Stops a fit by an error, and not the one that goes on with it."""

    def __init__(self, step):
        self.step, self.steps = step, 0

    def on_batch_end(self, net, **_):
        self.steps += 1
        if self.steps == self.step:
            raise RuntimeError("stopped")

    def __getstate__(self):
        return {"step": -1, "steps": 0}


def test_audits_and_other_estimators_take_them(rows, save):
    X, y = rows
    mapped = save(X)
    model = classifier("mlp", epsilon=None, noise_multiplier=1.0, max_grad_norm=0.3)
    assert audit_query(model, mapped, y, draws=100).consistent
    one, two = (
        DPADMMClassifier(epsilon=3.0, classes=[0, 1], feature_bounds=(-3, 3), insecure_noise_seed=1).fit(part, y)
        for part in (X, mapped)
    )
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(mapped))


# ------------------------------------------------------------------ no copy
@pytest.mark.parametrize("bounds", [None, (-3, 3), "private"], ids=str)
def test_no_copy_of_all_rows(bounds, save, monkeypatch):
    """Nothing that is half as large as the rows is ever allocated, which even half a byte a cell would be."""
    monkeypatch.setattr(mapped_table, "_CELLS", 2**16)
    monkeypatch.setattr(base, "_PREDICT_ROWS", 500)
    n, columns = 8000, 250
    X = np.random.default_rng(0).random((n, columns), dtype=np.float32)
    y = (X[:, 0] > 0.5).astype(int)
    mapped, size = save(X), X.nbytes
    del X
    model = classifier(max_epochs=1, batch_size=100, feature_bounds=bounds, max_physical_batch_size=200)
    model.fit(mapped[:400], y[:400])  # whatever is loaded only once
    tracemalloc.start()
    try:
        model.fit(mapped, y)
        model.predict(mapped)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 2


@pytest.mark.slow
@pytest.mark.parametrize("module", ["linear", "mlp"])
def test_own_memory_of_a_process(module, own_memory_of_a_fit):
    """200 MB of rows cost less than their size of own memory; in memory they would cost more than 1 GB."""
    settings = "classes=[0, 1], max_epochs=1, batch_size=2000, feature_bounds=(0, 1)"
    assert own_memory_of_a_fit(f"from skdp import DPClassifier; model = DPClassifier({module!r}, {settings})") < 150


@pytest.mark.slow
def test_searches_hand_rows_over_by_reference(rows, save):
    """Workers map the file themselves; only the rows of a fold, which scikit-learn picks, are copied there."""
    X, y = rows
    frame = framed(save(X))
    kinds = Parallel(2)(delayed(lambda part: is_mapped(np.asarray(part)))(part) for part in (frame, save(X, "Z")))
    assert kinds == [True, True]
    search = GridSearchCV(classifier(), {"max_grad_norm": [0.5, 1.0]}, cv=KFold(2), n_jobs=2).fit(frame, y)
    assert list(search.best_estimator_.feature_names_in_) == list("abcdef")
    serial = GridSearchCV(classifier(), {"max_grad_norm": [0.5, 1.0]}, cv=KFold(2)).fit(X, y)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"], atol=1e-12)
    # A fitted model holds no rows.
    assert len(pickle.dumps(search.best_estimator_)) < X.nbytes * 20 and not any(
        isinstance(value, MappedTable | MappedRows | SparseTable) for value in vars(search.best_estimator_).values()
    )


def framed(mapped):
    """A mapped file as a frame, as `open_rows` makes it."""
    return mapped_frame(
        mapped.filename, mapped.dtype.str, mapped.offset, mapped.shape, None, None, list("abcdef")[: mapped.shape[1]]
    )


def parts_of(frame):
    """Views of the file, then copies."""
    views = [frame, frame.iloc[10:50], frame.iloc[::7], frame.iloc[:, 1:4]]
    return views, [frame[["a", "c"]], frame.assign(g=1.0)]


def test_frames_are_pickled_by_reference(rows, save):
    frame = framed(save(rows[0]))
    views, copies = parts_of(frame)
    for part in [*views, *copies]:
        again = pickle.loads(pickle.dumps(part))
        pd.testing.assert_frame_equal(again, part)
        assert is_mapped(np.asarray(again)) == any(part is view for view in views)
    assert len(pickle.dumps(frame)) < 2000


@pytest.mark.slow
def test_frames_reach_workers_as_they_are(rows, save):
    """A plain DataFrame over a map would not: joblib mixes up transposed maps."""
    parts = sum(parts_of(framed(save(rows[0]))), [])
    for part, values in zip(parts, Parallel(2)(delayed(np.array)(part) for part in parts), strict=True):
        np.testing.assert_array_equal(values, part.to_numpy())


# ------------------------------------------------------------------ files
def test_a_file_that_was_cut_short_is_an_error_and_not_the_end_of_the_process(rows, save):
    X, y = rows
    mapped = save(np.tile(X, (20, 1)))
    with open(mapped.filename, "r+b") as file:
        file.truncate(5000)
    model = classifier()
    with pytest.raises(ValueError, match="cut short since it was opened"):
        model.fit(mapped, np.tile(y, 20))
    assert not hasattr(model, "_failed")


def test_what_counts_as_mapped(rows, save):
    X = rows[0]
    mapped = save(X)
    views = [mapped, mapped[10:200], mapped[::3], mapped[:, 1:4], pd.DataFrame(mapped, copy=False).to_numpy()]
    assert all(map(is_mapped, views))
    copies = [X, np.array(mapped), mapped[[3, 1]], mapped * 2, save(np.asfortranarray(X), "columns"), mapped[:, [1]]]
    assert not any(map(is_mapped, copies))


@pytest.mark.parametrize("part", [slice(None), slice(10, 200), slice(None, None, 3)], ids=str)
def test_views_of_a_file(part, rows, save):
    X, y = rows[0][part], rows[1][part]
    one, two = classifier().fit(X, y), classifier().fit(save(rows[0])[part], y)
    same(one, two, X, X)
    one, two = classifier().fit(X[:, 1:4], y), classifier().fit(save(rows[0])[part][:, 1:4], y)
    same(one, two, X[:, 1:4], X[:, 1:4])


def test_fortran_order_is_read_as_a_whole(rows, save):
    X, y = rows
    mapped = save(np.asfortranarray(X))
    same(classifier().fit(X, y), classifier().fit(mapped, y), X, mapped)


# ------------------------------------------------------------------ parts
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("bounds", [None, np.array([[-1.0, 0.5]]), np.tile([-2.0, 1.0], (COLUMNS, 1))], ids=str)
def test_mapped_rows_are_those_of_a_tensor(dtype, bounds, rows, save):
    X = (100 * rows[0]).astype(dtype)
    null = np.arange(N) % 7 == 0
    zeroed = np.where(null[:, None], 0, X)
    lazy = as_rows(MappedTable(save(X)).without(null), bounds)
    tensor = as_rows(zeroed.astype(np.float64), bounds)
    index = torch.tensor([0, 3, 3, 599, 20])
    assert isinstance(lazy, MappedRows) and lazy.shape == tensor.shape and len(lazy) == N
    assert torch.equal(lazy.index_select(0, index), tensor[index]) and torch.equal(lazy[5:90], tensor[5:90])
    assert torch.equal(torch.cat(list(lazy.split(70))), tensor) and lazy[:0].shape == (0, COLUMNS)
    lazy[5:90].zero_()
    assert np.array_equal(np.load(save(X, "again").filename), X)


def test_tables_read_like_arrays(rows, save):
    X = rows[0]
    table = MappedTable(save(X))
    assert np.array_equal(np.asarray(table), X) and np.asarray(table, dtype=np.float32).dtype == np.float32
    assert np.array_equal(table[np.arange(N) < 5], X[:5]) and np.array_equal(table[np.array([5, 2])], X[[5, 2]])
    twice = table.without(np.arange(N) == 1).without(np.arange(N) == 2)
    assert (twice[1:3] == 0).all() and np.array_equal(twice[3:9], X[3:9])
    assert [run.stop - run.start for run in table.runs()] == [N]
    tokens = MappedTable(save(np.array([[0, 3], [4, -1], [1.5, np.nan]]), "t"), vocabulary=4)
    assert tokens[:].tolist() == [[0, 3], [-1, -1], [-1, -1]]
    assert tokens.invalid(1.0).rows.tolist() == [False, True, True]
    assert tokens.invalid(1.0).column == 0 and tokens.invalid(1.0).count == 2


def test_pieces_of_the_scan(monkeypatch, rows, save):
    """Counts add up over runs, and the first column is named."""
    monkeypatch.setattr(mapped_table, "_CELLS", 7 * COLUMNS)
    X = rows[0].copy()
    X[[3, 100, 500], [5, 2, 2]] = np.nan, np.inf, -np.inf
    found = MappedTable(save(X)).invalid(3e38)
    assert (found.column, found.count, found.nan, np.flatnonzero(found.rows).tolist()) == (2, 2, False, [3, 100, 500])


def test_fit_names_the_way_for_datasets(rows):
    X, y = map(torch.from_numpy, rows)
    dataset = torch.utils.data.TensorDataset(X, y)
    with pytest.raises(TypeError, match=r"PyTorch dataset \(TensorDataset\).*skdp.datasets.open_rows"):
        classifier().fit(dataset, None)
