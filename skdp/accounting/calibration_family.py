"""What calibration sees of a charge: its phases, and which of them follow the noise scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from skdp.accounting.curve import merge
from skdp.accounting.curve_step import Phase
from skdp.accounting.relations import gaussian_phases, leaves
from skdp.contract import Charge, Gaussian, Poisson, Touch
from skdp.exceptions import CalibrationError

NUDGE = 1e-12  # added to a certified scale, so that rounding in a charge cannot take its noise below


class Family(NamedTuple):
    """Phases whose multipliers are proportional to the scale, given at scale 1, and phases that stay."""

    scaling: tuple[Phase, ...]
    fixed: tuple[Phase, ...] = ()

    def at(self, scale: float) -> tuple[Phase, ...]:
        """The merged phases at `scale`."""
        return merge([Phase(q, scale * sigma, count) for q, sigma, count in self.scaling] + list(self.fixed))


def family_of(one: Charge, two: Charge) -> Family:
    """Which phases follow the scale and which do not, from the charges at scales 1 and 2."""
    scaling, fixed = [], []
    if [t.name for t in one.touches] != [t.name for t in two.touches]:
        raise CalibrationError(
            "the touches of a charge must not depend on its scale, got "
            f"{[t.name for t in one.touches]} at 1 and {[t.name for t in two.touches]} at 2"
        )
    for first, second in zip(one.touches, two.touches, strict=True):
        if first.count == 0:
            continue
        a, b = _phase(first), _phase(second)
        growth = b.multiplier / a.multiplier
        if a[::2] != b[::2] or min(abs(growth - 1), abs(growth - 2)) > 1e-9:
            raise CalibrationError(
                f"touch {first.name!r}: {a} at scale 1 became {b} at scale 2; its combined noise multiplier "
                "must be proportional to the scale or independent of it, and nothing else may change"
            )
        (fixed if abs(growth - 1) < 0.5 else scaling).append(a)
    return Family(_ordered(scaling), _ordered(fixed))


def check_proportional(one: Charge, two: Charge, scale: float, charge: Charge) -> None:
    """The charge at the found scale must be the one that was certified."""
    for first, second, touch in zip(one.touches, two.touches, charge.touches, strict=True):
        if first.count == 0:
            continue
        rate, sigma, count = _phase(first)
        expected = Phase(rate, sigma * (scale if _phase(second).multiplier > 1.5 * sigma else 1.0), count)
        actual = _phase(touch)
        if actual[::2] != expected[::2] or not -0.9 * NUDGE <= actual.multiplier / expected.multiplier - 1 < 1e-9:
            raise CalibrationError(
                f"touch {first.name!r} is {actual} at scale {scale!r}, expected {expected}: noise multipliers must "
                "stay proportional to the scale"
            )


def as_charge(phases: tuple[Phase, ...], adjacency: str) -> Charge:
    """Phases as a price list."""
    touches = (Touch(str(i), Poisson(q), Gaussian((sigma,)), n) for i, (q, sigma, n) in enumerate(phases))
    return Charge(tuple(touches), adjacency)


def is_phase(touch: Touch) -> bool:
    """Whether a touch amounts to Gaussians of one kind, on all rows or on Poisson samples."""
    found = gaussian_phases(leaves(touch.event()))
    return found is not None and len(found) == 1


def _phase(touch: Touch) -> Phase:
    (found,) = gaussian_phases(leaves(touch.event()))
    return Phase(*found)


def _ordered(phases: Iterable[Phase]) -> tuple[Phase, ...]:
    """Equal phases added up, in a fixed order: the cache's key."""
    counts: dict[tuple[float, float], int] = {}
    for rate, sigma, count in phases:
        counts[rate, sigma] = counts.get((rate, sigma), 0) + count
    return tuple(Phase(rate, sigma, count) for (rate, sigma), count in sorted(counts.items()))
