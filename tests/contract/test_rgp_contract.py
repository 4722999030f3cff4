"""RGP inherits the contract: with both carriers and one, from the weights and from their history."""

from __future__ import annotations

from suite import Case, MechanismContract

from skdp.mechanisms import RGP
from skdp.nets import MLP


class Perceptron(Case):
    """A case whose smallest net has a weight to give carriers: a linear model of one output has none."""

    def classifier(self, **params):
        if params.get("module") == "linear":
            params["module"] = MLP((8,))
        return super().classifier(**params)


class TestRGP(MechanismContract):
    cases = [
        Perceptron("history", {"mechanism": RGP(rank=1, warm_up=0.3)}),
        Perceptron("one side per layer", {"mechanism": RGP(rank=1, carriers="left"), "clipping": "per-layer"}),
    ]
