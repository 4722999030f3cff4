"""Noises: how answers are made private, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from dp_accounting import dp_event

from skdp.contract.samplers import Poisson, Sampler

__all__ = ["Correlated", "Gaussian", "Response", "Selection"]

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussian noise on each value of a query.

    Parameters
    ----------
    multipliers : tuple of float
        One noise multiplier per value: standard deviation over L2 zero-out sensitivity.

    Examples
    --------
    >>> round(Gaussian((2.0, 2.0)).combined, 3)
    1.414
    """

    multipliers: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.multipliers or not all(z > 0 and np.isfinite(z) for z in self.multipliers):
            raise ValueError(f"multipliers={self.multipliers!r} must be positive and finite, one per value")

    @property
    def combined(self) -> float:
        """The single multiplier whose Gaussian costs what answering all values of one sample costs."""
        return float(sum(z**-2 for z in self.multipliers) ** -0.5)

    def event(self, sampler: Sampler, count: int) -> dp_event.DpEvent:
        """The first `count` queries of a sampler."""
        return sampler.event(dp_event.GaussianDpEvent(self.combined), count)


@dataclass(frozen=True)
class Correlated:
    r"""Gaussian noise that takes back part of the earlier noise of the same touch.

    With :math:`z_t` independent and standard normal, the noise of query t over multiplier times sensitivity is
    :math:`w_t = (z_t - c_1 w_{t-1} - \dots - c_{b-1} w_{t-b+1}) / c_0`. In other words :math:`w = C^{-1} z` with
    the banded lower triangular Toeplitz matrix :math:`C` of the coefficients.

    Parameters
    ----------
    multipliers : tuple of one float
        Standard deviation of :math:`z` over L2 zero-out sensitivity; the touch answers one value, whose sensitivity
        is the same in all queries.
    coefficients : tuple of float
        :math:`c_0 > 0, c_1, \dots`, with squares that sum up to at most 1.

    Notes
    -----
    *Formal guarantee.* Let :math:`G` be the exact answers, one a row, and :math:`\sigma` multiplier times
    sensitivity. From the published :math:`G + \sigma w` one computes :math:`CG + \sigma z` and back, so publishing
    either is the same. :math:`C` is lower triangular, so queries may depend on earlier answers (Denisov et al.,
    2022). A record that takes part in steps :math:`t_1, \dots, t_k` moves :math:`CG` by the sum of the outer
    products of the columns :math:`C_{\cdot t_i}` with vectors no longer than the sensitivity :math:`S`. Its turns
    are at least `groups` steps apart, and with at most that many bands its columns share no row of :math:`C`. So
    the squared norms add up, to at most :math:`k S^2`, because no column is longer than the coefficients (the last
    ones are cut off, hence shorter). That is what :math:`k` independent Gaussian answers cost: one Gaussian of
    multiplier :math:`z / \sqrt k`. A prefix of the answers needs the same rows of :math:`C` and no others, so it is
    priced alike. If the record is drawn at random in its turns, the blocks of rows that its columns fill are
    :math:`k` Poisson-subsampled Gaussians, each given all earlier ones.

    References
    ----------
    Denisov, McMahan, Rush, Smith, Thakurta, *Improved Differential Privacy for SGD via Optimal Private Linear
    Operators on Adaptive Streams*, NeurIPS 2022. Choquette-Choo et al., *(Amplified) Banded Matrix Factorization: A
    unified approach to private training*, NeurIPS 2023.

    Examples
    --------
    >>> from skdp.contract import FixedOrder
    >>> noise = Correlated((4.0,), (0.8, 0.6))
    >>> noise.event(FixedOrder(10), 25)
    SelfComposedDpEvent(event=GaussianDpEvent(noise_multiplier=4.0), count=3)
    """

    multipliers: tuple[float, ...]
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.multipliers) != 1 or not 0 < self.multipliers[0] < np.inf:
            raise ValueError(f"multipliers={self.multipliers!r} must hold one positive finite number")
        squares = sum(c * c for c in self.coefficients)
        if not (self.coefficients and self.coefficients[0] > 0 and squares <= 1 + _ROUNDING):
            raise ValueError(
                f"coefficients={self.coefficients!r} must start with a positive number, and their squares may sum up "
                f"to at most 1, not {squares:g}; divide them by the root of that"
            )

    @property
    def combined(self) -> float:
        """The multiplier whose Gaussian costs what one turn of a row costs."""
        return self.multipliers[0]

    def check(self, sampler: Sampler) -> None:
        """Refuse a sampler that may bring a row back while its earlier noise is still being taken back.

        Parameters
        ----------
        sampler : Sampler

        Raises
        ------
        ValueError
        """
        if len(self.coefficients) > sampler.groups:
            raise ValueError(
                f"{len(self.coefficients)} bands of correlated noise need turns of a row that are at least as many "
                f"steps apart, but those of {sampler} may be {sampler.groups}; use fewer bands"
            )

    def event(self, sampler: Sampler, count: int) -> dp_event.DpEvent:
        """The first `count` answers; `ValueError` where a row may come back too early."""
        self.check(sampler)
        return sampler.event(dp_event.GaussianDpEvent(self.combined), count)


@dataclass(frozen=True)
class Response:
    """Randomised response: the class of each row, or with probability `noise_parameter` one drawn from all alike.

    A null row has no class, and answers with one drawn from all alike.

    Parameters
    ----------
    noise_parameter : float
        In (0, 1].
    classes : int
        At least 2.

    Notes
    -----
    *Formal guarantee.* A class is kept with probability :math:`1 - p + p/k`, any other is answered with :math:`p/k`.
    The odds of an answer differ by at most their ratio between two classes (replace-one), and by less between a class
    and the null row (zero-out). Every row answers, so their number is public and there is no bound under add-remove.

    Examples
    --------
    >>> round(Response.at(1.0, 2).noise_parameter, 3)
    0.538
    """

    noise_parameter: float
    classes: int

    def __post_init__(self) -> None:
        if not 0 < self.noise_parameter <= 1 or self.classes < 2:
            raise ValueError(f"{self} needs a noise_parameter in (0, 1] and at least 2 classes")

    @classmethod
    def at(cls, epsilon: float, classes: int) -> Response:
        """The response whose odds differ by exactly the factor ``exp(epsilon)`` between two classes."""
        return cls(float(classes / (np.exp(epsilon) + classes - 1)), classes)

    @property
    def multipliers(self) -> tuple[float, ...]:
        """The noise parameter of its one value."""
        return (self.noise_parameter,)

    @property
    def combined(self) -> None:
        """No Gaussian costs what this does."""

    def event(self, sampler: Poisson, count: int) -> dp_event.DpEvent:
        """`count` responses of all rows."""
        return sampler.event(dp_event.RandomizedResponseDpEvent(self.noise_parameter, self.classes), count)


@dataclass(frozen=True)
class Selection:
    """A random number of runs of one price list, of which only the best one's results are released.

    Parameters
    ----------
    touches : tuple of Touch
        What one run costs: the most that any unit pays for it.
    mean : float
        Expected number of runs, at least 1.
    shape : float or None
        Of the truncated negative binomial distribution of that number: 1 is the geometric, 0 the logarithmic one;
        None is the Poisson distribution, which may be 0.

    Notes
    -----
    *Formal guarantee.* Papernot and Steinke, *Hyperparameter Tuning with Renyi Differential Privacy*, ICLR 2022, in
    Renyi differential privacy: runs are independent, the best is chosen by results that are part of the run, and
    their number is drawn independently of the data and not released.

    Examples
    --------
    >>> from skdp.contract import Touch
    >>> run = Touch("gradient", Poisson(), Gaussian((10.0,)), 1)
    >>> Selection((run,), mean=5.0, shape=1.0).event(Poisson(), 1).event.mean
    5.0
    """

    touches: tuple[Any, ...]
    mean: float
    shape: float | None

    def __post_init__(self) -> None:
        if not 1 <= self.mean < np.inf or not (self.shape is None or 0 <= self.shape < np.inf):
            raise ValueError(
                f"mean={self.mean!r} must be at least 1 and finite, shape={self.shape!r} 0 or more, or None"
            )

    @property
    def combined(self) -> None:
        """No Gaussian costs what this does."""

    def event(self, sampler: Poisson, count: int) -> dp_event.DpEvent:
        """`count` selections, each from runs that see the rows as their touches say."""
        runs = dp_event.ComposedDpEvent([touch.event() for touch in self.touches])
        shape = np.inf if self.shape is None else self.shape
        return sampler.event(dp_event.RepeatAndSelectDpEvent(runs, self.mean, shape), count)
