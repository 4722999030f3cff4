"""Sums over streamed and sparse rows: those of a loop over dense ones, whatever the rows hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from skdp.contract import Counts, Gaussian, GramSum, LinearGradient, PerturbedMinimum, Poisson, Query, Touch
from skdp.linear_model.losses import Logistic, Multinomial, Squared
from skdp.neural_network.sparse_table import SparseTable
from skdp.releases import ArrayExecutor, row_pieces
from skdp.releases.row_pieces import ShiftedRows, StreamedRows

N, COLUMNS = 90, 5
COEF = np.random.default_rng(1).normal(size=(3, COLUMNS))
OFFSETS = {"nothing": np.zeros(COLUMNS), "ones": np.eye(COLUMNS)[-1], "every column": np.linspace(-1, 1, COLUMNS)}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Of seven rows each, so that there are many of them, and a last one that is shorter."""
    monkeypatch.setattr(row_pieces, "_CELLS", 7 * COLUMNS)


def arrays(odd=False):
    """Rows, mostly zeros; `odd` ones hold what no fit lets through, or what overflows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, COLUMNS)) * (rng.random((N, COLUMNS)) < 0.4)
    X[5] = 0
    y, weight = np.eye(3)[rng.integers(3, size=N)], rng.uniform(0, 3, size=N)
    if odd:
        X[10:19, 1] = np.nan, np.inf, -np.inf, 1e300, 1e200, 1e30, 1e-310, -1e-200, 1e-155
        y[20:23, 0] = np.nan, np.inf, 1e300
        weight[[30, 31, 32, 33, 15]] = np.nan, np.inf, -1.0, 1e308, 1e38
    return {"X": X, "y": y, "weight": weight}, np.arange(N) % 11 == 3


def kept(kind, rows, offset):
    """The rows in one of three ways, and what they are as an array."""
    X = rows["X"]
    if kind == "streamed":
        return {**rows, "X": StreamedRows(X[:, :-1], np.array, ones=True)}, np.hstack([X[:, :-1], np.ones((N, 1))])
    return {**rows, "X": ShiftedRows(sparse.csr_array(X), offset)}, X + offset


def executor(rows, null, seed=None, **kwargs):
    noise = np.random.default_rng(seed)
    return ArrayExecutor(rows, null, spend=lambda touch: 0, normal=noise.standard_normal, **kwargs)


def ask(source, value, z=None, rate=1.0):
    return source.answer(Query(Touch("sum", Poisson(rate), z and Gaussian((z,)), 1), (value,)))[0]


def one_by_one(X, rows, null, loss, bound):
    """The sum of clipped gradients by the book: in extended precision, a row at a time."""
    total = np.zeros(COEF.shape, dtype=np.longdouble)
    for x, target, weight, nothing in zip(X, rows["y"], rows["weight"], null, strict=True):
        wide = x.astype(np.longdouble)
        length = np.sqrt(np.square(wide).sum())
        if nothing or not length <= 1e150 or not weight > 0:
            continue
        slopes = loss.slopes((x @ COEF.T)[None], target[None])[0] * np.longdouble(min(weight, np.finfo(np.float32).max))
        gradient = np.outer(slopes, wide)
        norm = np.sqrt(np.square(gradient).sum())
        if np.isfinite(norm) and norm > 0:
            total += gradient * min(1, bound / norm)
    return total.astype(float)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("odd", [False, True], ids=["ordinary rows", "odd rows"])
@pytest.mark.parametrize("loss", [Logistic(), Multinomial(), Squared()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize(("kind", "offset"), [("streamed", "ones"), *(("sparse", name) for name in OFFSETS)])
def test_gradients_are_those_of_a_loop_over_dense_rows(kind, offset, loss, odd):
    rows, null = arrays(odd)
    rows, dense = kept(kind, rows, OFFSETS[offset])
    found = ask(executor(rows, null), LinearGradient(COEF, loss, 0.8))
    np.testing.assert_allclose(found, one_by_one(dense, rows, null, loss, 0.8), rtol=1e-9, atol=1e-10)
    same = ask(executor({**rows, "X": dense}, null), LinearGradient(COEF, loss, 0.8))
    np.testing.assert_allclose(found, same, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("odd", [False, True], ids=["ordinary rows", "odd rows"])
@pytest.mark.parametrize(("kind", "offset"), [("streamed", "ones"), *(("sparse", name) for name in OFFSETS)])
def test_second_moments_and_minima_are_those_of_dense_rows(kind, offset, odd):
    rows, null = arrays(odd)
    rows["y"] = np.where(rows["y"][:, :1] > 0, 1.0, -1.0)
    rows, dense = kept(kind, rows, OFFSETS[offset])
    value = PerturbedMinimum(Logistic(), 0, 0.7, np.full(COLUMNS, 0.1))
    for asked, z in ((GramSum(0.6), None), (value, None), (value, 2.0)):
        one, two = (ask(executor({**rows, "X": X}, null, seed=3), asked, z) for X in (rows["X"], dense))
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, 1e200, 1e30, 1e-310, 0.0])
@pytest.mark.parametrize("kind", ["streamed", "sparse"])
def test_one_row_moves_no_sum_by_more_than_the_bound(kind, value):
    (rows, null), bound = arrays(), 0.8
    null[7] = True
    before, _ = kept(kind, rows, OFFSETS["every column"])
    changed = {**rows, "X": rows["X"].copy(), "weight": rows["weight"].copy()}
    changed["X"][7, :3], changed["weight"][7] = value, 1e30
    after, _ = kept(kind, changed, OFFSETS["every column"])
    for asked in (LinearGradient(COEF, Squared(), bound), GramSum(bound)):
        one = ask(executor(before, null), asked)
        moved = np.linalg.norm(ask(executor(after, null & (np.arange(N) != 7)), asked) - one)
        assert moved <= asked.sensitivity * (1 + 1e-9)
        if value in (0.0, 1e30) and kind == "sparse":  # a row of huge weight reaches it
            assert moved == pytest.approx(asked.sensitivity)


@pytest.mark.parametrize("kind", ["streamed", "sparse"])
def test_samples_are_drawn_rows_and_may_be_empty(kind):
    rows, null = arrays()
    for drawn in (np.array([3, 4, 50, 89]), np.array([], dtype=int)):
        held, dense = kept(kind, rows, OFFSETS["ones"])
        source = executor(held, null, draw=lambda n, rate, drawn=drawn: drawn)
        dense = {name: array[drawn] for name, array in {**held, "X": dense}.items()}
        expected = ask(executor(dense, null[drawn]), LinearGradient(COEF, Squared(), 0.8))
        found = ask(source, LinearGradient(COEF, Squared(), 0.8), rate=0.1)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_no_rounding_makes_a_sparse_row_shorter_than_it_is():
    """Offsets that what is stored takes away again, in up to a thousand columns, down to nothing at all."""
    rng = np.random.default_rng(0)
    for columns in (3, 30, 1000):
        offset = rng.uniform(-1, 1, size=columns)
        left = 10.0 ** rng.uniform(-18, 0, size=(60, 1)) * rng.normal(size=(60, columns))
        matrix = sparse.csr_array(left - offset)
        matrix.data[rng.random(matrix.nnz) < 0.3] *= 1 + 1e-16
        rows = ShiftedRows(matrix, offset)
        exact = np.square(matrix.toarray().astype(np.longdouble) + offset).sum(axis=1) ** np.longdouble(0.5)
        assert (rows.lengths() >= exact * (1 - 1e-12)).all()
        assert rows.lengths() == pytest.approx(exact.astype(float), abs=1e-6 * columns**0.5, rel=1e-6)


def test_lengths_of_ordinary_and_odd_sparse_rows():
    rows, _ = arrays(odd=True)
    rows = ShiftedRows(sparse.csr_array(rows["X"]), OFFSETS["nothing"])
    exact = np.square(rows[:].astype(np.longdouble)).sum(axis=1) ** np.longdouble(0.5)
    finite = np.isfinite(exact)
    assert finite.sum() == N - 3 and not np.isfinite(rows.lengths()[~finite]).any()
    np.testing.assert_allclose(rows.lengths()[finite], exact[finite].astype(float), rtol=1e-14)
    assert rows.lengths()[5] == 0
    assert ShiftedRows(sparse.csr_array((0, 3)), np.ones(3)).lengths().shape == (0,)


def test_no_rows_give_zeros():
    nothing = {"y": np.zeros((0, 3)), "weight": np.zeros(0)}
    for X in (StreamedRows(np.zeros((0, 4)), np.array, True), ShiftedRows(sparse.csr_array((0, 5)), np.ones(5))):
        source = executor({**nothing, "X": X}, np.zeros(0, bool))
        assert not ask(source, LinearGradient(COEF, Squared(), 1.0)).any()
        assert not ask(source, GramSum(1.0)).any()


def test_histograms_of_sparse_columns_count_zeros_that_are_not_stored():
    rows, null = arrays()
    table = sparse.csr_array(np.where(rows["X"] > 1, np.nan, rows["X"]))
    table.data[:3] = 0.0  # stored, and zero all the same
    dense = table.toarray()
    edges = np.tile([-1.0, -1e-9, 0.0, 0.5], (COLUMNS, 1))
    one, two = (ask(executor({"X": part}, null), Counts("X", edges)) for part in (SparseTable(table), dense))
    np.testing.assert_array_equal(one, two)
    assert one.sum() == (~np.isnan(dense[~null])).sum()
