"""Images and labels in the MNIST file format, from the folder in ``SKDP_DATA_DIR``."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np


def read(name: str, part: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (n, 28, 28) and labels int (n,) of ``mnist`` or ``fashion_mnist``, part ``train`` or ``t10k``.

    Raises
    ------
    FileNotFoundError
        Where the files are not there.
    """
    folder = Path(os.environ.get("SKDP_DATA_DIR", "missing")) / name
    return _array(folder / f"{part}-images-idx3-ubyte.gz"), _array(folder / f"{part}-labels-idx1-ubyte.gz").astype(int)


def _array(path: Path) -> np.ndarray:
    with gzip.open(path) as file:
        raw = file.read()
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
