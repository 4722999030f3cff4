"""The array executor: answers queries about numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from skdp.accounting.objective import objective_terms
from skdp.contract import Answers, Counts, Frequent, GramSum, LinearGradient, PerturbedMinimum, Query, RowSum
from skdp.exceptions import PlanViolationError
from skdp.releases.minimum import Objective, minimum
from skdp.releases.row_pieces import ShiftedRows, runs_of

if TYPE_CHECKING:
    from skdp.distributed import Ranks

__all__ = ["ArrayExecutor"]

_CELLS = 2**24  # of contributions that are held at a time
# Gradient at an approximate minimum over the largest gradient of a row. Rounding stays below a tenth of it up to the
# number of rows that `skdp.linear_model.objective_perturbation` takes.
_TOLERANCE = 1e-6
# Longer and shorter rows are null, and larger weights count as this one, float32's largest (as they do for neural
# networks). So no product of a length, a weight and a bound overflows, or underflows where it decides how much of a row
# is kept; and no length is one of those smallest numbers that have few digits.
_SHORTEST, _LONGEST, _HEAVIEST = 1e-150, 1e150, float(np.finfo(np.float32).max)


class ArrayExecutor:
    """Holds arrays and answers `Counts`, `RowSum`, `Frequent`, `LinearGradient`, `GramSum` and `PerturbedMinimum`.

    Noise is added once.

    Parameters
    ----------
    arrays : dict of str to ndarray of shape (n, columns)
        Private columns by name, or something that is read like them: a `MappedTable`, or rows of a linear model that
        are `StreamedRows` or `ShiftedRows`. NaN is the null value of a column: it falls into no bin. Text for
        `Frequent`, with None. A "weight" of shape (n,) multiplies the loss of each row of a linear model; above 3.4e38
        it counts as that, and NaN as 0. Rows "X" longer than 1e150 or shorter than 1e-150 are null.
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

    def measure(self) -> None:
        """Find the lengths of the rows "X" now, so that copies in other processes come with them."""
        self._rows.lengths  # noqa: B018 - it is kept

    def drawing(
        self, normal: Callable[[tuple[int, ...]], np.ndarray], draw: Callable[[int, float], np.ndarray]
    ) -> ArrayExecutor:
        """What answers about the same rows by other noise and samples; lengths of rows are not found again.

        Parameters
        ----------
        normal, draw : callable
            As for the class.

        Returns
        -------
        ArrayExecutor
        """
        other = copy(self)
        other._normal, other._draw = normal, draw
        return other

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
        shortened = _Shortened(rows, value)
        ridge = np.asarray(value.ridge, dtype=float)
        if not multiplier:
            objective = Objective(shortened, value.loss, ridge, np.zeros(len(ridge)))
            return minimum(objective, 1e-9 * max(len(rows), 1))
        terms, longest = objective_terms(multiplier), value.bound / value.loss.slope_bound
        least = terms.curvature * value.loss.curvature * longest**2
        linear = self._normal(ridge.shape) * (terms.noise * value.bound)
        objective = Objective(shortened, value.loss, np.maximum(ridge, least), linear)
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
        """L2 norm of every row of "X", 0 for those that are null, or too long or short."""
        X = self.arrays["X"]
        if isinstance(X, ShiftedRows):
            lengths = X.lengths()
        else:
            lengths = np.zeros(len(X))
            for run in X.runs() if hasattr(X, "runs") else runs_of(X.shape, _CELLS):
                _, largest, relative = _scaled(X[run])
                with np.errstate(all="ignore"):
                    lengths[run] = largest * relative
        return np.where(~self.null & (lengths >= _SHORTEST) & (lengths <= _LONGEST), lengths, 0.0)

    @cached_property
    def X(self) -> np.ndarray:
        """The array "X", zeros in rows of length 0; not copied where that is so already.

        Of `ShiftedRows`, such rows store zeros: what is summed up has to leave out their offset.
        """
        X, nothing = self.arrays["X"], self.lengths == 0
        if isinstance(X, ShiftedRows):
            return X.only_offset(nothing)
        return np.where(nothing[:, None], 0.0, X) if nothing.any() else X

    @cached_property
    def weights(self) -> np.ndarray | None:
        """Weights between 0 and the largest that counts."""
        weights = self.arrays.get("weight")
        return None if weights is None else np.where(weights > 0, np.minimum(weights, _HEAVIEST), 0.0)

    def pieces(self, *, dense: bool) -> Iterator[_Rows]:
        """These rows if they are in memory, else a run of them at a time; sparse ones are so unless `dense`."""
        X = self.arrays["X"]
        if not hasattr(X, "runs") or (isinstance(X, ShiftedRows) and not dense):
            yield self
            return
        for run in X.runs():
            piece = _Rows({name: array[run] for name, array in self.arrays.items()}, self.null[run])
            vars(piece)["lengths"] = self.lengths[run]  # so that they are found once
            yield piece

    def take(self, index: np.ndarray) -> _Rows:
        """Some of the rows, copied unless they are in a file."""
        return _Rows({name: array[index] for name, array in self.arrays.items()}, self.null[index])


def _scaled(array: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows in units of their largest entry, those entries, and norms in these units, which are 1 at least.

    Squares of such rows neither overflow nor vanish.
    """
    with np.errstate(all="ignore"):
        # Column by column: numpy is slow along short rows.
        largest = np.abs(array).max(axis=1, initial=0.0) if array.shape[1] > 8 else _largest(array)
        scaled = array / np.where(largest == 0, 1.0, largest)[:, None]
        return scaled, largest, np.sqrt(np.maximum(np.einsum("ij,ij->i", scaled, scaled), 1.0))


def _largest(array: np.ndarray) -> np.ndarray:
    largest = np.zeros(len(array))
    for column in array.T:
        np.maximum(largest, np.abs(column), out=largest)
    return largest


def _clipped(array: np.ndarray, bounds: np.ndarray | float) -> np.ndarray:
    """Rows with norms of at most `bounds`; those without a finite norm become zeros."""
    scaled, largest, relative = _scaled(array)
    with np.errstate(all="ignore"):
        norms = largest * relative
        shorter = scaled * (bounds / relative)[:, None]
    return np.where(np.isfinite(norms)[:, None], np.where((norms <= bounds)[:, None], array, shorter), 0.0)


def _histograms(rows: _Rows, value: Counts) -> np.ndarray:
    columns = rows.arrays[value.of]
    edges = np.asarray(value.edges, dtype=float)
    counts = np.zeros((len(edges), edges.shape[1] + 1))
    # What lies in a file is read once, a run of rows at a time.
    runs = ((columns[run], rows.null[run]) for run in columns.runs()) if hasattr(columns, "runs") else None
    for part, null in runs or [(columns, rows.null)]:
        for group, inner in enumerate(edges):
            seen, zeros = _seen(part, null, group)
            bins = np.searchsorted(inner, seen, side="right")
            counts[group] += np.bincount(bins, minlength=len(inner) + 1)
            counts[group, np.searchsorted(inner, 0.0, side="right")] += zeros
    return counts if value.sums is None else counts @ np.transpose(value.sums)


def _seen(columns: Any, null: np.ndarray, group: int) -> tuple[np.ndarray, int]:
    """What rows hold in a column, but for null rows and NaN; and how many hold a zero that is not stored."""
    if not hasattr(columns, "column"):
        column = columns[:, group]
        return column[~(null | np.isnan(column))], 0
    column, rows = columns.column(group)
    counted = ~null[rows]
    seen = column[counted]
    return seen[~np.isnan(seen)], int(len(null) - null.sum()) - int(counted.sum())


def _row_sum(rows: _Rows, value: RowSum) -> np.ndarray:
    array, total = rows.arrays[value.of], 0.0
    for piece in runs_of((len(array), np.shape(value.map(array[:0]))[1]), _CELLS):
        with np.errstate(all="ignore"):
            mapped = np.asarray(value.map(array[piece]), dtype=np.float64)
        total = total + np.where(rows.null[piece][:, None], 0.0, _clipped(mapped, value.bound)).sum(axis=0)
    return total


def _linear_gradient(rows: _Rows, value: LinearGradient) -> np.ndarray:
    return sum(_gradient_of_piece(piece, value) for piece in rows.pieces(dense=False))


def _gradient_of_piece(rows: _Rows, value: LinearGradient) -> np.ndarray:
    with np.errstate(all="ignore"):
        slopes = value.loss.slopes(rows.X @ value.coef.T, rows.arrays["y"])
        if rows.weights is not None:
            slopes = slopes * rows.weights[:, None]
        # A row's gradient is an outer product, so its norm is a product of two norms. Rows of length 0 add nothing.
        slopes = _clipped(slopes, np.where(rows.lengths > 0, value.bound / rows.lengths, 0.0))
    return slopes.T @ rows.X


def _gram(rows: _Rows, value: GramSum) -> np.ndarray:
    return GramSum.packed(sum(_gram_of_piece(piece, value) for piece in rows.pieces(dense=True)))


def _gram_of_piece(rows: _Rows, value: GramSum) -> np.ndarray:
    roots = np.ones(len(rows)) if rows.weights is None else np.sqrt(rows.weights)
    with np.errstate(all="ignore"):
        factors = roots * np.minimum(1.0, value.bound / (roots * rows.lengths))
    X = rows.X * factors[:, None]
    return X.T @ X


@dataclass(frozen=True, eq=False)
class _Shortened:
    """Triples as `_shortened` gives them, of all rows: kept where they are in memory, else made again each time."""

    rows: _Rows
    value: PerturbedMinimum

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        if isinstance(self.rows.arrays["X"], np.ndarray):
            return iter(self._kept)
        return (_shortened(piece, self.value) for piece in self.rows.pieces(dense=True))

    @cached_property
    def _kept(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return [_shortened(self.rows, self.value)]


def _shortened(rows: _Rows, value: PerturbedMinimum) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, targets and weights whose gradients and curvatures are within their bounds; null rows weigh nothing.

    A weight w asks for ``w * |x|`` and ``w * |x| ** 2`` to be bounded, so x is shortened for the larger of 1 and w.
    """
    targets = rows.arrays["y"][:, value.output]
    weights = np.ones(len(rows)) if rows.weights is None else rows.weights
    with np.errstate(all="ignore"):
        needed = rows.lengths * np.maximum(weights, 1.0) * value.loss.slope_bound
        factors = np.minimum(1.0, value.bound / needed)
    null = rows.null | (rows.lengths == 0) | ~np.isfinite(targets)
    X = rows.X * np.where(null, 0.0, factors)[:, None]
    return X, np.where(null, 1.0, targets), np.where(null, 0.0, weights)


_EXACT: dict[type, Callable[[_Rows, Any], np.ndarray]] = {
    Counts: _histograms,
    RowSum: _row_sum,
    LinearGradient: _linear_gradient,
    GramSum: _gram,
}
