"""Differentially private learning for scikit-learn users."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skdp.accounting import PrivacyLedger, PrivacyStatement
    from skdp.neural_network import DPClassifier, DPRegressor
    from skdp.planning import plan
    from skdp.reporting import report

__all__ = ["DPClassifier", "DPRegressor", "PrivacyLedger", "PrivacyStatement", "__version__", "plan", "report"]
__version__ = "0.1.0"

_HOMES = {
    "DPClassifier": "skdp.neural_network",
    "DPRegressor": "skdp.neural_network",
    "PrivacyLedger": "skdp.accounting",
    "PrivacyStatement": "skdp.accounting",
    "plan": "skdp.planning",
    "report": "skdp.reporting",
}


def __getattr__(name: str) -> Any:
    """Import the estimators when they are first used: accounting alone needs no torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'skdp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
