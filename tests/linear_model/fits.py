"""Small problems in [-1, 1] and estimators for them."""

from __future__ import annotations

import numpy as np

from skdp.linear_model import DPLinearClassifier, DPLinearRegressor

BOUNDS = (-1.0, 1.0)


def rows(n=300, columns=4, classes=2):
    """Features, labels that depend on the first two, and numbers in [-1, 1]."""
    rng = np.random.default_rng(5)
    X = rng.uniform(-1, 1, size=(n, columns))
    score = X[:, 0] - 0.5 * X[:, 1] + 0.3 * rng.logistic(size=n)
    labels = np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))
    return X, labels, np.clip(0.5 * X[:, 0] - 0.2 * X[:, 1] + 0.1 * rng.normal(size=n), -1, 1)


def classifier(solver="auto", **options):
    given = {"classes": [0, 1], "feature_bounds": BOUNDS, "insecure_noise_seed": 0}
    return DPLinearClassifier(solver, **{**given, **options})


def regressor(solver="auto", **options):
    given = {"feature_bounds": BOUNDS, "y_bounds": BOUNDS, "insecure_noise_seed": 0}
    return DPLinearRegressor(solver, **{**given, **options})
