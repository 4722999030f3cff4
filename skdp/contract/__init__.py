"""What a mechanism declares, asks and gets back. Nothing here ever holds a row.

A *touch* is one line of a price list: which rows a family of queries may see, how its answers are noised, and how
often it may be asked. A *charge* is the whole list. Events (and so epsilon) are derived from touches and nowhere
restated. A *query* points to a touch and names the values to be computed from one sample; an executor, the only
holder of rows and secret noise, answers it.
"""

from __future__ import annotations

from skdp.contract.linear_queries import GramSum, PerturbedMinimum
from skdp.contract.noises import Correlated, Gaussian, Response, Selection
from skdp.contract.prices import ADJACENCIES, FEATURE_ROW, PERSON, Charge, Touch
from skdp.contract.queries import (
    CLIPPINGS,
    Activations,
    Answers,
    CarrierSum,
    ClippedSum,
    Counts,
    Frequent,
    Labels,
    LinearGradient,
    NormBelow,
    NormSum,
    Query,
    RowSum,
    ThinnedSum,
    Value,
)
from skdp.contract.roles import Book, Executor, Model, Plan, Public, Spender, Update, drive
from skdp.contract.samplers import CyclicPoisson, FixedOrder, Poisson, Sampler

__all__ = [
    "ADJACENCIES",
    "CLIPPINGS",
    "Activations",
    "Answers",
    "Book",
    "CarrierSum",
    "Charge",
    "ClippedSum",
    "Correlated",
    "Counts",
    "CyclicPoisson",
    "Executor",
    "FEATURE_ROW",
    "FixedOrder",
    "Frequent",
    "Gaussian",
    "GramSum",
    "Labels",
    "LinearGradient",
    "Model",
    "NormBelow",
    "NormSum",
    "PERSON",
    "PerturbedMinimum",
    "Plan",
    "Poisson",
    "Public",
    "Query",
    "Response",
    "RowSum",
    "Sampler",
    "Selection",
    "Spender",
    "ThinnedSum",
    "Touch",
    "Update",
    "Value",
    "drive",
]
