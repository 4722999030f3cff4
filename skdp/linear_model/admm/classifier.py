"""`DPADMMClassifier`: a linear classifier over sites that show no row to each other."""

from __future__ import annotations

from typing import Any

from skdp.linear_model.admm.fitting import ADMMEstimator
from skdp.linear_model.base import LinearClassifierMixin

__all__ = ["DPADMMClassifier"]


class DPADMMClassifier(LinearClassifierMixin, ADMMEstimator):
    r"""Linear classifier trained by private ADMM, over rows that stay at their sites.

    Every site sends noisy models and nothing else, so that its rows are protected from everybody, the other sites and
    the coordinator included. `fit` simulates the sites in one process, from one table; for rows that are at real sites
    see `skdp.linear_model.admm` and the user guide.

    Parameters
    ----------
    loss : {"log_loss", "hinge", "squared_hinge"}, default="log_loss"
        "log_loss" of more than two classes is that of the softmax; the others compare each class with the rest.
    penalty : {"l2", "l1", "elasticnet", None}, default="l2"
        On the coefficients, not on the intercept; it is no part of what noise covers, and exact.
    alpha : float, default=1e-4
        Strength of the penalty, relative to the mean loss.
    l1_ratio : float, default=0.15
        Share of the absolute values in "elasticnet".
    fit_intercept : bool, default=True
    class_weight : dict or None, default=None
        Public weight of each label.
    classes : array-like, optional
        All labels that can occur. Public knowledge; when it is not given the labels are read from y, with a
        `PrivacyLeakWarning`.
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
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        For values as they came, within their bounds.
    coef_noise_std_ : ndarray of the shape of `coef_`
        The most that the standard deviation of the privacy noise in each coefficient can be; see `DPLinearClassifier`.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    classes_ : ndarray of shape (n_classes,)
    privacy_ : PrivacyStatement
        About a row, which is at one site; or about a person, see `max_sites_per_person`.
    privacy_by_site_ : dict of str to PrivacyStatement
        About the rows of each site.
    trace_ : list of dict
        Of every round: number of sites, how far their noisy models are apart, how far the common one moved.
    n_iter_ : int
        Rounds.
    n_features_in_, feature_names_in_, feature_bounds_

    See Also
    --------
    DPADMMRegressor : The same for numbers.
    skdp.linear_model.admm.Site : One site, where rows are not in one table.

    Notes
    -----
    *Formal guarantee.* Each site answers one query a round, its sum of clipped gradients with Gaussian noise; see
    `skdp.linear_model.admm.Site`. All messages of a site are (epsilon, delta)-differentially private for its rows, for
    the chosen adjacency; as no row is at two sites, so are all messages of all sites.

    References
    ----------
    Huang, Hu, Guo, Chan-Tin and Gong, *DP-ADMM: ADMM-Based Distributed Learning With Differential Privacy*, IEEE
    Transactions on Information Forensics and Security 15, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skdp.linear_model import DPADMMClassifier
    >>> rng = np.random.default_rng(0)
    >>> X, hospital = rng.uniform(-1, 1, size=(6000, 3)), rng.integers(4, size=6000)
    >>> y = (X[:, 0] > X[:, 1]).astype(int)
    >>> model = DPADMMClassifier(epsilon=1.0, classes=[0, 1], feature_bounds=(-1, 1)).fit(X, y, groups=hospital)
    >>> model.score(X, y) > 0.9, model.privacy_.epsilon <= 1.0, sorted(model.privacy_by_site_)
    (True, True, ['0', '1', '2', '3'])
    """

    def __init__(
        self,
        loss: str = "log_loss",
        *,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        class_weight: Any = None,
        classes: Any = None,
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
        self.class_weight = class_weight
        self.classes = classes
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
