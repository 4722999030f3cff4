"""Histograms of arrays: what a row can do to them, and the noise on them."""

from __future__ import annotations

import numpy as np
import pytest
from suite import check_noise

from skdp.contract import Counts, Gaussian, Poisson, Query, Touch, drive
from skdp.exceptions import PlanViolationError
from skdp.releases import ArrayExecutor, bounds_queries, bounds_touches, class_counts_queries, class_counts_touch

EDGES = np.array([[0.0, 1.0, 2.0], [-1.0, 0.0, 1e6], [10.0, 20.0, 30.0]])


def executor(X, null=None, *, spend=lambda touch: 0, seed=0):
    null = np.zeros(len(X), dtype=bool) if null is None else null
    return ArrayExecutor({"X": X}, null, spend=spend, normal=np.random.default_rng(seed).standard_normal)


def query(z=None, rate=1.0, count=1):
    return Query(Touch("histogram", Poisson(rate), z and Gaussian((z,)), count), (Counts("X", EDGES),))


def rows(n=50):
    return np.random.default_rng(0).uniform(-3, 40, size=(n, 3))


def test_counts_are_those_of_numpy():
    X = rows()
    (counts,) = executor(X).answer(query())
    for group, edges in enumerate(EDGES):
        expected = np.histogram(X[:, group], [-np.inf, *edges, np.inf])[0]
        np.testing.assert_array_equal(counts[group], expected)


@pytest.mark.parametrize(
    "row",
    [
        [np.nan] * 3,
        [np.inf] * 3,
        [-np.inf] * 3,
        [1e300, -1e300, 0.0],
        [1e-310] * 3,
        [0.0, 0.0, 10.0],
        [np.nan, 5, np.nan],
    ],
)
def test_one_row_moves_the_histograms_by_at_most_the_sensitivity(row):
    X = rows()
    null = np.zeros(len(X), dtype=bool)
    null[4] = True
    changed = X.copy()
    changed[4] = row
    (without,), (with_row,) = executor(X, null).answer(query()), executor(changed).answer(query())
    moved = np.linalg.norm(with_row - without)
    assert np.isfinite(with_row).all()
    assert moved == pytest.approx(np.sqrt(np.isfinite(row).sum() + np.isinf(row).sum()))
    assert moved <= query().values[0].sensitivity == 3**0.5


def test_missing_values_and_null_rows_fall_into_no_bin():
    X = rows()
    X[3, 1] = np.nan
    null = np.zeros(len(X), dtype=bool)
    null[5:8] = True
    (counts,) = executor(X, null).answer(query())
    np.testing.assert_array_equal(counts.sum(axis=1), [47, 46, 47])
    zero = X.copy()
    zero[5:8] = 0
    (other,) = executor(zero).answer(query())
    assert (other != counts).any(), "the null row is not a row of zeros"


@pytest.mark.parametrize("z", [0.5, 30.0])
def test_noise_is_multiplier_times_sensitivity(z):
    """False alarm 1e-6, and certain to see noise scaled by 2/3."""
    X = rows()
    (exact,) = executor(X).answer(query())
    noisy = executor(X, seed=None)
    samples = np.concatenate([(noisy.answer(query(z))[0] - exact).ravel() for _ in range(200)])
    check_noise(samples, z * 3**0.5)
    with pytest.raises(AssertionError, match="noise is 0.6"):
        check_noise(samples * 2 / 3, z * 3**0.5)
    assert len(np.unique(samples)) == len(samples)


def test_spending_comes_first_and_samples_are_whole():
    def refuse(touch):
        raise PlanViolationError("used up")

    class Unread:
        def __getitem__(self, index):
            raise AssertionError("a row was read")

    with pytest.raises(PlanViolationError):
        executor(rows(), spend=refuse).answer(query())
    with pytest.raises(ValueError, match="releases on arrays see all rows"):
        executor(rows()).answer(query(rate=0.5))


def test_class_counts():
    y = np.repeat([0.0, 1.0, 2.0], [5, 0, 45])[:, None]
    source = ArrayExecutor({"y": y}, np.zeros(50, bool), spend=lambda touch: 0, normal=np.zeros)
    touch = class_counts_touch(None)
    counts = drive(class_counts_queries(touch, 3), source.answer)
    np.testing.assert_array_equal(counts, [5, 1, 45])  # at least 1, so that weights stay finite
    assert touch.noise is None and class_counts_touch(2.0).noise.multipliers == (2.0,)


def test_prices_of_bounds():
    touches = bounds_touches("feature bounds", 7.0)
    assert [t.name for t in touches] == ["feature bounds magnitude", "feature bounds range"]
    assert all(t.count == 1 and t.noise.multipliers == (7.0,) and t.sampler.rate == 1 for t in touches)
    queries = bounds_queries(touches, "X", 3, 50)
    source = executor(rows())
    asked = []
    drive(queries, lambda query: asked.append(query) or source.answer(query))
    assert [q.touch for q in asked] == list(touches)
    assert all(q.values[0].sensitivity == 3**0.5 for q in asked)
