"""Module specifications with good defaults."""

from __future__ import annotations

from skdp.nets.convolutional import TanhCNN
from skdp.nets.projection import RandomProjection
from skdp.nets.scatter import ScatterLinear
from skdp.nets.specs import MLP, Linear, Net, resolve_module
from skdp.nets.tabular import TabularNet
from skdp.nets.text import TextBag

__all__ = [
    "MLP", "Linear", "Net", "RandomProjection", "ScatterLinear", "TabularNet", "TanhCNN", "TextBag", "resolve_module",
]  # fmt: skip
