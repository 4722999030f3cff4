"""What a trained model reached and what it cost, as a row, a table and JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdp.accounting.statement_text import round_up
from skdp.cli.models import Contender

__all__ = ["Result", "evaluate", "table", "wrapped"]

ROWS = 100_000
HEADERS = ("model", "accuracy", "ROC AUC", "log loss", "ECE", "seconds", "epsilon", "delta")


@dataclass(frozen=True)
class Result:
    """One row of the comparison; metrics on the test rows, seconds of the fit.

    Parameters
    ----------
    model : str
    private : bool
    accuracy, log_loss, expected_calibration_error : float
    roc_auc : float or None
        None where the test rows lack a class.
    seconds : float
    epsilon : float
        Infinite where the model is not private.
    delta : float or None
    """

    model: str
    private: bool
    accuracy: float
    roc_auc: float | None
    log_loss: float
    expected_calibration_error: float
    seconds: float
    epsilon: float
    delta: float | None

    def to_dict(self) -> dict[str, Any]:
        """The row for JSON, which has no infinity: an infinite epsilon is the string ``"inf"``.

        Returns
        -------
        dict
        """
        return {**vars(self), "epsilon": "inf" if math.isinf(self.epsilon) else self.epsilon}

    def cells(self) -> tuple[str, ...]:
        """The row in words.

        Returns
        -------
        tuple of str
        """
        scores = (self.accuracy, self.roc_auc, self.log_loss, self.expected_calibration_error)
        return (
            self.model if self.private else f"{self.model} (not private)",
            *("-" if score is None else f"{score:.4f}" for score in scores),
            f"{self.seconds:.1f}",
            "inf" if math.isinf(self.epsilon) else round_up(self.epsilon),
            "-" if self.delta is None else round_up(self.delta),
        )


def evaluate(model: Contender, X: Any, y: Any, classes: Sequence[Any], seconds: float) -> Result:
    """Metrics of a fitted model on test rows; they are exact, so on private rows nothing covers them.

    Parameters
    ----------
    model : Contender
        Fitted, with ``predict_proba``; a private one with ``privacy_``.
    X, y : array-like
        Test rows and labels.
    classes : sequence
        Labels, sorted.
    seconds : float
        What the fit took.

    Returns
    -------
    Result
    """
    from skdp.reporting.utility import classification_scores

    predicted, proba = (_by_pieces(ask, X) for ask in (model.estimator.predict, model.estimator.predict_proba))
    scores = classification_scores(y, predicted, proba, classes)
    return Result(
        model=model.name,
        private=model.private,
        accuracy=scores["Accuracy"],
        roc_auc=scores["ROC AUC"],
        log_loss=scores["Log loss"],
        expected_calibration_error=scores["ECE"],
        seconds=seconds,
        epsilon=float(model.estimator.privacy_.epsilon) if model.private else math.inf,
        delta=float(model.estimator.privacy_.delta) if model.private else None,
    )


def _by_pieces(ask: Callable[[Any], Any], X: Any) -> np.ndarray:
    """Predictions of many rows, which are encoded a piece at a time."""
    return np.concatenate([np.asarray(ask(X[start : start + ROWS])) for start in range(0, len(X), ROWS)])


def table(results: Sequence[Result], width: int) -> str:
    """The rows side by side, or below each other where the terminal is too narrow.

    Parameters
    ----------
    results : sequence of Result
    width : int
        Columns of the terminal.

    Returns
    -------
    str

    Examples
    --------
    >>> row = Result("majority class", False, 0.7638, 0.5, 0.5467, 0.002, 0.01, float("inf"), None)
    >>> print(table([row], 100))
    model                         accuracy  ROC AUC  log loss     ECE  seconds  epsilon  delta
    ----------------------------  --------  -------  --------  ------  -------  -------  -----
    majority class (not private)    0.7638   0.5000    0.5467  0.0020      0.0      inf      -
    """
    rows = [HEADERS, *(result.cells() for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) > width:
        return "\n\n".join(_stacked(row) for row in rows[1:])
    rows.insert(1, tuple("-" * w for w in widths))
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def wrapped(text: str, width: int) -> str:
    """Lines of a text brought to a width; the rest of a broken line stands below its first word.

    Parameters
    ----------
    text : str
    width : int

    Returns
    -------
    str
    """
    lines = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip(" -")))
        parts = textwrap.wrap(line, max(width, 20), subsequent_indent=indent, break_on_hyphens=False)
        lines.extend(parts or [""])
    return "\n".join(lines)


def _stacked(row: tuple[str, ...]) -> str:
    """One row as a block of lines."""
    return "\n".join([row[0], *(f"  {name:<9}{cell}" for name, cell in zip(HEADERS[1:], row[1:], strict=True))])
