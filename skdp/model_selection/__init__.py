"""Choosing models when looking at private rows costs budget."""

from __future__ import annotations

from skdp.model_selection.privacy_utility import PrivacyUtilityCurve, privacy_utility_curve
from skdp.model_selection.privacy_utility_display import PrivacyUtilityDisplay
from skdp.model_selection.private_search import DPSearchCV
from skdp.model_selection.row_scores import ROW_SCORES

__all__ = ["ROW_SCORES", "DPSearchCV", "PrivacyUtilityCurve", "PrivacyUtilityDisplay", "privacy_utility_curve"]
