"""Several processes of one owner that train one model, each on rows of its own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skdp.distributed.membership import current, lockstep

if TYPE_CHECKING:
    from skdp.distributed.group import process_group
    from skdp.distributed.ranks import Ranks

__all__ = ["Ranks", "current", "lockstep", "process_group"]

_HOMES = {"Ranks": "skdp.distributed.ranks", "process_group": "skdp.distributed.group"}


def __getattr__(name: str) -> Any:
    """Import torch when a group begins: accounting, which asks whether there is one, needs none."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'skdp.distributed' has no attribute {name!r}")
