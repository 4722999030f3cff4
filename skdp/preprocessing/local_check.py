"""How well a public schema fits the private rows at hand: for the eyes of those who may see the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from skdp.preprocessing.schema import Schema
from skdp.preprocessing.tables import as_codes, as_float

__all__ = ["LocalCheck"]

NOTICE = "Computed exactly from private rows, without noise and not covered by any statement: do not publish."


@dataclass(frozen=True, eq=False)
class LocalCheck:
    """What `SchemaEncoder.check` found. It is computed from the rows without noise and must not be published.

    Parameters
    ----------
    shares : pandas.DataFrame
        Indexed by column of the schema: `kind`, `outside` (share of the rows with a number outside the public bounds or
        a category outside the public list), `missing` (share without a value) and `declared` (whether the schema
        allows missing values).

    Examples
    --------
    >>> from skdp.preprocessing import Column, Schema, SchemaEncoder
    >>> table = pd.DataFrame({"sex": ["F", "M", "M", None]})
    >>> check = SchemaEncoder(Schema([Column("sex", categories=("female", "male"), missing=True)])).check(table)
    >>> float(check.shares.loc["sex", "outside"]), check.suspects
    (0.75, ('sex',))
    """

    shares: pd.DataFrame

    @classmethod
    def of(cls, schema: Schema, values: list[np.ndarray]) -> LocalCheck:
        """Compare one array of values per column with the schema."""
        records = {}
        for column, own in zip(schema, values, strict=True):
            if column.kind == "numeric":
                number = as_float(column.name, own)
                missing, outside = np.isnan(number), (number < column.low) | (number > column.high)
            else:
                code, missing = as_codes(column, own)
                outside = ~missing & (code < 0)
            records[column.name] = (column.kind, outside.mean(), missing.mean(), column.missing)
        return cls(pd.DataFrame.from_dict(records, "index", columns=["kind", "outside", "missing", "declared"]))

    @property
    def suspects(self) -> tuple[str, ...]:
        """Columns with more than 5 % of the rows outside, or with missing values that the schema does not declare."""
        odd = (self.shares["outside"] > 0.05) | ((self.shares["missing"] > 0) & ~self.shares["declared"])
        return tuple(self.shares.index[odd])

    def __str__(self) -> str:
        """The table under its notice."""
        doubt = f"Look at: {', '.join(self.suspects)}." if self.suspects else "No column looks wrong."
        return f"{NOTICE}\n{self.shares.to_string(float_format='{:.3f}'.format)}\n{doubt}"

    __repr__ = __str__
