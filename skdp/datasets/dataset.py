"""What a loader returns."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from skdp.preprocessing import Schema

__all__ = ["Dataset"]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A table as it was published, its public split and its public schema.

    Parameters
    ----------
    name : str
    X_train, X_test : pandas.DataFrame
        Raw columns, missing values as NaN.
    y_train, y_test : pandas.Series
        Raw labels.
    schema : Schema
        Public columns, categories and bounds, from documentation and not from the rows.
    classes : tuple
        Public labels, sorted, as ``classes=`` of a classifier.
    DESCR : str
        Origin, licence and where each public bound comes from.

    Examples
    --------
    >>> from skdp.datasets import load_adult
    >>> load_adult()
    <Dataset adult: 32561 training and 16281 test rows of 14 columns, target 'income'>
    """

    name: str
    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: pd.Series
    y_test: pd.Series
    schema: Schema
    classes: tuple
    DESCR: str

    @property
    def data(self) -> pd.DataFrame:
        """Training rows, then test rows, without the target."""
        return pd.concat([self.X_train, self.X_test], ignore_index=True)

    @property
    def target(self) -> pd.Series:
        """Labels of `data`."""
        return pd.concat([self.y_train, self.y_test], ignore_index=True)

    @property
    def frame(self) -> pd.DataFrame:
        """`data` with the target as its last column."""
        return self.data.assign(**{self.y_train.name: self.target})

    def __repr__(self) -> str:
        return (
            f"<Dataset {self.name}: {len(self.X_train)} training and {len(self.X_test)} test rows of "
            f"{self.X_train.shape[1]} columns, target {self.y_train.name!r}>"
        )
