"""Gram matrices: against a loop over rows, under any one row, weighted, and with noise."""

from __future__ import annotations

import numpy as np
import pytest
from suite import check_noise

from skdp.contract import Gaussian, GramSum, Poisson, Query, Touch
from skdp.releases import ArrayExecutor

BOUND = 1.5


def arrays(n=60):
    rng = np.random.default_rng(0)
    return {"X": rng.normal(size=(n, 4)), "weight": rng.uniform(0, 3, size=n)}


def executor(rows, null=None, seed=0):
    null = np.zeros(len(rows["X"]), dtype=bool) if null is None else null
    return ArrayExecutor(rows, null, spend=lambda touch: 0, normal=np.random.default_rng(seed).standard_normal)


def ask(source, bound=BOUND, z=None):
    return source.answer(Query(Touch("gram", Poisson(), z and Gaussian((z,)), 1), (GramSum(bound),)))[0]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_matrix_is_that_of_shortened_rows(weighted):
    rows, expected = arrays(), np.zeros((4, 4))
    for x, w in zip(rows["X"], rows["weight"] if weighted else np.ones(60), strict=True):
        x = np.sqrt(w) * x
        x = x * min(1.0, BOUND / np.linalg.norm(x))
        expected += np.outer(x, x)
    rows = rows if weighted else {"X": rows["X"]}
    packed = ask(executor(rows))
    np.testing.assert_allclose(GramSum.unpacked(packed), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(GramSum.packed(expected), packed, rtol=1e-12, atol=1e-12)
    assert np.linalg.norm(packed) == pytest.approx(np.linalg.norm(expected))
    np.testing.assert_allclose(
        GramSum.unpacked(ask(executor({"X": rows["X"]}), np.inf)), rows["X"].T @ rows["X"], rtol=1e-12
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 1e-310, 0.0, 1e30])
@pytest.mark.parametrize("where", ["X", "weight"])
def test_one_row_moves_the_matrix_by_no_more_than_the_squared_bound(where, value):
    rows, null = arrays(), np.zeros(60, dtype=bool)
    null[7] = True
    changed = {name: array.copy() for name, array in rows.items()}
    changed[where][7] = value
    without, found = ask(executor(rows, null)), ask(executor(changed))
    assert np.isfinite(found).all() and np.linalg.norm(found - without) <= BOUND**2 * (1 + 1e-12)
    ordinary = ask(executor({"X": 9 * rows["X"][7:8]}))
    assert np.linalg.norm(ordinary) == pytest.approx(GramSum(BOUND).sensitivity), "the bound is attained"


def test_noise_is_multiplier_times_sensitivity():
    """False alarm 1e-6, and certain to see noise scaled by 2/3."""
    source, exact = executor(arrays(), seed=None), ask(executor(arrays()))
    samples = np.concatenate([ask(source, z=2.0) - exact for _ in range(200)])
    check_noise(samples, 2 * BOUND**2)
    with pytest.raises(AssertionError, match=r"noise is 0\.[67]"):
        check_noise(samples * 2 / 3, 2 * BOUND**2)


def test_an_executor_about_other_arrays_spends_from_the_same_book():
    spent = []
    source = ArrayExecutor(arrays(), np.zeros(60, bool), spend=spent.append, normal=np.zeros)
    ask(source.about({"X": np.ones((3, 2))}, np.zeros(3, bool)))
    assert [touch.name for touch in spent] == ["gram"]
    with pytest.raises(ValueError, match="bound=0"):
        GramSum(0.0)
