"""`DPADMMRegressor`: a linear regression over sites that show no row to each other."""

from __future__ import annotations

from typing import Any

from skdp.linear_model.admm.fitting import ADMMEstimator
from skdp.linear_model.base import LinearRegressorMixin

__all__ = ["DPADMMRegressor"]


class DPADMMRegressor(LinearRegressorMixin, ADMMEstimator):
    r"""Linear regression trained by private ADMM, over rows that stay at their sites.

    Parameters
    ----------
    loss : {"squared_error", "huber", "absolute_error", "poisson"} or Huber, default="squared_error"
        "huber" is linear beyond a residual of .1, where targets are mapped to [-1, 1]; `skdp.linear_model.Huber` sets
        another. "poisson" is about counts, with the logarithm as link.
    penalty, alpha, l1_ratio, fit_intercept
        As for `DPADMMClassifier`.
    y_bounds : (low, high) or array-like of shape (n_targets, 2)
        Public range of each target, from domain knowledge; targets beyond it count as its end. (0, largest) for counts.
    n_agents, epsilon, delta, adjacency, n_public, noise_multiplier, max_sites_per_person
        As for `DPADMMClassifier`.
    max_grad_norm, rounds, rho, schedule, momentum, sampling_rate, average, feature_bounds
        As for `DPADMMClassifier`.
    engine, n_jobs, site, store, on_invalid, verbose, insecure_noise_seed
        As for `DPADMMClassifier`.

    Attributes
    ----------
    coef_ : ndarray of shape (n_targets, n_features)
        For values as they came, within their bounds.
    intercept_ : ndarray of shape (n_targets,)
    privacy_ : PrivacyStatement
    privacy_by_site_ : dict of str to PrivacyStatement
    trace_ : list of dict
    n_iter_ : int
    n_features_in_, feature_names_in_, feature_bounds_, y_bounds_

    See Also
    --------
    DPADMMClassifier : The same for labels, with all parameters.

    Notes
    -----
    *Formal guarantee.* As for `DPADMMClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from skdp.linear_model import DPADMMRegressor
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(6000, 3))
    >>> y = 3 * X[:, 0] - X[:, 1]
    >>> DPADMMRegressor(epsilon=1.0, n_agents=3, y_bounds=(-4, 4)).fit(X, y).score(X, y) > 0.8
    True
    """

    def __init__(
        self,
        loss: Any = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        y_bounds: Any = None,
        n_agents: int | None = None,
        epsilon: Any = 1.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        max_sites_per_person: int = 1,
        max_grad_norm: float | str = "auto",
        rounds: int | str = "auto",
        rho: float | str = "auto",
        schedule: str = "auto",
        momentum: float | str = "auto",
        sampling_rate: float = 1.0,
        average: float | str = "auto",
        feature_bounds: Any = None,
        engine: str = "local",
        n_jobs: int | None = None,
        site: str | None = None,
        store: Any = None,
        on_invalid: str = "raise",
        verbose: int = 0,
        insecure_noise_seed: int | None = None,
    ):
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.y_bounds = y_bounds
        self.n_agents = n_agents
        self.epsilon = epsilon
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.noise_multiplier = noise_multiplier
        self.max_sites_per_person = max_sites_per_person
        self.max_grad_norm = max_grad_norm
        self.rounds = rounds
        self.rho = rho
        self.schedule = schedule
        self.momentum = momentum
        self.sampling_rate = sampling_rate
        self.average = average
        self.feature_bounds = feature_bounds
        self.engine = engine
        self.n_jobs = n_jobs
        self.site = site
        self.store = store
        self.on_invalid = on_invalid
        self.verbose = verbose
        self.insecure_noise_seed = insecure_noise_seed
