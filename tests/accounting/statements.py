"""A charge and the statements made of it, for the tests of statements and of their verification."""

from __future__ import annotations

from skdp.accounting import PrivacyStatement
from skdp.contract import Charge, Gaussian, Poisson, Touch

GRADIENT = Touch("gradient", Poisson(0.01), Gaussian((1.0,)), 1000)
SCALER = Touch("scaler", Poisson(), Gaussian((20.0,)), 1)
CHARGE = Charge((SCALER, GRADIENT))


def stated(charge=CHARGE, delta=1e-5, **more):
    return PrivacyStatement.from_charge(charge, delta, **{"mechanism": "dp-sgd", "n": 50_000, **more})
