"""`DPClassifier`: a private classifier that works wherever scikit-learn's do."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin

from skdp.contract import Public
from skdp.neural_network.base import DPEstimator
from skdp.neural_network.fitting import Estimates
from skdp.neural_network.losses import class_probabilities
from skdp.neural_network.parameters import class_weights_array
from skdp.neural_network.problem import Problem, classification_problem, positions
from skdp.neural_network.reading import encode_features

__all__ = ["DPClassifier"]


class DPClassifier(ClassifierMixin, DPEstimator):
    """Differentially private neural network classifier.

    Parameters
    ----------
    module : None, str, torch.nn.Module class or instance, or specification, default=None
        The net. None is a default for tables (`skdp.nets.TabularNet`), or for images of shape (h, w) or (c, h, w)
        (`skdp.nets.ScatterLinear`); "linear", "mlp", "scatter", "cnn" and "text" name others. A specification such as
        ``MLP(hidden_units=(64,))`` or ``Net(MyModule, width=8)`` has parameters that a grid search can tune as
        ``module__hidden_units``.
    mechanism : str or Mechanism, default="dp-sgd"
        How the net is trained privately: ``"dp-sgd"``, ``"dpis"``, ``"rgp"``, ``"neuraldp"``, ``"dp-ftrl"``, or a
        specification such as ``RGP(rank=4)`` whose parameters are tuned as ``mechanism__rank``.
    epsilon : float or None, default=1.0
        Privacy budget of one `fit`; smaller is more private. ``float("inf")`` trains without privacy. None
        together with `noise_multiplier` lets epsilon follow from the noise.
    delta : float or "auto", default="auto"
        Probability that the guarantee may fail; "auto" is the largest power of ten at most 1/(10 n).
    adjacency : {"zero-out", "replace-one", "add-remove"}, default="zero-out"
        What neighbouring data sets differ in: one row nulled, one row replaced, or one row more.
    n_public : int, optional
        Declared number of rows; needed for (and only for) ``"add-remove"``, where the real number is private.
    noise_multiplier : float, optional
        Standard deviation of the noise over the clip norm; instead of `epsilon`.
    clipping : {"flat", "automatic", "global", "per-layer", "adaptive"}, default="flat"
        How a record's gradient is brought under the clip norm.
    max_grad_norm : float or "auto", default="auto"
        Clip norm of a record's gradient.
    batch_size : int or "auto", default="auto"
        *Expected* number of rows in a step; rows are drawn independently, so the real number varies.
    max_epochs : int or "auto", default="auto"
        Passes over the data, in expectation.
    lr : float or "auto", default="auto"
        Learning rate on the mean gradient.
    optimizer : "auto", "sgd", "adam", "dp-adam", torch.optim class or specification, default="auto"
        Specifications such as ``SGD(momentum=0.9)`` are in `skdp.optimizers`.
    lr_schedule : {None, "cosine", "linear"} or callable, default=None
        Factor on the learning rate as a function of the share of steps done.
    average : float or "auto", default="auto"
        Share of the last steps whose iterates are averaged; costs no privacy.
    classes : array-like, optional
        All labels that can occur. Public knowledge; when it is not given the labels are read from y, with a
        `PrivacyLeakWarning`.
    class_weight : dict, "balanced" or None, default=None
        A dict is public. "balanced" spends a 2 % share of the budget on noisy class counts.
    feature_bounds : "private", (low, high), array-like of shape (n_features, 2), dict or None, default="private"
        Range of each column, which is mapped to [-1, 1]. Public bounds cost nothing; "private" estimates them with
        a 4 % share of the budget; None uses values as they are. Images and tokens are never estimated.
        A dict has a public (low, high) for the name of every column.
    init_params : dict or torch.nn.Module, optional
        State to start from, for instance from training on public data.
    validation_public : tuple (X, y), optional
        *Public* rows on which scoring and early-stopping callbacks may look.
    on_invalid : {"raise", "null"}, default="raise"
        Rows with missing, infinite or unknown values: an error that names the column, or rows that count for
        nothing. A type that X or y declares for all its cells is public, and an error where it is text or dates; of
        Python objects (lists, dtype object) each is read by itself, so that a column of text nulls every row.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1", "mps", or "auto": a GPU where the work is worth it. By "cuda" and "auto" worker
        processes spread over the GPUs that are there.
    max_physical_batch_size : int or "auto", default="auto"
        Rows per backward pass; changes memory and time, never the result's distribution.
    warm_start : bool, default=False
        Go on from the weights of the last fit, and from the bounds that it found, which are not paid for again;
        `privacy_` then composes all fits.
    callbacks : list, optional
        skorch callbacks. They see the net and public values, never rows or training losses.
    verbose : int, default=0
        1 prints a line per epoch.
    random_state : int, RandomState or None, default=None
        Seeds initialisation only. Noise and sampling are seeded by the operating system, so two fits with one
        `random_state` differ: reproducible noise could be subtracted.
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    privacy_ : PrivacyStatement
        What the fit cost, with everything it rests on.
    module_ : torch.nn.Module
        The trained net.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.
    n_iter_ : int
        Epochs run.
    feature_bounds_ : ndarray of shape (n_features, 2) or None

    See Also
    --------
    DPRegressor : The same for numbers.

    Notes
    -----
    *Formal guarantee.* What `fit` publishes (all fitted attributes) is (epsilon, delta)-differentially private for
    the chosen adjacency, provided each row of X was computed from that record alone and from public values. A
    non-private scaler or encoder upstream is not covered.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skdp import DPClassifier
    >>> X, y = make_classification(2000, 8, random_state=0)
    >>> model = DPClassifier(epsilon=1.0, classes=[0, 1]).fit(X, y)
    >>> model.score(X, y) > 0.7
    True
    >>> model.privacy_.epsilon <= 1.0
    True
    """

    def __init__(
        self,
        module: Any = None,
        *,
        mechanism: Any = "dp-sgd",
        epsilon: float | None = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        clipping: str = "flat",
        max_grad_norm: float | str = "auto",
        batch_size: int | str = "auto",
        max_epochs: int | str = "auto",
        lr: float | str = "auto",
        optimizer: Any = "auto",
        lr_schedule: Any = None,
        average: float | str = "auto",
        classes: Any = None,
        class_weight: Any = None,
        feature_bounds: Any = "private",
        init_params: Any = None,
        validation_public: Any = None,
        on_invalid: str = "raise",
        device: str = "auto",
        max_physical_batch_size: int | str = "auto",
        warm_start: bool = False,
        callbacks: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        insecure_noise_seed: int | None = None,
    ):
        self.module = module
        self.mechanism = mechanism
        self.epsilon = epsilon
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.noise_multiplier = noise_multiplier
        self.clipping = clipping
        self.max_grad_norm = max_grad_norm
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.lr = lr
        self.optimizer = optimizer
        self.lr_schedule = lr_schedule
        self.average = average
        self.classes = classes
        self.class_weight = class_weight
        self.feature_bounds = feature_bounds
        self.init_params = init_params
        self.validation_public = validation_public
        self.on_invalid = on_invalid
        self.device = device
        self.max_physical_batch_size = max_physical_batch_size
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state
        self.insecure_noise_seed = insecure_noise_seed

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n, n_features) or (n, ...)

        Returns
        -------
        ndarray of shape (n,)
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, in the order of `classes_`.

        Parameters
        ----------
        X : array-like of shape (n, n_features) or (n, ...)

        Returns
        -------
        ndarray of float64 of shape (n, n_classes)
        """
        return class_probabilities(self._outputs(X)).numpy()

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits; for two classes the log-odds of the second.

        Parameters
        ----------
        X : array-like of shape (n, n_features) or (n, ...)

        Returns
        -------
        ndarray of shape (n,) or (n, n_classes)
        """
        outputs = self._outputs(X).double().numpy()
        if len(self.classes_) > 2:
            return outputs
        return outputs.ravel() if outputs.ndim == 1 or outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]

    # ------------------------------------------------------------------ parts of the fit
    def _problem(self, X: Any, y: Any, sample_weight: Any) -> Problem:
        return classification_problem(self, X, y, sample_weight)

    def _given_estimates(self, problem: Problem) -> Estimates:
        given = super()._given_estimates(problem)
        weights = self.class_weight
        if isinstance(weights, dict):
            given.class_weights = class_weights_array(weights, problem.classes)
        elif weights is not None and weights != "balanced":
            raise ValueError(f"class_weight={weights!r} must be None, 'balanced', or a dict of label to weight")
        return given

    def _missing(self, public: Public, tokens: bool = False) -> tuple[str, ...]:
        extra = ("class counts",) if isinstance(self.class_weight, str) else ()
        return super()._missing(public, tokens) + extra

    def _labels(self, outputs: torch.Tensor) -> np.ndarray:
        """Labels of raw outputs, for scoring callbacks."""
        return self.classes_[class_probabilities(outputs).cpu().numpy().argmax(axis=1)]

    def _encode_validation(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs, y = encode_features(self, X, reset=False), np.asarray(y)
        index = positions(self.classes_, y)
        if (index < 0).any():
            raise ValueError("validation_public: y holds labels that are not in classes")
        return inputs, y, index
