"""Quick linear estimators for rows in [-1, 1], and what several tests read off them."""

from __future__ import annotations

import torch

from skdp import DPClassifier, DPRegressor

# Seeded noise is what makes tests repeatable; what it voids is not what they test.
SEEDED = {"insecure_noise_seed": 0, "random_state": 0}


def classifier(**options):
    given = {"module": "linear", "classes": [0, 1], "epsilon": 20.0, "feature_bounds": (-1, 1), "max_epochs": 20}
    return DPClassifier(**{**given, "batch_size": 400, "lr": 0.5, **options})


def regressor(**options):
    given = {"module": "linear", "epsilon": 20.0, "feature_bounds": (-1, 1), "y_bounds": (-4, 4), "max_epochs": 30}
    return DPRegressor(**{**given, "batch_size": 400, "lr": 0.5, **options})


def weights(model):
    """All weights of a fitted model, as one vector."""
    return torch.cat([p.detach().ravel() for p in model.module_.parameters()])
