"""A search of scikit-learn without a ledger is warned of once, and with one it is not."""

from __future__ import annotations

import gc
import inspect
import warnings
import weakref
from functools import partial

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)

from skdp import DPClassifier
from skdp.accounting import FitBook, PrivacyLedger
from skdp.contract import Charge, Gaussian, Poisson, Touch
from skdp.exceptions import SweepSpendsWarning

X, Y = np.arange(60.0).reshape(-1, 1), np.arange(60) % 2
GRID = {"bias": [0.0, 1.0, 2.0]}


class Spender(ClassifierMixin, BaseEstimator):
    """Charges as a fit does, and learns nothing."""

    def __init__(self, bias=0.0, noise=10.0, touches=1):
        self.bias = bias
        self.noise = noise
        self.touches = touches

    def fit(self, X, y):
        noise = None if self.noise is None else Gaussian((self.noise,))
        charge = Charge((Touch("sum", Poisson(1.0), noise, 1),) * self.touches)
        book = FitBook("spender", len(X))
        book.settle(book.reserve(charge))
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def told(action):
    """Warnings of an action with every filter open, as names of searches and lines."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        action()
    found = [w for w in seen if w.category is SweepSpendsWarning]
    return [(str(w.message).split("inside ")[1].split(" is")[0], w.filename, w.lineno) for w in found]


SEARCHES = {
    "GridSearchCV": lambda: GridSearchCV(Spender(), GRID, cv=3).fit(X, Y),
    "RandomizedSearchCV": lambda: RandomizedSearchCV(Spender(), GRID, n_iter=2, cv=2).fit(X, Y),
    "cross_validate": lambda: cross_validate(Spender(), X, Y, cv=3),
    "learning_curve": lambda: learning_curve(Spender(), X, Y, cv=2),
    "validation_curve": lambda: validation_curve(Spender(), X, Y, param_name="bias", param_range=[0, 1], cv=2),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_once_for_each_search(name):
    for _ in range(2):  # a second search is another one
        assert [found for found, *_ in told(SEARCHES[name])] == [name]


def test_on_the_users_line():
    model = DPClassifier("linear", feature_bounds=(0, 60), classes=[0, 1], max_epochs=1)

    def search():
        cross_validate(model, X, Y, cv=2)

    assert told(search) == [("cross_validate", __file__, inspect.getsourcelines(search)[1] + 1)]


def test_cross_val_score_is_told_too():
    assert [name for name, *_ in told(lambda: cross_val_score(Spender(), X, Y, cv=3))] == ["cross_validate"]


def test_one_search_that_is_fitted_twice_is_told_twice():
    search = GridSearchCV(Spender(), GRID, cv=2)
    assert len(told(lambda: search.fit(X, Y))) == len(told(lambda: search.fit(X, Y))) == 1


def test_nested_searches_are_one():
    nested = GridSearchCV(Spender(), GRID, cv=2)
    assert [name for name, *_ in told(lambda: cross_validate(nested, X, Y, cv=3))] == ["cross_validate"]


def test_threads_and_workers_leave_it_to_the_final_fit():
    with parallel_config("threading", n_jobs=2):
        assert [name for name, *_ in told(SEARCHES["GridSearchCV"])] == ["GridSearchCV"]
        assert told(SEARCHES["cross_validate"]) == []


@pytest.mark.parametrize("spender", [Spender(noise=None), Spender(touches=0)], ids=["without noise", "free of cost"])
def test_what_spends_nothing_is_not_told(spender):
    assert told(lambda: cross_validate(spender, X, Y, cv=2)) == []


def test_single_fits_and_ledgers_are_quiet():
    assert told(lambda: Spender().fit(X, Y)) == []
    with PrivacyLedger(delta=1e-6) as ledger:
        assert told(SEARCHES["GridSearchCV"]) == []
    assert len(ledger.table()) == 10


def test_nothing_of_a_search_is_kept():
    search = GridSearchCV(Spender(), GRID, cv=2)
    told(partial(search.fit, X, Y))
    alive = weakref.ref(search)
    del search
    gc.collect()
    assert alive() is None
