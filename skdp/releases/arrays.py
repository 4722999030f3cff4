"""The array executor: answers queries about numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from skdp.accounting.objective import objective_terms
from skdp.contract import Answers, Counts, Frequent, GramSum, LinearGradient, PerturbedMinimum, Query, RowSum
from skdp.exceptions import PlanViolationError
from skdp.releases.minimum import Objective, minimum

if TYPE_CHECKING:
    from skdp.distributed import Ranks

__all__ = ["ArrayExecutor"]

_CELLS = 2**24  # of contributions that are held at a time
# Gradient at an approximate minimum over the largest gradient of a row. Rounding stays far below it.
_TOLERANCE = 1e-6


class ArrayExecutor:
    """Holds arrays and answers `Counts`, `RowSum`, `Frequent`, `LinearGradient`, `GramSum` and `PerturbedMinimum`.

    Noise is added once.

    Parameters
    ----------
    arrays : dict of str to ndarray of shape (n, columns)
        Private columns by name; NaN is the null value of a column: it falls into no bin. Text for `Frequent`, with
        None. A "weight" of shape (n,) multiplies the loss of each row of a linear model.
    null : ndarray of bool of shape (n,)
        Null rows: they add to no bin and no sum.
    spend : callable
        ``spend(touch)`` ticks the book.
    normal : callable
        ``normal(shape)`` gives independent standard normal numbers.
    draw : callable, optional
        ``draw(n, rate)`` gives the ascending indices of a Poisson sample; without it, every touch sees all rows.
    ranks : Ranks or None
        The processes whose rows are counted and summed up together with these; noise is then added once to the total.

    Examples
    --------
    >>> from skdp.contract import Gaussian, Poisson, Touch
    >>> rows, no_null = {"y": np.array([[0.0], [1.0], [1.0]])}, np.zeros(3, dtype=bool)
    >>> silent = ArrayExecutor(rows, no_null, spend=lambda touch: 0, normal=np.zeros)
    >>> touch = Touch("counts", Poisson(), Gaussian((2.0,)), 1)
    >>> silent.answer(Query(touch, (Counts("y", np.array([[0.5]])),)))[0].tolist()
    [[1.0, 2.0]]
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        null: np.ndarray,
        *,
        spend: Callable[[Any], Any],
        normal: Callable[[tuple[int, ...]], np.ndarray],
        draw: Callable[[int, float], np.ndarray] | None = None,
        ranks: Ranks | None = None,
    ):
        self._rows = _Rows(arrays, null)
        self._spend = spend
        self._normal = normal
        self._draw = draw
        self._ranks = ranks

    def about(self, arrays: dict[str, np.ndarray], null: np.ndarray) -> ArrayExecutor:
        """What answers about other arrays of the same rows, from the same book and noise.

        Parameters
        ----------
        arrays : dict of str to ndarray
            For instance columns scaled by what was released about them.
        null : ndarray of bool of shape (n,)

        Returns
        -------
        ArrayExecutor
        """
        return ArrayExecutor(arrays, null, spend=self._spend, normal=self._normal, draw=self._draw, ranks=self._ranks)

    def answer(self, query: Query) -> Answers:
        """Noisy values of one sample.

        Parameters
        ----------
        query : Query

        Returns
        -------
        tuple
            (groups, bins or sums) of `Counts`, (k,) of a `RowSum`, (k, columns) of a `LinearGradient`, and as their own
            pages say of others.

        Raises
        ------
        ArithmeticError
            The minimum of a `PerturbedMinimum` was not found; the budget of the query is spent.
        """
        self._spend(query.touch)
        rate = query.touch.sampler.rate
        if rate != 1 and any(isinstance(value, PerturbedMinimum) for value in query.values):
            raise ValueError(f"touch {query.touch.name!r}: a minimum is about all rows, use Poisson(1.0)")
        if rate != 1 and self._draw is None:
            raise ValueError(f"touch {query.touch.name!r}: releases on arrays see all rows, use Poisson(1.0)")
        rows = self._rows if rate == 1 else self._rows.take(self._draw(len(self._rows), rate))
        noise = query.touch.noise
        multipliers = noise.multipliers if noise else (0.0,) * len(query.values)
        return tuple(self._noisy(rows, value, z) for value, z in zip(query.values, multipliers, strict=True))

    def _noisy(self, rows: _Rows, value: Any, multiplier: float) -> Any:
        if isinstance(value, Frequent):
            if self._ranks is not None:
                raise PlanViolationError("values found in a column are no sum, so several processes cannot share them")
            return self._frequent(rows, value, multiplier)
        if isinstance(value, PerturbedMinimum):
            if self._ranks is not None:
                raise PlanViolationError("a minimum is no sum, so several processes cannot share it")
            return self._minimum(rows, value, multiplier)
        exact = _EXACT[type(value)](rows, value)
        if self._ranks is None:
            return exact + self._noise(value, multiplier, exact.shape)
        return self._ranks.release_array(exact, lambda shape: self._noise(value, multiplier, shape))

    def _noise(self, value: Any, multiplier: float, shape: tuple[int, ...]) -> np.ndarray | float:
        return self._normal(shape) * (multiplier * value.sensitivity) if multiplier else 0.0

    def _frequent(self, rows: _Rows, value: Frequent, multiplier: float) -> list[tuple[np.ndarray, np.ndarray]]:
        found, columns = [], rows.arrays[value.of][~rows.null]
        for column in columns.T:
            counts = pd.Series(column, dtype=object).value_counts().sort_index()
            noisy = counts.to_numpy() + self._noise(value, multiplier, counts.shape)
            seen = noisy > value.threshold
            found.append((counts.index.to_numpy()[seen], noisy[seen]))
        return found

    def _minimum(self, rows: _Rows, value: PerturbedMinimum, multiplier: float) -> np.ndarray:
        X, targets, weights = _shortened(rows, value)
        ridge = np.asarray(value.ridge, dtype=float)
        if not multiplier:
            objective = Objective(X, targets, weights, value.loss, ridge, np.zeros(len(ridge)))
            return minimum(objective, 1e-9 * max(len(X), 1))
        terms, longest = objective_terms(multiplier), value.bound / value.loss.slope_bound
        least = terms.curvature * value.loss.curvature * longest**2
        linear = self._normal(ridge.shape) * (terms.noise * value.bound)
        objective = Objective(X, targets, weights, value.loss, np.maximum(ridge, least), linear)
        tolerance = _TOLERANCE * value.bound
        found = minimum(objective, tolerance)
        if not np.linalg.norm(objective.gradient(found)) <= tolerance:
            raise ArithmeticError(
                "objective perturbation did not come near enough to the minimum for its guarantee; the budget of this "
                "fit is spent. Use solver='gradient-descent', and report this"
            )
        return found + self._normal(found.shape) * (terms.point * tolerance / least)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The private arrays, or a sample of their rows."""

    arrays: dict[str, np.ndarray]
    null: np.ndarray

    def __len__(self) -> int:
        return len(self.null)

    @cached_property
    def lengths(self) -> np.ndarray:
        """L2 norm of every row of "X"."""
        with np.errstate(all="ignore"):
            return np.sqrt(np.einsum("ij,ij->i", self.arrays["X"], self.arrays["X"]))

    def take(self, index: np.ndarray) -> _Rows:
        """Some of the rows, copied."""
        return _Rows({name: array[index] for name, array in self.arrays.items()}, self.null[index])


def _histograms(rows: _Rows, value: Counts) -> np.ndarray:
    columns = rows.arrays[value.of]
    edges = np.asarray(value.edges, dtype=float)
    counts = np.empty((len(edges), edges.shape[1] + 1))
    for group, inner in enumerate(edges):
        column = columns[:, group]
        seen = column[~(rows.null | np.isnan(column))]
        bins = np.searchsorted(inner, seen, side="right")
        counts[group] = np.bincount(bins, minlength=len(inner) + 1)
    return counts if value.sums is None else counts @ np.transpose(value.sums)


def _row_sum(rows: _Rows, value: RowSum) -> np.ndarray:
    array, total = rows.arrays[value.of], 0.0
    size = max(1, _CELLS // np.shape(value.map(array[:0]))[1])
    for start in range(0, max(len(array), 1), size):
        piece = slice(start, start + size)
        with np.errstate(all="ignore"):
            mapped = np.asarray(value.map(array[piece]), dtype=np.float64)
            largest = np.abs(mapped).max(axis=1, initial=0.0)
            # In units of its largest entry no row overflows in its norm.
            norms = largest * np.sqrt(((mapped / np.maximum(largest, 1e-300)[:, None]) ** 2).sum(axis=1))
            mapped = mapped * np.minimum(1.0, value.bound / np.maximum(norms, 1e-300))[:, None]
        null = rows.null[piece] | ~np.isfinite(norms)
        total = total + np.where(null[:, None], 0.0, mapped).sum(axis=0)
    return total


def _linear_gradient(rows: _Rows, value: LinearGradient) -> np.ndarray:
    X, weights = rows.arrays["X"], rows.arrays.get("weight")
    with np.errstate(all="ignore"):
        slopes = value.loss.slopes(X @ value.coef.T, rows.arrays["y"])
        if weights is not None:
            slopes = slopes * weights[:, None]
        # A row's gradient is an outer product, so its norm is a product of two norms.
        norms = rows.lengths * np.sqrt(np.einsum("ij,ij->i", slopes, slopes))
        factors = np.minimum(1.0, value.bound / np.maximum(norms, 1e-300))
    null = rows.null | ~np.isfinite(norms)
    if null.any():  # also of X itself, for 0 times inf is NaN
        X, slopes = np.where(null[:, None], 0.0, X), np.where(null[:, None], 0.0, slopes)
    return (slopes * np.where(null, 0.0, factors)[:, None]).T @ X


def _gram(rows: _Rows, value: GramSum) -> np.ndarray:
    weights = rows.arrays.get("weight")
    with np.errstate(all="ignore"):
        roots = np.ones(len(rows)) if weights is None else np.sqrt(weights)
        norms = roots * rows.lengths
        factors = roots * np.minimum(1.0, value.bound / np.maximum(norms, 1e-300))
        X = rows.arrays["X"] * np.where(rows.null | ~np.isfinite(norms), 0.0, factors)[:, None]
    X = np.where(np.isfinite(X), X, 0.0)
    return GramSum.packed(X.T @ X)


def _shortened(rows: _Rows, value: PerturbedMinimum) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, targets and weights whose gradients and curvatures are within their bounds; null rows weigh nothing.

    A weight w asks for ``w * |x|`` and ``w * |x| ** 2`` to be bounded, so x is shortened for the larger of 1 and w.
    """
    X, targets = rows.arrays["X"], rows.arrays["y"][:, value.output]
    weights = rows.arrays.get("weight")
    with np.errstate(all="ignore"):
        weights = np.ones(len(rows)) if weights is None else weights
        needed = rows.lengths * np.maximum(weights, 1.0) * value.loss.slope_bound
        null = rows.null | ~np.isfinite(needed) | ~np.isfinite(targets)
        factors = np.where(null, 0.0, np.minimum(1.0, value.bound / np.maximum(needed, 1e-300)))
        X = X * factors[:, None]
    X = np.where(null[:, None], 0.0, X)
    return X, np.where(null, 1.0, targets), np.where(null, 0.0, weights)


_EXACT: dict[type, Callable[[_Rows, Any], np.ndarray]] = {
    Counts: _histograms,
    RowSum: _row_sum,
    LinearGradient: _linear_gradient,
    GramSum: _gram,
}
