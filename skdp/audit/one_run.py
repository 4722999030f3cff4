"""The audit of a whole fit: many canaries, a coin for each, one fit, and as many guesses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.utils import check_random_state, indexable

from skdp.accounting import PrivacyStatement, epsilon
from skdp.audit.bound import check_confidence, epsilon_lower_bound
from skdp.audit.canaries import mislabelled, put_in
from skdp.audit.nulled import nulled_steps, weighted_part
from skdp.contract.whole_numbers import is_whole
from skdp.exceptions import UnsupportedEventError

__all__ = ["OneRunAudit", "audit_one_run"]


@dataclass(frozen=True)
class OneRunAudit:
    """What one fit gave away about its canaries; made by `audit_one_run`.

    Parameters
    ----------
    epsilon_lower : float
        At least this is epsilon for including or nulling a row, at the confidence and the claim's delta.
    epsilon_claimed : float
        What the fit claims about including or nulling a row.
    delta : float
    correct, guesses, canaries : int
        Right guesses, guesses made, and canaries that could have been guessed about.
    confidence : float
    audited, unseen : tuple of str
        Steps of a pipeline in which canaries were nulled, and private ones that saw them in either case: what these
        give away is not audited.

    Examples
    --------
    >>> found = OneRunAudit(3.5, 1.0, delta=0.0, correct=100, guesses=100, canaries=100, confidence=0.95)
    >>> found.consistent
    False
    """

    epsilon_lower: float
    epsilon_claimed: float
    delta: float
    correct: int
    guesses: int
    canaries: int
    confidence: float
    audited: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def consistent(self) -> bool:
        """Whether the guesses do not contradict the claim."""
        return self.epsilon_lower <= self.epsilon_claimed

    @property
    def epsilon_reachable(self) -> float:
        """What `epsilon_lower` would have been with every guess right: no larger claim can be contradicted."""
        return epsilon_lower_bound(self.guesses, self.guesses, self.canaries, self.delta, self.confidence)

    @property
    def text(self) -> str:
        """The result in words."""
        verdict = "do not contradict" if self.consistent else "contradict"
        lines = [
            f"Audit of one fit: the guesses {verdict} the claim.",
            f"{self.correct} of {self.guesses} guesses about {self.canaries} canaries were right.",
            f"With {self.confidence:.4g} confidence epsilon is at least {self.epsilon_lower:.3g} (claimed: "
            f"{self.epsilon_claimed:.3g}, both at delta={self.delta:.3g} for a row that is there or null).",
        ]
        if self.audited:
            missed = f"; not audited: {', '.join(self.unseen)}" if self.unseen else ""
            lines.append(f"Canaries were nulled in {', '.join(self.audited)}{missed}.")
        if self.consistent and 2 * self.correct < 1.2 * self.guesses:
            lines.append(
                "These guesses were hardly better than coin flips, which a fit without any privacy may show as well: "
                "this says nothing. Pass canaries that a model would have to remember."
            )
        if self.epsilon_reachable <= self.epsilon_claimed:
            lines.append(
                f"Even {self.guesses} right guesses would have shown no more than {self.epsilon_reachable:.3g}: raise "
                "n_canaries and guesses, or audit at a smaller epsilon or delta."
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text


def audit_one_run(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    canaries: tuple[Any, Any] | None = None,
    n_canaries: int | None = None,
    guesses: int | None = None,
    score: Callable[[Any, Any, Any], Any] | None = None,
    reference: bool = False,
    claim: tuple[float, float] | PrivacyStatement | None = None,
    confidence: float = 0.95,
    random_state: Any = None,
) -> OneRunAudit:
    """Guess from one fit which canaries took part in it, and bound epsilon by how often that is right.

    Rows drawn at random give way to canaries, so that the number of rows stays as it is. The auditor tosses a coin for
    each canary and nulls those with tails by ``sample_weight=0``. A clone of the estimator is fitted once; the canaries
    with the best scores are guessed to have taken part, those with the worst to be null.

    Parameters
    ----------
    estimator : estimator
        Any classifier or regressor whose ``fit`` takes ``sample_weight``, or a pipeline that ends in one. Of a
        `PrivatePipeline` all private steps are audited together.
    X, y : array-like or table
        Data as for ``fit``.
    canaries : tuple (X_c, y_c), optional
        Records of the same form as those of X and y. When None, records of the data with wrong labels.
    n_canaries : int, optional
        How many to make where `canaries` is None; a quarter of the rows, at most 1000, when None.
    guesses : int, optional
        How many to guess about, half of them "in" and half "null"; half of the canaries when None. It is fixed before
        scores are looked at: trying several and reporting the best voids the confidence.
    score : callable, optional
        ``score(fitted, X_c, y_c)`` of shape (canaries,), larger for those that seem to have taken part. When None,
        minus the loss of each canary: cross-entropy or squared error.
    reference : bool, default=False
        Fit a second clone in which all canaries are null, and score by how much better the first one does. It sharpens
        guesses where canaries differ much, and costs a second fit.
    claim : tuple (epsilon, delta) or PrivacyStatement, optional
        What to compare with, for a row that is there or null; the fitted estimator's ``privacy_`` when None.
    confidence : float, default=0.95
        An honest fit is called inconsistent with probability at most ``1 - confidence``.
    random_state : int, RandomState or None
        The auditor's coins and choices. The fit's noise is not seeded by it.

    Returns
    -------
    OneRunAudit

    Raises
    ------
    ValueError
        The estimator has no way to null a row or states no claim, or numbers do not fit together; before the fit where
        possible.

    Notes
    -----
    *Formal guarantee.* See `epsilon_lower_bound`. Its relation is that of one record that is there or null: zero-out.
    A claim under add-remove is compared as it stands, because a null row draws, adds and counts like one that is not
    there. A claim under replace-one is about any two records, among them the null row, so it holds too; the sharper
    zero-out epsilon of the same event is compared where an accountant knows it.

    In a `PrivatePipeline` canaries are null in every private step that takes ``sample_weight``, so what any of these
    gives away is audited against the claim of the whole. The default `score` sees what shows in predictions; pass one
    that looks at what a transformer has learned to attack that. Of any other pipeline the last step is audited against
    its own claim, for the steps before it see the canaries in either case. ``audited`` and ``unseen`` of the result
    name the steps.

    The result uses exact records and is *not private*, and the fit itself costs what a fit costs: audit on made-up or
    public rows.

    References
    ----------
    Steinke, Nasr and Jagielski, *Privacy Auditing with One (1) Training Run*, NeurIPS 2023.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdp import DPClassifier
    >>> from skdp.audit import audit_one_run
    >>> X, y = make_classification(400, 1000, random_state=0)
    >>> private = DPClassifier(module="linear", classes=[0, 1], feature_bounds=(-4, 4))
    >>> audit_one_run(private, X, y, random_state=0).consistent
    True
    >>> audit_one_run(LogisticRegression(), X, y, claim=(1.0, 1e-5), random_state=0).consistent
    False
    """
    rng = check_random_state(random_state)
    check_confidence(confidence)
    weight_name, audited, unseen = nulled_steps(estimator)
    X, y = indexable(X, y)
    n = len(y)
    classifies = is_classifier(estimator)
    m = _count("n_canaries", n_canaries, min(n // 4, 1000), n) if canaries is None else len(canaries[1])
    if not 2 <= m <= n:
        raise ValueError(f"canaries holds {m} records; pass between 2 and n={n}, whose places they take")
    r = 2 * (_count("guesses", guesses, max(2, m // 2), m) // 2)
    places = rng.permutation(n)[:m]
    X_c, y_c = mislabelled(X, y, places, rng, classifies) if canaries is None else canaries
    X, y = put_in(X, X_c, places), put_in(y, y_c, places)
    included = rng.random_sample(m) < 0.5

    def fitted(there: np.ndarray, **params: Any) -> Any:
        weights = np.ones(n)
        weights[places[~there]] = 0.0
        return clone(estimator).set_params(**params).fit(X, y, **{weight_name: weights})

    model = fitted(included)
    epsilon_claimed, delta = _claim(model, claim)
    rate = score or _minus_loss
    scores = _scores(rate(model, X_c, y_c), m)
    if reference:
        other = fitted(np.zeros(m, dtype=bool), **_other_noise(estimator, rng))
        scores = scores - _scores(rate(other, X_c, y_c), m)
    # Ties fall by the order of the canaries, which knows nothing of the coins.
    order = np.argsort(scores, kind="stable")
    correct = int(included[order[m - r // 2 :]].sum() + (~included[order[: r // 2]]).sum())
    return OneRunAudit(
        epsilon_lower=epsilon_lower_bound(correct, r, m, delta, confidence),
        epsilon_claimed=epsilon_claimed,
        delta=delta,
        correct=correct,
        guesses=r,
        canaries=m,
        confidence=float(confidence),
        audited=audited,
        unseen=unseen,
    )


def _count(name: str, value: int | None, default: int, most: int) -> int:
    if value is None:
        value = default
    if not is_whole(value, 2) or value > most:
        raise ValueError(f"{name}={value!r} must be a whole number between 2 and {most}")
    return int(value)


def _claim(model: Any, claim: Any) -> tuple[float, float]:
    """Epsilon and delta of the fit for a row that is there or null."""
    if claim is None:
        learner = weighted_part(model)
        claim = getattr(learner, "privacy_", None)
        if claim is None:
            raise ValueError(f"{type(learner).__name__} has no privacy_ to compare with; pass claim=(epsilon, delta)")
    if not isinstance(claim, PrivacyStatement):
        stated, delta = claim
        return float(stated), float(delta)
    if claim.adjacency != "replace-one":
        return claim.epsilon, claim.delta
    event = claim.planned_event if claim.planned_event is not None else claim.event
    try:
        return min(claim.epsilon, epsilon(event, claim.delta - claim.delta_fail, "zero-out")), claim.delta
    except UnsupportedEventError:
        return claim.epsilon, claim.delta


def _other_noise(estimator: Any, rng: Any) -> dict[str, int]:
    """Parameters that give a second fit noise of its own: with the same noise it would subtract what protects."""
    params = estimator.get_params(deep=True)
    ours = [name for name in params if name.rpartition("__")[2] == "insecure_noise_seed"]
    seeds = ours or [name for name in params if name.rpartition("__")[2] == "random_state"]
    return {name: int(rng.randint(2**31 - 1)) for name in seeds if params[name] is not None}


def _scores(scores: Any, m: int) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    if scores.shape != (m,) or np.isnan(scores).any():
        raise ValueError(f"score must give {m} numbers that are not NaN, one per canary; it gave shape {scores.shape}")
    return scores


def _minus_loss(model: Any, X: Any, y: Any) -> np.ndarray:
    """Minus the loss of each record."""
    y = np.asarray(y)
    if not is_classifier(model):
        return -np.square(np.asarray(model.predict(X)) - y).reshape(len(y), -1).sum(axis=1)
    if not hasattr(model, "predict_proba"):
        return (np.asarray(model.predict(X)) == y).astype(float)
    labels = list(model.classes_)
    chances = model.predict_proba(X)[np.arange(len(y)), [labels.index(label) for label in y]]
    return np.log(np.maximum(chances, np.finfo(float).tiny))
