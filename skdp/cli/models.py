"""The models that ``skdp baseline`` compares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Contender", "check", "contenders"]


@dataclass(frozen=True)
class Contender:
    """One model of the comparison, not yet trained.

    Parameters
    ----------
    name : str
    estimator : object
        A scikit-learn classifier.
    private : bool
        Whether it is trained with noise; the others see the rows as they are.
    """

    name: str
    estimator: Any
    private: bool


def contenders(
    epsilons: Sequence[float],
    *,
    delta: float | str,
    mechanism: str,
    device: str,
    seed: int | None,
    classes: Sequence[Any],
    bounds: Any,
    progress: Callable[[float], None],
) -> list[Contender]:
    """Models for encoded rows within `bounds`, the ordinary ones first.

    Parameters
    ----------
    epsilons : sequence of float
        One private linear model and one private default net for each.
    delta : float or "auto"
    mechanism, device : str
    seed : int or None
        Of initial weights.
    classes : sequence
        Public labels.
    bounds : ndarray of shape (n_features, 2)
        Public range of each column.
    progress : callable
        Told the share of the running fit that is done.

    Returns
    -------
    list of Contender
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from skorch.callbacks import Callback

    from skdp import DPClassifier
    from skdp.nets import Linear

    class Report(Callback):
        def on_epoch_end(self, net, **kwargs):
            progress(min(1.0, len(net.history) / net.max_epochs))

    def private(module, epsilon):
        return DPClassifier(
            module,
            mechanism=mechanism,
            epsilon=epsilon,
            delta=delta,
            # What the encoder guarantees, (0, 1) for indicators of categories among them.
            feature_bounds=bounds,
            classes=list(classes),
            device=device,
            random_state=seed,
            callbacks=[Report()],
        )

    models = [
        Contender("majority class", DummyClassifier(strategy="prior"), private=False),
        Contender("logistic regression", LogisticRegression(max_iter=2000), private=False),
    ]
    for epsilon in epsilons:
        # Without noise the same estimators are ordinary models, and must not be called anything else.
        noisy = math.isfinite(epsilon)
        for name, module in (("linear model", Linear()), ("default net", None)):
            models.append(Contender("private " * noisy + name, private(module, epsilon), private=noisy))
    return models


def check(models: Sequence[Contender], n: int, n_features: int) -> None:
    """Refuse what a private model would refuse at its fit, before any model is trained.

    Parameters
    ----------
    models : sequence of Contender
    n, n_features : int
        Public shape of the training rows.

    Raises
    ------
    ValueError, SkdpError
        A parameter, the device or the budget makes no sense.
    """
    import torch

    from skdp.accounting import resolve_delta
    from skdp.contract import Public
    from skdp.neural_network.base import DPEstimator
    from skdp.neural_network.devices import resolve_device
    from skdp.neural_network.parameters import check_parameters
    from skdp.neural_network.programme import draw_up

    public = Public(n=n, input_shape=(n_features,), n_outputs=1, task="binary")
    for estimator in (model.estimator for model in models):
        if isinstance(estimator, DPEstimator):
            check_parameters(estimator)
            if estimator.device != "auto":  # which is always there, and needs the rows to choose
                torch.empty(1, device=resolve_device(estimator.device, None, None))
            # The noise is remembered by calibration, so the fit does not look for it again.
            draw_up(estimator, public, resolve_delta(estimator.delta, n), ())
