"""The models that ``skdp baseline`` compares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from skdp.accounting import PrivacyStatement, resolve_delta

__all__ = ["Contender", "check", "contenders", "table_contenders"]


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
    only: str | None = None,
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
    only : {"linear", "net"}, optional
        Leaves the other private models out.

    Returns
    -------
    list of Contender
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression

    from skdp import DPClassifier

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
            callbacks=[_reporter(progress)],
        )

    models = [
        Contender("majority class", DummyClassifier(strategy="prior"), private=False),
        Contender("logistic regression", LogisticRegression(max_iter=2000), private=False),
    ]
    return models + _private_models(epsilons, private, only)


def table_contenders(
    epsilons: Sequence[float],
    *,
    delta: float | str,
    mechanism: str,
    device: str,
    seed: int | None,
    classes: Sequence[str],
    knowledge: Mapping[str, Any],
    reference: bool,
    progress: Callable[[float], None],
    only: str | None = None,
) -> list[Contender]:
    """Models for a table as it is: pipelines that pay for what they learn of its columns from the same budget.

    Parameters
    ----------
    epsilons : sequence of float
        One private linear model and one private default net for each.
    delta : float or "auto"
    mechanism, device : str
    seed : int or None
        Of initial weights.
    classes : sequence of str
        All other labels are those of null rows.
    knowledge : mapping of str to Column
        What is public of columns.
    reference : bool
        Whether to add ordinary models, which protect nobody.
    progress : callable
        Told the share of the running fit that is done.
    only : {"linear", "net"}, optional
        Leaves the other private models out.

    Returns
    -------
    list of Contender
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from skdp import DPClassifier
    from skdp.pipeline import make_private_pipeline
    from skdp.preprocessing import DPTableVectorizer

    def private(module, epsilon):
        net = DPClassifier(
            module,
            mechanism=mechanism,
            classes=list(classes),
            on_invalid="null",
            device=device,
            random_state=seed,
            callbacks=[_reporter(progress)],
        )
        return make_private_pipeline(DPTableVectorizer(dict(knowledge)), net, epsilon=epsilon, delta=delta)

    models = []
    if reference:
        exact = make_pipeline(DPTableVectorizer(dict(knowledge), epsilon=math.inf), LogisticRegression(max_iter=2000))
        models = [
            Contender("majority class", DummyClassifier(strategy="prior"), private=False),
            Contender("logistic regression", exact, private=False),
        ]
    return models + _private_models(epsilons, private, only)


def _private_models(epsilons: Sequence[float], private: Callable, only: str | None) -> list[Contender]:
    from skdp.nets import Linear

    models = []
    for epsilon in epsilons:
        # Without noise the same estimators are ordinary models, and must not be called anything else.
        noisy = math.isfinite(epsilon)
        for kind, name, module in (("linear", "linear model", Linear()), ("net", "default net", None)):
            if only not in (None, kind):
                continue
            models.append(Contender("private " * noisy + name, private(module, epsilon), private=noisy))
    return models


def _reporter(progress: Callable[[float], None]) -> Any:
    """A callback that tells the share of a fit that is done."""
    from skorch.callbacks import Callback

    class Report(Callback):
        def on_epoch_end(self, net, **kwargs):
            progress(min(1.0, len(net.history) / net.max_epochs))

    return Report()


def check(models: Sequence[Contender], X: Any, y: Any) -> list[PrivacyStatement]:
    """Refuse what a private model would refuse at its fit, before any model is trained.

    Parameters
    ----------
    models : sequence of Contender
    X, y : table or array
        Training rows, of which the shape and the types of columns are used.

    Returns
    -------
    list of PrivacyStatement
        What each private model will cost.

    Raises
    ------
    ValueError, SkdpError
        A parameter, the device or the budget makes no sense.
    """
    import torch

    from skdp.accounting.budget import at_budget
    from skdp.contract import Public
    from skdp.neural_network.base import DPEstimator
    from skdp.neural_network.devices import resolve_device
    from skdp.neural_network.parameters import check_parameters
    from skdp.neural_network.programme import draw_up
    from skdp.pipeline import PrivatePipeline

    n, n_features = X.shape
    planned = []
    public = Public(n=n, input_shape=(n_features,), n_outputs=1, task="binary")
    for estimator in (model.estimator for model in models):
        last = estimator.steps[-1][1] if isinstance(estimator, PrivatePipeline) else estimator
        if isinstance(last, DPEstimator):
            check_parameters(last)
            if last.device != "auto":  # which is always there, and needs the rows to choose
                torch.empty(1, device=resolve_device(last.device, None, None))
        if isinstance(estimator, PrivatePipeline):
            facts = estimator.facts_of(X, y)
            delta = resolve_delta(estimator.delta, facts.n)
            # The noise is remembered by calibration, so the fit does not look for it again.
            scale, certificate = at_budget(estimator, partial(estimator.privacy_charge, facts), delta)
            charge = estimator.privacy_charge(facts, scale)
        elif isinstance(estimator, DPEstimator):
            delta = resolve_delta(estimator.delta, n)
            programme = draw_up(estimator, public, delta, ())
            charge, certificate = programme.charge, programme.certificate
        else:
            continue
        if certificate is not None:
            planned.append(
                PrivacyStatement.from_charge(
                    charge, delta, mechanism=type(estimator).__name__, n=n, target_epsilon=estimator.epsilon,
                    certificate=certificate,
                )
            )  # fmt: skip
    return planned
