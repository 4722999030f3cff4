"""A data frame over a mapped file, which worker processes map themselves."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["MappedFrame", "mapped_frame"]


class MappedFrame(pd.DataFrame):
    """A DataFrame whose values lie in a file; where a process gets a pickle of it, or of a slice, it opens the file.

    joblib sends mapped arrays by reference, too, but mixes up those that are transposed
    (https://github.com/joblib/joblib/issues/1019), as the inside of a DataFrame is. So this one pickles itself, and
    does not show joblib that it lies in a file: what is cut out of it otherwise is copied.
    """

    _metadata = ["_path"]  # noqa: RUF012 -- how pandas' subclasses say what slices inherit
    _path: str | None = None

    @property
    def _constructor(self) -> Any:
        return MappedFrame

    def __reduce_ex__(self, protocol: Any) -> Any:
        values = self.to_numpy()
        base = values
        while isinstance(base, np.ndarray):
            base = base.base
        if self._path is None or not isinstance(base, mmap.mmap):
            return super().__reduce_ex__(protocol)
        offset = values.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
        place = (self._path, values.dtype.str, offset, values.shape, values.strides)
        return mapped_frame, (*place, self.index, self.columns)


def mapped_frame(
    path: str,
    dtype: str,
    offset: int,
    shape: tuple[int, int],
    strides: tuple[int, int] | None,
    index: Any,
    columns: Any,
) -> MappedFrame:
    """Part of a file as a frame, read-only.

    Parameters
    ----------
    path : str
    dtype : str
    offset : int
        Of the first cell, in bytes.
    shape : tuple of int
    strides : tuple of int or None
        As of an array; None where cells lie side by side, row by row.
    index, columns
        As of a DataFrame.

    Returns
    -------
    MappedFrame
    """
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    values = np.ndarray(shape, dtype, mapped, offset, strides)
    frame = MappedFrame(values, index=index, columns=columns, copy=False)
    frame._path = path
    return frame
