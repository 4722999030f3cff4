"""What all parties of a private ADMM agree on before anybody looks at a row."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from skdp.contract import ADJACENCIES, Charge, Gaussian, Poisson, Touch
from skdp.linear_model.losses import Huber, resolve_loss
from skdp.linear_model.penalties import Penalty

__all__ = ["TOUCH", "Terms", "rounds_charge"]

TOUCH = "gradient"


def rounds_charge(multiplier: float | None, rounds: int, sampling_rate: float, adjacency: str) -> Charge:
    """What rounds cost a site: one Gaussian sum each."""
    noise = None if multiplier is None else Gaussian((multiplier,))
    return Charge((Touch(TOUCH, Poisson(sampling_rate), noise, rounds),), adjacency)


@dataclass(frozen=True, kw_only=True)
class Terms:
    r"""The public agreement between sites: model, objective, rounds, step sizes and clip norm.

    Every site checks it by itself and compares digests, so that nobody trains another model than the others, and
    nothing that protects rows (clip norm, number of rounds, sampling) is ever read from a message.

    Parameters
    ----------
    columns : tuple of str
        Names of the features, in order.
    task : {"binary", "multiclass", "regression"}
    outputs : int
        Linear predictors: 1 for two classes, the number of classes or targets for more.
    rows : int
        Public number of rows of all sites together; the mean loss is over these.
    sites : int
        Number of sites that are expected to take part.
    classes : tuple or None
        Labels in order, for a classifier.
    loss : str
        As in `DPADMMClassifier` and `DPADMMRegressor`.
    huber_scale : float
        Of ``loss="huber"``.
    alpha, l1 : float
        Of the `Penalty`: strength relative to the mean loss, and share of the absolute values.
    fit_intercept : bool
    feature_bounds : tuple of (float, float) or None
        Public range of each column, mapped to [-1, 1].
    target_bounds : tuple of (float, float) or None
        Public range of each target of a regression.
    class_weights : tuple of float or None
        Public weight of each class.
    rounds : int
    clip : float
        Largest norm of the gradient of a record; ``inf`` only where no site adds noise.
    rho : float
        How strongly a site is pulled to the common model.
    curvature, growth : float
        In round k a site's step size :math:`\eta_k` has :math:`1/\eta_k` = curvature + growth :math:`\sqrt k`.
    loudest : float
        Largest noise multiplier that a site may have: a reply is taken for poison where more would be needed.
    momentum : float
        Share of the common model's last move that a site makes again.
    sampling_rate : float
        Chance of a row to take part in a round; 1 is all rows.
    average : float
        Share of the last rounds whose models are averaged.
    adjacency : {"zero-out", "replace-one", "add-remove"}
    delta : float
        Of every site's guarantee.

    Examples
    --------
    >>> terms = Terms(columns=("age",), task="binary", outputs=1, rows=1000, sites=2, classes=(0, 1), rounds=10,
    ...               clip=1.0, rho=0.1, curvature=1.0, delta=1e-5)
    >>> Terms.from_dict(terms.to_dict()).digest == terms.digest
    True
    """

    columns: tuple[str, ...]
    task: str
    outputs: int
    rows: int
    sites: int
    classes: tuple | None = None
    loss: str = "log_loss"
    huber_scale: float = 0.1
    alpha: float = 0.0
    l1: float = 0.0
    fit_intercept: bool = True
    feature_bounds: tuple[tuple[float, float], ...] | None = None
    target_bounds: tuple[tuple[float, float], ...] | None = None
    class_weights: tuple[float, ...] | None = None
    rounds: int
    clip: float
    rho: float
    curvature: float
    growth: float = 0.0
    loudest: float = 1e4
    momentum: float = 0.0
    sampling_rate: float = 1.0
    average: float = 0.5
    adjacency: str = "zero-out"
    delta: float

    def __post_init__(self) -> None:
        for name in ("rows", "sites", "rounds", "outputs"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"Terms({name}={getattr(self, name)!r}) must be at least 1")
        for name in ("clip", "rho", "curvature", "loudest"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Terms({name}={getattr(self, name)!r}) must be positive")
        if not (0 < self.sampling_rate <= 1 and 0 <= self.momentum < 1 and 0 <= self.average < 1 and self.growth >= 0):
            raise ValueError(
                f"Terms(sampling_rate={self.sampling_rate!r}, momentum={self.momentum!r}, average={self.average!r}, "
                f"growth={self.growth!r}) must lie in (0, 1], [0, 1), [0, 1) and [0, inf)"
            )
        if self.adjacency not in ADJACENCIES:
            raise ValueError(f"Terms(adjacency={self.adjacency!r}) must be one of {', '.join(ADJACENCIES)}")

    # ------------------------------------------------------------------ derived
    @property
    def shape(self) -> tuple[int, int]:
        """Of the coefficients: outputs by columns, the intercept last."""
        return self.outputs, len(self.columns) + self.fit_intercept

    @property
    def loss_function(self) -> Any:
        """The loss that `loss` names."""
        return Huber(self.huber_scale) if self.loss == "huber" else resolve_loss(self.loss, self.task)

    @property
    def penalty(self) -> Penalty:
        """On the common model."""
        return Penalty(self.alpha, self.l1, int(self.fit_intercept))

    def bounds(self, name: str) -> np.ndarray | None:
        """``feature_bounds`` or ``target_bounds`` as an array of shape (columns, 2)."""
        given = getattr(self, name)
        return None if given is None else np.asarray(given, dtype=float)

    def inverse_step(self, k: int) -> float:
        """One over a site's step size in round k, from 1."""
        return self.curvature + self.growth * math.sqrt(k)

    def charge(self, multiplier: float | None) -> Charge:
        """What all rounds cost a site at a noise multiplier; None is no noise."""
        return rounds_charge(multiplier, self.rounds, self.sampling_rate, self.adjacency)

    # ------------------------------------------------------------------ the written form
    def to_dict(self) -> dict[str, Any]:
        """In plain JSON types; infinities as text."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Terms:
        """From what `to_dict` gave.

        Parameters
        ----------
        plain : dict

        Returns
        -------
        Terms

        Raises
        ------
        ValueError
            For missing or unknown entries, or values that make no sense.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(plain, dict) or set(plain) != known:
            odd = sorted(set(plain) ^ known) if isinstance(plain, dict) else type(plain).__name__
            raise ValueError(f"terms must hold exactly {', '.join(sorted(known))}; wrong: {odd}")
        try:
            return cls(
                **{
                    name: math.inf if (name, value) == ("clip", "inf") else _value(value)
                    for name, value in plain.items()
                }
            )
        except TypeError as error:
            raise ValueError(f"terms hold a value of the wrong kind: {error}") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the written form, by which sites compare what they agreed on."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _value(value: Any) -> Any:
    return tuple(_value(part) for part in value) if isinstance(value, list) else value
