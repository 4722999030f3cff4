"""Every error and warning that skdp raises on purpose, in one place."""

from __future__ import annotations

from sklearn.exceptions import NotFittedError

__all__ = [
    "BudgetExceededError",
    "CalibrationError",
    "InsecureNoiseWarning",
    "InterruptedFitWarning",
    "NotFittedError",
    "NotPrivateWarning",
    "PlanViolationError",
    "PrivacyLeakWarning",
    "PrivateBoundsWarning",
    "ProtocolError",
    "RankFailureError",
    "SkdpError",
    "SweepSpendsWarning",
    "UnsupportedEventError",
    "UnsupportedModuleError",
    "WeakPrivacyWarning",
    "WeakSignalWarning",
]


class SkdpError(Exception):
    """Base of skdp's own errors, so that a caller can catch them all."""


class UnsupportedEventError(SkdpError, ValueError):
    """No accountant bounds this event under this adjacency; raised before a row is read."""


class CalibrationError(SkdpError, ValueError):
    """No noise reaches the requested (epsilon, delta), or the request itself is impossible."""


class UnsupportedModuleError(SkdpError, ValueError):
    """A layer mixes records, or keeps statistics of them, so no per-record bound exists."""


class PlanViolationError(SkdpError, RuntimeError):
    """A query was asked that the reserved price list does not hold, or more often than reserved."""


class ProtocolError(SkdpError, ValueError):
    """A message between sites is broken, out of order, or says what it must not; nothing was released for it."""


class BudgetExceededError(SkdpError, RuntimeError):
    """A charge would lift an open `PrivacyLedger` above its ceiling; nothing was spent.

    Attributes
    ----------
    so_far, asked : float
        Epsilon of the ledger without the charge and with it.
    fits : float or None
        Epsilon of a like charge that would fit, at that charge's own delta; None where there is none.
    """

    so_far: float | None = None
    asked: float | None = None
    fits: float | None = None


class RankFailureError(SkdpError, RuntimeError):
    """Another process of a `skdp.distributed.process_group` failed, died or hangs, so this one cannot go on.

    Parameters
    ----------
    message : str
    rank : int or None
        Which process, where it is known.
    spent : PrivacyStatement or None
        What the fit that ended counts as spent; None where nothing was.
    """

    def __init__(self, message: str, rank: int | None = None, spent: object = None):
        super().__init__(message)
        self.rank = rank
        self.spent = spent


class PrivacyLeakWarning(UserWarning):
    """A public value had to be read from private rows and is not covered by the statement."""


class NotPrivateWarning(UserWarning):
    """The fit adds no noise (``epsilon=inf``), so it protects nobody."""


class InsecureNoiseWarning(UserWarning):
    """The noise is reproducible from a known seed: fine for tests, void as protection."""


class InterruptedFitWarning(UserWarning):
    """Ctrl-C ended a fit early, so the model is partial."""


class PrivateBoundsWarning(UserWarning):
    """Noise hid the range of columns whose bounds were estimated privately."""


class WeakPrivacyWarning(UserWarning):
    """The budget is valid but so large that it protects little."""


class WeakSignalWarning(UserWarning):
    """The budget is so small for so few rows, or so many columns, that noise hides what there is to learn."""


class SweepSpendsWarning(UserWarning):
    """Many fits on private rows are made for one picture or one search, and every one of them is spending."""
