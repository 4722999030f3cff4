"""Optimizers by name, class and specification; the corrected Adam against its closed form."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skdp.optimizers import SGD, Adam, AdamBC, DPAdam, Optimizer, resolve_optimizer


def train(optimizer, parameter, gradients, noise_stds=None):
    for k, gradient in enumerate(gradients):
        if noise_stds is not None:
            optimizer.param_groups[0]["noise_std"] = noise_stds[k]
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return parameter.detach().numpy()


def closed_form(gradients, noise_stds, lr, beta1, beta2, floor):
    """DP-AdamBC with the moments written as explicit sums."""
    theta = np.zeros(gradients.shape[1])
    for t in range(1, len(gradients) + 1):
        age = t - np.arange(1, t + 1)
        first = ((1 - beta1) * beta1**age) @ gradients[:t] / (1 - beta1**t)
        second = ((1 - beta2) * beta2**age) @ (gradients[:t] ** 2) / (1 - beta2**t)
        noise = ((1 - beta2) * beta2**age) @ np.square(noise_stds[:t]) / (1 - beta2**t)
        theta = theta - lr * first / np.sqrt(np.maximum(second - noise, floor))
    return theta


@pytest.mark.parametrize("stds", [np.zeros(30), np.full(30, 0.4), np.linspace(0.1, 0.8, 30)])
def test_corrected_adam_is_its_closed_form(stds):
    gradients = np.random.default_rng(0).standard_normal((30, 5))
    parameter = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    optimizer = AdamBC([parameter], lr=0.05, betas=(0.8, 0.95), eps_root=1e-3)
    expected = closed_form(gradients, stds, 0.05, 0.8, 0.95, 1e-3)
    np.testing.assert_allclose(train(optimizer, parameter, gradients, stds), expected, rtol=1e-9)


def test_without_noise_it_is_adam():
    gradients = np.random.default_rng(1).standard_normal((20, 4))
    ours, theirs = (torch.nn.Parameter(torch.zeros(4, dtype=torch.float64)) for _ in range(2))
    a = train(DPAdam(eps_root=1e-16).build([ours], lr=0.1), ours, gradients)
    b = train(torch.optim.Adam([theirs], lr=0.1, eps=1e-12), theirs, gradients)
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_correction_removes_the_bias_of_noise():
    """With a small gradient under large noise, plain Adam's second moment is the noise's; the corrected is not."""
    rng = np.random.default_rng(2)
    signal, std, steps = 0.1, 1.0, 8_000
    gradients = signal + std * rng.standard_normal((steps, 1))
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = AdamBC([parameter], lr=1e-6, betas=(0.9, 0.9999), eps_root=1e-12)
    train(optimizer, parameter, gradients, np.full(steps, std))
    state = optimizer.state[parameter]
    corrected = float((state["square"] - state["noise"]) / (1 - 0.9999**steps))
    raw = float(state["square"] / (1 - 0.9999**steps))
    # Standard error of the mean square over about 10,000 steps is .014.
    assert corrected == pytest.approx(signal**2, abs=0.07)
    assert raw == pytest.approx(signal**2 + std**2, abs=0.07)


def test_parameters_without_gradient_are_left_alone():
    parameter = torch.nn.Parameter(torch.ones(2))
    AdamBC([parameter], lr=1.0, betas=(0.9, 0.999), eps_root=1e-8).step()
    assert (parameter == 1).all()


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("sgd", torch.optim.SGD),
        ("adam", torch.optim.Adam),
        ("dp-adam", AdamBC),
        (torch.optim.RMSprop, torch.optim.RMSprop),
        (Optimizer(torch.optim.AdamW, weight_decay=0.1), torch.optim.AdamW),
        (SGD(momentum=0.5), torch.optim.SGD),
        (Adam(betas=(0.5, 0.9)), torch.optim.Adam),
    ],
)
def test_every_way_to_name_an_optimizer(given, kind):
    built = resolve_optimizer(given).build([torch.nn.Parameter(torch.zeros(2))], lr=0.3)
    assert type(built) is kind and built.param_groups[0]["lr"] == 0.3


def test_specifications_are_tunable():
    specification = Optimizer(torch.optim.AdamW, weight_decay=0.1)
    assert clone(specification).set_params(betas=(0.5, 0.9)).get_params() == {
        "optimizer": torch.optim.AdamW, "weight_decay": 0.1, "betas": (0.5, 0.9),
    }  # fmt: skip
    assert specification.get_params()["weight_decay"] == 0.1
    assert pickle.loads(pickle.dumps(specification)).get_params() == specification.get_params()
    built = clone(SGD(nesterov=True)).set_params(momentum=0.3).build([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert built.defaults["momentum"] == 0.3 and built.defaults["nesterov"]
    built = clone(DPAdam(betas=(0.1, 0.2))).build([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert tuple(built.defaults["betas"]) == (0.1, 0.2)


@pytest.mark.parametrize("given", ["lion", SGD, 3, torch.nn.Linear, None])
def test_unknown_optimizers_are_named(given):
    with pytest.raises(ValueError, match=r"optimizer=.* must be one of 'sgd', 'adam', 'dp-adam'"):
        resolve_optimizer(given)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"optimizer SGD: .*momentun.*it knows .*momentum"):
        Optimizer(torch.optim.SGD, momentun=0.9).build([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="betas="):
        DPAdam(betas=(1.0, 0.9)).build([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="eps_root=0"):
        DPAdam(eps_root=0).build([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_adam_corrects_each_coordinate_for_its_own_noise():
    """As if every coordinate were a parameter of its own, with its own level."""
    gradients = [np.random.default_rng(k).standard_normal(6) for k in range(4)]
    levels = [np.random.default_rng(10 + k).uniform(0, 1, 6) for k in range(4)]

    def train(weights, cut):
        optimizer = AdamBC(weights, lr=0.1, betas=(0.9, 0.99), eps_root=1e-8)
        for gradient, level in zip(gradients, levels, strict=True):
            optimizer.param_groups[0]["noise_std"] = cut(torch.tensor(level))
            for weight, part in zip(weights, cut(torch.tensor(gradient)), strict=True):
                weight.grad = part.clone()
            optimizer.step()
        return torch.cat([w.detach() for w in weights])

    whole = train([torch.nn.Parameter(torch.zeros(6, dtype=torch.float64))], lambda t: [t])
    single = train(
        [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(6)], lambda t: list(t.split(1))
    )
    mixed = train([torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (5, 1)], lambda t: [t[:5], t[5:]])
    assert torch.equal(whole, single) and torch.equal(whole, mixed)
    assert not torch.allclose(
        whole, train([torch.nn.Parameter(torch.zeros(6, dtype=torch.float64))], lambda t: [0 * t])
    )
