"""Nets for images against arithmetic that is written out, and the scales and shapes that they take."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skdp import DPClassifier
from skdp.contract import Public
from skdp.nets import ScatterLinear, TabularNet, TanhCNN, resolve_module
from skdp.nets.wavelets import Scattering, morlet
from skdp.training import PerExample

SHAPES = [(1, 28, 28), (28, 28), (3, 17, 22)]


def public(shape, outputs=10):
    return Public(n=1000, input_shape=shape, n_outputs=outputs, task="multiclass")


def pictures(n, *shape, seed=0):
    """Blurred noise."""
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2)


# ------------------------------------------------------------------ scattering
def test_shapes_of_the_coefficients():
    assert Scattering(28, 28)(torch.zeros(2, 3, 28, 28)).shape == (2, 3, 81, 7, 7)
    assert Scattering(9, 18)(torch.zeros(0, 1, 9, 18)).shape == (0, 1, 81, 3, 5)
    assert Scattering(13, 30)(torch.zeros(70, 1, 13, 30)).shape == (70, 1, 81, 4, 8)


def test_wavelets_have_no_mean_and_together_take_no_energy_twice():
    power = 0
    for octave in range(2):
        for angle in range(8):
            real, imaginary = morlet(octave, angle)
            assert abs(real.sum()) < 1e-12 and abs(imaginary.sum()) < 1e-12
            one = torch.fft.fft2(torch.complex(real, imaginary), (64, 64)).abs().square()
            power = power + (one + torch.roll(one.flip(0, 1), (1, 1), (0, 1))) / 2
    frequency = 2 * torch.pi * torch.fft.fftfreq(64)
    low = torch.exp(-((3.2 * frequency[:, None]) ** 2) - (3.2 * frequency[None, :]) ** 2)
    assert 0.9 < (power + low).max() <= 1 + 1e-6


def test_coefficients_are_the_local_means_of_moduli_of_convolutions():
    """First and second order at one place, by sums over pixels."""
    x = pictures(1, 1, 28, 28)
    found = Scattering(28, 28)(x)[0, 0, :, 3, 3].double()
    image = torch.nn.functional.pad(x, (8,) * 4, mode="reflect")[0, 0].double()

    def convolved(image, octave, angle, v, h):
        real, imaginary = morlet(octave, angle)
        reach = 4 * 2**octave
        patch = image[v - reach : v + reach + 1, h - reach : h + reach + 1]
        return torch.hypot((patch * real).sum(), (patch * imaginary).sum())

    def mean(values, step):
        weight = torch.exp(-0.5 * ((torch.arange(0, 28, step) - 13.5) / 3.2).double() ** 2)
        weight = weight / weight.sum()
        return weight @ values @ weight

    def maps(image, octave, angle, step):
        at = range(8, 36, step)
        return torch.stack([torch.stack([convolved(image, octave, angle, v, h) for h in at]) for v in at])

    fine = maps(image, 0, 2, 1)
    inner = torch.nn.functional.pad(fine[None, None], (8,) * 4, mode="reflect")[0, 0]
    expected = torch.stack(
        [mean(x[0, 0].double(), 1), mean(fine, 1), mean(maps(image, 1, 5, 2), 2), mean(maps(inner, 1, 5, 2), 2)]
    )
    torch.testing.assert_close(found[[0, 1 + 2, 9 + 5, 17 + 8 * 2 + 5]], expected, rtol=1e-4, atol=1e-6)


def test_energy_does_not_grow_and_a_plain_image_has_first_means_only():
    x = pictures(20, 1, 32, 32)
    coefficients = Scattering(32, 32)(x)
    energy = 16 * coefficients.square().flatten(1).sum(1)
    assert (energy <= x.square().flatten(1).sum(1)).all() and (energy > 0.2 * x.square().flatten(1).sum(1)).all()
    plain = Scattering(28, 28)(torch.full((1, 1, 28, 28), 3.0))[0, 0]
    torch.testing.assert_close(plain[0], torch.full((7, 7), 3.0))
    assert plain[1:].abs().max() < 1e-5


def test_a_small_shift_moves_coefficients_less_than_pixels():
    x = torch.randn(5, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    moved = torch.roll(x, 1, 3)
    coefficients, shifted = Scattering(40, 40)(x), Scattering(40, 40)(moved)

    def change(a, b):
        return float((a - b).norm() / a.norm())

    assert change(x, moved) > 1.2 and change(coefficients[:, :, 1:], shifted[:, :, 1:]) < 0.3


def test_features_do_not_depend_on_scale_batch_or_channel_dimension():
    net = ScatterLinear().build(public((1, 20, 20)))
    x = pictures(70, 1, 20, 20)
    rows = net.features(x)
    torch.testing.assert_close(net.features(x * 80 + 120), rows, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net.features(x[66:67]), rows[66:67], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ScatterLinear().build(public((20, 20))).features(x[:, 0]), rows)
    torch.testing.assert_close(rows[:, :-1].norm(dim=1), torch.ones(70))
    plain = net.features(torch.full((1, 1, 20, 20), 7.0))
    assert torch.isfinite(plain).all() and (plain[:, :-1] == 0).all()


# ------------------------------------------------------------------ both nets
def test_the_published_number_of_parameters():
    assert sum(p.numel() for p in TanhCNN().build(public((1, 28, 28))).parameters()) == 26010


@pytest.mark.parametrize("spec", [TanhCNN(), TanhCNN(channels=(4, 6), hidden_units=5), ScatterLinear()], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_first_prediction_is_the_prior(spec, shape):
    outputs = clone(spec).build(public(shape))(torch.rand(3, *shape))
    assert outputs.shape == (3, 10) and (outputs == 0).all()


@pytest.mark.parametrize("spec", [TanhCNN(channels=(3, 4), hidden_units=5), ScatterLinear()], ids=str)
def test_gradients_of_records_are_those_of_autograd(spec):
    torch.manual_seed(0)
    net = pickle.loads(pickle.dumps(spec)).build(public((2, 14, 15), outputs=3))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, y = torch.rand(4, 2, 14, 15), torch.arange(4) % 3

    def losses(x, y):
        return torch.nn.functional.cross_entropy(net(x), y, reduction="none")

    with PerExample(net) as per_example:
        squared = sum(per_example.backward(losses(x, y)).squared_norms())
    alone = [torch.autograd.grad(losses(x[i : i + 1], y[i : i + 1]).sum(), list(net.parameters())) for i in range(4)]
    expected = torch.stack([sum(g.square().sum() for g in gradients) for gradients in alone])
    torch.testing.assert_close(squared, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        (TanhCNN(), (1, 8, 28), r"TanhCNN needs images of at least 14 x 14 pixels; these have 8 x 28"),
        (ScatterLinear(), (8, 8), r"ScatterLinear needs images of at least 9 x 9 pixels; these have 8 x 8"),
        (ScatterLinear(), (28, 28, 3), r"channels last; pass X.transpose\(0, 3, 1, 2\), of shape \(n, 3, 28, 28\)"),
        (TanhCNN(), (784,), r"TanhCNN needs images, records of shape .*; these have shape \(784,\)"),
        (TanhCNN(channels=3), (28, 28), r"TanhCNN\(channels=3\) must be two positive whole numbers"),
        (TanhCNN(hidden_units=0), (28, 28), r"TanhCNN\(hidden_units=0\) must be a positive whole number"),
        (ScatterLinear(noise=-1), (28, 28), r"ScatterLinear\(noise=-1\) must be a positive number"),
    ],
)
def test_what_makes_no_sense_is_named(spec, shape, message):
    with pytest.raises(ValueError, match=message):
        spec.build(public(shape))


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((1, 28, 28), ScatterLinear), ((3, 9, 9), ScatterLinear), ((28, 28), ScatterLinear), ((28, 28, 3), ScatterLinear),
     ((784,), TabularNet), ((5, 28), TabularNet), ((2, 8, 8), TabularNet), ((), TabularNet)],
)  # fmt: skip
def test_the_default_follows_from_the_shape(shape, kind):
    assert type(resolve_module(None, shape)) is kind
    assert type(resolve_module("mlp", shape)).__name__ == "MLP"


# ------------------------------------------------------------------ fits
def stripes(n, seed=0):
    """Bytes: stripes from left to right or from top to bottom."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    wave = 60 * np.sin(np.arange(14)[None] + rng.uniform(0, 6, n)[:, None])
    x = np.where(y[:, None, None] == 1, wave[:, None, :], wave[:, :, None]) + rng.normal(0, 30, (n, 14, 14)) + 128
    return x.clip(0, 255).astype(np.uint8), y


@pytest.mark.parametrize(("module", "epochs"), [(None, 40), ("cnn", 25)])
def test_bytes_fit_as_they_are(module, epochs):
    X, y = stripes(600)
    model = DPClassifier(module=module, classes=[0, 1], epsilon=8, max_epochs=epochs, random_state=0).fit(X, y)
    assert model.score(*stripes(300, seed=1)) > 0.8
    assert model.feature_bounds_.tolist() == [[0, 255]] and model.privacy_.epsilon <= 8
    assert any("between 0 and 255" in fact for fact in model.privacy_.public)
    assert "feature bounds: (0, 255)" in model.privacy_.public, "given, not estimated"
    with pytest.raises(ValueError, match=r"rows of shape \(1, 14, 14\), but .* of shape \(14, 14\): pass X\[:, 0\]"):
        model.predict(X[:, None])


def test_floats_are_taken_as_they_are():
    X, y = stripes(200)
    model = DPClassifier(classes=[0, 1], max_epochs=2).fit(X[:, None] / 255, y)
    assert model.feature_bounds_ is None and not any("255" in fact for fact in model.privacy_.public)
    with pytest.raises(ValueError, match=r"of shape \(1, 14, 14\): pass X\[:, None\]"):
        model.predict(X / 255)


def test_nested_parameters_are_searched():
    X, y = stripes(150)
    model = DPClassifier(module=TanhCNN(channels=(2, 2)), classes=[0, 1], epsilon=8, max_epochs=2, batch_size=50)
    search = GridSearchCV(model, {"module__hidden_units": [2, 3]}, cv=2, refit=False).fit(X, y)
    assert len(search.cv_results_["mean_test_score"]) == 2
