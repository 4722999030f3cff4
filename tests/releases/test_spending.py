"""The common ground of everything that releases statistics of arrays."""

import math
import pickle

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone

from skdp.contract import Charge, Gaussian, Poisson, Query, RowSum, Touch, drive
from skdp.exceptions import NotPrivateWarning
from skdp.releases import ArrayExecutor, Spending

FALSE_ALARM = 1e-6


class Mean(Spending):
    """Mean of columns in [-1, 1]."""

    def __init__(self, epsilon=1.0, delta="auto", adjacency="zero-out", n_public=None, noise_multiplier=None,
                 insecure_noise_seed=None):  # fmt: skip
        self.epsilon = epsilon
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.noise_multiplier = noise_multiplier
        self.insecure_noise_seed = insecure_noise_seed

    def privacy_charge(self, public, scale):
        return Charge((Touch("sum", Poisson(), scale and Gaussian((scale,)), 1),), public.adjacency, public.unit)

    def fit(self, X, y=None, fail=False):
        self._check_budget()
        public = self._public(*X.shape)

        def queries(touch):
            (total,) = yield Query(touch, (RowSum("X", np.nan_to_num, X.shape[1] ** 0.5),))
            return total

        with self._spending(public, {"X": X}, np.zeros(len(X), bool), facts=["the range [-1, 1]"]) as (
            executor,
            touches,
        ):
            self.mean_ = drive(queries(touches["sum"]), executor.answer) / public.n
            if fail:
                raise RuntimeError
        return self


@pytest.fixture
def X():
    return np.random.default_rng(0).uniform(-1, 1, (500, 3))


def test_statement_meets_the_target_and_names_what_was_public(X):
    mean = Mean(epsilon=0.7).fit(X)
    assert 0.69 < mean.privacy_.epsilon <= 0.7
    assert "the range [-1, 1]" in mean.privacy_.public and mean.privacy_.n == 500
    assert pickle.loads(pickle.dumps(mean)).privacy_ == mean.privacy_
    assert not hasattr(clone(mean), "_statement")


def test_noise_has_the_stated_deviation_and_is_fresh(X):
    wide = np.random.default_rng(1).uniform(-1, 1, (50, 4000))
    mean = Mean(epsilon=None, noise_multiplier=2.0).fit(wide)
    noise = (mean.mean_ - wide.mean(axis=0)) * len(wide) / (2.0 * 4000**0.5)
    low, high = stats.chi2(4000).ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2])
    assert low < (noise**2).sum() < high
    assert not low < (noise**2).sum() * (2 / 3) ** 2 < high  # power: too little noise is seen
    assert not np.array_equal(mean.mean_, clone(mean).fit(wide).mean_)


def test_failed_fits_stay_counted(X):
    mean = Mean(epsilon=None, noise_multiplier=2.0)
    with pytest.raises(RuntimeError):
        mean.fit(X, fail=True)
    one = mean.privacy_.epsilon
    assert mean.fit(X).privacy_.epsilon > one
    assert clone(mean).fit(X).privacy_.epsilon == one


@pytest.mark.parametrize(
    "params, word",
    [
        ({"epsilon": 0}, "epsilon"), ({"epsilon": None}, "noise_multiplier"), ({"adjacency": "swap"}, "adjacency"),
        ({"adjacency": "add-remove"}, "n_public"), ({"noise_multiplier": 1.0}, "epsilon"),
        ({"epsilon": None, "noise_multiplier": math.nan}, "noise_multiplier"),
    ],
)  # fmt: skip
def test_impossible_budgets_are_refused(X, params, word):
    with pytest.raises(ValueError, match=word):
        Mean(**params).fit(X)


def test_without_noise_it_says_so(X):
    with pytest.warns(NotPrivateWarning):
        mean = Mean(epsilon=math.inf).fit(X)
    np.testing.assert_allclose(mean.mean_, X.mean(axis=0))
    assert mean.privacy_.epsilon == math.inf


@pytest.mark.parametrize("row", [[1e300, 1e300], [np.nan, 1.0], [np.inf, 0.0], [5e-324, 0.0], [3.0, 4.0], [0.3, 0.4]])
def test_no_row_moves_a_sum_by_more_than_its_bound(row):
    rows = np.vstack([np.random.default_rng(0).uniform(-1, 1, (9, 2)), row])
    touch = Touch("sum", Poisson(), None, 1)

    def total(null):
        executor = ArrayExecutor({"X": rows}, np.arange(10) >= null, spend=lambda touch: 0, normal=np.zeros)
        return executor.answer(Query(touch, (RowSum("X", np.asarray, 2.0),)))[0]

    moved = total(10) - total(9)
    finite = np.isfinite(row).all()
    expected = np.array(row) * min(1, 2 / max(np.hypot(*np.array(row) / 10) * 10, 1e-300)) if finite else np.zeros(2)
    np.testing.assert_allclose(moved, expected, atol=1e-12)
    assert np.hypot(*moved) <= 2 * (1 + 1e-12)


def test_many_rows_are_added_up_in_pieces():
    rows = np.random.default_rng(0).uniform(-1, 1, (150_000, 2))
    executor = ArrayExecutor({"X": rows}, np.zeros(150_000, bool), spend=lambda touch: 0, normal=np.zeros)
    (total,) = executor.answer(Query(Touch("sum", Poisson(), None, 1), (RowSum("X", np.asarray, 2.0),)))
    np.testing.assert_allclose(total, rows.sum(axis=0))
