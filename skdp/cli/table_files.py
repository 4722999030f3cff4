"""CSV and Parquet files in pieces of typed columns: millions of rows need no more memory than their numbers."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api import types

from skdp.cli.errors import UsageError

__all__ = ["TableFile", "declared_kind"]

ROWS = 100_000
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
_TRUE, _FALSE = ("true", "yes", "y", "t", "1", "1.0"), ("false", "no", "n", "f", "0", "0.0")
_PARQUET = (".parquet", ".pq")
_SHEETS = (".xlsx", ".xls", ".ods")
_COMPRESSED: dict[str, Callable] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


class TableFile:
    """A CSV or Parquet file.

    Parameters
    ----------
    path : str
        A CSV file may be compressed, and then ends in ``.gz``, ``.bz2`` or ``.xz``.
    delimiter : str, optional
        Of a CSV file; a comma when None, a tab for ``.tsv``.

    Attributes
    ----------
    kinds : dict of str to (str or None)
        Names of columns, and the kinds that the file declares. CSV declares none.

    Raises
    ------
    UsageError
        It cannot be read, or is no table.
    """

    def __init__(self, path: str, delimiter: str | None = None):
        self.path = path
        if not Path(path).is_file():
            raise UsageError(f"{path!r} is not a file")
        *_, kind = [end.lower() for end in Path(path).suffixes if end.lower() not in _COMPRESSED] or [""]
        self._open = _COMPRESSED.get(Path(path).suffix.lower(), open)
        if kind in _SHEETS:
            raise UsageError(f"{path!r} is a spreadsheet; save the sheet as CSV")
        self.is_parquet = kind in _PARQUET and self._open is open
        if self.is_parquet and delimiter is not None:
            raise UsageError(f"--delimiter is for text files, and {path!r} is Parquet")
        self.delimiter = delimiter or ("\t" if kind == ".tsv" else ",")
        if len(self.delimiter) != 1:
            raise UsageError(f"--delimiter {delimiter!r} must be one character")
        with self._readable():
            names = self._declared_types() if self.is_parquet else dict.fromkeys(self._header())
        self.kinds: dict[str, str | None] = names

    def pieces(
        self,
        kinds: Mapping[str, str],
        categories: Mapping[str, tuple] | None = None,
        unread: Counter[str] | None = None,
    ) -> Iterator[pd.DataFrame]:
        """The rows in order, at most 100,000 at a time, with columns of the types that their kinds ask for.

        Cells that are no number, date or truth value where one is expected are missing; each cell is read by itself.

        Parameters
        ----------
        kinds : mapping of str to {"numeric", "categorical", "boolean", "date"}
            The columns to be read.
        categories : mapping of str to tuple, optional
            Declared categories; words such as NA stand for missing values unless they are among them.
        unread : Counter, optional
            Goes up, by column, with every cell that holds something else than its kind asks for. Such counts are
            exact, so they are for rows that nobody promised to protect.

        Yields
        ------
        DataFrame
        """
        known = categories or {}
        if self.is_parquet:
            raw = self._parquet_pieces(list(kinds))
        else:
            absent = {name: [word for word in MISSING if word not in known.get(name, ())] for name in kinds}
            raw = self._csv_pieces(list(kinds), absent)
        for piece in raw:
            typed = pd.DataFrame({name: _typed(piece[name], kind) for name, kind in kinds.items()})
            if unread is not None:
                unread.update({name: int((piece[name].notna() & typed[name].isna()).sum()) for name in kinds})
            yield typed

    def guessed_kinds(self, names: list[str]) -> dict[str, str]:
        """Kinds of columns by their values: numeric or date where all are, else categorical.

        Parameters
        ----------
        names : list of str

        Returns
        -------
        dict of str to {"numeric", "date", "categorical"}
        """
        possible = {name: ["numeric", "date", "categorical"] for name in names}
        for piece in self._csv_pieces(names, dict.fromkeys(names, list(MISSING))) if names else ():
            for name, kinds in possible.items():
                while kinds[0] != "categorical" and _typed(piece[name], kinds[0]).count() < piece[name].count():
                    kinds.pop(0)
        return {name: kinds[0] for name, kinds in possible.items()}

    # ------------------------------------------------------------------ files
    def _header(self) -> list[str]:
        with self._open(self.path, "rt", encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter=self.delimiter), [])
        names = [name.strip() for name in names]
        if not any(names):
            raise UsageError(f"{self.path!r} is not a table: its first line names no columns")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not all(names):
            which = f"has two columns {twice[0]!r}" if twice and twice[0] else "has a column without a name"
            raise UsageError(f"{self.path!r} {which}; its first line must name every column once")
        other = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), None)
        if other:
            raise UsageError(f"{self.path!r} has one column only, {names[0][:60]!r}; try --delimiter {other!r}")
        return names

    def _csv_pieces(self, names: list[str], missing: Mapping[str, list[str]]) -> Iterator[pd.DataFrame]:
        # As text: a parser that guesses types lets one cell decide how the others of its piece are read.
        with (
            self._readable(),
            pd.read_csv(
                self.path, sep=self.delimiter, names=list(self.kinds), header=0, usecols=names, chunksize=ROWS,
                encoding="utf-8-sig", skipinitialspace=True, index_col=False, dtype=str, na_values=missing,
                keep_default_na=False,
            ) as reader,
        ):  # fmt: skip
            yield from reader

    def _parquet_pieces(self, names: list[str]) -> Iterator[pd.DataFrame]:
        with self._readable():
            for batch in _pyarrow().ParquetFile(self.path).iter_batches(ROWS, columns=names):
                yield batch.to_pandas()

    def _declared_types(self) -> dict[str, str | None]:
        empty = _pyarrow().ParquetFile(self.path).schema_arrow.empty_table().to_pandas()
        return {str(name): declared_kind(dtype) for name, dtype in empty.dtypes.items()}

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except UsageError:
            raise
        except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
            raise UsageError(f"{self.path!r} is damaged, or not compressed as its name says") from error
        except OSError as error:
            raise UsageError(f"{self.path!r} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:  # whose text quotes what it found
            raise UsageError(f"{self.path!r} is not a table in UTF-8; save it as UTF-8 text") from error
        except (ValueError, csv.Error) as error:  # pandas' and pyarrow's parsers raise kinds of these
            raise UsageError(f"{self.path!r} is not a table: {str(error).splitlines()[0][:160]}") from error


def declared_kind(dtype: Any) -> str:
    """Kind of a column by its declared type.

    Parameters
    ----------
    dtype : dtype

    Returns
    -------
    {"numeric", "categorical", "boolean", "date"}
    """
    if types.is_bool_dtype(dtype):
        return "boolean"
    if types.is_datetime64_any_dtype(dtype):
        return "date"
    return "numeric" if types.is_numeric_dtype(dtype) else "categorical"


def _typed(cells: pd.Series, kind: str) -> pd.Series:
    """Cells as numbers, dates, truth values or categories, each by itself."""
    if kind == "numeric":
        return pd.to_numeric(cells, errors="coerce").astype("float64")
    if kind == "date":
        return pd.to_datetime(cells, errors="coerce", format="ISO8601", utc=True).dt.tz_localize(None)
    if kind == "boolean" and types.is_bool_dtype(cells):
        return cells.astype("boolean")
    text = cells.astype("str").str.strip()
    if kind == "boolean":
        words = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
        return text.str.lower().map(words).astype("boolean")
    return text.astype("category")


def _pyarrow() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("reading Parquet needs pyarrow: pip install pyarrow; or save the table as CSV") from error
    return parquet
