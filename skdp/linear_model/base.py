"""What private linear models have in common: how they read rows and bounds, and how they predict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skdp.contract import Public
from skdp.contract.shown import shown
from skdp.linear_model.losses import Poisson, resolve_loss
from skdp.linear_model.penalties import Penalty, resolve_penalty
from skdp.linear_model.rows import linear_outputs, raw_coefficients
from skdp.neural_network.parameters import bounds_array, class_weights_array
from skdp.neural_network.problem import Problem, classification_problem, regression_problem
from skdp.neural_network.reading import encode_features, odd_rows, raise_odd
from skdp.neural_network.sparse_table import SparseTable

__all__ = ["LinearClassifierMixin", "LinearModelMixin", "LinearRegressorMixin"]


class LinearModelMixin:
    """The parameters ``loss``, ``penalty``, ``alpha``, ``l1_ratio``, ``fit_intercept``, ``feature_bounds``.

    Sets ``coef_``, ``intercept_`` and ``feature_bounds_``. A subclass reads with `_problem`, trains coefficients of
    shape (k, columns) on arrays from `skdp.linear_model.rows.linear_arrays`, and keeps them with `_keep`.
    """

    # The reader of rows asks what net they are for.
    module = "linear"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _as_table(self, problem: Problem) -> Problem:
        """The same problem; clip norms, and so noise, follow from whether rows are sparse, which has to be said."""
        if len(problem.public.input_shape) != 1:
            raise ValueError(
                f"X has rows of shape {problem.public.input_shape}; a linear model takes tables: X.reshape(len(X), -1)"
            )
        if isinstance(problem.inputs, SparseTable):
            problem = replace(problem, facts=(*problem.facts, "that X is a sparse matrix"))
        return problem

    def _loss(self, task: str) -> Any:
        return resolve_loss(self.loss, task)

    def _penalty(self) -> Penalty:
        return resolve_penalty(self.penalty, self.alpha, self.l1_ratio, int(bool(self.fit_intercept)))

    def _given_feature_bounds(self, public: Public) -> np.ndarray | None:
        """Public bounds of every column, where there are any; columns of 0 and 1 are left as they are."""
        bounds = self.feature_bounds
        if isinstance(bounds, str):
            raise ValueError(
                f"feature_bounds={bounds!r} must be None, or public (low, high) for all columns or for each"
            )
        if bounds is None:
            return None
        names = getattr(self, "feature_names_in_", None)
        found = bounds_array("feature_bounds", bounds, public.input_shape[0], names)
        found[list(public.indicators)] = -1, 1
        return found

    def _keep(self, coef: np.ndarray, feature_bounds: np.ndarray | None, noise: np.ndarray) -> None:
        """Set the fitted state from coefficients on scaled columns and the standard deviation of their noise."""
        self.feature_bounds_ = feature_bounds
        self.coef_, self.intercept_ = raw_coefficients(coef, feature_bounds, bool(self.fit_intercept))
        self.coef_noise_std_, _ = raw_coefficients(noise, feature_bounds, bool(self.fit_intercept))

    def _outputs(self, X: Any) -> np.ndarray:
        """Linear predictors: (n, k)."""
        check_is_fitted(self, "coef_")
        inputs = encode_features(self, X, reset=False)
        raise_odd(self, inputs, odd_rows(inputs), "; fill or encode such values before")
        return linear_outputs(inputs, self.feature_bounds_, self.coef_) + self.intercept_


class LinearClassifierMixin(ClassifierMixin, LinearModelMixin):
    """Predictions of a classifier; takes ``classes`` and ``class_weight`` as well."""

    def _problem(self, X: Any, y: Any, sample_weight: Any) -> Problem:
        return self._as_table(classification_problem(self, X, y, sample_weight))

    def _class_weights(self, classes: np.ndarray) -> np.ndarray | None:
        """Public weights of classes."""
        if self.class_weight is None:
            return None
        if not isinstance(self.class_weight, dict):
            raise ValueError(
                f"class_weight={self.class_weight!r} must be None or a dict of label to weight, which is public"
            )
        return class_weights_array(self.class_weight, classes)

    def decision_function(self, X: Any) -> np.ndarray:
        """Signed distance of each row from the boundary, up to a factor; one column per class above two.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,) or (n, n_classes)
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def predict(self, X: Any) -> np.ndarray:
        """Most likely class of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,)
        """
        outputs = self._outputs(X)
        best = (outputs[:, 0] > 0).astype(int) if outputs.shape[1] == 1 else outputs.argmax(axis=1)
        return self.classes_[best]

    @available_if(lambda self: self.loss == "log_loss")
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, for ``loss="log_loss"``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        outputs = self._outputs(X)
        if outputs.shape[1] > 1 and getattr(self, "_one_against_rest", False):
            odds = expit(outputs)
            return odds / np.maximum(odds.sum(axis=1, keepdims=True), 1e-300)
        if outputs.shape[1] > 1:
            return softmax(outputs, axis=1)
        second = expit(outputs[:, 0])
        return np.column_stack([1 - second, second])


class LinearRegressorMixin(RegressorMixin, LinearModelMixin):
    """Predictions of a regressor; takes ``y_bounds`` as well."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _problem(self, X: Any, y: Any, sample_weight: Any) -> Problem:
        problem = self._as_table(regression_problem(self, X, y, sample_weight))
        self._one_target = problem.targets.ndim == 1
        return problem

    def _given_target_bounds(self, n_targets: int) -> np.ndarray:
        """Public bounds of every target."""
        if self.y_bounds is None:
            raise ValueError("y_bounds=None: pass public (low, high) of y, from domain knowledge and not from the data")
        bounds = bounds_array("y_bounds", self.y_bounds, n_targets)
        if isinstance(self._loss("regression"), Poisson) and (bounds[:, 0] != 0).any():
            raise ValueError(
                f"y_bounds={shown(self.y_bounds)}: loss='poisson' is about counts, whose least value is 0; pass "
                "y_bounds=(0, largest)"
            )
        return bounds

    def _keep(self, coef: np.ndarray, feature_bounds: np.ndarray | None, noise: np.ndarray) -> None:
        super()._keep(coef, feature_bounds, noise)
        low, high = self.y_bounds_.T
        if isinstance(self._loss("regression"), Poisson):
            self.intercept_ = self.intercept_ + np.log(high)
            return
        half, middle = (high - low) / 2, (high + low) / 2
        self.coef_, self.intercept_ = self.coef_ * half[:, None], self.intercept_ * half + middle
        self.coef_noise_std_ = self.coef_noise_std_ * half[:, None]

    def predict(self, X: Any) -> np.ndarray:
        """Predicted targets, within their bounds.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,) or (n, n_targets)
        """
        outputs, (low, high) = self._outputs(X), self.y_bounds_.T
        if isinstance(self._loss("regression"), Poisson):
            outputs = np.exp(np.minimum(outputs, np.log(high)))
        targets = np.clip(outputs, low, high)
        return targets[:, 0] if self._one_target else targets
