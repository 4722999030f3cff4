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
    penalty : {"l2", "l1", "elasticnet", None}, default="l2"
        On the coefficients, not on the intercept; it is no part of what noise covers, and exact.
    alpha : float, default=1e-4
        Strength of the penalty, relative to the mean loss.
    l1_ratio : float, default=0.15
        Share of the absolute values in "elasticnet".
    fit_intercept : bool, default=True
    y_bounds : (low, high) or array-like of shape (n_targets, 2)
        Public range of each target, from domain knowledge; targets beyond it count as its end. (0, largest) for counts.
    n_agents : int, optional
        Number of sites, where `fit` is not told the groups: even parts by position. None is one site.
    epsilon : float, dict or None, default=1.0
        Budget of all rounds together, for the rows of each site; a dict names one for each site. ``float("inf")``
        trains without privacy. None together with `noise_multiplier` lets epsilon follow from the noise.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n), n being the rows of all sites.
    adjacency : {"zero-out", "replace-one", "add-remove"}, default="zero-out"
    n_public : int, optional
        Declared number of rows of all sites, under ``adjacency="add-remove"`` only; sites count as equally large.
    noise_multiplier : float, optional
        Standard deviation of a round's noise over the clip norm; instead of `epsilon`.
    max_sites_per_person : int, default=1
        At how many sites a person may have a row. Above 1, `privacy_` speaks of persons: it composes so many of the
        dearest sites.
    max_grad_norm : float or "auto", default="auto"
        Clip norm of a record's gradient. "auto" is the usual norm of a row times the largest slope of the loss, less
        where noise is strong.
    rounds : int or "auto", default="auto"
        With all rows in each round their number costs no privacy, only messages; "auto" is 100.
    rho : float or "auto", default="auto"
        How strongly a site is pulled to the common model.
    schedule : {"auto", "smooth", "sqrt"}, default="auto"
        Step sizes: "auto" is constant for losses without kinks; "smooth" and "sqrt" shrink them as in the paper.
    momentum : float or "auto", default="auto"
        Share of the common model's last move that sites make again; "auto" is .9 where steps are constant.
    sampling_rate : float, default=1.0
        Chance of a row to take part in a round.
    average : float or "auto", default="auto"
        Share of the last rounds whose models are averaged.
    feature_bounds : (low, high), array-like of shape (n_features, 2) or dict
        Public range of each column, the same at all sites, which is mapped to [-1, 1]. A column with bounds (0, 1) of
        its own counts as an indicator, and stays as it is.
        A dict has a public (low, high) for the name of every column.
    engine : {"local", "joblib", "torch.distributed"}, default="local"
        Whether this process looks at the rows of all sites, or processes of joblib do; or whether each process of a
        `skdp.distributed.process_group` is a site, that passes its own rows to `fit` and gets the common model.
    n_jobs : int, optional
        Of ``engine="joblib"``; None is all cores.
    site : str, optional
        Name of this site, of ``engine="torch.distributed"``; None is the number of the process.
    store : path, optional
        File of this site, of ``engine="torch.distributed"``: where it is given, a fit that was stopped goes on when all
        sites call `fit` again, and nothing is drawn or spent twice.
    on_invalid : {"raise", "null"}, default="raise"
        Rows with missing or unknown values: an error that names the column, or rows that count for nothing.
    verbose : int, default=0
        1 prints a line per round.
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    coef_ : ndarray of shape (n_targets, n_features)
        For values as they came, within their bounds.
    coef_noise_std_ : ndarray of the shape of `coef_`
        The most that the standard deviation of the privacy noise in each coefficient can be; see `DPLinearClassifier`.
    intercept_ : ndarray of shape (n_targets,)
    privacy_ : PrivacyStatement
    privacy_by_site_ : dict of str to PrivacyStatement
    trace_ : list of dict
    n_iter_ : int
    n_features_in_, feature_names_in_, feature_bounds_, y_bounds_

    See Also
    --------
    DPADMMClassifier : The same for labels.

    Notes
    -----
    *Formal guarantee.* As for `DPADMMClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from skdp.linear_model import DPADMMRegressor
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(6000, 3))
    >>> y = 3 * X[:, 0] - X[:, 1]
    >>> DPADMMRegressor(epsilon=1.0, n_agents=3, feature_bounds=(-1, 1), y_bounds=(-4, 4)).fit(X, y).score(X, y) > 0.8
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
