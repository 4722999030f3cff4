"""What a model is worth and what it cost, on one page to hand on."""

from __future__ import annotations

from skdp.reporting.report import Report, report

__all__ = ["Report", "report"]
