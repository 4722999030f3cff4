"""What conformal classifiers and regressors share: the fit that finds the threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from skdp.accounting.checks import is_real
from skdp.calibration.conformal import rule, threshold_queries, threshold_touch
from skdp.calibration.prefit import PrefitSpending
from skdp.contract import Charge, Public, drive
from skdp.exceptions import WeakSignalWarning
from skdp.metrics.private_rows import ROW_BY_ROW, PrivateRows
from skdp.user_line import warn_user

__all__ = ["ConformalSpending"]

_EXCHANGEABLE = "coverage (not privacy) rests on calibration rows and new rows that come from one source"


class ConformalSpending(PrefitSpending):
    """Base of split conformal prediction with a private threshold."""

    _steps: ClassVar[int]
    alpha: float
    _if_same = "sets and intervals hold the truth less often than promised, and both costs add up: pass other rows"

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
        touch = threshold_touch(scale, self._steps)
        return Charge((touch,), public.adjacency, public.unit, split=self._split_in_words)

    def _check_parameters(self) -> None:
        self._check_fitted_model()
        if not (is_real(self.alpha) and 0 < self.alpha <= 0.5):
            raise ValueError(
                f"alpha={self.alpha!r} must lie in (0, 0.5]: the share of rows that may be missed, such as 0.1 for "
                "sets and intervals that hold the truth in 90 % of rows"
            )
        if self.split != "disjoint":
            raise ValueError(
                f"split={self.split!r}: rows that the model was trained on look better than new ones, so that sets and "
                "intervals would hold the truth less often than promised; pass other rows"
            )

    def _find_threshold(self, rows: PrivateRows, score: Callable[[np.ndarray], np.ndarray], top: float) -> None:
        public, n_is_public = self._public(*rows.values.shape), self.adjacency != "add-remove"
        with self._spending(
            public, {"rows": rows.values}, rows.null, facts=rows.facts, assumptions=[ROW_BY_ROW, _EXCHANGEABLE],
            warnings=self._doubts(public.n),
        ) as (executor, touches):  # fmt: skip
            (touch,) = touches.values()
            q, margin, _, _ = rule(touch, public.n, self.alpha, n_is_public)
            if q * (public.n + 1) + margin > public.n:
                least = math.ceil(2 * (1 + margin) / self.alpha)
                budget = "noise_multiplier" if self.epsilon is None else "epsilon"
                warn_user(
                    f"{public.n} rows are too few for alpha={self.alpha:g} at {budget}={getattr(self, budget):g}: "
                    f"nothing can be left out. Give more rows (about {least}), a larger alpha, or a larger budget",
                    WeakSignalWarning,
                )
            self.threshold_ = drive(
                threshold_queries(touch, "rows", score, public.n, self.alpha, top, n_is_public), executor.answer
            )
        self.level_ = q
        self._adopt()
