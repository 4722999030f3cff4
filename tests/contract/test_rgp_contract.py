"""RGP inherits the contract: with both carriers and one, from the weights and from their history."""

from __future__ import annotations

from typing import Any

from suite import Case, MechanismContract

from skdp import DPClassifier
from skdp.mechanisms import RGP
from skdp.nets import MLP


class WideCase(Case):
    """Nets that have a weight to give carriers.

    A linear model of one output has none; and of a wide layer, thin answers hold enough noise to measure.
    """

    def classifier(self, **params: Any) -> DPClassifier:
        if params.get("module") == "linear":
            params["module"] = MLP((8,))
        return super().classifier(**params)


WIDE = {"module": MLP((128,))}


class TestRGP(MechanismContract):
    cases = [
        WideCase("history", {**WIDE, "mechanism": RGP(rank=1, warm_up=0.3)}),
        WideCase("left", {**WIDE, "mechanism": RGP(rank=1, carriers="left"), "clipping": "per-layer"}),
    ]
