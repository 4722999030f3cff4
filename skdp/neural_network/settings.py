"""The numbers of a fit that the user left at ``"auto"``, from public quantities only."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from skdp.contract import Public
from skdp.mechanisms.base import steps_per_epoch
from skdp.nets import TabularNet
from skdp.nets.step_length import capped_signal, count_variables
from skdp.neural_network.recipe import Recipe, auto_recipe, full_batches

__all__ = ["resolve_settings", "steps_per_epoch"]

_SIGNAL_PER_CLIP = 15.0


def resolve_settings(
    public: Public, mu: float, spec: Any, given: dict[str, Any], epochs: int | None, clipping: str = "flat"
) -> Recipe:
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
    clipping : str
        How gradients are brought under the clip norm.
    """
    signal = mu * public.n
    go = spec.step_length(public, signal) if hasattr(spec, "step_length") else None
    if isinstance(spec, TabularNet):
        auto = auto_recipe(spec.informed(public), signal)
    elif go is not None:
        auto = full_batches(public, go)
    else:
        auto = _for_any_net(public, capped_signal(public, signal), spec, clipping)
    clip = given.get("max_grad_norm") or _clip_norm(auto.max_grad_norm, public, spec, clipping)
    # The learning rate is in units of the clip norm, so that the noise in the weights does not depend on it.
    settings = replace(auto, **{"max_grad_norm": clip, "lr": auto.lr * auto.max_grad_norm / clip, **given})
    if epochs is not None:
        settings = replace(settings, steps=epochs * steps_per_epoch(settings.sampling_rate))
    return settings


def _clip_norm(flat: float, public: Public, spec: Any, clipping: str) -> float:
    """Clip norm where `flat` suits flat clipping."""
    if clipping != "global":
        return flat
    # No gradient may be longer, or its record is dropped: residual times the norm of what the last layer is given.
    norm = spec.row_norm(public) if hasattr(spec, "row_norm") else math.inf
    if math.isinf(norm):
        raise ValueError(
            f"clipping='global' drops gradients longer than max_grad_norm, and for module={type(spec).__name__} nobody "
            "knows how long they can be; pass max_grad_norm, or use another clipping"
        )
    return norm * {"binary": 1.0, "multiclass": 2**0.5}.get(public.task, public.n_outputs**0.5)


def _for_any_net(public: Public, signal: float, spec: Any, clipping: str) -> Recipe:
    """Values that suited linear models and small perceptrons on tables and images.

    Small data is trained on in full batches, which cost no more privacy than one release; the learning rate is in
    units of the clip norm and grows slowly with the signal. Clipping classifiers below the norms that gradients have at
    the start leaves probabilities worse than the prior; with little signal that is the smaller harm.
    """
    if public.n < 3000:
        rate, steps = 1.0, 100
    else:
        rate, steps = min(1.0, max(0.05, 512 / public.n)), 400
    lr = min(0.6, max(0.05, 0.5 * (signal / 1e4) ** 0.35))
    clip = 1.0
    if public.task != "regression" and hasattr(spec, "usual_norm"):
        per_variable = signal / max(count_variables(public), 1)
        # Residuals start at one half; automatic clipping shortens gradients well before its clip norm.
        residual = 1.0 if clipping == "automatic" else 0.5
        clip = max(1.0, min(per_variable / _SIGNAL_PER_CLIP, spec.usual_norm(public) * residual))
    return Recipe(rate, steps, lr / clip, 0.9, clip, 0.25)
