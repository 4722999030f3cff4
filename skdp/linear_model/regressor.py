"""`DPLinearRegressor`: private linear regression."""

from __future__ import annotations

from typing import Any

import numpy as np

from skdp.linear_model.base import LinearRegressorMixin
from skdp.linear_model.central import CentralFit
from skdp.linear_model.losses import Poisson
from skdp.neural_network.bounds_text import bounds_in_words
from skdp.neural_network.estimates import Estimates
from skdp.neural_network.problem import Problem

__all__ = ["DPLinearRegressor"]


class DPLinearRegressor(LinearRegressorMixin, CentralFit):
    r"""Differentially private linear regression, for one or several targets.

    Minimises the mean loss over all rows plus a penalty on the coefficients, privately. Columns and targets are mapped
    to [-1, 1], counts of ``loss="poisson"`` to [0, 1].

    Parameters
    ----------
    solver : {"auto", "gradient-descent", "boosted-adassp", "adassp"}, default="auto"
        "auto" is gradient descent, which takes every loss and penalty (without noise, the closed solution where there
        is one). *AdaSSP* solves noisy normal equations with a ridge that follows the noise; *boosted* takes rounds of
        clipped residuals in place of one, with one noisy Gram matrix. Both are for ``loss="squared_error"`` and an l2
        penalty, and for large budgets.
    loss : {"squared_error", "huber", "absolute_error", "poisson"} or Huber, default="squared_error"
        The squared error counts by half. ``Huber(scale)`` is in units of half the range of y.
    penalty : {"l2", "l1", "elasticnet", None}, default="l2"
    alpha : float, default=1e-4
        Strength of the penalty, relative to the *mean* loss, on columns and targets mapped to [-1, 1];
        `sklearn.linear_model.Ridge` has ``n * alpha``. The intercept is free.
    l1_ratio : float, default=0.15
        Of "elasticnet".
    fit_intercept : bool, default=True
    feature_bounds : "private", (low, high), array-like of shape (n_features, 2), dict or None, default="private"
        Range of each column, which is mapped to [-1, 1]; columns with bounds of (0, 1) of their own are indicators and
        stay as they are. Public bounds cost nothing; "private" estimates them with a 4 % share of the budget; None uses
        values as they are.
        A dict has a public (low, high) for the name of every column.
    y_bounds : (low, high), array-like of shape (n_targets, 2) or None, default=None
        Range of the target; predictions stay within it. Public bounds cost nothing; None estimates them with a 4 %
        share of the budget.
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
        Clip norm of gradients in gradient descent; length to which rows are shortened otherwise.
        "auto" goes by how long rows usually are, and takes sparse ones to be short.
    max_iter : int or "auto", default="auto"
        Steps of gradient descent, or rounds. More of them cost no privacy: they share one noise.
    on_invalid : {"raise", "null"}, default="raise"
        Rows with missing or infinite values: an error that names the column, or rows that count for nothing.
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    coef_ : ndarray of shape (n_targets, n_features)
        For values and targets as they came, within `feature_bounds_` and `y_bounds_`.
    coef_noise_std_ : ndarray of shape (n_targets, n_features)
        Standard deviation of the privacy noise in each coefficient. For "adassp" and "boosted-adassp" an estimate from
        the released moments; for "gradient-descent" the most that it can be, which is reached where few rows inform a
        column, while elsewhere the noise is far less; it may be exceeded where rows are longer than `max_grad_norm`
        takes them to be. That these are some rows and not others comes on top.
    intercept_ : ndarray of shape (n_targets,)
    privacy_ : PrivacyStatement
    n_iter_ : int
        Steps or rounds.
    feature_bounds_ : ndarray of shape (n_features, 2) or None
    y_bounds_ : ndarray of shape (n_targets, 2)
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        When X has column names.

    See Also
    --------
    DPLinearClassifier : The same for labels.
    skdp.DPRegressor : Nets, which bend.

    Notes
    -----
    *Formal guarantee.* Bounds and training are Gaussian releases with a share of the squared signal each; they compose
    exactly. Sensitivities are in `skdp.linear_model.gradient_descent` and `skdp.linear_model.sufficient_statistics`.

    Examples
    --------
    >>> import numpy as np
    >>> from skdp.linear_model import DPLinearRegressor
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(5000, 3))
    >>> y = 3 * X[:, 0] - X[:, 1]
    >>> model = DPLinearRegressor(epsilon=1.0, feature_bounds=(-1, 1), y_bounds=(-4, 4)).fit(X, y)
    >>> model.score(X, y) > 0.9, model.privacy_.epsilon <= 1.0
    (True, True)
    """

    _solvers = ("gradient-descent", "boosted-adassp", "adassp")

    def __init__(
        self,
        solver: str = "auto",
        *,
        loss: Any = "squared_error",
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        feature_bounds: Any = "private",
        y_bounds: Any = None,
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
        self.feature_bounds = feature_bounds
        self.y_bounds = y_bounds
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
    def _missing(self) -> tuple[str, ...]:
        return super()._missing() + (("target bounds",) if self.y_bounds is None else ())

    def _given_estimates(self, problem: Problem) -> Estimates:
        given = super()._given_estimates(problem)
        if self.y_bounds is not None:
            given.target_bounds = self._given_target_bounds(problem.public.n_outputs)
        return given

    def _given_facts(self, problem: Problem, given: Estimates) -> list[str]:
        bounds = [] if given.target_bounds is None else [f"bounds of y: {bounds_in_words(given.target_bounds)}"]
        return super()._given_facts(problem, given) + bounds

    def _released_facts(self, touches: Any, found: Estimates) -> list[str]:
        bounds = [f"bounds of y: {bounds_in_words(found.target_bounds)}"] if "target bounds" in touches else []
        return super()._released_facts(touches, found) + bounds

    def _trained(self, problem: Problem, found: Estimates, executor: Any, scale: float | None) -> Any:
        if isinstance(self._loss("regression"), Poisson) and self.y_bounds is None:
            # The least count is 0 whatever was seen.
            high = np.maximum(found.target_bounds[:, 1], 1.0)
            found.target_bounds = np.column_stack([np.zeros_like(high), high])
        return super()._trained(problem, found, executor, scale)

    def _set(self, problem: Problem, coef: np.ndarray, found: Estimates, noise: np.ndarray) -> None:
        self.y_bounds_ = found.target_bounds
        self._one_target = problem.targets.ndim == 1
        super()._set(problem, coef, found, noise)
