"""What a model knows about the columns of a table, and whether that was public or released with noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from skdp.accounting import PrivacyStatement
from skdp.calibration.prefit import PrefitSpending
from skdp.preprocessing import DPTableVectorizer, Schema, SchemaEncoder
from skdp.preprocessing.table_layout import EPOCH, known_columns

__all__ = ["READ_OFF", "ReportColumn", "columns_of", "last_step", "reads_classes", "within"]

PUBLIC, RELEASED, UNUSED = "public", "released with noise", "not used"
READ_OFF = "read from the rows, not protected"
TARGET = "(target)"
_MOST_CATEGORIES = 12


@dataclass(frozen=True)
class ReportColumn:
    """One input column or the target.

    Parameters
    ----------
    name : str
    content : str
        Bounds or categories, in words.
    origin : {"public", "released with noise", "not used", "read from the rows, not protected"}
        Where that is known from.
    source : str
        What the schema says about where its knowledge is from.
    """

    name: str
    content: str
    origin: str
    source: str = ""


def columns_of(model: Any, statement: PrivacyStatement) -> list[ReportColumn]:
    """Input columns of a model or pipeline and its target, with what was known of each.

    Parameters
    ----------
    model : estimator
        Fitted.
    statement : PrivacyStatement
        About it, which knows more than the model: the trials of a search are told the classes that it read from y.

    Returns
    -------
    list of ReportColumn
    """
    model = within(model)
    first = model.steps[0][1] if isinstance(model, Pipeline) else model
    if isinstance(first, SchemaEncoder) and isinstance(first.schema, Schema):
        found = [ReportColumn(c.name, _in_words(c), PUBLIC, c.source) for c in first.schema]
    elif isinstance(first, DPTableVectorizer):
        known = known_columns(first.schema)
        found = []
        for name, content in first.columns_.items():
            origin, source = (PUBLIC, known[name].source) if name in known else (RELEASED, "")
            found.append(ReportColumn(name, _content(content, first.kinds_[name]), origin, source))
    else:
        found = _bare(first, last_step(model))
    return found + _target(last_step(model), statement)


def last_step(model: Any) -> Any:
    """The last step of a pipeline, or the model itself."""
    model = within(model)
    return last_step(model.steps[-1][1]) if isinstance(model, Pipeline) else model


def within(model: Any) -> Any:
    """What predicts inside searches, repairs of a fitted model, and `sklearn.frozen.FrozenEstimator`."""
    while True:
        if isinstance(model, PrefitSpending | FrozenEstimator):
            model = model.estimator
        elif hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        else:
            return model


def reads_classes(statement: PrivacyStatement) -> bool:
    """Whether labels were read from y, as the statement tells."""
    return any("(read from y)" in line for line in statement.public)


def _bare(first: Any, last: Any) -> list[ReportColumn]:
    """Columns of a model that was given an array, by its bounds."""
    n = getattr(first, "n_features_in_", None)
    if n is None:
        return []
    names = getattr(first, "feature_names_in_", [f"x{i}" for i in range(n)])
    bounds = getattr(last, "feature_bounds_", None) if first is last else None
    if bounds is None or np.shape(bounds) != (n, 2):
        return [ReportColumn(str(name), "values as they are", UNUSED) for name in names]
    origin = RELEASED if isinstance(last.feature_bounds, str) else PUBLIC
    return [ReportColumn(str(name), f"{a:.6g} to {b:.6g}", origin) for name, (a, b) in zip(names, bounds, strict=True)]


def _target(last: Any, statement: PrivacyStatement) -> list[ReportColumn]:
    if hasattr(last, "classes_"):
        given = getattr(last, "classes", None) is not None and not reads_classes(statement)
        text = _listed(list(last.classes_))
        return [ReportColumn(TARGET, f"classes {text}", PUBLIC if given else READ_OFF)]
    bounds = getattr(last, "y_bounds_", None)
    if bounds is None:
        return []
    origin = RELEASED if isinstance(last.y_bounds, str) else PUBLIC
    text = "; ".join(f"{low:.6g} to {high:.6g}" for low, high in np.atleast_2d(bounds))
    return [ReportColumn(TARGET, text, origin)]


def _in_words(column: Any) -> str:
    missing = ", may be missing" if column.missing else ""
    if column.kind == "categorical":
        return f"categories {_listed(column.categories)}{missing}"
    scale = "" if column.transform == "linear" else f", {column.transform} scale"
    return f"{column.low:g} to {column.high:g}{scale}{missing}"


def _content(content: Any, kind: str) -> str:
    if kind == "date" and isinstance(content, tuple):
        low, high = (EPOCH + np.timedelta64(round(days), "D") for days in content)
        return f"{low} to {high}"
    if isinstance(content, tuple):
        return f"{content[0]:.6g} to {content[1]:.6g}"
    return f"categories {_listed(content)}" if len(content) else "no category has enough rows"


def _listed(values: Any) -> str:
    shown = ", ".join(str(value) for value in values[:_MOST_CATEGORIES])
    more = len(values) - _MOST_CATEGORIES
    return f"{shown} and {more} more" if more > 0 else shown
