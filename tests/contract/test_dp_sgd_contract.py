"""DP-SGD inherits the contract, with every way of clipping."""

from __future__ import annotations

from suite import Case, MechanismContract

from skdp.mechanisms import DPSGD


class TestDPSGD(MechanismContract):
    cases = [
        Case("flat"),
        Case("automatic", {"clipping": "automatic"}),
        Case("global", {"clipping": "global", "max_grad_norm": 8.0}),
        Case("per-layer", {"clipping": "per-layer"}),
        Case("adaptive", {"clipping": "adaptive", "mechanism": DPSGD(target_quantile=0.8)}),
        Case("default net", {"module": None}),
        Case("late switch", {"mechanism": DPSGD(switch_at=0.5, late_max_grad_norm=4.0, late_clipping="global")}),
    ]
