"""What a step costs on several processes: ``python benchmarks/data_parallel.py [--repeats 5]``.

Groups of 1, 2 and 4 processes of gloo on this machine, started in turns. Each times the exchange of a sum alone, for
sums of several lengths, and whole private steps of a small net. A cost model is fitted to the exchanges and to the
steps of one process, and checked against the steps of several.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import record
import torch
from scipy.optimize import nnls

from skdp.contract import ClippedSum, Gaussian, Poisson, Query, Touch
from skdp.distributed import current, process_group
from skdp.training import NetModel, PerExample, PrivateRows, SecretRandomness, TorchExecutor

PROCESSES = (1, 2, 4)
LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
BATCHES = (2048, 8192, 16_384)
ROWS, FEATURES, HIDDEN = 200_000, 100, 96
TRAINED = FEATURES * HIDDEN + 2 * HIDDEN + 1
PIECE = 512  # rows of a pass, the same in all groups, so that the work is that of the rows
EXCHANGES, STEPS = 50, 12
QUANTILE = 10  # per cent: on a shared machine the quick calls show what a call costs
PER_NUMBER = 8 + 4  # bytes: float64 there, float32 back


# ------------------------------------------------------------------ one process of a group
def work(size: int) -> dict:
    """What this process measures, in seconds."""
    torch.set_num_threads(1)
    if size == 1:
        return {"exchange": {}, "step": steps(1, 0)}
    with process_group(timeout=300) as ranks:
        exchange = {}
        for length in LENGTHS:
            numbers, before, seen = torch.zeros(length, dtype=torch.float64), ranks.bytes_sent, loopback()
            seconds = timed(lambda numbers=numbers: ranks.release(numbers, lambda part: None, torch.float32), EXCHANGES)
            count = EXCHANGES + 1
            exchange[length] = {
                "seconds": seconds,
                "bytes": (ranks.bytes_sent - before) / count,
                "bytes on the wire": (loopback() - seen) / count / size,
            }
        return {"exchange": exchange, "step": steps(size, ranks.rank)}


def steps(size: int, rank: int) -> dict:
    """Seconds of a private step, by the clock and of the processor, by expected batch over all processes."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(FEATURES, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1)
    module, own = torch.nn.Sequential(*layers), ROWS // size
    per_example = PerExample(module)
    inputs = torch.rand(own, FEATURES, generator=torch.Generator().manual_seed(rank)) * 2 - 1
    cpu = torch.device("cpu")
    executor = TorchExecutor(
        NetModel(module, per_example.parameters, cpu, lambda out, y: (out[:, 0] - y).square()),
        PrivateRows(inputs, inputs[:, 0].clone()),
        forward=module,
        per_example=per_example,
        spend=lambda touch: 0,
        randomness=SecretRandomness(cpu),
        piece=PIECE,
        ranks=current(),
    )
    found = {}
    for batch in BATCHES:
        query = Query(Touch("gradient", Poisson(batch / ROWS), Gaussian((1.0,)), 1), (ClippedSum(1.0),))
        found[batch] = timed(lambda query=query: executor.answer(query), STEPS)
    return found


def timed(run: object, count: int) -> tuple[float, float]:
    """Seconds of a call after one to warm up: by the clock (lower decile), and of the processor (mean)."""
    run()
    clock, computed = [], time.process_time()
    for _ in range(count):
        start = time.perf_counter()
        run()
        clock.append(time.perf_counter() - start)
    return float(np.percentile(clock, QUANTILE)), (time.process_time() - computed) / count


def loopback() -> int:
    """Bytes that the loopback interface has sent, of all processes of the machine."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return next((int(line.split(":")[1].split()[8]) for line in lines if line.strip().startswith("lo:")), 0)


# ------------------------------------------------------------------ all groups, and the model
def group(size: int) -> dict:
    """What rank 0 of a group measured."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    there = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    started = []
    for rank in range(size):
        env = os.environ | {name: str(value) for name, value in {**there, "RANK": rank, "LOCAL_RANK": rank}.items()}
        command = [sys.executable, __file__, "--work", str(size)]
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in started]
    found = json.loads(outputs[0])
    return {
        "exchange": {int(length): one for length, one in found["exchange"].items()},
        "step": {int(batch): seconds for batch, seconds in found["step"].items()},
    }


def median(values: list[float]) -> float:
    """Median as a plain number."""
    return float(statistics.median(values))


def model(runs: dict[int, list[dict]]) -> tuple[dict, list[dict], list[dict]]:
    """Constants of the cost model, the exchanges, and what the model says of the steps beside what was measured.

    Where other programs run, the clock tells how processors are shared out and not what a step costs: two processes get
    twice the share of one. So computing is judged by processor time, and only exchanges, which are short, by the clock.
    """
    one = {batch: median([run["step"][batch][1] for run in runs[1]]) for batch in BATCHES}
    fixed, per_row = fitted(one)
    constants = {"fixed [ms]": round(1e3 * fixed, 3), "per row [us]": round(1e6 * per_row, 3)}
    exchanges, checked = [], []
    for size in PROCESSES:
        meeting = 0.0
        if size > 1:
            took = {
                n: [median([run["exchange"][n]["seconds"][k] for run in runs[size]]) for k in (0, 1)] for n in LENGTHS
            }
            sent = {n: (1 - 1 / size) * PER_NUMBER * n for n in LENGTHS}
            latency, per_byte = fitted({sent[n]: took[n][0] for n in LENGTHS})
            constants[f"latency of {size} [ms]"] = round(1e3 * latency, 3)
            constants[f"bandwidth of {size} [MB/s]"] = round(1e-6 / per_byte, 1)
            busy, busy_per_byte = fitted({sent[n]: took[n][1] for n in LENGTHS})
            meeting = busy + busy_per_byte * (1 - 1 / size) * PER_NUMBER * TRAINED
            for n in LENGTHS:
                counted = [run["exchange"][n]["bytes on the wire"] for run in runs[size]]
                found = {"processes": size, "numbers": n, "ms": round(1e3 * took[n][0], 2)}
                found |= {"model ms": round(1e3 * (latency + sent[n] * per_byte), 2), "bytes": round(sent[n])}
                exchanges.append(found | {"wire": round(median(counted))})
        for batch in BATCHES:
            clock, computed = (median([run["step"][batch][k] for run in runs[size]]) for k in (0, 1))
            said = fixed + per_row * batch / size + meeting
            found = {"processes": size, "batch": batch, "computed ms": round(1e3 * computed, 2)}
            checked.append(found | {"model ms": round(1e3 * said, 2), "clock ms": round(1e3 * clock, 2)})
    return constants, exchanges, checked


def fitted(seconds: dict[float, float]) -> tuple[float, float]:
    """Constants a, b >= 0 of seconds a + b x, by relative errors, or the longest alone would be fitted."""
    scale = 1 / np.array(list(seconds.values()))
    design = np.array([[1.0, size] for size in seconds]) * scale[:, None]
    units = np.abs(design).max(axis=0)
    a, b = nnls(design / units, np.ones(len(design)))[0] / units
    return float(a), float(b)


def extrapolated(constants: dict) -> list[dict]:
    """1,000 processes with 10 million rows each, on a network of 10 Gbit/s and 50 us; one core each as fast as here."""
    size, bandwidth, delay, message = 1000, 1.25e9, 50e-6, 5e-6
    rows = []
    for numbers in (10_000, 1_000_000):
        for batch in (1_000_000, 100_000_000):
            # The work for a row grows with the net.
            per_row = constants["per row [us]"] * 1e-6 * max(1.0, numbers / (FEATURES * HIDDEN))
            computed = constants["fixed [ms]"] * 1e-3 + per_row * batch / size
            met = 2 * math.log2(size) * delay
            exchanged = met + 2 * (delay + (size - 1) * message) + (1 - 1 / size) * PER_NUMBER * numbers / bandwidth
            rows.append(
                {
                    "numbers": numbers,
                    "batch": batch,
                    "computed ms": round(1e3 * computed, 1),
                    "exchanged ms": round(1e3 * exchanged, 1),
                    "MB": round(1e-6 * (1 - 1 / size) * PER_NUMBER * numbers, 2),
                    "share": f"{exchanged / (computed + exchanged):.0%}",
                }
            )
    return rows


def main() -> None:
    """Time all groups in turns and write them down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=int)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(options.work)))
        return
    runs: dict[int, list[dict]] = {size: [] for size in PROCESSES}
    for _ in range(options.repeats):
        for size in PROCESSES:
            runs[size].append(group(size))
            print(size, runs[size][-1]["step"], flush=True)
    constants, exchanges, checked = model(runs)
    notes = [
        f"medians over {options.repeats} rounds, in which groups took turns, of lower deciles by the clock and means "
        f"of processor time, of {STEPS} steps and {EXCHANGES} exchanges",
        f"{os.cpu_count()} cores, so 4 processes had half a core each at best; the machine was shared while this ran "
        f"(load average {os.getloadavg()[0]:.0f})",
        "'wire' is what the loopback interface sent, per process and exchange, of all programs that ran meanwhile",
        "the extrapolation is arithmetic, not a measurement: its network is an assumption",
    ]
    figures = {"constants": constants, "exchanges": exchanges, "steps": checked}
    record.write("data_parallel", {**figures, "extrapolated": extrapolated(constants), "notes": notes})


if __name__ == "__main__":
    main()
