"""Objects that keep the statement of their last fit, and of those that spent and ended in an error."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from skdp.accounting.composition import compose
from skdp.accounting.statement import PrivacyStatement

__all__ = ["Stated"]


class Stated:
    """Gives `privacy_` from two attributes in plain types: the last fit, and those that ended in an error."""

    def _stated(self) -> list[dict[str, Any]]:
        """What this object has spent, fit by fit."""
        return [*getattr(self, "_failed", []), *([self._statement] if hasattr(self, "_statement") else [])]

    @property
    def privacy_(self) -> PrivacyStatement:
        """Statement of the last fit, together with fits of this object that spent and ended in an error."""
        parts = self._stated()
        if not parts:
            check_is_fitted(self, "_statement")
        statements = [PrivacyStatement.from_dict(part) for part in parts]
        return statements[0] if len(statements) == 1 else compose(statements)
