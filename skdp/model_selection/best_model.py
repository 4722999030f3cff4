"""A search predicts by the best model that it found."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

__all__ = ["BestModelMixin"]


def _best_can(method: str) -> Any:
    def check(search: Any) -> bool:
        getattr(getattr(search, "best_estimator_", search.estimator), method)
        return True

    return available_if(check)


class BestModelMixin:
    """Hands everything after `fit` to ``best_estimator_``."""

    @property
    def classes_(self) -> np.ndarray:
        """Classes of the best model."""
        return self.best_estimator_.classes_

    @property
    def n_features_in_(self) -> int:
        """Number of columns of the best model."""
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of columns of the best model."""
        return self.best_estimator_.feature_names_in_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "best_estimator_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.estimator_type, tags.classifier_tags = inner.estimator_type, inner.classifier_tags
        tags.regressor_tags, tags.input_tags = inner.regressor_tags, inner.input_tags
        tags.non_deterministic = True
        return tags

    @_best_can("predict")
    def predict(self, X: Any) -> np.ndarray:
        """Predictions of the best model.

        Parameters
        ----------
        X : array-like or table

        Returns
        -------
        ndarray
        """
        check_is_fitted(self)
        return self.best_estimator_.predict(X)

    @_best_can("predict_proba")
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities by the best model.

        Parameters
        ----------
        X : array-like or table

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        check_is_fitted(self)
        return self.best_estimator_.predict_proba(X)

    @_best_can("decision_function")
    def decision_function(self, X: Any) -> np.ndarray:
        """Decision values of the best model.

        Parameters
        ----------
        X : array-like or table

        Returns
        -------
        ndarray
        """
        check_is_fitted(self)
        return self.best_estimator_.decision_function(X)

    @_best_can("score")
    def score(self, X: Any, y: Any) -> float:
        """The best model's own score on other rows.

        Parameters
        ----------
        X : array-like or table
        y : array-like

        Returns
        -------
        float
        """
        check_is_fitted(self)
        return self.best_estimator_.score(X, y)
