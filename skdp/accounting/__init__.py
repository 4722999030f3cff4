"""From what was done to (epsilon, delta), and on to a statement that can be handed over and verified."""

from __future__ import annotations

from skdp.accounting.accountants import check_epsilon, delta, epsilon, resolve_delta, which_accountant
from skdp.accounting.book import FitBook, Reservation
from skdp.accounting.calibration import Calibration, calibrate, delta_of, epsilon_of, noise_multiplier
from skdp.accounting.composition import compose
from skdp.accounting.disjoint import compose_disjoint
from skdp.accounting.events_json import charge_from_dict, charge_to_dict, event_from_dict, event_to_dict
from skdp.accounting.ledger import PrivacyLedger
from skdp.accounting.statement import PrivacyStatement
from skdp.accounting.statement_text import attack_accuracy
from skdp.accounting.verify import Verification, verify

__all__ = [
    "Calibration",
    "FitBook",
    "PrivacyLedger",
    "PrivacyStatement",
    "Reservation",
    "Verification",
    "attack_accuracy",
    "calibrate",
    "charge_from_dict",
    "charge_to_dict",
    "check_epsilon",
    "compose",
    "compose_disjoint",
    "delta",
    "delta_of",
    "epsilon",
    "epsilon_of",
    "event_from_dict",
    "event_to_dict",
    "noise_multiplier",
    "resolve_delta",
    "verify",
    "which_accountant",
]
