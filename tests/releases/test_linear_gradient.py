"""Sums of linear gradients: against a loop over rows, under any one row, sampled, and with noise."""

from __future__ import annotations

import numpy as np
import pytest
from suite import check_noise

from skdp.contract import Gaussian, LinearGradient, Poisson, Query, Touch
from skdp.linear_model.losses import Hinge, Logistic, Multinomial, Squared
from skdp.releases import ArrayExecutor

COEF = np.random.default_rng(1).normal(size=(3, 4))


def arrays(n=60, weight=False):
    rng = np.random.default_rng(0)
    found = {"X": rng.normal(size=(n, 4)), "y": np.eye(3)[rng.integers(3, size=n)]}
    return found | ({"weight": rng.uniform(0, 3, size=n)} if weight else {})


def executor(rows, null=None, seed=0, **kwargs):
    null = np.zeros(len(rows["X"]), dtype=bool) if null is None else null
    return ArrayExecutor(
        rows, null, spend=lambda touch: 0, normal=np.random.default_rng(seed).standard_normal, **kwargs
    )


def ask(source, loss, bound=np.inf, z=None, rate=1.0):
    query = Query(Touch("gradient", Poisson(rate), z and Gaussian((z,)), 1), (LinearGradient(COEF, loss, bound),))
    return source.answer(query)[0]


@pytest.mark.parametrize("loss", [Logistic(), Multinomial(), Hinge(), Squared()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("weight", [False, True])
def test_the_sum_is_that_of_single_rows_under_the_bound(loss, weight):
    rows, bound, expected = arrays(weight=weight), 0.8, 0.0
    for i, (x, t) in enumerate(zip(rows["X"], rows["y"], strict=True)):
        gradient = np.outer(loss.slopes((COEF @ x)[None], t[None])[0], x)
        gradient *= rows["weight"][i] if weight else 1.0
        expected = expected + gradient * min(1.0, bound / max(np.linalg.norm(gradient), 1e-300))
    np.testing.assert_allclose(ask(executor(rows), loss, bound), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 1e-310, 0.0, 1e30])
@pytest.mark.parametrize("where", ["X", "y", "weight"])
def test_one_row_moves_the_sum_by_no_more_than_the_bound(where, value):
    rows, bound = arrays(weight=True), 0.8
    null = np.zeros(60, dtype=bool)
    null[7] = True
    changed = {name: array.copy() for name, array in rows.items()}
    changed[where][7] = value
    without, found = ask(executor(rows, null), Squared(), bound), ask(executor(changed), Squared(), bound)
    assert np.isfinite(found).all() and np.linalg.norm(found - without) <= bound * (1 + 1e-12)
    only = {name: array[7:8] for name, array in rows.items()}
    assert np.linalg.norm(ask(executor(only), Squared(), bound)) == pytest.approx(bound), "the bound is attained"


def test_samples_are_drawn_rows_and_may_be_empty():
    rows = arrays()
    drawn = np.array([3, 4, 50])
    found = ask(executor(rows, draw=lambda n, rate: drawn), Multinomial(), rate=0.1)
    np.testing.assert_allclose(found, ask(executor({k: v[drawn] for k, v in rows.items()}), Multinomial()))
    empty = ask(executor(rows, draw=lambda n, rate: np.array([], dtype=int)), Multinomial(), rate=0.1)
    np.testing.assert_array_equal(empty, np.zeros_like(COEF))
    with pytest.raises(ValueError, match="see all rows"):
        ask(executor(rows), Multinomial(), rate=0.1)


def test_noise_is_multiplier_times_bound():
    """False alarm 1e-6, and certain to see noise scaled by 2/3."""
    source, exact = executor(arrays(), seed=None), ask(executor(arrays()), Logistic(), 0.8)
    samples = np.concatenate([(ask(source, Logistic(), 0.8, z=2.0) - exact).ravel() for _ in range(200)])
    check_noise(samples, 1.6)
    with pytest.raises(AssertionError, match="noise is 0.6"):
        check_noise(samples * 2 / 3, 1.6)


def test_fingerprints_tell_weights_losses_and_bounds_apart():
    touch = Touch("gradient", Poisson(), Gaussian((1.0,)), 1)

    def print_of(coef, loss, bound):
        return Query(touch, (LinearGradient(coef, loss, bound),)).fingerprint()

    same = print_of(COEF, Logistic(), 1.0)
    assert same == print_of(COEF.copy(), Logistic(), 1.0)
    others = [print_of(COEF + 1e-16 * (COEF > 5), Hinge(), 1.0), print_of(2 * COEF, Logistic(), 1.0),
              print_of(COEF, Logistic(), 1.1)]  # fmt: skip
    assert same not in others and len(set(others)) == 3
