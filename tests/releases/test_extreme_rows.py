"""No row of any size and weight counts for more than the bound: a grid over the range of floating-point numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from skdp.contract import GramSum, LinearGradient, PerturbedMinimum
from skdp.linear_model.losses import Huber, Logistic, Multinomial, Squared
from skdp.releases import arrays

SIZES = [
    0.0,
    1e-320,
    1e-310,
    1e-200,
    1e-170,
    1.4e-162,
    3e-162,
    1e-155,
    1e-60,
    1e-7,
    1.0,
    1e7,
    1e60,
    1.3e154,
    1e200,
    1e300,
]
WEIGHTS = [0.0, 1e-320, 1e-310, 1e-160, 1e-30, 0.3, 1.0, 7.0, 1e30, 1e38, 1e172, 1e200, 1.7e308, np.inf, np.nan, -1.0]
BOUNDS = [1e-12, 1e-6, 0.8, 1e6]
SHAPES = np.array([[1.0, 1.0, 1.0], [1.0, -0.3, 1e-9], [0.0, 0.0, 1.0], [1e-160, 1.0, 0.7]])
GRID = list(itertools.product(SIZES, WEIGHTS, SHAPES))
X = np.array([size * shape for size, _, shape in GRID])
WEIGHT = np.array([weight for _, weight, _ in GRID])


def length(values):
    """In extended precision, whose range is far wider."""
    return np.sqrt(np.sum(np.square(np.asarray(values, dtype=np.longdouble)), axis=-1))


def one_row(i, y):
    return arrays._Rows({"X": X[i : i + 1], "y": y, "weight": WEIGHT[i : i + 1]}, np.zeros(1, bool))


@pytest.mark.parametrize("loss", [Logistic(), Multinomial(), Squared(), Huber(0.1)], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("coef", [0.0, 1e-300, 0.7, 1e9])
def test_gradients(loss, bound, coef):
    value = LinearGradient(np.full((2, 3), coef) * [[1.0], [-0.2]], loss, bound)
    found = [arrays._linear_gradient(one_row(i, np.array([[1.0, 0.0]])), value) for i in range(0, len(X), 3)]
    norms = length(np.reshape(found, (len(found), -1)))
    assert np.isfinite(found).all() and norms.max() <= bound * (1 + 1e-12)
    if coef < 1:  # the slopes of rows that are certain vanish
        assert norms.max() >= bound * (1 - 1e-12), "the bound is attained"


@pytest.mark.parametrize("bound", BOUNDS)
def test_gradients_of_huge_residuals(bound):
    """They make up for how short a row is, and the shortest have few digits that could tell their length."""
    value = LinearGradient(np.zeros((1, 3)), Squared(), bound)
    sizes = [*SIZES, 5e-324, 1e-323, 1e-322, 1e-321]
    rows = [
        {"X": size * shape[None], "y": np.array([[1.7e308]])}
        for size in sizes
        for shape in np.vstack([SHAPES, 1 - SHAPES])
    ]
    norms = length([arrays._linear_gradient(arrays._Rows(row, np.zeros(1, bool)), value)[0] for row in rows])
    assert bound * (1 - 1e-12) <= norms.max() <= bound * (1 + 1e-12)


@pytest.mark.parametrize("bound", BOUNDS)
def test_moments(bound):
    found = [arrays._gram(one_row(i, np.zeros((1, 1))), GramSum(bound)) for i in range(len(X))]
    norms = length(found)
    assert np.isfinite(found).all() and norms.max() <= bound**2 * (1 + 1e-12)
    assert norms.max() >= bound**2 * (1 - 1e-12), "the bound is attained"


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("loss", [Logistic(), Huber(0.1)], ids=lambda x: type(x).__name__)
def test_rows_of_a_minimum(bound, loss):
    y = np.ones((len(X), 1))
    short, _, weights = arrays._shortened(
        arrays._Rows({"X": X, "y": y, "weight": WEIGHT}, np.zeros(len(X), bool)),
        PerturbedMinimum(loss, 0, bound, np.zeros(3)),
    )
    lengths, longest = length(short), bound / loss.slope_bound
    assert np.isfinite(short).all() and (weights >= 0).all() and np.isfinite(weights).all()
    steepest = weights * lengths * loss.slope_bound
    assert steepest.max() <= bound * (1 + 1e-12) and steepest.max() >= bound * (1 - 1e-12)
    assert lengths.max() <= longest * (1 + 1e-12)
    assert (weights * lengths**2).max() <= longest**2 * (1 + 1e-12)


@pytest.mark.parametrize("bound", BOUNDS)
def test_sums(bound):
    for row in X:
        norm = length(arrays._clipped(row[None], bound))[0]
        assert norm <= bound * (1 + 1e-12)
        if length(row) < 1e308:
            assert norm == pytest.approx(float(min(length(row), np.longdouble(bound))), rel=1e-9, abs=1e-320)


def test_ordinary_rows_are_not_touched():
    ordinary = np.random.default_rng(0).normal(size=(50, 3))
    held = arrays._Rows({"X": ordinary, "y": np.zeros((50, 1))}, np.zeros(50, bool))
    assert held.X is ordinary
    np.testing.assert_allclose(held.lengths, np.linalg.norm(ordinary, axis=1), rtol=1e-15)
    np.testing.assert_array_equal(arrays._clipped(ordinary, 1e3), ordinary)
