"""The trials of a private search: drawn, trained and scored in secret, of which only the best is handed out."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from sklearn.base import clone
from sklearn.model_selection import ParameterSampler

from skdp.accounting.covered import covered
from skdp.accounting.selection import Ceiling
from skdp.contract import Public
from skdp.model_selection.backends import at_home
from skdp.model_selection.row_scores import row_scores
from skdp.model_selection.search_price import check_thresholds
from skdp.model_selection.trials import draw_trials

__all__ = ["Candidates", "Trials"]


@dataclass(frozen=True, eq=False)
class Candidates:
    """What trials try.

    Parameters
    ----------
    spaces : dict or list of dicts
        As for `sklearn.model_selection.ParameterSampler`.
    unchanged : float
        Share of trials that change no parameter.
    """

    spaces: Any
    unchanged: float

    def draw(self, secret: np.random.Generator) -> dict[str, Any]:
        """Parameters of one trial, drawn independently of all others."""
        coin, seed = secret.random(), secret.integers(2**32, dtype=np.uint64)
        if coin < self.unchanged:
            return {}
        return next(iter(ParameterSampler(self.spaces, 1, random_state=np.random.RandomState(seed))))

    def listed(self) -> list[tuple[str, Any]]:
        """Every parameter with each of its values, or with one that its distribution gives.

        Raises
        ------
        ValueError
            A distribution gives estimators: those that it did not give here could not be checked, and a trial that
            refused one could not say so.
        """
        spaces = [self.spaces] if isinstance(self.spaces, Mapping) else self.spaces
        return [(name, value) for space in spaces for name, values in space.items() for value in _values(name, values)]


def _values(name: str, values: Any) -> Iterable[Any]:
    if hasattr(values, "__len__"):
        return values
    value = values.rvs(random_state=0)
    if hasattr(value, "get_params"):
        raise ValueError(
            f"param_distributions: {name!r} has a distribution over estimators; list them, for what is in them is "
            "checked before anything is spent"
        )
    return [value]


@dataclass(frozen=True, eq=False)
class Trials:
    """What all trials have in common.

    Parameters
    ----------
    template : estimator
        Without a budget of its own; trials are clones of it.
    public : Public
        Facts about the rows that trials train on.
    ceiling : Ceiling
        What no trial may exceed.
    scale : float
        Noise scale of the template's own price list.
    rows : tuple
        X and y to train on, X and y to score on.
    scoring : str or callable
    noise : float
        Standard deviation of the noise on a sum of scores.
    """

    template: Any
    public: Public
    ceiling: Ceiling
    scale: float
    rows: tuple
    scoring: Any
    noise: float

    def best(self, candidates: Candidates, mean: float, shape: float | None, n_jobs: int | None) -> tuple | None:
        """Score, model and parameters of the best of a random number of trials; None where there was none.

        However many there are, they go to the backend of joblib as one task for each of its workers, so that nobody who
        counts tasks learns their number. A cluster is asked only where `n_jobs` says so.
        """
        secret = np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(secrets.randbits(256), pool_size=8)))
        count = draw_trials(secret, mean, shape)
        # Among equal scores, which public rows without noise make likely, chance decides: not which trial ended first.
        draws = [
            (candidates.draw(secret), self.noise * secret.standard_normal(), secret.random()) for _ in range(count)
        ]
        with at_home(n_jobs), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jobs = effective_n_jobs(n_jobs)
            (X, y), (X_score, y_score) = self.rows
            empty = replace(self, rows=())  # rows are arguments of their own, which Dask sends once to each worker
            found = Parallel(jobs, batch_size=1)(
                delayed(_best_of)(empty, draws[share::jobs], X, y, X_score, y_score) for share in range(jobs)
            )
        best = max(filter(None, found), key=itemgetter(0), default=None)
        return None if best is None else best[1]

    def run(self, params: dict[str, Any], noise: float) -> tuple[float, Any, dict[str, Any]]:
        """Train and score one candidate: its noisy score, model and parameters."""
        model, scale = clone(self.template).set_params(**params), self.scale
        paid, charge = (one.privacy_charge(self.public, scale) for one in (self.template, model))
        check_thresholds(charge, paid)
        if charge != paid:
            scale = self.ceiling.scale(lambda scale: model.privacy_charge(self.public, scale))
            charge = model.privacy_charge(self.public, scale)
        model.set_params(epsilon=None, noise_multiplier=scale)
        (X, y), (X_score, y_score) = self.rows
        # Other threads and processes would not know what is paid for.
        with warnings.catch_warnings(), parallel_config("sequential"), covered({"trial": charge}):
            warnings.simplefilter("ignore")
            model.fit(X, y)
            found = row_scores(self.scoring, model, X_score, y_score)
        return float(0.5 + ((found - 0.5).sum() + noise) / len(found)), model, params


def _best_of(trials: Trials, draws: list[tuple], X: Any, y: Any, X_score: Any, y_score: Any) -> tuple | None:
    """Rank and result of the best of some of the trials; None where there are none.

    A rank is the score, and a secret random number that orders equal scores.
    """
    trials = replace(trials, rows=((X, y), (X_score, y_score)))
    results = ((trials.run(params, noise), tie) for params, noise, tie in draws)
    return max((((result[0], tie), result) for result, tie in results), key=itemgetter(0), default=None)
