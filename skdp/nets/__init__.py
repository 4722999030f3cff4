"""Module specifications with good defaults."""

from __future__ import annotations

from skdp.nets.projection import RandomProjection
from skdp.nets.specs import MLP, Linear, Net, resolve_module
from skdp.nets.tabular import TabularNet

__all__ = ["MLP", "Linear", "Net", "RandomProjection", "TabularNet", "resolve_module"]
