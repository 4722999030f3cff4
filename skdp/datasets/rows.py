"""Rows that do not fit into memory, as mapped files that `fit` reads a sample at a time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skdp.datasets.mapped_frame import mapped_frame
from skdp.datasets.parquet_files import ParquetFiles
from skdp.datasets.records import Records
from skdp.datasets.row_cache import mapped

__all__ = ["Rows", "open_rows"]


@dataclass(frozen=True, eq=False, repr=False)
class Rows:
    """Rows in mapped files; only what is asked for is read.

    Parameters
    ----------
    X : pandas.DataFrame of shape (n, n_features), or numpy.memmap of shape (n, ...)
        A table is float32 and has the columns' names; it is a view of the mapped file, so that ``X.iloc[:1000]`` copies
        nothing, and ``X.sample(1000)`` a thousand rows.
    y : numpy.memmap of shape (n,) or (n, n_targets)
        Numbers; positions in `classes`, where those were given, and -1 for what is none of them.
    classes : tuple or None
        Public labels, as they were given.
    feature_bounds : ndarray of shape (n_features, 2) or None
        Public (low, high) of each column, where a schema was given; pass it to ``DPClassifier(feature_bounds=...)``.
    seconds : float
        What the conversion took, when it was made.
    reused : bool
        Whether it was made before, so that nothing was converted now.
    folder : Path
        Where the files lie.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from skdp.datasets import open_rows
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = open_rows(torch.utils.data.TensorDataset(torch.eye(3), torch.zeros(3)), cache=folder)
    ...     len(rows), rows.X[1].tolist(), rows.classes
    (3, [0.0, 1.0, 0.0], None)
    """

    X: Any
    y: np.memmap
    classes: tuple | None
    feature_bounds: np.ndarray | None
    seconds: float
    reused: bool
    folder: Path

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        how = "reused" if self.reused else f"converted in {self.seconds:.3g} s"
        return f"<Rows: {len(self)} rows of shape {self.X.shape[1:]}, {how}, in '{self.folder}'>"


def open_rows(
    source: Any,
    *,
    cache: Any,
    target: Any = None,
    columns: Any = None,
    schema: Any = None,
    classes: Any = None,
    version: str | None = None,
) -> Rows:
    """Turn Parquet files or a PyTorch dataset into mapped files, once.

    The numbers are converted a piece at a time, and each row by itself. The result is used again as long as the source
    is the same: for files, as long as their names, sizes, times and declared types are.

    Parameters
    ----------
    source : str, path or map-style dataset
        A Parquet file, a folder with Parquet files (``*.parquet`` and ``*.pq``, also in folders within it, in the order
        of their names), or something with ``__len__`` and ``__getitem__`` whose records are pairs ``(x, y)``. The
        number of records, and type and shape of the first one, are taken as public.
    cache : str or path
        Folder for the mapped files, which hold the rows in plain. It is made for its owner alone.
    target : str or list of str
        Column or columns with the targets. Only for Parquet.
    columns : list of str, optional
        Features; None takes all columns but the target, or those of the schema. Only for Parquet.
    schema : Schema or SchemaEncoder, optional
        Public categories and bounds, by which columns that are not numbers become numbers. Only for Parquet.
    classes : list, optional
        Public labels; y then holds positions in this list, and what is none of them becomes -1, which a classifier with
        ``classes=range(len(...))`` treats as ``on_invalid=`` says. Text can be a target only so. Only for Parquet.
    version : str, optional
        Name of what a PyTorch dataset returns, which nothing else tells: its conversion is used again while version,
        type and length are the same. None converts anew each time.

    Returns
    -------
    Rows

    Raises
    ------
    ImportError
        Parquet needs pyarrow, which ``pip install skdp[parquet]`` installs.
    ValueError, TypeError
        For columns that are not there or not numbers, files of different types, records of different shapes, and a
        source that changes while it is read. No message quotes a value.

    Notes
    -----
    *Formal guarantee.* Row i of the result is a function of row i of the source and of public values, so the conversion
    costs no privacy, and neighbouring sources stay neighbours. That a dataset's ``__getitem__(i)`` looks at record i
    alone is up to whoever wrote it. What it draws at random, such as an augmentation, is drawn once.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from skdp.datasets import open_rows
    >>> dataset = torch.utils.data.TensorDataset(torch.eye(3), torch.tensor([0, 1, 1]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = open_rows(dataset, cache=folder)
    ...     rows.X.shape, rows.X.dtype.name, rows.y.tolist(), rows.reused
    ((3, 3), 'float32', [0.0, 1.0, 1.0], False)
    """
    if isinstance(source, str | os.PathLike):
        if version is not None:
            raise ValueError(f"version={version!r} is for PyTorch datasets; files tell themselves whether they changed")
        made = ParquetFiles(source, target, columns, schema, classes)
    else:
        given = {"target": target, "columns": columns, "schema": schema, "classes": classes}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name}= is for Parquet files; records of a dataset are pairs (x, y) of numbers")
        made = Records(source, version)
    X, y, seconds, reused, folder = mapped(Path(cache), made)
    if made.names is not None:
        X = mapped_frame(str(X.filename), X.dtype.str, X.offset, X.shape, None, None, list(made.names))
    return Rows(X, y, None if classes is None else tuple(classes), made.bounds, seconds, reused, folder)
