"""What is publicly known about a table: its columns, their categories and their bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Column", "Schema"]

TRANSFORMS = ("linear", "log1p")
FORMAT = 1


@dataclass(frozen=True)
class Column:
    """Public knowledge of one column: numeric with bounds, or categorical with a list of categories.

    Bounds and categories must come from documentation, law or nature. Read off the rows they are private.

    Parameters
    ----------
    name : str
        Name of the column in the table.
    low, high : float, optional
        Public bounds of a numeric column, in its own units; finite, ``low < high``.
    categories : sequence of str, int, float or bool, optional
        Public list of a categorical column. White space around strings is ignored.
    transform : {"linear", "log1p"}, default="linear"
        How a numeric column reaches [-1, 1]: proportionally, or through ``log1p(value - low)`` for quantities
        that span several orders of magnitude.
    missing : bool, default=False
        Whether values may be missing, which is public and gives the column an indicator of its own.
    source : str, default=""
        Where this knowledge comes from, for a reader who has to trust it.

    Raises
    ------
    ValueError
        If the column is neither or both of numeric and categorical, or bounds or categories make no sense.

    Examples
    --------
    >>> Column("age", low=17, high=90).kind
    'numeric'
    >>> Column("sex", categories=("Female", "Male"), missing=True).kind
    'categorical'
    """

    name: str
    low: float | None = None
    high: float | None = None
    categories: tuple[str | int | float | bool, ...] = ()
    transform: str = "linear"
    missing: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name={self.name!r} must be a non-empty string: columns are found by name")
        if isinstance(self.categories, str):
            raise ValueError(
                f"column {self.name!r}: categories={self.categories!r} is one string; pass a tuple of strings"
            )
        object.__setattr__(self, "categories", tuple(_plain(self.name, c) for c in self.categories))
        object.__setattr__(self, "missing", bool(self.missing))
        if self.categories:
            self._check_categories()
        else:
            self._check_bounds()

    @property
    def kind(self) -> str:
        """``"categorical"`` or ``"numeric"``."""
        return "categorical" if self.categories else "numeric"

    def _check_categories(self) -> None:
        if self.low is not None or self.high is not None or self.transform != "linear":
            raise ValueError(
                f"column {self.name!r} has categories, so low, high and transform do not apply; "
                f"leave them out, or leave out categories for a numeric column"
            )
        twice = sorted({repr(c) for c in self.categories if self.categories.count(c) > 1})
        if twice:
            raise ValueError(
                f"column {self.name!r}: categories equal to each other: {', '.join(twice)}; list each once"
            )

    def _check_bounds(self) -> None:
        if self.low is None or self.high is None:
            raise ValueError(
                f"column {self.name!r} needs public bounds (low=..., high=...) if it is numeric or a public "
                f"list (categories=...) if it is categorical"
            )
        try:
            low, high = float(self.low), float(self.high)
        except (TypeError, ValueError):
            raise ValueError(f"column {self.name!r}: low={self.low!r} and high={self.high!r} must be numbers") from None
        if not (low < high and math.isfinite(high - low)):
            raise ValueError(
                f"column {self.name!r}: low={self.low!r} must be below high={self.high!r}, and both finite"
            )
        if self.transform not in TRANSFORMS:
            raise ValueError(
                f"column {self.name!r}: transform={self.transform!r} must be one of {', '.join(TRANSFORMS)}"
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)


def _plain(name: str, category: Any) -> str | int | float | bool:
    """A category as a Python scalar that JSON carries; white space around strings goes."""
    category = category.item() if hasattr(category, "item") else category
    if isinstance(category, str):
        return category.strip()
    if isinstance(category, (bool, int)) or (isinstance(category, float) and math.isfinite(category)):
        return category
    raise ValueError(
        f"column {name!r}: category {category!r} must be a string or a finite number; "
        f"declare missing values by missing=True"
    )


@dataclass(frozen=True)
class Schema:
    """The public description of a table: an ordered tuple of columns.

    Parameters
    ----------
    columns : sequence of Column
        In the order in which their outputs appear.

    Raises
    ------
    ValueError
        If there is no column, or a name occurs twice.

    Examples
    --------
    >>> schema = Schema([Column("age", low=17, high=90), Column("sex", categories=("Female", "Male"))])
    >>> schema.names
    ('age', 'sex')
    >>> Schema.from_json(schema.to_json()) == schema
    True
    >>> print(schema.without("sex"))
    age: numeric in [17, 90]
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        columns = (self.columns,) if isinstance(self.columns, Column) else tuple(self.columns)
        for column in columns:
            if not isinstance(column, Column):
                raise ValueError(f"columns must be skdp.preprocessing.Column objects, got {type(column).__name__}")
        if not columns:
            raise ValueError("columns is empty: a schema needs at least one column")
        names = [column.name for column in columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"column names must be unique, got twice: {', '.join(map(repr, twice))}")
        object.__setattr__(self, "columns", columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __getitem__(self, name: str) -> Column:
        self._known((name,))
        return next(column for column in self.columns if column.name == name)

    def without(self, *names: str) -> Schema:
        """The schema less some columns, which an encoder then leaves out.

        Parameters
        ----------
        *names : str

        Returns
        -------
        Schema

        Raises
        ------
        KeyError
            If a name is not in the schema.
        """
        self._known(names)
        return Schema(tuple(column for column in self.columns if column.name not in names))

    def to_json(self) -> str:
        """The schema as JSON text.

        Returns
        -------
        str
        """
        columns = [
            {f.name: getattr(c, f.name) for f in fields(c) if getattr(c, f.name) != f.default} for c in self.columns
        ]
        return json.dumps({"skdp_schema": FORMAT, "columns": columns}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The schema that `to_json` wrote.

        Parameters
        ----------
        text : str

        Returns
        -------
        Schema

        Raises
        ------
        ValueError
            If the text is not a schema of a known format.
        """
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not a schema: the text is not JSON ({error})") from None
        if not isinstance(raw, dict) or raw.get("skdp_schema") != FORMAT or not isinstance(raw.get("columns"), list):
            raise ValueError(f'not a schema: expected {{"skdp_schema": {FORMAT}, "columns": [...]}}')
        known = {f.name for f in fields(Column)}
        columns = []
        for index, entry in enumerate(raw["columns"]):
            if not isinstance(entry, dict) or "name" not in entry or not set(entry) <= known:
                raise ValueError(f"columns[{index}] must be an object with a name and none but {sorted(known)}")
            columns.append(Column(**entry))
        return cls(tuple(columns))

    def _known(self, names: tuple[str, ...]) -> None:
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise KeyError(f"no column {', '.join(map(repr, unknown))} in the schema; it has {', '.join(self.names)}")

    def __str__(self) -> str:
        return "\n".join(_line(column) for column in self.columns)

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:4]) + (", ..." if len(self) > 4 else "")
        return f"<Schema of {len(self)} columns: {shown}>"


def _line(column: Column) -> str:
    """One column in words."""
    if column.kind == "numeric":
        scale = "" if column.transform == "linear" else f", {column.transform} scale"
        text = f"{column.name}: numeric in [{column.low:g}, {column.high:g}]{scale}"
    else:
        text = f"{column.name}: {len(column.categories)} categories"
    return text + (", may be missing" if column.missing else "")
