"""Data sets that come with the package, each with its public schema."""

from __future__ import annotations

from skdp.datasets.adult import load_adult
from skdp.datasets.dataset import Dataset

__all__ = ["Dataset", "load_adult"]
