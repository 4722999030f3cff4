"""A small data set and quick stand-ins for the private estimators."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from skdp.accounting import PrivacyStatement
from skdp.cli import baseline
from skdp.cli.models import Contender
from skdp.contract import Charge, Gaussian, Poisson, Touch
from skdp.datasets import Dataset
from skdp.preprocessing import Column, Schema


class QuickPrivate(LogisticRegression):
    """A logistic regression that states what a private fit would have cost."""

    def __init__(self, noise=20.0):
        super().__init__()
        self.noise = noise

    def fit(self, X, y):
        super().fit(X, y)
        noise = Gaussian((self.noise,)) if math.isfinite(self.noise) else None
        charge = Charge((Touch("gradient", Poisson(1.0), noise, 10),))
        self.privacy_ = PrivacyStatement.from_charge(charge, 1e-5, mechanism="quick", n=len(X))
        return self


@pytest.fixture
def toy(monkeypatch):
    """`skdp baseline toy` with models that take milliseconds; tells what they were made with."""
    rng = np.random.default_rng(0)
    age = rng.uniform(0, 100, 400)
    y = pd.Series(np.where(age + rng.normal(0, 20, 400) > 50, "yes", "no"), name="bought")
    X = pd.DataFrame({"age": age})
    schema = Schema([Column("age", low=0, high=100)])
    data = Dataset("toy", X[:300], X[300:], y[:300], y[300:], schema, ("no", "yes"), "made up")
    seen = SimpleNamespace(models=None)

    def contenders(epsilons, **options):
        vars(seen).update(options, epsilons=epsilons)
        models = [Contender("logistic regression", LogisticRegression(), private=False)]
        for epsilon in epsilons:
            noise = 20.0 / epsilon if math.isfinite(epsilon) else math.inf
            models.append(Contender("private model", QuickPrivate(noise), private=math.isfinite(epsilon)))
        seen.models = seen.models or models
        return seen.models

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(baseline.LOADERS, "toy", lambda: (data, schema))
    monkeypatch.setattr(baseline, "contenders", contenders)
    return seen
