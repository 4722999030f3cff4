"""The command line: ``skdp baseline`` and ``skdp verify``."""

from __future__ import annotations

from skdp.cli.entry import main

__all__ = ["main"]
