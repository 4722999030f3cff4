"""Memory and time of fits whose rows lie in a mapped file, beside fits of rows in memory.

    python benchmarks/rows_past_memory.py [--quick] [--folder /tmp]

A table of 10^7 rows and 100 float32 columns (4 GB) is generated in a temporary folder of its own and deleted at the
end. Every case runs in a process of its own. Anonymous memory (what a process owns, and what a machine can run out of)
and mapped file pages (which the system takes back whenever it needs them) are sampled every 10 ms and told apart. A
step's time is what lies between two samples drawn, its optimizer included, as it passed and as processors spent it,
which other users of the machine change less; both are medians. Fits in memory have a tenth of the rows, for all of them
would not fit, and the same expected batch.

"cold" cases throw the file's pages away before each step, as if the file were far larger than the memory: what is then
measured is the disk.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import record
import torch

from skdp import DPClassifier
from skdp.exceptions import InterruptedFitWarning
from skdp.training import TorchExecutor
from skdp.training.randomness import SecretRandomness

COLUMNS, SHARE_IN_MEMORY, STEPS, DRAWS = 100, 10, 25, 50
# Name: (module, feature bounds, expected batch, memory or file, whether pages are thrown away).
CASES = {
    f"{net}, batch {batch}, {place}": (module, bounds, batch, place)
    for net, module, bounds, batches in (
        ("linear, no bounds", "linear", None, (4096, 65536)),
        ("linear, public bounds", "linear", (-4, 4), (4096, 65536)),
        ("mlp, public bounds", "mlp", (-4, 4), (65536,)),
        ("default net, public bounds", None, (-4, 4), (65536,)),
        ("default net, private bounds", None, "private", (65536,)),
    )
    for batch in batches
    for place in ("memory", "file", *(["file, cold"] if net == "linear, public bounds" else []))
}


class MemoryWatch(threading.Thread):
    """Peaks of a process's own memory and of its mapped file pages, in MiB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peaks = {"RssAnon": 0.0, "RssFile": 0.0}
        self.start()

    def run(self) -> None:
        while True:
            self.look()
            time.sleep(0.01)

    def look(self) -> dict[str, float]:
        lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        now = {name: int(lines[name].split()[0]) / 1024 for name in self.peaks}
        self.peaks = {name: max(self.peaks[name], now[name]) for name in now}
        return now


class Steps:
    """Stands in for `TorchExecutor.answer`: notes when it is called, and stops the fit after some steps."""

    def __init__(self, most: int, before: object = None):
        self.most, self.before, self.begun = most, before, None
        self.seconds: list[tuple[float, float]] = []  # that passed, and of all processors
        self.answer = TorchExecutor.answer

    def __call__(self, executor: TorchExecutor, query: object) -> object:
        now = time.perf_counter(), time.process_time()
        if self.begun is not None:
            self.seconds.append((now[0] - self.begun[0], now[1] - self.begun[1]))
        if len(self.seconds) == self.most:
            raise KeyboardInterrupt
        if self.before is not None:
            self.before()
        self.begun = time.perf_counter(), time.process_time()
        return self.answer(executor, query)


def generate(folder: Path, n: int) -> None:
    """Normal columns, and labels that ten of them decide."""
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (n, COLUMNS))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.int8, (n,))
    for start in range(0, n, 100_000):
        piece = rng.standard_normal((min(100_000, n - start), COLUMNS), dtype=np.float32)
        X[start : start + len(piece)] = piece
        y[start : start + len(piece)] = piece[:, :10].sum(1) + 2 * rng.standard_normal(len(piece)) > 0
    X.flush()
    y.flush()


def drop_pages(X: np.memmap) -> None:
    """Throw the file's pages away, mapped ones included."""
    X._mmap.madvise(mmap.MADV_DONTNEED)
    with open(X.filename, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(folder: Path, name: str, steps: int) -> dict[str, float]:
    """Figures of one case, in this process."""
    module, bounds, batch, place = CASES[name]
    X, y = (np.load(folder / file, mmap_mode="r") for file in ("X.npy", "y.npy"))
    before = None
    if place == "memory":
        X, y = (np.array(part[: len(part) // SHARE_IN_MEMORY]) for part in (X, y))
    elif place == "file, cold":
        before = lambda: drop_pages(X)  # noqa: E731
    watch = MemoryWatch()
    held = watch.look()["RssAnon"]
    model = DPClassifier(module, classes=[0, 1], feature_bounds=bounds, batch_size=batch, max_epochs=100)
    taken = Steps(steps, before)
    TorchExecutor.answer = lambda executor, query: taken(executor, query)
    begun = time.perf_counter()
    model.fit(X, y)
    whole = time.perf_counter() - begun
    step, processor = (statistics.median(part) for part in zip(*taken.seconds, strict=True))
    tenth = X[: len(X) // 10]
    begun = time.perf_counter()
    accuracy = model.score(tenth, y[: len(tenth)])
    predicting = time.perf_counter() - begun
    watch.look()
    return {
        "rows": len(X),
        "rows_mib": round(X.nbytes / 2**20),
        "own_before_mib": round(held),
        "own_peak_mib": round(watch.peaks["RssAnon"]),
        "file_peak_mib": round(watch.peaks["RssFile"]),
        "before_first_step_s": round(whole - sum(passed for passed, _ in taken.seconds), 2),
        "step_ms": round(1000 * step, 1),
        "step_cpu_ms": round(1000 * processor, 1),
        "rows_per_s": round(batch / step),
        "predicted_rows_per_s": round(len(tenth) / predicting),
        "accuracy": round(accuracy, 3),
    }


def draws() -> dict[str, float]:
    """Milliseconds of one Poisson draw of 4096 rows, by the number of rows: the work is that of the sample."""
    secret = SecretRandomness(torch.device("cpu"))
    found = {}
    for n in (10**5, 10**6, 10**7, 10**8):
        begun = time.perf_counter()
        for _ in range(DRAWS):
            secret.draw_rows(n, 4096 / n)
        found[f"{n:.0e}"] = round(1000 * (time.perf_counter() - begun) / DRAWS, 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows and steps, nothing is written")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the table is generated")
    parser.add_argument("--cases", default="", help="only cases whose name contains this; nothing is written")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", InterruptedFitWarning)
    if options.measure:
        folder, name, steps = options.measure
        print(json.dumps(measure(Path(folder), name, int(steps))))
        return
    n, steps = (10**6, 3) if options.quick else (10**7, STEPS)
    folder = Path(tempfile.mkdtemp(prefix="skdp_rows_", dir=options.folder))
    figures = {}
    try:
        generate(folder, n)
        for name in (name for name in CASES if options.cases in name):
            command = [sys.executable, __file__, "--measure", str(folder), name, str(steps)]
            out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            figures[name] = json.loads(out.splitlines()[-1])
            print(name, figures[name], flush=True)
    finally:
        shutil.rmtree(folder)
    for name, found in figures.items():
        if name.endswith(", file") and (other := figures.get(name.removesuffix("file") + "memory")):
            found["time_over_memory"] = round(found["step_ms"] / other["step_ms"], 2)
            found["cpu_over_memory"] = round(found["step_cpu_ms"] / other["step_cpu_ms"], 2)
    facts = {"columns": COLUMNS, "threads": 1, "steps": steps, "poisson_draw_ms": draws()}
    if not options.quick and not options.cases:
        print(record.write("rows_past_memory", {**facts, "cases": figures}))


if __name__ == "__main__":
    main()
