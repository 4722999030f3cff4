"""Parquet files as rows of numbers, a batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from skdp.preprocessing import SchemaEncoder

__all__ = ["ParquetFiles"]

_SUFFIXES = (".parquet", ".pq")
_CELLS = 2**20  # of a batch


class ParquetFiles:
    """A Parquet file or a folder of them, as a source of rows.

    Parameters
    ----------
    path, target, columns, schema, classes
        As in `skdp.datasets.open_rows`.
    """

    def __init__(self, path: Any, target: Any, columns: Any, schema: Any, classes: Any):
        self._parquet = _pyarrow()
        self._root = Path(path).resolve()
        self._files = _files(self._root)
        self._types = self._parquet.ParquetFile(self._files[0]).schema_arrow
        self._targets = [target] if isinstance(target, str) else list(target or ())
        self._flat = isinstance(target, str)
        self._check_names("target", self._targets)
        if not self._targets:
            raise ValueError(f"target={target!r} must name the column, or a list of columns, with the targets")
        self._classes = None if classes is None else list(classes)
        if self._classes is not None and not self._flat:
            raise ValueError(f"classes= belongs to one target, and target={target!r} is a list")
        self._encoder = _encoder(schema, columns)
        self._read = self._columns(columns)
        self._check_numeric("columns", [] if self._encoder else self._read, "leave them out with columns=, or pass "
                            "schema=, with the public categories and bounds of the columns")  # fmt: skip
        self._check_numeric("target", [] if self._classes else self._targets, "pass classes=, a public list of labels")
        self.names, self.bounds = self._read, None
        if self._encoder:
            self._encoder.fit(pd.DataFrame([dict.fromkeys(self._read)]))  # which reads no value
            self.names = self._encoder.get_feature_names_out().tolist()
            self.bounds = self._encoder.output_bounds_
        n = self._counted()
        y = (n,) if self._flat else (n, len(self._targets))
        self.layout = {
            "X": ((n, len(self.names)), "float32"),
            "y": (y, "float64" if self._classes is None else "int64"),
        }
        self.name = self._root.stem
        self.key = {"path": str(self._root), "columns": self._read, "target": self._targets, "flat": self._flat,
                    "encoder": _policies(self._encoder), "classes": repr(self._classes)}  # fmt: skip

    def state(self) -> Any:
        """Names, sizes and times of the files, and their declared types."""
        files = [(str(path.relative_to(self._root.parent)), path.stat()) for path in _files(self._root)]
        types = hashlib.sha256(str(self._types.remove_metadata()).encode()).hexdigest()
        return {"files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in files], "types": types}

    def pieces(self) -> Iterator[dict[str, np.ndarray]]:
        """Runs of rows, in order."""
        size = max(1024, _CELLS // max(1, len(self.names)))
        wanted = list(dict.fromkeys([*self._read, *self._targets]))
        for path in self._files:
            for batch in self._parquet.ParquetFile(path).iter_batches(size, columns=wanted):
                yield {"X": self._features(batch), "y": self._labels(batch)}

    # ------------------------------------------------------------------ cells
    def _features(self, batch: Any) -> np.ndarray:
        if self._encoder:
            # Whole numbers beside a missing one stay whole: a cell is read the same whatever other rows hold.
            return self._encoder.transform(batch.select(self._read).to_pandas(integer_object_nulls=True))
        X = np.empty((len(batch), len(self._read)), np.float32)
        with np.errstate(over="ignore"):  # a warning would tell of a huge value
            for i, name in enumerate(self._read):
                X[:, i] = _numbers(batch.column(name))
        return X

    def _labels(self, batch: Any) -> np.ndarray:
        if self._classes is None:
            y = np.column_stack([_numbers(batch.column(name)) for name in self._targets])
            return y[:, 0] if self._flat else y
        import pyarrow as pa
        from pyarrow import compute

        column = batch.column(self._targets[0])
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        found = compute.index_in(column, value_set=self._as_cells(column.type))
        return found.fill_null(-1).to_numpy(zero_copy_only=False)

    def _as_cells(self, dtype: Any) -> Any:
        import pyarrow as pa

        try:
            return pa.array(self._classes, type=dtype)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            raise ValueError(
                f"classes={self._classes!r} cannot be labels in a column of type {dtype}; give both the same type"
            ) from None

    # ------------------------------------------------------------------ what is declared
    def _columns(self, columns: Any) -> list[str]:
        if self._encoder:
            chosen = [column.name for column in self._encoder.schema.columns]
        else:
            chosen = [name for name in self._types.names if name not in self._targets] if columns is None else columns
        chosen = list(chosen)
        self._check_names("schema" if self._encoder else "columns", chosen)
        both = [name for name in chosen if name in self._targets]
        if both or not chosen:
            raise ValueError(f"columns={chosen!r} must name at least one column, and no target: {both}")
        return chosen

    def _check_names(self, parameter: str, names: list[str]) -> None:
        unknown = [name for name in names if name not in self._types.names]
        if unknown:
            raise ValueError(f"{parameter}: there is no column {unknown} among {self._types.names}")

    def _check_numeric(self, parameter: str, names: list[str], remedy: str) -> None:
        from pyarrow import types

        kinds = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
        other = [name for name in names if not any(kind(self._types.field(name).type) for kind in kinds)]
        if other:
            raise ValueError(f"{parameter}: {other} are not numbers by their declared types; {remedy}")

    def _counted(self) -> int:
        """Rows of all files, which must declare the same types."""
        n = 0
        for path in self._files:
            file = self._parquet.ParquetFile(path)
            if not file.schema_arrow.equals(self._types):
                raise ValueError(
                    f"'{path.name}' declares other columns or types than '{self._files[0].name}'; write all files of "
                    f"'{self._root}' with one schema"
                )
            n += file.metadata.num_rows
        return n


def _numbers(column: Any) -> np.ndarray:
    """Cells as float64, missing ones NaN; a checked cast would quote a cell that it cannot hold."""
    return column.cast("float64", safe=False).to_numpy(zero_copy_only=False)


def _encoder(schema: Any, columns: Any) -> SchemaEncoder | None:
    if schema is None:
        return None
    if columns is not None:
        raise ValueError(f"columns={columns!r}: the schema names the columns already; pass one of the two")
    encoder = clone(schema) if isinstance(schema, SchemaEncoder) else SchemaEncoder(schema)
    return encoder.set_params(sparse_output=False, dtype=np.float32).set_output(transform="default")


def _policies(encoder: SchemaEncoder | None) -> list[str] | None:
    """Everything that decides what an encoder gives, as text."""
    if encoder is None:
        return None
    return [encoder.schema.to_json(), encoder.unknown, encoder.out_of_bounds, encoder.undeclared_missing]


def _files(root: Path) -> list[Path]:
    """The file, or the files of a folder by their names."""
    if root.is_file():
        return [root]
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise FileNotFoundError(f"source='{root}' is neither a Parquet file nor a folder with *.parquet files")
    return found


def _pyarrow() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("reading Parquet needs pyarrow: pip install skdp[parquet]") from error
    return parquet
