"""What a fit can hope for at a signal: no better than the prior, linear signal, or nonlinear detail.

The thresholds are those of the default net; ``benchmarks/plan_verdict.py`` measures how often they are right.
"""

from __future__ import annotations

import math

from skdp.contract import Public
from skdp.nets.step_length import count_variables

__all__ = ["VERDICTS", "hopeless_signal", "rows_for", "signal_for", "verdict_of"]

VERDICTS = {
    "prior": "no better than the prior",
    "linear": "linear signal",
    "nonlinear": "nonlinear detail",
}

# A linear model of unit rows learns a column's weight at `signal` times its share of a row, over the number of columns,
# in standard deviations of the noise: with half of one per column, and two for the base rate, it learns nearly nothing.
_SIGNAL_PER_VARIABLE, _SIGNAL_OF_BASE_RATE = 0.5, 2.0
# Probabilities of two classes stay worse than the base rates for longer: their columns explain less of the loss.
_LINEAR_PER_VARIABLE = {"binary": 3.0, "multiclass": _SIGNAL_PER_VARIABLE, "regression": _SIGNAL_PER_VARIABLE}
# Signal per variable, sampling noise included, at which the default net gives half of a row to nonlinear features.
_NONLINEAR_PER_VARIABLE = 40.0


def hopeless_signal(public: Public) -> float:
    """Signal below which a fit learns nearly nothing, however clear the data.

    Parameters
    ----------
    public : Public

    Returns
    -------
    float
    """
    return _SIGNAL_OF_BASE_RATE + _SIGNAL_PER_VARIABLE * _variables(public)


def signal_for(verdict: str, public: Public) -> float:
    """Least signal that a better verdict than the one before needs.

    Parameters
    ----------
    verdict : {"linear", "nonlinear"}
    public : Public

    Returns
    -------
    float
        Gaussian-DP parameter of the budget times the number of rows; ``inf`` where there are too few rows for any.

    Examples
    --------
    >>> facts = Public(n=5000, input_shape=(20,), n_outputs=1, task="binary")
    >>> signal_for("linear", facts), round(signal_for("nonlinear", facts))
    (62.0, 810)
    """
    if verdict == "linear":
        return _SIGNAL_OF_BASE_RATE + _LINEAR_PER_VARIABLE[public.task] * _variables(public)
    # The inverse of `skdp.nets.step_length.effective_signal`, which never exceeds the number of rows.
    effective = _effective_for_nonlinear(public)
    return effective / math.sqrt(1 - (effective / public.n) ** 2) if effective < public.n else math.inf


def rows_for(verdict: str, public: Public, mu: float) -> float:
    """Number of rows from which a budget is enough for a verdict.

    Parameters
    ----------
    verdict : {"linear", "nonlinear"}
    public : Public
        Its number of rows does not matter.
    mu : float
        Gaussian-DP parameter of the budget.

    Returns
    -------
    float

    Examples
    --------
    >>> facts = Public(n=5000, input_shape=(20,), n_outputs=1, task="binary")
    >>> rows_for("linear", facts, mu=0.1)
    620.0
    """
    if verdict == "linear":
        return signal_for("linear", public) / mu
    return _effective_for_nonlinear(public) * math.sqrt(1 + mu**2) / mu


def verdict_of(public: Public, signal: float) -> str:
    """What a fit of the default net can hope for.

    Parameters
    ----------
    public : Public
    signal : float

    Returns
    -------
    {"prior", "linear", "nonlinear"}

    Examples
    --------
    >>> facts = Public(n=5000, input_shape=(20,), n_outputs=1, task="binary")
    >>> [verdict_of(facts, signal) for signal in (5.0, 500.0, 5000.0)]
    ['prior', 'linear', 'nonlinear']
    """
    if signal < signal_for("linear", public):
        return "prior"
    return "nonlinear" if signal >= signal_for("nonlinear", public) else "linear"


def _variables(public: Public) -> int:
    return count_variables(public) if len(public.input_shape) == 1 else 0  # pixels are no columns


def _effective_for_nonlinear(public: Public) -> float:
    return _NONLINEAR_PER_VARIABLE * max(_variables(public), 1)
