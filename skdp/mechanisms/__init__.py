"""Mechanisms by name: how a net is trained privately, each a small generator of queries."""

from __future__ import annotations

from skdp.contract.shown import shown
from skdp.mechanisms.base import Mechanism, TrainingPlan
from skdp.mechanisms.dp_ftrl import DPFTRL
from skdp.mechanisms.dp_sgd import DPSGD
from skdp.mechanisms.dpis import DPIS
from skdp.mechanisms.neuraldp import NeuralDP
from skdp.mechanisms.rgp import RGP

__all__ = ["DPFTRL", "DPIS", "DPSGD", "MECHANISMS", "RGP", "Mechanism", "NeuralDP", "TrainingPlan", "resolve_mechanism"]

MECHANISMS: dict[str, type[Mechanism]] = {
    "dp-sgd": DPSGD,
    "dpis": DPIS,
    "rgp": RGP,
    "neuraldp": NeuralDP,
    "dp-ftrl": DPFTRL,
}


def resolve_mechanism(mechanism: str | Mechanism) -> Mechanism:
    """The mechanism that a name or a specification stands for.

    Parameters
    ----------
    mechanism : str or Mechanism
        A key of `MECHANISMS`, or an instance.

    Returns
    -------
    Mechanism

    Raises
    ------
    ValueError
        For a name that is not registered, or a class instead of an instance.
    """
    if isinstance(mechanism, str) and mechanism in MECHANISMS:
        return MECHANISMS[mechanism]()
    if isinstance(mechanism, Mechanism):
        return mechanism
    names = ", ".join(repr(name) for name in MECHANISMS)
    raise ValueError(f"mechanism={shown(mechanism)} must be one of {names}, or an instance such as DPSGD()")
