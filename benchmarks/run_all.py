"""Run every benchmark in turn; arguments are passed on to each.

    python benchmarks/run_all.py [--quick]

Accuracy needs ``SKDP_DATA_DIR`` for the data sets that are not shipped and runs on what it finds.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

if __name__ == "__main__":
    for name in (
        "calibration",
        "speed",
        "clipping",
        "calibration_repair",
        "accuracy",
        "end_to_end",
        "linear_models",
        "mechanisms",
        "rgp_memory",
        "rgp_accuracy",
        "ftrl",
        "plan_verdict",
        "private_search",
        "sweep",
        "command_line",
    ):
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, HERE / f"{name}.py", *sys.argv[1:]], check=True, cwd=HERE.parent)
