"""Time and memory of `skdp baseline` on a CSV file of ten million rows, with a schema and without.

    python benchmarks/command_line.py [--quick] [--rows N] [--only schema]

The file has six numeric columns, four categorical ones and a label, and is deleted afterwards. Anonymous memory is
what a process holds of its own, without the pages of libraries and files; its peak is sampled ten times a second.
`seconds` are by the clock, `processor_seconds` what the command itself used.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from record import write

PIECE = 500_000
NUMBERS = {"age": (18, 100), "height": (100, 220), "income": (0, 200_000), "visits": (0, 60), "score": (0, 1),
           "balance": (-5_000, 5_000)}  # fmt: skip
LISTS = {
    "region": ["north", "south", "east", "west"],
    "plan": ["basic", "plus", "family"],
    "device": [f"model {k}" for k in range(30)],
    "channel": ["shop", "web", "phone", "letter", "agent"],
}


def write_table(path: Path, rows: int) -> None:
    """The table, piece by piece."""
    rng = np.random.default_rng(0)
    for start in range(0, rows, PIECE):
        count = min(PIECE, rows - start)
        piece = pd.DataFrame(
            {name: np.round(rng.uniform(low, high, count), 2) for name, (low, high) in NUMBERS.items()}
            | {name: rng.choice(known, count) for name, known in LISTS.items()}
        )
        above = (piece["age"] - 59) / 24 + (piece["score"] - 0.5) * 2 + (piece["region"] == "north")
        piece["bought"] = np.where(above + rng.normal(0, 1, count) > 0.3, "yes", "no")
        piece.to_csv(path, mode="a", header=start == 0, index=False)


def schema() -> dict[str, Any]:
    """Everything about the table's columns, as public knowledge."""
    columns: list[dict] = [{"name": name, "low": low, "high": high} for name, (low, high) in NUMBERS.items()]
    columns += [{"name": name, "categories": known} for name, known in LISTS.items()]
    return {"skdp_schema": 1, "columns": [*columns, {"name": "bought", "categories": ["no", "yes"]}]}


def run(arguments: list[str]) -> dict[str, Any]:
    """Seconds of the whole command and of its stages, peak of anonymous memory, and accuracies."""
    busy = processor_seconds()
    start, stages, peak = time.perf_counter(), [], [0]
    command = [sys.executable, "-m", "skdp", *arguments, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def watch() -> None:
        while process.poll() is None:
            try:
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            except OSError:
                return
            own = next((line for line in lines if line.startswith("RssAnon")), "RssAnon: 0 kB")
            peak[0] = max(peak[0], int(own.split()[1]))
            time.sleep(0.1)

    def follow() -> None:
        for line in process.stderr or ():
            stages.append((time.perf_counter() - start, line.strip(), peak[0]))
            print(f"  {stages[-1][0]:6.0f} s  {peak[0] / 1e6:5.2f} GB  {line.strip()}", flush=True)

    threads = [threading.Thread(target=work) for work in (watch, follow)]
    for thread in threads:
        thread.start()
    printed = process.stdout.read() if process.stdout else ""
    code = process.wait()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    read = next((at, gone) for at, line, gone in stages if "MB in memory" in line)
    document = json.loads(printed)
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor_seconds() - busy, 1),
        "seconds_reading": round(read[0], 1),
        "seconds_fits": [round(model["seconds"], 1) for model in document["models"]],
        "peak_anonymous_gb": round(peak[0] / 1e6, 2),
        "peak_anonymous_gb_reading": round(read[1] / 1e6, 2),
        "accuracy": [round(model["accuracy"], 4) for model in document["models"]],
    }


def processor_seconds() -> float:
    """Of the processes that were run so far; a busy machine does not stretch them as it does seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Both ways."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rows; nothing is stored")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--only", choices=("schema", "no schema"))
    options = parser.parse_args()
    rows = options.rows // 100 if options.quick else options.rows
    results = []
    with tempfile.TemporaryDirectory() as folder:
        path, known = Path(folder, "table.csv"), Path(folder, "schema.json")
        write_table(path, rows)
        known.write_text(json.dumps(schema()))
        size = path.stat().st_size / 1e6
        print(f"{rows} rows, {size:.0f} MB", flush=True)
        for name, more in (("schema", ["--schema", str(known)]), ("no schema", [])):
            if options.only in (None, name):
                print(name, flush=True)
                found = run(["baseline", str(path), "--target", "bought", *more])
                results.append({"knowledge": name, "rows": rows, "megabytes": round(size), **found})
    if options.quick or options.only:
        print(json.dumps(results, indent=1))
    else:
        print(write("command_line", {"results": results}))


if __name__ == "__main__":
    main()
