"""The audit of one query: whether a row is as well hidden as the price list says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from dp_accounting import dp_event
from scipy import stats
from sklearn.utils import check_random_state

from skdp.audit.bound import check_confidence, mu_lower_bound
from skdp.contract import Answers, Gaussian, Poisson, Touch
from skdp.contract.whole_numbers import is_whole
from skdp.neural_network.base import DPEstimator, one_at_a_time
from skdp.neural_network.problem import Problem
from skdp.neural_network.rehearsal import Rehearsal

__all__ = ["QueryAudit", "audit_query"]

# Sums are rounded, and the noise is a little larger for that.
_SLACK = 1e-3
_LEAST_DRAWS = 100


@dataclass(frozen=True)
class QueryAudit:
    """What thousands of answers to one query showed; made by `audit_query`.

    Parameters
    ----------
    touch : str
        Line of the price list that was audited.
    row : int
        Index of the row that was there or nulled.
    mu_lower : float
        At least this is the Gaussian-DP parameter of the query, at the confidence.
    mu_claimed : float
        What the price list says: one over the noise multiplier.
    reach : float
        How far the row moves the exact answer, as a share of what it may move it.
    draws : int
        Answers of each neighbour, a quarter of which chose the threshold.
    confidence : float
    rate : float
        Sampling rate of the audited query: 1 unless its own was asked for.

    Examples
    --------
    >>> found = QueryAudit("gradient", 3, mu_lower=1.7, mu_claimed=1.0, reach=1.0, draws=4000, confidence=0.999)
    >>> found.consistent
    False
    """

    touch: str
    row: int
    mu_lower: float
    mu_claimed: float
    reach: float
    draws: int
    confidence: float
    rate: float = 1.0

    @property
    def consistent(self) -> bool:
        """Whether nothing contradicts the claim: neither the answers nor the exact move."""
        return self.mu_lower <= self.mu_claimed and self.reach <= 1 + _SLACK

    @property
    def notices_halved_noise(self) -> bool:
        """Whether the bound would probably exceed the claim if the noise was half of what it should be."""
        return _expected(2 * self.reach * self.mu_claimed, self.draws, self.confidence, self.rate) > self.mu_claimed

    @property
    def text(self) -> str:
        """The result in words."""
        verdict = "contradict" if not self.consistent else "do not contradict"
        lines = [
            f"Audit of one query of touch {self.touch!r}: the answers {verdict} the claim.",
            f"Claimed noise multiplier {1 / self.mu_claimed:.3g}; with {self.confidence:.4g} confidence it is "
            + (f"at most {1 / self.mu_lower:.3g}." if self.mu_lower > 0 else "not bounded by these answers."),
            f"Row {self.row} moves the exact answer by {self.reach:.3g} of the declared sensitivity.",
        ]
        if self.consistent and not self.notices_halved_noise:
            lines.append(
                "These draws would not even notice half the noise: raise draws, pass a row that moves the answer "
                "further, or audit at a smaller noise_multiplier."
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text


@one_at_a_time
def audit_query(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    touch: str | None = None,
    row: int | None = None,
    rows: int = 16,
    draws: int = 4000,
    sampled: bool = False,
    confidence: float = 0.999,
    random_state: Any = None,
    sample_weight: Any = None,
) -> QueryAudit:
    """Ask one query of a fit thousands of times, with a row and without it, and bound what tells the two apart.

    The net, the price list and the executor are those that ``fit`` would make of the same parameters; nothing is
    trained. Answers are projected on the direction in which the row moves the exact answer, the best that somebody can
    do who knows everything except whether the row took part.

    Parameters
    ----------
    estimator : DPClassifier or DPRegressor
        Unfitted parameters; it is not changed. Set ``init_params`` to audit at other weights than the initial ones.
    X, y : array-like
        Data as for ``fit``; they decide n and with it the noise.
    touch : str, optional
        Line of the price list, for instance ``"gradient"`` or ``"class counts"``; the training's largest when None.
    row : int, optional
        The row that is nulled. When None, that one of `rows` random ones which moves the exact answer furthest.
    rows : int, default=16
        How many rows take part. All others are null on both sides, which is as good a pair of neighbours and
        much faster.
    draws : int, default=4000
        Answers for each neighbour. The number that is needed grows with the square of the noise multiplier; about
        4000 suffice up to 4.
    sampled : bool, default=False
        False asks on full batches, where the row is certain to take part: noise and sensitivity are audited, with the
        greatest power. True asks at the touch's own sampling rate, and audits the sampling as well; ``rows=1`` has most
        power then.
    confidence : float, default=0.999
        An honest query is called inconsistent with probability at most ``1 - confidence``.
    random_state : int, RandomState or None
        Chooses the rows. With ``insecure_noise_seed`` of the estimator the whole audit is reproducible.
    sample_weight : array-like, optional

    Returns
    -------
    QueryAudit

    Raises
    ------
    ValueError
        The query has no noise, or its noise is not a Gaussian of its own: where noise is correlated between queries,
        a single one says nothing about the price, and `audit_one_run` is left.

    Notes
    -----
    *Formal guarantee.* See `mu_lower_bound`; the threshold is chosen on the first quarter of the draws, and the error
    rates are counted on the others. The claim that is tested is ``touch.event(executed=1)``: a Gaussian, or a Poisson
    sample of one, for a row that is there or null. That is zero-out adjacency, and add-remove, since a null row draws,
    adds and counts like one that is not there. Under replace-one the same event is dearer because a row goes and
    another one comes; each half of that is what is audited here.

    The result is computed from exact answers and is *not private*: audit on made-up or public rows.

    References
    ----------
    Nasr et al., *Tight Auditing of Differentially Private Machine Learning*, USENIX Security 2023.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skdp import DPClassifier
    >>> from skdp.audit import audit_query
    >>> X, y = make_classification(500, 8, random_state=0)
    >>> model = DPClassifier(module="linear", classes=[0, 1], epsilon=None, noise_multiplier=1.0)
    >>> found = audit_query(model, X, y, draws=1000, random_state=0)
    >>> found.consistent, found.notices_halved_noise
    (True, True)
    """
    if not isinstance(estimator, DPEstimator):
        raise ValueError(
            f"estimator={type(estimator).__name__} must be a DPClassifier or DPRegressor; of a pipeline pass the last "
            "step, with X as the steps before hand it on"
        )
    check_confidence(confidence)
    for name, value, least in (("draws", draws, _LEAST_DRAWS), ("rows", rows, 1)):
        if not is_whole(value, least):
            raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")
    rehearsal = Rehearsal(estimator, X, y, sample_weight)
    charge = rehearsal.programme.plan.charge
    query = rehearsal.query(touch or max(charge.touches, key=lambda line: line.count).name)
    _claim(query.touch)
    if sampled and query.touch.sampler.groups > 1:
        raise ValueError(
            f"sampled={sampled!r}: the groups of touch {query.touch.name!r} take turns, and one query sees the row or "
            "does not; leave sampled=False, or use audit_one_run"
        )
    asked = query if sampled else replace(query, touch=replace(query.touch, sampler=Poisson(1.0)))
    mu, rate = _claim(asked.touch)

    index, at = _choose(rehearsal.problem, row, rows, check_random_state(random_state))
    there = _part(rehearsal.problem, index)
    stds = [z * float(value.sensitivity) for z, value in zip(query.touch.noise.multipliers, query.values, strict=True)]

    def exact(problem: Problem) -> np.ndarray:
        return _standardised(rehearsal.exactly(query, problem), stds)

    whole = exact(there)
    moves = {place: whole - exact(_without(there, place)) for place in at}
    place = max(moves, key=lambda place: np.linalg.norm(moves[place]))
    length = float(np.linalg.norm(moves[place]))
    if not length > 0:
        raise ValueError(f"row={int(index[place])} does not move the answer at all; pass another row")

    def projected(problem: Problem, stream: int) -> np.ndarray:
        executor, direction = rehearsal.answering(asked, problem, stream), moves[place] / length
        return np.array([_standardised(executor.answer(asked), stds) @ direction for _ in range(draws)])

    null, full = projected(_without(there, place), 2), projected(there, 3)
    return QueryAudit(
        touch=query.touch.name,
        row=int(index[place]),
        mu_lower=_bound(null, full, confidence, rate),
        mu_claimed=mu,
        reach=length / mu,
        draws=int(draws),
        confidence=float(confidence),
        rate=rate,
    )


def _claim(touch: Touch) -> tuple[float, float]:
    """Gaussian-DP parameter and sampling rate of the event of one query."""
    if touch.noise is None:
        raise ValueError(f"touch {touch.name!r} has no noise and claims no privacy; audit a fit with a finite epsilon")
    if type(touch.noise) is Gaussian:  # a subclass may remember its earlier noise
        event = touch.event(executed=1)
        while isinstance(event, dp_event.SelfComposedDpEvent) and event.count == 1:
            event = event.event
        rate = 1.0
        if isinstance(event, dp_event.PoissonSampledDpEvent):
            event, rate = event.event, event.sampling_probability
        if isinstance(event, dp_event.GaussianDpEvent):
            return 1 / event.noise_multiplier, rate
    raise ValueError(
        f"touch {touch.name!r} has {type(touch.noise).__name__} noise, and one query of it alone is no Gaussian event, "
        "so single queries cannot be audited; use audit_one_run, which looks at whole fits"
    )


def _choose(problem: Problem, row: int | None, rows: int, rng: Any) -> tuple[np.ndarray, list[int]]:
    """Rows that take part, and the places among them at which the audited row may be."""
    alive = np.flatnonzero(~problem.null)
    if row is None:
        index = rng.permutation(alive)[:rows]
        return index, list(range(len(index)))
    if row not in alive:
        raise ValueError(f"row={row!r} must be the index of a row that is not null, in 0..{len(problem.inputs) - 1}")
    others = rng.permutation(alive[alive != row])[: rows - 1]
    return np.concatenate([[row], others]).astype(int), [0]


def _part(problem: Problem, index: np.ndarray) -> Problem:
    """Some of the rows, with a weight each."""
    weights = np.ones(len(index)) if problem.weights is None else problem.weights[index]
    return replace(problem, inputs=problem.inputs[index], targets=problem.targets[index], weights=weights)


def _without(problem: Problem, place: int) -> Problem:
    """The neighbour: one row is null."""
    weights = problem.weights.copy()
    weights[place] = 0.0
    return replace(problem, weights=weights)


def _standardised(answers: Answers, stds: list[float]) -> np.ndarray:
    """All values of an answer as one vector, in units of the noise that each should have."""
    parts = []
    for answer, std in zip(answers, stds, strict=True):
        for part in answer if isinstance(answer, list | tuple) else [answer]:
            array = part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else np.asarray(part)
            parts.append(array.astype(np.float64).ravel() / std)
    return np.concatenate(parts)


def _bound(null: np.ndarray, full: np.ndarray, confidence: float, rate: float) -> float:
    """Bound by a threshold that other draws have chosen."""
    first = len(null) // 4

    def bounds(null: np.ndarray, full: np.ndarray, thresholds: np.ndarray) -> Any:
        above = len(null) - np.searchsorted(np.sort(null), thresholds, side="right")
        below = np.searchsorted(np.sort(full), thresholds, side="right")
        return mu_lower_bound(above, below, len(null), confidence, rate)

    candidates = np.quantile(np.concatenate([null[:first], full[:first]]), np.linspace(0, 1, 201))
    best = candidates[np.argmax(bounds(null[:first], full[:first], candidates))]
    return float(bounds(null[first:], full[first:], np.array([best]))[0])


def _expected(mu: float, draws: int, confidence: float, rate: float) -> float:
    """Bound to be expected from answers that are Gaussian with parameter mu."""
    n = draws - draws // 4
    alpha = stats.norm.sf(np.linspace(-2, 4, 121))
    found = (1 - rate) * alpha + rate * stats.norm.cdf(mu - stats.norm.isf(alpha))
    return float(np.max(mu_lower_bound(np.round(n * alpha), np.round(n * (1 - found)), n, confidence, rate)))
