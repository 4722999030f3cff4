"""`DPLinearClassifier`: private logistic regression and support vector machines."""

from __future__ import annotations

from typing import Any

import numpy as np

from skdp.linear_model.base import LinearClassifierMixin
from skdp.linear_model.central import CentralFit
from skdp.linear_model.losses import Logistic
from skdp.neural_network.estimates import Estimates
from skdp.neural_network.problem import Problem

__all__ = ["DPLinearClassifier"]


class DPLinearClassifier(LinearClassifierMixin, CentralFit):
    r"""Differentially private linear classifier.

    Minimises the mean loss over all rows plus a penalty on the coefficients, privately.

    Parameters
    ----------
    solver : {"auto", "gradient-descent", "objective-perturbation"}, default="auto"
        "auto" is gradient descent, which takes every loss, penalty and number of classes (without noise, the exact
        minimum where there is a solver for it). *Objective perturbation* finds the minimum of an objective with a
        random linear term, for two classes or one against the rest, with ``loss="log_loss"`` and an l2 penalty.
    loss : {"log_loss", "hinge", "squared_hinge"}, default="log_loss"
        With more than two classes, "log_loss" is the multinomial one by gradient descent, and others are one against
        the rest.
    penalty : {"l2", "l1", "elasticnet", None}, default="l2"
    alpha : float, default=1e-4
        Strength of the penalty, relative to the *mean* loss, on columns mapped to [-1, 1]; scikit-learn's ``C`` is
        ``1 / (n * alpha)``. The intercept is free.
    l1_ratio : float, default=0.15
        Of "elasticnet".
    fit_intercept : bool, default=True
    classes : array-like, optional
        All labels that can occur. Public knowledge; when it is not given the labels are read from y, with a
        `PrivacyLeakWarning`.
    class_weight : dict, "balanced" or None, default=None
        A dict is public. "balanced" spends a 2 % share of the budget on noisy class counts. Weights are taken relative
        to the largest.
    feature_bounds : "private", (low, high), array-like of shape (n_features, 2), dict or None, default="private"
        Range of each column, which is mapped to [-1, 1]; columns with bounds of (0, 1) of their own are indicators and
        stay as they are. Public bounds cost nothing; "private" estimates them with a 4 % share of the budget; None uses
        values as they are.
        A dict has a public (low, high) for the name of every column.
    epsilon : float or None, default=1.0
        Privacy budget of one `fit`; ``float("inf")`` trains without privacy. None together with `noise_multiplier`.
    delta : float or "auto", default="auto"
        Probability that the guarantee may fail; "auto" is the largest power of ten at most 1/(10 n).
    adjacency : {"zero-out", "replace-one", "add-remove"}, default="zero-out"
        What neighbouring data sets differ in: one row nulled, one row replaced, or one row more.
    n_public : int, optional
        Declared number of rows; needed for (and only for) ``"add-remove"``.
    noise_multiplier : float, optional
        Instead of `epsilon`: standard deviation over sensitivity of *one* Gaussian release that costs as much as all of
        the training.
    max_grad_norm : float or "auto", default="auto"
        Most that one row adds to a sum of gradients, in L2 norm; "auto" goes by how long rows usually are, and takes
        sparse ones to be short. Gradient descent clips gradients, objective
        perturbation shortens rows.
    max_iter : int or "auto", default="auto"
        Steps of gradient descent. More of them cost no privacy: they share one noise.
    on_invalid : {"raise", "null"}, default="raise"
        Rows with missing, infinite or unknown values: an error that names the column, or rows that count for nothing.
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        For values as they came, within `feature_bounds_`.
    coef_noise_std_ : ndarray of the shape of `coef_`
        The most that the standard deviation of the privacy noise in each coefficient can be, from public numbers alone;
        it is reached where few rows inform a column, and elsewhere the noise is far less. Gradient descent may exceed
        it where rows are longer than `max_grad_norm` takes them to be. That these are some rows and not others comes on
        top.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    classes_ : ndarray of shape (n_classes,)
    privacy_ : PrivacyStatement
    n_iter_ : int
        Steps of gradient descent, 1 otherwise.
    feature_bounds_ : ndarray of shape (n_features, 2) or None
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.

    See Also
    --------
    DPLinearRegressor : The same for numbers.
    skdp.DPClassifier : Nets, which bend.

    Notes
    -----
    *Formal guarantee.* Bounds, class counts and training are Gaussian releases, or cost what one costs, with a share of
    the squared signal each; they compose exactly. Sensitivities and proofs are in
    `skdp.linear_model.gradient_descent` and `skdp.accounting.objective`.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skdp.linear_model import DPLinearClassifier
    >>> X, y = make_classification(5000, 8, random_state=0)
    >>> model = DPLinearClassifier(epsilon=1.0, classes=[0, 1], feature_bounds=(-4, 4)).fit(X, y)
    >>> model.score(X, y) > 0.8, model.privacy_.epsilon <= 1.0
    (True, True)
    """

    _solvers = ("gradient-descent", "objective-perturbation")

    def __init__(
        self,
        solver: str = "auto",
        *,
        loss: str = "log_loss",
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        classes: Any = None,
        class_weight: Any = None,
        feature_bounds: Any = "private",
        epsilon: float | None = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        max_grad_norm: float | str = "auto",
        max_iter: int | str = "auto",
        on_invalid: str = "raise",
        insecure_noise_seed: int | None = None,
    ):
        self.solver = solver
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.classes = classes
        self.class_weight = class_weight
        self.feature_bounds = feature_bounds
        self.epsilon = epsilon
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.noise_multiplier = noise_multiplier
        self.max_grad_norm = max_grad_norm
        self.max_iter = max_iter
        self.on_invalid = on_invalid
        self.insecure_noise_seed = insecure_noise_seed

    # ------------------------------------------------------------------ parts of the fit
    def _loss(self, task: str) -> Any:
        loss = super()._loss(task)
        if self.solver == "objective-perturbation" and self.loss == "log_loss":
            return Logistic()  # one against the rest
        return loss

    def _missing(self) -> tuple[str, ...]:
        return super()._missing() + (("class counts",) if isinstance(self.class_weight, str) else ())

    def _given_estimates(self, problem: Problem) -> Estimates:
        given = super()._given_estimates(problem)
        weights = self.class_weight
        if isinstance(weights, str) and weights != "balanced":
            raise ValueError(f"class_weight={weights!r} must be None, 'balanced', or a dict of label to weight")
        given.class_weights = None if isinstance(weights, str) else self._class_weights(problem.classes)
        return given

    def _given_facts(self, problem: Problem, given: Estimates) -> list[str]:
        weights = ["class weights"] if isinstance(self.class_weight, dict) else []
        return super()._given_facts(problem, given) + weights

    def _set(self, problem: Problem, coef: np.ndarray, found: Estimates, noise: np.ndarray) -> None:
        self.classes_ = problem.classes
        self._one_against_rest = isinstance(self._loss(problem.public.task), Logistic)
        super()._set(problem, coef, found, noise)
