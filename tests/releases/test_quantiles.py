"""Quantiles from factorised running sums: exact without noise, bounded in a row, noised as declared, accurate."""

from __future__ import annotations

import numpy as np
import pytest
from suite import check_noise

from skdp.contract import Counts, Gaussian, Poisson, Query, Touch, drive
from skdp.releases import ArrayExecutor, quantile_queries, quantile_touches
from skdp.releases.quantiles import _root


def executor(X, null=None, seed=None):
    null = np.zeros(len(X), dtype=bool) if null is None else null
    normal = np.zeros if seed is None else np.random.default_rng(seed).standard_normal
    return ArrayExecutor({"X": X}, null, spend=lambda touch: 0, normal=normal)


def release(X, bounds, multiplier=None, seed=None, **options):
    touches = quantile_touches("all", multiplier)
    return drive(quantile_queries(touches, "X", bounds, **options), executor(X, seed=seed).answer)


@pytest.mark.parametrize("level", [0, 0.05, 0.25, 0.5, 0.9, 1])
def test_without_noise_it_is_numpy_within_a_bin(level):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(5, 1, 2001), rng.uniform(-100, 0, 2001), rng.integers(0, 10, 2001)])
    bounds = np.array([[0, 10], [-100, 0], [0, 10]], dtype=float)
    found = release(X, bounds).quantile(level)
    np.testing.assert_allclose(found, np.quantile(X, level, axis=0), atol=1.01 * np.ptp(bounds, axis=1).max() / 1024)


def test_levels_and_values_go_back_and_forth():
    X = np.random.default_rng(0).normal(size=(5000, 2))
    found = release(X, [(-5, 5)] * 2)
    levels = np.array([0.1, 0.5, 0.7])
    assert found.quantile(levels).shape == (3, 2)
    np.testing.assert_allclose(found.cdf(found.quantile(levels)), np.tile(levels, (2, 1)).T, atol=1e-9)
    np.testing.assert_array_equal(found.totals, [5000, 5000])
    assert found.rank_std == 0 and found.found.all()


def test_a_median_between_two_clumps_lies_between_them():
    X = np.repeat([1.0, 9.0], 50)[:, None]
    found = release(X, [(0, 10)])
    assert found.quantile(0.5)[0] == pytest.approx(5, abs=0.02)
    assert found.quantile(0)[0] == pytest.approx(1, abs=0.01) and found.quantile(1)[0] == pytest.approx(9, abs=0.01)


def test_a_level_outside_the_unit_interval_is_refused():
    with pytest.raises(ValueError, match=r"level=1.5"):
        release(np.zeros((5, 1)), [(0, 1)]).quantile(1.5)


@pytest.mark.parametrize(
    "row", [[np.nan] * 3, [np.inf] * 3, [-np.inf, np.inf, 0], [1e300, -1e300, 5e-324], [0, 0, 0], [np.nan, 3, np.nan]]
)
def test_one_row_moves_the_sums_by_at_most_the_sensitivity(row):
    X = np.random.default_rng(0).uniform(0, 10, (50, 3))
    null = np.arange(50) == 4
    changed = X.copy()
    changed[4] = row
    value = Counts("X", np.tile(np.linspace(0, 10, 65)[1:-1], (3, 1)), _root(64)[0])
    query = Query(Touch("sums", Poisson(), None, 1), (value,))
    (without,), (with_row,) = executor(X, null).answer(query), executor(changed).answer(query)
    assert np.isfinite(with_row).all()
    moved = np.linalg.norm(with_row - without)
    assert moved <= value.sensitivity * (1 + 1e-12)
    assert moved == pytest.approx(value.sensitivity) if np.allclose(row, 0) else moved >= 0


def test_the_root_is_one():
    root, norm = _root(300)
    np.testing.assert_allclose(root @ root, np.tril(np.ones((300, 300))), atol=1e-9)
    assert np.linalg.norm(root, axis=1).max() == pytest.approx(norm)
    assert np.linalg.norm(root, axis=0).max() * norm == pytest.approx(1 + np.log(300) / np.pi, rel=0.05)


def test_noise_of_sums_and_of_ranks_is_what_is_declared():
    """False alarm 1e-6, and certain to see noise scaled by 2/3."""
    X, z, groups = np.zeros((0, 40)), 3.0, 40
    touches = quantile_touches("all", z)
    answers, declared = [], []

    def answer(query):
        declared.append(z * query.values[0].sensitivity)
        answers.append(source.answer(query)[0])
        return (answers[-1],)

    source = executor(X, seed=1)
    for _ in range(5):
        found = drive(quantile_queries(touches, "X", [(0, 1)] * groups, bins=64), answer)
    samples = np.concatenate([a.ravel() for a in answers])
    check_noise(samples, declared[0])
    with pytest.raises(AssertionError, match="noise is 0.6"):
        check_noise(samples * 2 / 3, declared[0])
    last = np.concatenate([(a @ _root(64)[0].T)[:, -1] for a in answers])
    check_noise(last, found.rank_std)


def test_accuracy_at_epsilon_one():
    """Multiplier 4.2 is epsilon 1 at delta 1e-6; ten columns of 10,000 rows share it."""
    X = np.random.default_rng(0).normal(size=(10_000, 10))
    found = release(X, [(-8, 8)] * 10, 4.2, seed=0)
    levels = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    off = np.array([np.interp(found.quantile(levels)[:, k], np.sort(X[:, k]), np.linspace(0, 1, 10_000))
                    for k in range(10)]) - levels  # fmt: skip
    assert np.abs(off).max() < 4.5 * found.rank_std / 10_000 < 0.02
    assert (np.diff(found.ranks, axis=1) >= 0).all()


def test_columns_without_values_count_as_even():
    found = release(np.full((100, 2), np.nan), [(0, 1), (2, 4)], 1.0, seed=3)
    assert not found.found.any()
    assert ((found.quantile(0.5) >= [0, 2]) & (found.quantile(0.5) <= [1, 4])).all()
    np.testing.assert_allclose(release(np.full((9, 1), np.nan), [(0, 1)]).quantile([0.25, 0.5]).ravel(), [0.25, 0.5])


def test_a_range_without_width_is_no_error():
    found = release(np.full((100, 1), 7.0), [(7.0, 7.0)])
    np.testing.assert_allclose(found.quantile([0.1, 0.9]).ravel(), 7.0)


def test_price():
    (touch,) = quantile_touches("scores", 2.5)
    assert (touch.name, touch.count, touch.noise) == ("scores quantiles", 1, Gaussian((2.5,)))
    assert quantile_touches("scores", None)[0].noise is None
