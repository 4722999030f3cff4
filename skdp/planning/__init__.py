"""What a fit will cost and whether it can work, before any data is touched."""

from __future__ import annotations

from skdp.planning.fit_plan import FitPlan, PlannedRelease
from skdp.planning.plan import plan

__all__ = ["FitPlan", "PlannedRelease", "plan"]
