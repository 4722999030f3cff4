"""Writes a benchmark's figures together with what is needed to read and repeat them."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("skdp", "torch", "numpy", "scipy", "scikit-learn", "skorch", "dp-accounting", "opacus", "interpret-core")


def versions() -> dict[str, str]:
    """Installed versions of everything that can move a figure."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Processor and number of cores, in words."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def write(name: str, figures: dict[str, Any]) -> Path:
    """Store figures as ``results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    command = " ".join(["python", *sys.argv])
    head = {"command": command, "date": date.today().isoformat(), "machine": machine(), "versions": versions()}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**head, **figures}, indent=1) + "\n")
    return path
