"""What repairs around a fitted model have in common: it is kept as it is, and its rows are read row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdp.accounting import PrivacyStatement, compose, compose_disjoint, resolve_delta
from skdp.exceptions import PrivacyLeakWarning
from skdp.releases import Spending
from skdp.user_line import warn_user

__all__ = ["PrefitSpending"]

SPLITS = ("disjoint", "same")
_WORDS = {"disjoint": "rows that the model was not trained on", "same": "rows that the model was trained on as well"}


class PrefitSpending(Spending):
    """Base of meta-estimators that spend on further rows and never refit the model that they wrap.

    `estimator` is fitted beforehand. `sklearn.base.clone` would unfit it: wrap it in `sklearn.frozen.FrozenEstimator`
    where something clones (searches, cross-validation, pipelines in them).
    """

    estimator: Any
    split: str
    _if_same = "pass split='same', so that total_privacy_ adds up both costs"

    @property
    def total_privacy_(self) -> PrivacyStatement:
        """Statement of the wrapped model and this fit together, as `split` declares."""
        own = self.privacy_
        model = getattr(self.estimator, "privacy_", None)
        if model is None:
            raise AttributeError(
                f"estimator={type(self.estimator).__name__} has no privacy_: if a step of it was private, pass that "
                "step's statement and this one to skdp.accounting.compose, or to compose_disjoint where no row was "
                "in both fits"
            )
        return compose_disjoint([model, own]) if self.split == "disjoint" else compose([model, own])

    def predict(self, X: Any) -> np.ndarray:
        """Predictions of the wrapped model, as they are.

        Parameters
        ----------
        X : array-like of shape (n, ...)

        Returns
        -------
        ndarray of shape (n,)
        """
        check_is_fitted(self)
        return self.estimator.predict(X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_statement")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        return tags

    # ------------------------------------------------------------------ for subclasses
    def _check_fitted_model(self) -> None:
        """Refuse parameters that make no sense before anything is read."""
        self._check_budget()
        if self.split not in SPLITS:
            raise ValueError(f"split={self.split!r} must be one of {', '.join(map(repr, SPLITS))}")
        if isinstance(self.estimator, type) or not hasattr(self.estimator, "fit"):
            raise ValueError(f"estimator={self.estimator!r} must be a fitted model, such as a DPClassifier after fit")
        check_is_fitted(
            self.estimator,
            msg="estimator=%(name)s is not fitted: fit it on other rows first, and wrap it in "
            "sklearn.frozen.FrozenEstimator where this object is cloned",
        )

    def _resolved_delta(self, n: int) -> float:
        """No larger than the model's where it is "auto": a few rows more must not weaken the claim of both."""
        delta = resolve_delta(self.delta, n)
        model = getattr(self.estimator, "privacy_", None)
        given = model is None or not isinstance(self.delta, str)
        return delta if given or not model.delta else min(delta, model.delta)

    def _doubts(self, n: int) -> list[str]:
        """Warn where the declared split looks wrong by public numbers alone; what was said, for the statement."""
        model = getattr(self.estimator, "privacy_", None)
        if self.split != "disjoint" or model is None or model.n != n:
            return []
        message = (
            f"split='disjoint' declares that the model was trained on other rows, and there are as many here as it was "
            f"trained on, {n}. If they are the same, {self._if_same}; if they are others, all is well"
        )
        warn_user(message, PrivacyLeakWarning)
        return [message]

    def _adopt(self) -> None:
        """Take over what describes the columns."""
        for name in ("classes_", "n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator, name):
                setattr(self, name, getattr(self.estimator, name))

    @property
    def _split_in_words(self) -> str:
        return _WORDS[self.split]
