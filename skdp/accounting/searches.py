"""Whether a charge is one of the many that a search of scikit-learn makes while no ledger keeps count."""

from __future__ import annotations

import sys
import weakref
from types import FrameType
from typing import Any

from skdp.exceptions import SweepSpendsWarning
from skdp.user_line import warn_user

__all__ = ["warn_inside_search"]

_FUNCTIONS = ("cross_validate", "cross_val_predict", "learning_curve", "validation_curve")
# One object lives as long as one call of a search and runs its fits; it is not kept alive here.
_TOLD: weakref.WeakSet[Any] = weakref.WeakSet()
_LAST: weakref.WeakKeyDictionary[Any, weakref.ref] = weakref.WeakKeyDictionary()


def warn_inside_search() -> None:
    """Warn once for each search or cross-validation of scikit-learn that this is called from within.

    It is found on the stack, so fits in other processes and threads (``n_jobs=2``) are not: a search then warns at its
    final fit, and a cross-validation does not.

    Warns
    -----
    SweepSpendsWarning
    """
    name, search, runner = _outermost()
    if not name or not _is_first(search, runner):
        return
    warn_user(
        f"every fit inside {name} is a charge of its own: a privacy_ states one of them, and their exact scores are "
        "covered by none. Search inside `with skdp.PrivacyLedger(epsilon=..., delta=...)`, which counts and limits all "
        "of them together",
        SweepSpendsWarning,
    )


def _outermost() -> tuple[str, Any, Any]:
    """Name of the outermost search on the stack, the search where it is an object, and what runs its fits.

    The name is empty where there is none, and there is no runner around the final fit.
    """
    frame: FrameType | None = sys._getframe()
    name, search, runner, seen = "", None, None, None
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if module == "joblib.parallel":
            seen = frame.f_locals.get("self", seen)
        elif module.startswith("sklearn.model_selection.") and function in ("fit", *_FUNCTIONS):
            search, runner = frame.f_locals.get("self"), seen
            name = function if search is None else type(search).__name__
        frame = frame.f_back
    return name, search, runner


def _is_first(search: Any, runner: Any) -> bool:
    """Whether the search was not warned of yet, in this call of it."""
    if runner is None:
        last = _LAST.get(search, lambda: None) if search is not None else lambda: None
        return last() is None
    if runner in _TOLD:
        return False
    _TOLD.add(runner)
    if search is not None:
        _LAST[search] = weakref.ref(runner)
    return True
