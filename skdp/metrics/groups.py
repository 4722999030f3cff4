"""Metrics of each group of rows: whom a model serves worse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_consistent_length

from skdp.accounting.checks import is_real
from skdp.contract import Charge, Gaussian, Poisson, Public, Touch, drive
from skdp.metrics.binning import check_bins
from skdp.metrics.calibration_errors import top_label_curve
from skdp.metrics.cell_sums import CellSums, cell_queries
from skdp.metrics.losses import log_losses
from skdp.metrics.private_rows import ROW_BY_ROW, classified_rows
from skdp.metrics.probabilities import Predictions, read_predictions
from skdp.metrics.weak_signal import warn_if_noise_hides
from skdp.neural_network.problem import positions
from skdp.neural_network.reading import read_labels
from skdp.releases import Spending

__all__ = ["DPGroupReport", "group_report"]

# Confidence and log loss are less noisy than counts are: weights of the norm that is theirs.
_WEIGHTS = (0.5, 0.5)
_MUCH = 0.1  # standard deviation of noise in a group's accuracy


def group_report(estimator, X, y, groups, *, n_bins=10):
    """Accuracy, calibration and losses of a classifier by group of rows, exactly.

    Parameters
    ----------
    estimator : fitted classifier with ``predict_proba``
    X : array-like of shape (n_samples, ...)
        Public or test rows.
    y : array-like of shape (n_samples,)
    groups : array-like of shape (n_samples,)
        What to group by; a missing value is a group of its own.
    n_bins : int, default=10
        Bins of the calibration error. That of a small group is large by chance alone: compare `bias`.

    Returns
    -------
    pandas.DataFrame
        Indexed by group, the last row is ``"all"``: `count`, `accuracy`, `confidence` (mean), `bias` (confidence less
        accuracy: above 0 is over-confident), `ece`, `log_loss`, and of every class `recall_LABEL`, the share of its
        rows that are found.

    Raises
    ------
    ValueError
        If lengths differ, or labels are not the model's.

    Notes
    -----
    Exact, so not private: on private rows use `DPGroupReport`.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdp.metrics import group_report
    >>> X, y = make_classification(500, random_state=0)
    >>> report = group_report(LogisticRegression().fit(X, y), X, y, X[:, 0] > 0)
    >>> report.index.tolist(), bool(report.loc["all", "accuracy"] > 0.8)
    ([False, True, 'all'], True)
    """
    n_bins = check_bins(n_bins)
    found = read_predictions(y, estimator.predict_proba(X), estimator.classes_)
    groups = pd.Series(np.asarray(groups))
    check_consistent_length(groups, found.label)
    codes, values = pd.factorize(groups, sort=True, use_na_sentinel=False)
    parts = {value: codes == code for code, value in enumerate(values)} | {"all": np.ones(len(codes), dtype=bool)}
    records = {value: _measured(found, rows, n_bins) for value, rows in parts.items()}
    return pd.DataFrame(list(records.values()), index=pd.Index(records, name="group", dtype=object))


def _measured(found: Predictions, rows: np.ndarray, n_bins: int) -> dict[str, float]:
    part = Predictions(found.proba[rows], found.label[rows], found.weight[rows], found.classes)
    accuracy, confidence = float(part.hit.mean()), float(part.confidence.mean())
    recalls = {
        f"recall_{name}": float(part.hit[part.label == k].mean()) if (part.label == k).any() else math.nan
        for k, name in enumerate(found.classes.tolist())
    }
    return {
        "count": int(rows.sum()), "accuracy": accuracy, "confidence": confidence, "bias": confidence - accuracy,
        "ece": top_label_curve(part, n_bins, "uniform").error,
        "log_loss": float(log_losses(part.proba, part.label).mean()), **recalls,
    }  # fmt: skip


@dataclass(frozen=True)
class GroupOfRow:
    """Reads rows of probabilities, label and group for `CellSums`."""

    bound: float

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Group, whether the prediction is right, and confidence and log loss within [-1, 1]."""
        proba, label, group = rows[:, :-2], rows[:, -2].astype(int), rows[:, -1].astype(int)
        loss = np.minimum(log_losses(proba, label), self.bound) / self.bound
        return group, proba.argmax(axis=1) == label, np.column_stack([2 * proba.max(axis=1) - 1, 2 * loss - 1])


class DPGroupReport(Spending):
    r"""Accuracy, over-confidence and log loss of a classifier by group of private rows, with noise.

    Parameters
    ----------
    group_values : array-like of shape (n_groups,)
        Public list of the groups; rows of no such group are left out.
    epsilon : float or None, default=1.0
        Budget of one `fit`; None together with `noise_multiplier`.
    max_log_loss : float, default=5.0
        Log losses of single rows are cut there.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n).
    adjacency : {"zero-out", "replace-one", "add-remove"}, default="zero-out"
    n_public : int, optional
        Declared number of rows; needed for (and only for) ``"add-remove"``.
    noise_multiplier : float, optional
        Standard deviation of the noise over sensitivity; instead of `epsilon`.
    on_invalid : {"raise", "null"}, default="raise"
        Rows without a valid label or prediction: an error, or rows that count for nothing.
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    frame_ : pandas.DataFrame
        Indexed by group: `count`, `accuracy`, `confidence`, `bias`, `log_loss`, each with its noise's standard error in
        a column of the same name and ``_se``. A group that noise hides (fewer rows than four standard deviations of
        the noise on its count) shows its count alone.
    privacy_ : PrivacyStatement

    Notes
    -----
    *Formal guarantee.* One query of hits, misses, confidence and log loss of each group. A row is in one group: the L2
    sensitivity is :math:`\sqrt{1 + 1/4 + 1/4}` for any number of groups, under zero-out and add-remove. Ratios and
    standard errors are computed from what was released. The model is taken as public.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdp.metrics import DPGroupReport
    >>> X, y = make_classification(4000, random_state=0)
    >>> model, groups = LogisticRegression().fit(X[:1000], y[:1000]), X[1000:, 0] > 0
    >>> report = DPGroupReport([False, True], epsilon=1.0).fit(model, X[1000:], y[1000:], groups)
    >>> bool((report.frame_["accuracy"] > 0.7).all()), report.privacy_.epsilon <= 1.0
    (True, True)
    """

    def __init__(
        self,
        group_values: Any,
        *,
        epsilon: float | None = 1.0,
        max_log_loss: float = 5.0,
        delta: float | str = "auto",
        adjacency: str = "zero-out",
        n_public: int | None = None,
        noise_multiplier: float | None = None,
        on_invalid: str = "raise",
        insecure_noise_seed: int | None = None,
    ):
        self.group_values = group_values
        self.epsilon = epsilon
        self.max_log_loss = max_log_loss
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.noise_multiplier = noise_multiplier
        self.on_invalid = on_invalid
        self.insecure_noise_seed = insecure_noise_seed

    def fit(self, estimator: Any, X: Any, y: Any, groups: Any) -> DPGroupReport:
        """Evaluate a fitted classifier on private rows.

        Parameters
        ----------
        estimator : fitted classifier with ``predict_proba``
        X : array-like of shape (n, ...)
        y : array-like of shape (n,)
        groups : array-like of shape (n,)

        Returns
        -------
        DPGroupReport
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.

        Warns
        -----
        WeakSignalWarning
            Where groups of equally many rows would each show noise of 0.1 in their accuracy, or nothing.
        """
        self._check_budget()
        if not (is_real(self.max_log_loss) and 0 < self.max_log_loss < math.inf):
            raise ValueError(f"max_log_loss={self.max_log_loss!r} must be positive and finite")
        values = np.asarray(self.group_values)
        if values.ndim != 1 or len(set(values.tolist())) != len(values) or not len(values):
            raise ValueError(f"group_values={self.group_values!r} must be a list of distinct values")
        rows = classified_rows(estimator, X, y, self.on_invalid)
        labels = read_labels(groups, "null")
        if labels is None or labels.shape != rows.null.shape:
            raise ValueError("groups must have one entry per row")
        array = np.column_stack([rows.values, positions(values, labels)])
        sums = CellSums(len(values), GroupOfRow(float(self.max_log_loss)), _WEIGHTS)
        public = self._public(*array.shape)
        with self._spending(
            public, {"rows": array}, rows.null,
            facts=[*rows.facts, "the list of groups"], assumptions=[ROW_BY_ROW],
        ) as (executor, touches):  # fmt: skip
            std = touches["groups"].noise.combined * sums.sensitivity if touches["groups"].noise else 0.0
            each = f"accuracies of {len(values)} groups, were they equally large"
            warn_if_noise_hides(each, std * len(values) / public.n, _MUCH, public.n)
            totals = drive(cell_queries(touches["groups"], "rows", sums), executor.answer)
        counts = np.maximum(totals.counts, 1.0)
        noise = totals.std / counts
        accuracy, confidence = totals.hits / counts, (totals.extras[:, 0] / counts + 1) / 2
        half = noise / _WEIGHTS[0] / 2
        loss = self.max_log_loss * (totals.extras[:, 1] / counts + 1) / 2
        # Numerator and denominator share the noise of hits and misses.
        confidence_se = np.hypot(half, np.sqrt(2) * noise * np.abs(confidence - 0.5))
        frame = pd.DataFrame({
            "count": totals.counts, "count_se": np.full(len(values), 2**0.5 * totals.std),
            "accuracy": accuracy, "accuracy_se": noise * np.hypot(1 - accuracy, accuracy),
            "confidence": confidence, "confidence_se": confidence_se,
            "bias": confidence - accuracy, "bias_se": np.hypot(half, noise * np.hypot(
                confidence - 0.5 - accuracy + 1, confidence - 0.5 - accuracy)),
            "log_loss": loss, "log_loss_se": self.max_log_loss * np.hypot(
                half, np.sqrt(2) * noise * np.abs(loss / self.max_log_loss - 0.5)),
        }, index=pd.Index(values, name="group"))  # fmt: skip
        hidden = totals.counts < 4 * 2**0.5 * totals.std
        frame.loc[hidden, frame.columns[2:]] = np.nan
        self.frame_ = frame
        return self

    def privacy_charge(self, public: Public, scale: float | None) -> Charge:
        """What one fit costs at a noise multiplier.

        Parameters
        ----------
        public : Public
        scale : float or None

        Returns
        -------
        Charge
        """
        touch = Touch("groups", Poisson(), scale and Gaussian((scale,)), 1)
        return Charge((touch,), public.adjacency, public.unit)
