"""The smallest spender there is, and a callback that stops a net; on the import path of worker processes."""

from __future__ import annotations

import multiprocessing
import os
import tempfile

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback

from skdp.contract import Charge, Gaussian, Poisson, Touch, drive
from skdp.exceptions import BudgetExceededError
from skdp.releases import Spending, class_counts_queries


class StopAt(Callback):
    """Raises at the end of a step."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, net, **_):
        if net.state_["step"] == self.step:
            raise RuntimeError


class Majority(ClassifierMixin, Spending):
    """Predicts the class with the largest noisy count."""

    def __init__(self, noise_multiplier=20.0, epsilon=None, delta="auto", adjacency="zero-out", n_public=None,
                 insecure_noise_seed=None, slack=0.0):  # fmt: skip
        self.noise_multiplier = noise_multiplier
        self.epsilon = epsilon
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.insecure_noise_seed = insecure_noise_seed
        self.slack = slack

    def privacy_charge(self, public, scale):
        noise = None if scale is None else Gaussian((scale,))
        return Charge((Touch("class counts", Poisson(), noise, 1),), public.adjacency)

    def fit(self, X, y):
        X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=int)
        self._check_budget()
        public = self._public(*X.shape)
        with self._spending(public, {"y": y[:, None]}, np.zeros(len(y), dtype=bool)) as (executor, touches):
            self.counts_ = drive(class_counts_queries(touches["class counts"], 2), executor.answer)
        self.classes_ = np.arange(2)
        return self

    def predict_proba(self, X):
        check_is_fitted(self, "counts_")
        return np.tile(np.eye(2)[int(np.argmax(self.counts_))], (len(X), 1))

    def predict(self, X):
        return self.predict_proba(X).argmax(axis=1)


def make_and_fit(X, y):
    """A task of a worker that is handed no estimator."""
    Majority(50.0).fit(X, y)


def fit_in_a_child(X, y):
    """The same in a process that this one starts, which is told nothing."""
    child = multiprocessing.get_context("spawn").Process(target=make_and_fit, args=(X, y))
    child.start()
    child.join()
    assert child.exitcode == 0


def in_other_folders(folder):
    """Take away what a worker's environment might have told, and its folder for temporary files."""
    os.environ.pop("SKDP_LEDGERS", None)
    os.environ["TMPDIR"] = tempfile.tempdir = folder


def refusal(X, y):
    """What a ledger says to a fit that spends much; None where it is not refused."""
    try:
        Majority(1.0).fit(X, y)
    except BudgetExceededError as error:
        return str(error)
