"""Memory and time of an RGP step beside plain, DP-SGD and Opacus steps, on linear layers as wide as BERT's.

    python benchmarks/rgp_memory.py [--quick]

Every contestant runs in a process of its own: what it holds before the first step, what it holds at the peak of its
steps, and the median time of a step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import warnings
from dataclasses import dataclass
from functools import partial

import torch
from record import write
from speed import opacus_steps, plain_steps, process_mb, skdp_steps, timed
from torch import Tensor, nn

from skdp.mechanisms import RGP

WIDTH, BLOCKS = 768, 4
RANK = 1  # the rank that the paper used for BERT


@dataclass(frozen=True)
class Stack:
    """Feed-forward blocks of a transformer, without the attention between them."""

    positions: int
    batch: int = 32
    rows: int = 160

    @property
    def name(self) -> str:
        return f"{self.positions} position{'s' * (self.positions > 1)}"

    def net(self) -> nn.Module:
        torch.manual_seed(0)
        blocks = [
            nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)) for _ in range(BLOCKS)
        ]
        return nn.Sequential(*blocks, Pooled(), nn.Linear(WIDTH, 10))

    def data(self) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        shape = (self.positions, WIDTH) if self.positions > 1 else (WIDTH,)
        return torch.randn(self.rows, *shape), torch.randint(0, 10, (self.rows,))


class Pooled(nn.Module):
    """Mean over positions, where there are any."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1) if x.dim() > 2 else x


CASES = {case.name: case for case in (Stack(1), Stack(32))}
CONTESTANTS = {
    "plain": plain_steps,
    "RGP": partial(skdp_steps, mechanism=RGP(rank=RANK, warm_up=0.0)),
    "RGP, left carriers": partial(skdp_steps, mechanism=RGP(rank=RANK, warm_up=0.0, carriers="left")),
    "RGP without history": partial(skdp_steps, mechanism=RGP(rank=RANK, warm_up=1.0)),
    "DP-SGD": skdp_steps,
    "Opacus ghost": opacus_steps("ghost"),
    "Opacus hooks": opacus_steps("hooks"),
}


def measure(case: Stack, name: str, steps: int) -> dict[str, float]:
    """Figures of one contestant, in this process."""
    run = CONTESTANTS[name](case, torch.device("cpu"))
    before = process_mb("VmRSS")
    run(1)
    seconds = statistics.median(timed(run, 1, torch.device("cpu")) for _ in range(steps))
    peak = process_mb("VmHWM")
    return {
        "before_mb": round(before),
        "peak_mb": round(peak),
        "rise_mb": round(peak - before),
        "step_s": round(seconds, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one step each, nothing is written")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.measure:
        case, name, steps = options.measure
        print(json.dumps(measure(CASES[case], name, int(steps))))
        return
    figures: dict[str, dict] = {}
    for case in CASES:
        for name in CONTESTANTS:
            command = [sys.executable, __file__, "--measure", case, name, "1" if options.quick else "3"]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            figures.setdefault(case, {})[name] = json.loads(out.splitlines()[-1])
            print(case, name, figures[case][name], flush=True)
        for found in figures[case].values():
            found["over_plain"] = round(found["step_s"] / figures[case]["plain"]["step_s"], 2)
    net = Stack(1).net()
    facts = {"threads": 1, "batch": 32, "rank": RANK, "blocks": f"{BLOCKS} x ({WIDTH} -> {4 * WIDTH} -> {WIDTH})"}
    facts["weights_mb"] = round(sum(p.numel() for p in net.parameters()) * 4 / 2**20)
    if not options.quick:
        print(write("rgp_memory", {**facts, "steps": figures}))


if __name__ == "__main__":
    main()
