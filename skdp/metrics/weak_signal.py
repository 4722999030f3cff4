"""That noise hides what a report on few rows is to show, from public numbers and before anything is spent."""

from __future__ import annotations

import math

from skdp.exceptions import WeakSignalWarning
from skdp.user_line import warn_user

__all__ = ["warn_if_noise_hides"]


def warn_if_noise_hides(what: str, noise: float, scale: float, n: int) -> None:
    """Warn where the noise's standard deviation exceeds what matters.

    Parameters
    ----------
    what : str
        Of which the report is, in the plural.
    noise : float
        Standard deviation, which goes as 1/n.
    scale : float
        Difference that one would like to see.
    n : int
        Public number of rows.

    Warns
    -----
    WeakSignalWarning
    """
    if noise > scale:
        warn_user(
            f"{n} rows are few for this budget: noise has a standard deviation of {noise:.2g} in {what}, where "
            f"{scale:g} would be much. Give more rows, about {math.ceil(n * noise / scale)}, or a larger epsilon",
            WeakSignalWarning,
        )
