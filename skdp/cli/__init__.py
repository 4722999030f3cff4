"""The command line: ``skdp baseline``, ``schema``, ``predict`` and ``verify``."""

from __future__ import annotations

from skdp.cli.entry import main

__all__ = ["main"]
