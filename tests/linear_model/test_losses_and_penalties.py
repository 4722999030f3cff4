"""Slopes against finite differences, bounds against samples, proximal steps against a general optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import hinge_loss, log_loss, mean_poisson_deviance

from skdp.linear_model.losses import (
    Absolute,
    Hinge,
    Huber,
    Logistic,
    Multinomial,
    Poisson,
    Squared,
    SquaredHinge,
    resolve_loss,
)
from skdp.linear_model.penalties import Penalty, resolve_penalty

SIGNS = [Logistic(), Hinge(), SquaredHinge()]
NUMBERS = [Squared(), Huber(0.3), Absolute(), Poisson()]


def rows(loss, n=400, k=3, spread=3.0):
    rng = np.random.default_rng(0)
    outputs = rng.normal(scale=spread, size=(n, k))
    if isinstance(loss, Multinomial):
        return outputs, np.eye(k)[rng.integers(k, size=n)]
    if loss in SIGNS:
        return outputs, rng.choice([-1.0, 1.0], size=(n, k))
    return outputs, rng.uniform(0, 1, size=(n, k))


@pytest.mark.parametrize("loss", [*SIGNS, Multinomial(), *NUMBERS], ids=lambda loss: type(loss).__name__)
def test_slopes_are_derivatives_within_their_bounds(loss):
    outputs, targets = rows(loss)
    slopes, h = loss.slopes(outputs, targets), 1e-6
    assert slopes.shape == outputs.shape and loss.values(outputs, targets).shape == (400,)
    for j in range(outputs.shape[1]):
        up, down = outputs.copy(), outputs.copy()
        up[:, j] += h
        down[:, j] -= h
        rises = (loss.values(up, targets) - loss.values(down, targets)) / (2 * h)
        smooth = np.abs(np.abs(rises - slopes[:, j])) < 1e-4
        assert smooth.mean() > 0.99, "but for rows that stand at a kink"
    norms = np.linalg.norm(slopes, axis=1) if isinstance(loss, Multinomial) else np.abs(slopes).max(axis=1)
    assert norms.max() <= loss.slope_bound
    if math.isfinite(loss.slope_bound):
        assert norms.max() > 0.9 * loss.slope_bound, "the bound is tight"
    if math.isfinite(loss.curvature):
        near = outputs + np.random.default_rng(1).normal(scale=1e-3, size=outputs.shape)
        moved = np.linalg.norm(loss.slopes(near, targets) - slopes, axis=1) / np.linalg.norm(near - outputs, axis=1)
        assert moved.max() <= loss.curvature * (1 + 1e-6) and moved.max() > 0.5 * loss.curvature


@pytest.mark.parametrize("loss", [*SIGNS, Multinomial(), *NUMBERS], ids=lambda loss: type(loss).__name__)
def test_huge_outputs_stay_finite_or_are_seen(loss):
    outputs, targets = rows(loss, spread=1e4)
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(loss.slopes(outputs, targets)).all() and np.isfinite(loss.values(outputs, targets)).all()


def test_losses_are_those_of_scikit_learn():
    outputs, targets = rows(Multinomial())
    z = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    assert Multinomial().values(outputs, targets).mean() == pytest.approx(log_loss(targets.argmax(1), z))
    outputs, targets = rows(Logistic(), k=1)
    p = 1 / (1 + np.exp(-outputs[:, 0]))
    assert Logistic().values(outputs, targets).mean() == pytest.approx(log_loss(targets[:, 0], p))
    assert Hinge().values(outputs, targets).mean() == pytest.approx(hinge_loss(targets[:, 0], outputs[:, 0]))
    outputs, counts = -np.abs(outputs), np.random.default_rng(0).uniform(0.1, 1, size=outputs.shape)
    least = counts - counts * np.log(counts)  # of a count by itself: half the deviance starts there
    deviance = 2 * (Poisson().values(outputs, counts) - least[:, 0]).mean()
    assert deviance == pytest.approx(mean_poisson_deviance(counts, np.exp(outputs)))


@pytest.mark.parametrize("l1", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("free", [0, 1])
def test_the_proximal_step_is_the_minimum(l1, free):
    coef = np.random.default_rng(0).normal(size=(2, 4))
    penalty, step = Penalty(0.7, l1, free), 0.8
    found = penalty.prox(coef, step)

    def objective(flat):
        w = flat.reshape(coef.shape)
        return step * penalty.value(w) + np.square(w - coef).sum() / 2

    best = minimize(objective, coef.ravel(), method="Powell", options={"xtol": 1e-10, "ftol": 1e-14, "maxiter": 10**5})
    assert objective(found.ravel()) <= best.fun + 1e-9
    np.testing.assert_allclose(found.ravel(), best.x, atol=1e-4)
    if free:
        np.testing.assert_array_equal(found[:, -1], coef[:, -1])


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: resolve_loss("log", "binary"), "loss='log' must be one of 'log_loss'"),
        (lambda: resolve_loss("log_loss", "regression"), "loss='log_loss' must be one of 'squared_error'"),
        (lambda: resolve_loss(Huber(-1.0), "regression"), "scale must be positive"),
        (lambda: resolve_penalty("l3", 1.0, 0.5, 0), "penalty='l3'"),
        (lambda: resolve_penalty("l2", -1.0, 0.5, 0), "alpha=-1.0"),
        (lambda: resolve_penalty("elasticnet", 1.0, 2.0, 0), "l1_ratio=2.0"),
    ],
)
def test_what_makes_no_sense_is_named(call, names):
    with pytest.raises(ValueError, match=names):
        call()
    assert resolve_loss("log_loss", "multiclass") == Multinomial()
