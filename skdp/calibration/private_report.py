"""A calibration report of private rows, with noise and the noise's standard errors."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skdp.accounting.checks import is_real
from skdp.accounting.statement_text import round_up
from skdp.contract import Answers, Charge, Gaussian, Poisson, Public, Query, RowSum, Touch, drive
from skdp.metrics.binning import BinnedCurve, check_bins
from skdp.metrics.cell_sums import CellSums, CellTotals, read_totals
from skdp.metrics.losses import log_losses, squared_distances
from skdp.metrics.private_rows import ROW_BY_ROW, classified_rows
from skdp.metrics.weak_signal import warn_if_noise_hides
from skdp.releases import Spending

__all__ = ["DPCalibrationReport", "dp_calibration_report"]

_MUCH = 0.03  # standard deviation of noise in calibration errors, which are 0.01 to 0.1
_WEIGHT = 0.25  # of a confidence's distance from the middle of its bin, in the norm of a contribution


@dataclass(frozen=True)
class BinOfRow:
    """Reads rows of probabilities and label for `CellSums`: a cell is a bin of confidence."""

    n_bins: int
    first: int

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bin, whether the prediction is right, and where in the bin its confidence lies, from -1 to 1."""
        proba, label = rows[:, :-1], rows[:, -1].astype(int)
        confidence = proba.max(axis=1)
        cell = np.clip(np.floor(confidence * self.n_bins), self.first, self.n_bins - 1).astype(int)
        where = 2 * (confidence * self.n_bins - cell) - 1
        return cell - self.first, proba.argmax(axis=1) == label, where[:, None]


@dataclass(frozen=True)
class ThreeScores:
    """Accuracy, half the Brier score and the cut log loss of each row, less 1/2."""

    bound: float

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Contributions of shape (rows, 3), within [-1/2, 1/2]."""
        proba, label = rows[:, :-1], rows[:, -1].astype(int)
        loss = np.minimum(log_losses(proba, label), self.bound) / self.bound
        shares = [proba.argmax(axis=1) == label, np.minimum(squared_distances(proba, label) / 2, 1), loss]
        return np.column_stack(shares) - 0.5


class DPCalibrationReport(Spending):
    r"""Calibration error, reliability curve, accuracy, Brier score and log loss on private rows, with noise.

    Parameters
    ----------
    n_bins : int, default=15
        Bins of equal width over [0, 1]. Those below 1/n_classes, where no top probability lies, get no noise.
    epsilon : float or None, default=1.0
        Budget of one `fit`; None together with `noise_multiplier`.
    max_log_loss : float, default=5.0
        Log losses of single rows are cut there, in nats.
    delta : float or "auto", default="auto"
        "auto" is the largest power of ten at most 1/(10 n).
    adjacency : {"zero-out", "replace-one", "add-remove"}, default="zero-out"
    n_public : int, optional
        Declared number of rows; needed for (and only for) ``"add-remove"``.
    noise_multiplier : float, optional
        Standard deviation of the noise over sensitivity, of both queries together; instead of `epsilon`.
    on_invalid : {"raise", "null"}, default="raise"
        Rows without a valid label or prediction: an error, or rows that lie in no bin (and count as half right).
    insecure_noise_seed : int, optional
        Reproducible noise, for tests and papers; the statement says so.

    Attributes
    ----------
    ece_, accuracy_, brier_, nll_ : float
        `ece_` has the expected effect of noise taken out bin by bin, `nll_` is of cut log losses.
    ece_noisy_ : float
        The error of the noisy bins as they are.
    ece_noise_ : float
        What `ece_noisy_` would be, on average, of a perfectly calibrated model: noise alone.
    std_errors_ : dict of str to float
        Of the noise in each of the four (of `ece_`: an upper bound).
    curve_ : BinnedCurve
        The noisy bins; ``ReliabilityDisplay([report.curve_])`` draws them.
    bin_std_errors_ : dict of str to ndarray of shape (n_bins,)
        Of the noise in each bin's `rows` and `gap` (rows that came out less rows that were predicted to); 0 below
        1/n_classes.
    privacy_ : PrivacyStatement

    Notes
    -----
    *Formal guarantee.* Two sums over rows, each at :math:`\sqrt2` times the noise multiplier, so that both cost one
    Gaussian. In the first a row counts among the hits or the misses of one bin and adds how far its confidence lies
    from the bin's middle, brought to 1/4 at most: L2 sensitivity :math:`\sqrt{1 + 1/16}`, where the plain triple (1,
    hit, confidence) has :math:`\sqrt3` and leaves 2.4 times the noise on hits less confidence
    (`skdp.metrics.cell_sums`). In the second it adds three numbers in [-1/2, 1/2]: :math:`\sqrt3/2`. Under zero-out and
    add-remove; n is public. All else is computed from these answers. The model is taken as public: if it was trained on
    the same rows, add its own statement with `skdp.accounting.compose`.

    A gap of :math:`g` with noise of deviation :math:`s` counts as :math:`\sqrt{\max(g^2 - s^2, 0)}` in `ece_`: the
    square is free of bias where it is positive.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdp.calibration import DPCalibrationReport
    >>> X, y = make_classification(3000, flip_y=0.2, random_state=0)
    >>> model = LogisticRegression().fit(X[:1000], y[:1000])
    >>> report = DPCalibrationReport(epsilon=1.0).fit(model, X[1000:], y[1000:])
    >>> 0 <= report.ece_ < 0.2, report.privacy_.epsilon <= 1.0
    (True, True)

    ``print(report)`` shows all figures beside the standard deviation of their noise:

    >>> str(report).splitlines()[0]
    'DPCalibrationReport of 2000 rows, with noise: epsilon = 1, delta = 1e-05'
    """

    def __init__(
        self,
        n_bins: int = 15,
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
        self.n_bins = n_bins
        self.epsilon = epsilon
        self.max_log_loss = max_log_loss
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.noise_multiplier = noise_multiplier
        self.on_invalid = on_invalid
        self.insecure_noise_seed = insecure_noise_seed

    def fit(self, estimator: Any, X: Any, y: Any) -> DPCalibrationReport:
        """Evaluate a fitted classifier on private rows.

        Parameters
        ----------
        estimator : fitted classifier with ``predict_proba``
        X : array-like of shape (n, ...)
        y : array-like of shape (n,)

        Returns
        -------
        DPCalibrationReport
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that make no sense; nothing is spent then.

        Warns
        -----
        WeakSignalWarning
            Where noise hides calibration errors of 0.03.
        """
        self._check_budget()
        n_bins = check_bins(self.n_bins)
        if not (is_real(self.max_log_loss) and 0 < self.max_log_loss < math.inf):
            raise ValueError(f"max_log_loss={self.max_log_loss!r} must be positive and finite")
        rows = classified_rows(estimator, X, y, self.on_invalid)
        # Rounding must not put a confidence of 1/K below the first bin.
        first = int(np.floor(n_bins / (rows.values.shape[1] - 1) + 1e-9))
        first = min(first, n_bins - 1)
        sums = CellSums(n_bins - first, BinOfRow(n_bins, first), (_WEIGHT,))
        public = self._public(*rows.values.shape)
        with self._spending(public, {"rows": rows.values}, rows.null, facts=rows.facts, assumptions=[ROW_BY_ROW]) as (
            executor,
            touches,
        ):
            noise = touches["calibration"].noise
            stds = noise.multipliers if noise else (0.0, 0.0)
            each, share = stds[0] * sums.sensitivity, stds[1] * 0.75**0.5 / public.n
            of_error = float(np.linalg.norm(_gap_noise(each, n_bins, first)[1])) / public.n
            warn_if_noise_hides("calibration errors", of_error, _MUCH, public.n)
            totals, scores = drive(
                self._queries(touches["calibration"], sums, ThreeScores(float(self.max_log_loss))), executor.answer
            )
        self._set_scores(scores / public.n + 0.5, share)
        self._set_curve(totals, n_bins, first, public.n)
        return self

    def to_frame(self) -> pd.DataFrame:
        """One row per metric: `value` and `std_error` of its noise."""
        values = {name: getattr(self, f"{name}_") for name in self.std_errors_}
        index = pd.Index(values, name="metric")
        return pd.DataFrame({"value": list(values.values()), "std_error": list(self.std_errors_.values())}, index=index)

    def bins_to_frame(self) -> pd.DataFrame:
        """One row per bin of confidence in which a top probability can lie.

        Returns
        -------
        DataFrame
            Noisy `rows`, and their `gap`: right predictions less sum of confidences, in rows. A positive one is of a
            model that is too modest there. Beside each the standard deviation of its noise, `rows_std` and `gap_std`.
        """
        curve, std = self.curve_, self.bin_std_errors_
        shown = curve.edges[1:] > self._first / (len(curve.edges) - 1) + 1e-9
        names = [f"{low:.2f}-{high:.2f}" for low, high in zip(curve.edges[:-1], curve.edges[1:], strict=True)]
        columns = {"rows": curve.weight, "rows_std": std["rows"], "gap": curve.gaps, "gap_std": std["gap"]}
        return pd.DataFrame(columns, index=pd.Index(names, name="confidence"))[shown]

    def __str__(self) -> str:
        if not hasattr(self, "curve_"):
            return repr(self)
        claim, metrics, bins = self.privacy_, self.to_frame(), self.bins_to_frame()
        lines = [
            f"{type(self).__name__} of {claim.n} rows, with noise: epsilon = {round_up(claim.epsilon)}, "
            f"delta = {claim.delta:g}",
            metrics.to_string(float_format="{:.4f}".format),
            "(std_error: standard deviation of the noise; ece: noise taken out. The noisy bins as they are give "
            f"{self.ece_noisy_:.4f}, of which a perfect model would show {self.ece_noise_:.4f}.)",
            *self._outside(),
            bins.to_string(float_format="{:.0f}".format),
            "(gap: right predictions less sum of confidences, in rows; within two or three gap_std it may be noise.)",
        ]
        return "\n\n".join(lines)

    def _outside(self) -> list[str]:
        """What to think of figures that the noise has carried beyond what their metric can be."""
        most = {"accuracy": 1, "brier": 2, "nll": self.max_log_loss, "ece": 1, "ece_noisy": 1, "ece_noise": 1}
        beyond = [name for name, end in most.items() if not 0 <= getattr(self, f"{name}_") <= end]
        if not beyond:
            return []
        return [
            f"(Outside of what the metric can be: {', '.join(beyond)}. Values are left as the noise made them, which "
            "keeps them right on average; here the noise is too large for so few rows.)"
        ]

    def privacy_charge(self, public: Public, scale: float | None) -> Charge:
        """What one fit costs at a noise scale.

        Parameters
        ----------
        public : Public
        scale : float or None

        Returns
        -------
        Charge
        """
        noise = scale and Gaussian((scale * 2**0.5, scale * 2**0.5))
        return Charge((Touch("calibration", Poisson(), noise, 1),), public.adjacency, public.unit)

    def _queries(
        self, touch: Touch, sums: CellSums, scores: ThreeScores
    ) -> Generator[Query, Answers, tuple[CellTotals, np.ndarray]]:
        values = RowSum("rows", sums, sums.sensitivity), RowSum("rows", scores, 0.75**0.5)
        bins, three = yield Query(touch, values)
        std = touch.noise.multipliers[0] * sums.sensitivity if touch.noise else 0.0
        return read_totals(bins, sums, std), three

    def _set_scores(self, shares: np.ndarray, noise: float) -> None:
        accuracy, brier, loss = shares.tolist()
        self.accuracy_, self.brier_, self.nll_ = accuracy, 2 * brier, self.max_log_loss * loss
        self.std_errors_ = {"accuracy": noise, "brier": 2 * noise, "nll": self.max_log_loss * noise}

    def _set_curve(self, totals: CellTotals, n_bins: int, first: int, n: int) -> None:
        def padded(values: np.ndarray) -> np.ndarray:
            return np.r_[np.zeros(first), values]

        self._first = first
        middle, std = _gap_noise(totals.std, n_bins, first)
        predicted = totals.counts * middle + totals.extras[:, 0] * 0.5 / n_bins
        edges = np.linspace(0, 1, n_bins + 1)
        self.curve_ = BinnedCurve(edges, padded(totals.counts), padded(totals.hits), padded(predicted))
        gaps = totals.hits - predicted
        self.bin_std_errors_ = {"rows": padded(np.full(len(std), 2**0.5 * totals.std)), "gap": padded(std)}
        self.ece_noisy_ = float(np.abs(gaps).sum() / n)
        self.ece_noise_ = float((2 / np.pi) ** 0.5 * std.sum() / n)
        self.ece_ = float(np.sqrt(np.maximum(gaps**2 - std**2, 0)).sum() / n)
        self.std_errors_ = {"ece": float(np.sqrt((std**2).sum()) / n), **self.std_errors_}


def _gap_noise(std: float, n_bins: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the bins from `first` on, and standard deviations of noise in hits less confidence there, in rows."""
    middle = (np.arange(first, n_bins) + 0.5) / n_bins
    where = std / _WEIGHT * 0.5 / n_bins
    return middle, np.sqrt(std**2 * ((1 - middle) ** 2 + middle**2) + where**2)


def dp_calibration_report(estimator: Any, X: Any, y: Any, *, epsilon: float = 1.0, **options: Any):
    """A private calibration report of a fitted classifier in one call.

    Parameters
    ----------
    estimator : fitted classifier with ``predict_proba``
    X : array-like of shape (n_samples, ...)
        Private rows.
    y : array-like of shape (n_samples,)
    epsilon : float, default=1.0
    **options : dict
        Further parameters of `DPCalibrationReport`.

    Returns
    -------
    DPCalibrationReport
        With its figures, standard errors and `privacy_`.
    """
    return DPCalibrationReport(epsilon=epsilon, **options).fit(estimator, X, y)
