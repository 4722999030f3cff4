"""Bounds of columns in a few words, for statements and messages: values, and how many columns share them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["bounds_in_words"]

_NAMED = 3  # columns of one range that are named; of more, their number is
_RANGES = 12


def bounds_in_words(bounds: np.ndarray, names: Sequence[Any] | None = None) -> str:
    """The ranges in order of how many columns have them, at most 12 of them.

    Parameters
    ----------
    bounds : ndarray of shape (columns, 2)
        Public or released.
    names : sequence, optional
        Of the columns; their positions where there are none.

    Returns
    -------
    str

    Examples
    --------
    >>> bounds_in_words(np.array([[0, 1]] * 8))
    '(0, 1) for all 8 columns'
    >>> bounds_in_words(np.array([[0, 1]] * 5 + [[17, 90]]), ["a", "b", "c", "d", "e", "age"])
    "(0, 1) for 5 columns, (17, 90) for 'age'"
    """
    if len(bounds) == 1:
        return _pair(bounds[0])
    ranges, group = np.unique(bounds, axis=0, return_inverse=True)
    group = group.ravel()
    if len(ranges) == 1:
        return f"{_pair(ranges[0])} for all {len(bounds)} columns"
    counts = np.bincount(group)
    order = np.lexsort((range(len(ranges)), -counts))
    parts = []
    for i in order[:_RANGES]:
        columns = np.flatnonzero(group == i)
        named = [f"column {column}" if names is None else repr(str(names[column])) for column in columns]
        whose = f"{len(named)} columns" if len(named) > _NAMED else " and ".join(named)
        parts.append(f"{_pair(ranges[i])} for {whose}")
    if rest := int(counts[order[_RANGES:]].sum()):
        parts.append(f"others for {rest} more columns")
    return ", ".join(parts)


def _pair(bounds: np.ndarray) -> str:
    return f"({bounds[0]:.10g}, {bounds[1]:.10g})"
