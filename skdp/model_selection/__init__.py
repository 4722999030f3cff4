"""Choosing models when looking at private rows costs budget."""

from __future__ import annotations

from skdp.model_selection.private_search import DPSearchCV
from skdp.model_selection.row_scores import ROW_SCORES
from skdp.model_selection.sweeps import DPSweepCV, fit_many

__all__ = ["ROW_SCORES", "DPSearchCV", "DPSweepCV", "fit_many"]
