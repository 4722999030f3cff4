"""Data sets that come with the package, each with its public schema, and rows that do not fit into memory."""

from __future__ import annotations

from skdp.datasets.adult import load_adult
from skdp.datasets.dataset import Dataset
from skdp.datasets.rows import Rows, open_rows

__all__ = ["Dataset", "Rows", "load_adult", "open_rows"]
