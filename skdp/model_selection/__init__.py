"""Choosing models when looking at private rows costs budget."""

from __future__ import annotations

from skdp.model_selection.privacy_utility import PrivacyUtilityCurve, privacy_utility_curve
from skdp.model_selection.privacy_utility_display import PrivacyUtilityDisplay
from skdp.model_selection.private_search import DPSearchCV
from skdp.model_selection.row_scores import ROW_SCORES
from skdp.model_selection.splits import PublicGroupKFold, PublicKFold, check_splitter, public_train_test_split
from skdp.model_selection.sweeps import DPSweepCV, fit_many

__all__ = [
    "ROW_SCORES",
    "DPSearchCV",
    "DPSweepCV",
    "PrivacyUtilityCurve",
    "PrivacyUtilityDisplay",
    "PublicGroupKFold",
    "PublicKFold",
    "check_splitter",
    "fit_many",
    "privacy_utility_curve",
    "public_train_test_split",
]
