"""The numbers of a fit that the user left at ``"auto"``, from public quantities only."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from skdp.contract import Public
from skdp.nets import TabularNet
from skdp.nets.step_length import capped_signal
from skdp.neural_network.recipe import Recipe, auto_recipe, full_batches

__all__ = ["resolve_settings", "steps_per_epoch"]


def resolve_settings(public: Public, mu: float, spec: Any, given: dict[str, Any], epochs: int | None) -> Recipe:
    """Automatic values, then the user's own in their place.

    Parameters
    ----------
    public : Public
    mu : float
        Gaussian-DP parameter of the budget (``inf`` without noise).
    spec : object
        Module specification.
    given : dict
        Fields of `Recipe` that the user fixed.
    epochs : int or None
        The user's number of epochs.
    """
    signal = mu * public.n
    go = spec.step_length(public, signal) if hasattr(spec, "step_length") else None
    if isinstance(spec, TabularNet):
        auto = auto_recipe(spec.informed(public), signal)
    elif go is not None:
        auto = full_batches(public, go)
    else:
        auto = _for_any_net(public, capped_signal(public, signal), given.get("max_grad_norm", 1.0))
    settings = replace(auto, **given)
    if epochs is not None:
        settings = replace(settings, steps=epochs * steps_per_epoch(settings.sampling_rate))
    return settings


def steps_per_epoch(rate: float) -> int:
    """Steps after which every row was expected to take part once."""
    return max(1, math.ceil(1 / rate - 1e-9))


def _for_any_net(public: Public, signal: float, clip: float) -> Recipe:
    """Values that suited linear models and small perceptrons on tables and images.

    Small data is trained on in full batches, which cost no more privacy than one release; the learning rate is in
    units of the clip norm and grows slowly with the signal.
    """
    if public.n < 3000:
        rate, steps = 1.0, 100
    else:
        rate, steps = min(1.0, max(0.05, 512 / public.n)), 400
    lr = min(0.6, max(0.05, 0.5 * (signal / 1e4) ** 0.35))
    clip = clip if math.isfinite(clip) else 1.0
    return Recipe(rate, steps, lr / clip, 0.9, clip, 0.25)
