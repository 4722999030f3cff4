"""DPIS inherits the contract, at a fixed clip norm and at one that follows the norms."""

from __future__ import annotations

from suite import Case, MechanismContract

from skdp.mechanisms import DPIS


class TestDPIS(MechanismContract):
    cases = [
        Case("fixed", {"mechanism": "dpis", "max_grad_norm": 4.0}),
        # A large share, so that the few norms of these small fits are told from their noise.
        Case("adaptive", {"mechanism": DPIS(adaptive_clip=True, norm_share=0.2), "max_grad_norm": 4.0}),
    ]
