"""Noise that is correlated over the queries of one touch; its past is a secret of the executor."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch

from skdp.contract import ClippedSum, Correlated, Query
from skdp.exceptions import PlanViolationError
from skdp.training.randomness import SecretRandomness

__all__ = ["CorrelatedNoise"]


class CorrelatedNoise:
    """The stream w with C w = z of one touch, of which the last bands - 1 vectors are remembered.

    Parameters
    ----------
    noise : Correlated
    randomness : SecretRandomness
        Where the independent numbers z come from.

    Examples
    --------
    >>> stream = CorrelatedNoise(Correlated((1.0,), (0.8, 0.6)), SecretRandomness(torch.device("cpu")))
    >>> stream.normal(3).shape
    torch.Size([3])
    """

    def __init__(self, noise: Correlated, randomness: SecretRandomness):
        self._coefficients = noise.coefficients
        self._randomness = randomness
        self._past: deque[torch.Tensor] = deque(maxlen=len(noise.coefficients) - 1)
        self._drawn = 0
        self._value: ClippedSum | None = None

    def check(self, query: Query, ordinal: int) -> None:
        """Refuse, before a row is touched, a query whose noise would not be what the touch is priced for.

        Parameters
        ----------
        query : Query
        ordinal : int
            Its number within the touch.

        Raises
        ------
        PlanViolationError
        """
        first = self._value or query.values[0]
        if len(query.values) != 1 or not all(type(v) is ClippedSum for v in (first, *query.values)):
            raise PlanViolationError(f"touch {query.touch.name!r}: correlated noise is for one ClippedSum per query")
        if query.values[0].bound != first.bound:
            raise PlanViolationError(
                f"touch {query.touch.name!r}: the clip norm changed from {first.bound} to {query.values[0].bound}, but "
                "the noise takes back earlier noise, which has the scale of the first; keep it fixed"
            )
        if ordinal != self._drawn:
            raise PlanViolationError(
                f"touch {query.touch.name!r}: query {ordinal} follows {self._drawn} answers; correlated noise cannot "
                "go on after a query that was spent and never answered"
            )
        self._value = first

    def normal(self, size: int) -> torch.Tensor:
        """The next vector of the stream, in units of the standard deviation of z."""
        noise: Any = self._randomness.normal(size)
        if self._past and len(self._past[0]) != size:
            raise PlanViolationError(
                f"the number of trained parameters changed from {len(self._past[0])} to {size} while noise is "
                "correlated over steps; freeze layers before the fit (requires_grad_(False)), not in a callback"
            )
        for coefficient, earlier in zip(self._coefficients[1:], self._past, strict=False):
            noise.sub_(earlier, alpha=coefficient)
        noise.div_(self._coefficients[0])
        if self._past.maxlen:
            self._past.appendleft(noise.clone())
        self._drawn += 1
        return noise
