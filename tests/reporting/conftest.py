"""Small fits that reports are made of."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skdp import DPClassifier, DPRegressor
from skdp.accounting import PrivacyStatement
from skdp.contract import Charge, Gaussian, Poisson, Touch

sys.path.insert(0, str(Path(__file__).parent))
from page_reader import EVIL  # noqa: E402


@pytest.fixture(scope="session")
def statement():
    touches = (
        Touch("means", Poisson(1.0), Gaussian((20.0,)), 1),
        Touch("gradient", Poisson(0.1), Gaussian((4.0,)), 100),
    )
    return PrivacyStatement.from_charge(Charge(touches), 1e-5, mechanism="dp-sgd", n=5000)


@pytest.fixture(scope="session")
def table():
    """1500 rows with names that would be markup, and labels likewise."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.uniform(-1, 1, size=(1500, 3)), columns=["age", EVIL, 'in"come & more'])
    y = np.where(X["age"] + 0.3 * rng.normal(size=1500) > 0, "yes", EVIL)
    return X, y


@pytest.fixture(scope="session")
def quick():
    """A private linear classifier that is fitted in a moment."""
    return DPClassifier("linear", classes=[EVIL, "yes"], feature_bounds=(-1, 1), max_epochs=3)


@pytest.fixture(scope="session")
def classifier(quick, table):
    X, y = table
    return quick.fit(X[:1200], y[:1200])


@pytest.fixture(scope="session")
def regressor(table):
    X, _ = table
    model = DPRegressor("linear", feature_bounds=(-1, 1), y_bounds=(-4, 4), max_epochs=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X[:1200], 3 * X["age"][:1200])
