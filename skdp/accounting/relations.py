"""One place where (event, adjacency) becomes what each accountant is given.

Inside skdp a noise multiplier is always the standard deviation over the *zero-out* sensitivity. Replacing a
record by another moves a sum twice as far. Google's PLD code doubles the sensitivity of Gaussians for
replace-one by itself, its RDP code does not, and both refuse or ignore the relation for other mechanisms;
`given` knows which.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from dp_accounting import NeighboringRelation, dp_event

from skdp.contract import ADJACENCIES
from skdp.exceptions import UnsupportedEventError

RELATIONS = dict(
    zip(
        ADJACENCIES,
        (
            NeighboringRelation.REPLACE_SPECIAL,
            NeighboringRelation.REPLACE_ONE,
            NeighboringRelation.ADD_OR_REMOVE_ONE,
        ),
        strict=True,
    )
)
Phase = tuple[dp_event.DpEvent, int]
Phases = tuple[Phase, ...]
_NOTHING, _EVERYTHING = dp_event.NoOpDpEvent(), dp_event.NonPrivateDpEvent()


def check_adjacency(adjacency: str) -> None:
    """Refuse what is no adjacency."""
    if adjacency not in RELATIONS:
        raise ValueError(f"adjacency={adjacency!r} must be one of {', '.join(ADJACENCIES)}")


# ------------------------------------------------------------------ normal form
def phases(event: dp_event.DpEvent) -> Phases:
    """Leaf mechanisms with how often each ran; all full-batch Gaussians are merged into one, equal leaves
    counted.

    Compositions are unfolded, null events dropped and every number checked, so that an event read from a file
    (a negative count, say) cannot lower an epsilon.
    """
    counts: dict[dp_event.DpEvent, int] = {}
    precision = 0.0  # sum of multiplier ** -2 over full-batch Gaussians
    for leaf, count in leaves(event):
        if isinstance(leaf, dp_event.GaussianDpEvent):
            precision += count * leaf.noise_multiplier**-2
        else:
            counts[leaf] = counts.get(leaf, 0) + count
    if precision > 0:
        counts[dp_event.GaussianDpEvent(precision**-0.5)] = 1
    return tuple(counts.items())


def without_noise(parts: Phases) -> bool:
    """Whether some part adds no noise, so that nothing bounds the whole."""
    return any(isinstance(leaf, dp_event.NonPrivateDpEvent) for leaf, _ in parts)


def leaves(event: dp_event.DpEvent, count: int = 1) -> Iterable[Phase]:
    """Mechanisms with their counts as they stand in the event, checked but not merged."""
    match event:
        case dp_event.NoOpDpEvent():
            return
        case dp_event.ComposedDpEvent():
            if not isinstance(event.events, (list, tuple)):
                raise UnsupportedEventError(f"{_name(event)}: events={event.events!r} must be a list of events")
            for part in event.events:
                yield from leaves(part, count)
        case dp_event.SelfComposedDpEvent():
            yield from leaves(event.event, count * _whole(event, "count"))
        case dp_event.PoissonSampledDpEvent():
            yield from _counted(_poisson(event), count)
        case dp_event.SampledWithoutReplacementDpEvent():
            yield from _counted(_without_replacement(event), count)
        case dp_event.RepeatAndSelectDpEvent():
            _number(event, "mean", 1.0, math.inf)
            _number(event, "shape", 0.0, math.inf, finite=False)
            inner = [dp_event.SelfComposedDpEvent(leaf, c) for leaf, c in phases(event.event)]
            if inner:
                composed = dp_event.ComposedDpEvent(tuple(inner))
                yield from _counted(dp_event.RepeatAndSelectDpEvent(composed, event.mean, event.shape), count)
        case _:
            yield from _counted(_mechanism(event), count)


def _counted(leaf: dp_event.DpEvent, count: int) -> Iterable[Phase]:
    if count and not isinstance(leaf, dp_event.NoOpDpEvent):
        yield leaf, count


def _poisson(event: dp_event.PoissonSampledDpEvent) -> dp_event.DpEvent:
    rate = _number(event, "sampling_probability", 0.0, 1.0)
    inner = phases(event.event)
    if rate == 0 or not inner:
        return _NOTHING
    if without_noise(inner):
        return _EVERYTHING
    (leaf, count), *more = inner
    if more or count != 1 or not isinstance(leaf, (dp_event.GaussianDpEvent, dp_event.LaplaceDpEvent)):
        raise UnsupportedEventError(
            f"Poisson sampling of {_name(event.event)} has no accountant: ask only for Gaussian answers (any "
            f"number of them) or one Laplace answer from a Poisson sample, or use full batches (rate=1.0)"
        )
    return leaf if rate == 1 else dp_event.PoissonSampledDpEvent(rate, leaf)


def _without_replacement(event: dp_event.SampledWithoutReplacementDpEvent) -> dp_event.DpEvent:
    size, n = _whole(event, "sample_size"), _whole(event, "source_dataset_size")
    if not size <= n:
        raise UnsupportedEventError(f"{_name(event)}: sample_size={size} exceeds source_dataset_size={n}")
    inner = phases(event.event)
    if size == 0 or not inner:
        return _NOTHING
    if without_noise(inner):
        return _EVERYTHING
    (leaf, _), *more = inner
    if more or not isinstance(leaf, dp_event.GaussianDpEvent):
        raise UnsupportedEventError(
            f"batches of fixed size with {_name(event.event)} have no accountant: answer them with Gaussian noise only"
        )
    return leaf if size == n else dp_event.SampledWithoutReplacementDpEvent(n, size, leaf)


def _mechanism(event: dp_event.DpEvent) -> dp_event.DpEvent:
    """A single mechanism with its numbers checked; no noise is `NonPrivateDpEvent`, endless noise nothing."""
    match event:
        case dp_event.NonPrivateDpEvent():
            return _EVERYTHING
        case dp_event.GaussianDpEvent() | dp_event.LaplaceDpEvent():
            scale = _number(event, "noise_multiplier", 0.0, math.inf, finite=False)
            return _EVERYTHING if scale == 0 else _NOTHING if math.isinf(scale) else event
        case dp_event.DiscreteLaplaceDpEvent():
            return (
                event
                if _number(event, "noise_parameter", 0.0, math.inf) and _whole(event, "sensitivity")
                else _EVERYTHING
            )
        case dp_event.RandomizedResponseDpEvent():
            keep = _number(event, "noise_parameter", 0.0, 1.0)
            if keep == 1 or _whole(event, "num_buckets") == 1:
                return _NOTHING
            return _EVERYTHING if keep == 0 else event
        case dp_event.MixtureOfGaussiansDpEvent():
            _number(event, "standard_deviation", 0.0, math.inf)
            sizes, chances = tuple(event.sensitivities), tuple(event.sampling_probs)
            if len(sizes) != len(chances) or min(chances, default=-1) < 0 or abs(sum(chances) - 1) > 1e-9:
                raise UnsupportedEventError(
                    f"{_name(event)}: sampling_probs={chances} must be one per sensitivity, sum 1"
                )
            if event.standard_deviation == 0:
                return _EVERYTHING if any(sizes) else _NOTHING
            return (
                dp_event.MixtureOfGaussiansDpEvent(event.standard_deviation, sizes, chances) if any(sizes) else _NOTHING
            )
        case dp_event.ZCDpEvent():
            _number(event, "rho", 0.0, math.inf), _number(event, "xi", 0.0, math.inf)
            return event if event.rho or event.xi else _NOTHING
        case dp_event.TruncatedSubsampledGaussianDpEvent():
            rate = _number(event, "sampling_probability", 0.0, 1.0)
            scale = _number(event, "noise_multiplier", 0.0, math.inf)
            if not (rate and _whole(event, "dataset_size") and _whole(event, "truncated_batch_size")):
                return _NOTHING
            return event if scale else _EVERYTHING
        case dp_event.SingleEpochTreeAggregationDpEvent():
            scale = _number(event, "noise_multiplier", 0.0, math.inf)
            steps = event.step_counts if isinstance(event.step_counts, (list, tuple)) else (event.step_counts,)
            if not steps or not all(isinstance(s, int) and s > 0 for s in steps):
                raise UnsupportedEventError(
                    f"{_name(event)}: step_counts={event.step_counts!r} must be positive whole numbers"
                )
            return dp_event.SingleEpochTreeAggregationDpEvent(scale, tuple(steps)) if scale else _EVERYTHING
    raise UnsupportedEventError(
        f"{_name(event)} has no accountant in skdp; the support table of the user guide lists the events that have one"
    )


def _number(event: dp_event.DpEvent, field: str, low: float, high: float, finite: bool = True) -> float:
    value = getattr(event, field)
    real = isinstance(value, (int, float)) or getattr(value, "shape", None) == ()
    if not real or isinstance(value, bool) or not low <= value <= high or (finite and math.isinf(value)):
        raise UnsupportedEventError(f"{_name(event)}: {field}={value!r} must be a number in [{low:g}, {high:g}]")
    return float(value)


def _whole(event: dp_event.DpEvent, field: str) -> int:
    value = getattr(event, field)
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
        raise UnsupportedEventError(f"{_name(event)}: {field}={value!r} must be a whole number, 0 or more")
    return int(value)


def _name(event: object) -> str:
    return type(event).__name__


# ------------------------------------------------------------------ what an accountant is given
Given = tuple[dp_event.DpEvent, NeighboringRelation]


def given(leaf: dp_event.DpEvent, adjacency: str, accountant: str) -> Given:
    """The leaf and the relation to hand to dp_accounting's "pld" or "rdp", such that it bounds `adjacency`.

    "tilted-pld" is skdp's own bound for Gaussians, which takes the adjacency as it is.

    Raises `UnsupportedEventError` where that accountant has no bound.
    """
    found = _translated(leaf, adjacency, accountant)
    if found is None:
        what = f"{_name(leaf)} of {_name(leaf.event)}" if hasattr(leaf, "event") else _name(leaf)
        raise UnsupportedEventError(
            f"accountant={accountant!r} has no bound for {what} under adjacency={adjacency!r}; "
            f"{_remedy(leaf, adjacency)}"
        )
    return found


def supports(leaf: dp_event.DpEvent, adjacency: str, accountant: str) -> bool:
    """Whether `given` has an answer."""
    return _translated(leaf, adjacency, accountant) is not None


def gaussian_phases(parts: Iterable[Phase]) -> tuple[tuple[float, float, int], ...] | None:
    """(rate, noise multiplier, count) of each part; None where one is no Gaussian."""
    found = []
    for leaf, count in parts:
        match leaf:
            case dp_event.GaussianDpEvent():
                found.append((1.0, leaf.noise_multiplier, count))
            case dp_event.PoissonSampledDpEvent(event=dp_event.GaussianDpEvent()):
                found.append((leaf.sampling_probability, leaf.event.noise_multiplier, count))
            case _:
                return None
    return tuple(found)


def _translated(leaf: dp_event.DpEvent, adjacency: str, accountant: str) -> Given | None:
    relation, special = RELATIONS[adjacency], NeighboringRelation.REPLACE_SPECIAL
    swap = adjacency == "replace-one"
    far = 2 if swap else 1
    if accountant == "tilted-pld":
        return (leaf, relation) if gaussian_phases([(leaf, 1)]) else None
    match leaf, accountant:
        case (dp_event.NonPrivateDpEvent(), _) | (dp_event.GaussianDpEvent(), "pld"):
            return leaf, relation  # the PLD of a Gaussian doubles the sensitivity for replace-one itself
        case dp_event.GaussianDpEvent(), "rdp":
            return dp_event.GaussianDpEvent(leaf.noise_multiplier / far), relation
        case dp_event.PoissonSampledDpEvent(event=dp_event.GaussianDpEvent()), "pld":
            return leaf, relation
        case dp_event.PoissonSampledDpEvent(event=dp_event.GaussianDpEvent()), "rdp" if not swap:
            return leaf, relation
        case dp_event.PoissonSampledDpEvent(event=dp_event.LaplaceDpEvent()), "pld" if not swap:
            return leaf, relation
        case dp_event.LaplaceDpEvent(), _:
            return dp_event.LaplaceDpEvent(leaf.noise_multiplier / far), special
        case dp_event.DiscreteLaplaceDpEvent(), "pld":
            return dp_event.DiscreteLaplaceDpEvent(leaf.noise_parameter, far * leaf.sensitivity), special
        case dp_event.TruncatedSubsampledGaussianDpEvent(), "pld":
            return leaf, relation
        case dp_event.MixtureOfGaussiansDpEvent(), "pld" if not swap:
            return leaf, relation
        case dp_event.RandomizedResponseDpEvent(), _ if adjacency != "add-remove":
            return leaf, relation
        case dp_event.ZCDpEvent(), "rdp" if not swap:
            return leaf, relation
        case dp_event.SampledWithoutReplacementDpEvent(), "rdp" if swap:
            # dp_accounting reads this multiplier over the replace-one sensitivity, which is twice ours
            n, size, noise = leaf.source_dataset_size, leaf.sample_size, leaf.event.noise_multiplier
            half = dp_event.GaussianDpEvent(noise / far)
            return dp_event.SampledWithoutReplacementDpEvent(n, size, half), relation
        case dp_event.SingleEpochTreeAggregationDpEvent(), "rdp" if adjacency != "add-remove":
            scale = leaf.noise_multiplier / far
            return dp_event.SingleEpochTreeAggregationDpEvent(scale, leaf.step_counts), special
        case dp_event.RepeatAndSelectDpEvent(), "rdp" if not swap:
            able = all(supports(part.event, adjacency, "rdp") for part in leaf.event.events)
            return (leaf, relation) if able else None
    return None


def _remedy(leaf: dp_event.DpEvent, adjacency: str) -> str:
    """What to change, found by trying the alternatives."""
    for other in ("pld", "rdp"):
        if supports(leaf, adjacency, other):
            return f"use accountant={other!r}"
    works = [a for a in ADJACENCIES if supports(leaf, a, "pld") or supports(leaf, a, "rdp")]
    if works:
        return f"use adjacency={' or '.join(map(repr, works))}"
    return "use Gaussian noise on full or Poisson sampled batches instead"
