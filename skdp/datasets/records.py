"""A PyTorch map-style dataset as rows of numbers, a run of records at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["Records"]

_CELLS = 2**20  # of a run


class Records:
    """Something with ``__len__`` and ``__getitem__`` as a source of rows.

    Parameters
    ----------
    dataset : map-style dataset
        Its records are pairs ``(x, y)`` of tensors, arrays or numbers.
    version : str or None
        As in `skdp.datasets.open_rows`.
    """

    names = bounds = None

    def __init__(self, dataset: Any, version: str | None):
        kind = type(dataset).__name__
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")) or not len(dataset):
            raise TypeError(
                f"source={kind} is neither a path nor a map-style dataset, which has a length above 0 and records by "
                "index; the number of rows is public and decides how they are drawn"
            )
        self._dataset = dataset
        x, y = self._record(0)
        self._shapes, self._kind = (x.shape, y.shape), x.dtype.kind
        n = len(dataset)
        dtype = {"f": "float32", "b": "uint8"}.get(x.dtype.kind, "uint8" if x.dtype == np.uint8 else "int64")
        self.layout = {"X": ((n, *x.shape), dtype), "y": ((n, *y.shape), "float64")}
        self.name, self._version = kind, version
        self.key = {"dataset": f"{type(dataset).__module__}.{type(dataset).__qualname__}", "version": version}

    def state(self) -> Any:
        """What the user calls it, and its declared shapes; None where it has no name."""
        return None if self._version is None else [self._version, self.layout]

    def pieces(self) -> Iterator[dict[str, np.ndarray]]:
        """Runs of records, in order."""
        n, size = len(self._dataset), max(1, _CELLS // max(1, int(np.prod(self._shapes[0]))))
        for start in range(0, n, size):
            pairs = [self._checked(i) for i in range(start, min(start + size, n))]
            with np.errstate(over="ignore"):
                X = np.stack([x for x, _ in pairs]).astype(self.layout["X"][1], copy=False)
            yield {"X": X, "y": np.stack([y for _, y in pairs])}

    def _record(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        record = self._dataset[i]
        if not isinstance(record, tuple | list) or len(record) != 2:
            raise TypeError(f"records of {type(self._dataset).__name__} must be pairs (x, y)")
        x, y = (np.asarray(part.detach().cpu() if hasattr(part, "detach") else part) for part in record)
        if x.dtype.kind not in "fiub" or y.dtype.kind not in "fiub":
            raise TypeError(f"records of {type(self._dataset).__name__} must hold numbers")
        return x, y.astype(np.float64)

    def _checked(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = self._record(i)
        if (x.shape, y.shape) != self._shapes or x.dtype.kind != self._kind:
            raise ValueError(
                f"records of {type(self._dataset).__name__} differ in shape or type from the first one, x of shape "
                f"{self._shapes[0]} and y of shape {self._shapes[1]}; give all of them one"
            )
        return x, y
