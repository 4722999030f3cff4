"""Pipelines whose steps share one budget."""

from __future__ import annotations

from skdp.pipeline.making import make_private_pipeline
from skdp.pipeline.private import PrivatePipeline
from skdp.pipeline.steps import StepCheck, check_steps

__all__ = ["PrivatePipeline", "StepCheck", "check_steps", "make_private_pipeline"]
