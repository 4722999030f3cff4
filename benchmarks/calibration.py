"""How fast and how tight the noise calibration is, over a named grid.

Every point is calibrated cold (nothing remembered) on one thread; search and certificate are timed apart. Then
the found noise is evaluated on a grid up to four times finer by ``dp_accounting``'s PLD, or by skdp's own bound where
rounding in that PLD is not small beside delta; the excess noise follows from the two deltas and the slope of log delta
in log noise.

Run ``OMP_NUM_THREADS=1 python benchmarks/calibration.py`` (about 15 minutes) or with ``--quick`` (half a minute).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from skdp.accounting import calibration
from skdp.accounting.calibration_certificate import composed_pld, margin, points, resolves
from skdp.accounting.calibration_search import LEAST_MULTIPLIER, Family, smallest_scale
from skdp.accounting.curve import bound_like, directions, gaussian_mu, log_never_sampled
from skdp.accounting.curve_gaussian import log_delta
from skdp.accounting.curve_step import Phase

RESULTS = Path(__file__).parent / "results" / "calibration.json"
EPSILONS = (0.01, 0.1, 1.0, 10.0, 100.0)
DELTAS = (1e-12, 1e-9, 1e-6, 1e-3)
RATES = (1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0)
STEPS = (1, 10, 100, 1_000, 10_000, 100_000)
COLUMNS = (
    *("point", "adjacency", "scale", "epsilon", "accountant", "search_s", "certificate_s", "excess"),
    *("log_ratio", "slope", "reference", "reference_step"),
)
TARGETS = {  # of a cold calibration on one thread
    "search_median_s": 0.025,
    "search_p95_s": 0.100,
    "certificate_p95_s": 0.5,
    "excess_median": 0.001,
    "excess_worst": 0.01,
}
MIXED = {
    "2 phases, 500 steps each": (
        Family((Phase(0.01, 1.0, 500), Phase(0.02, 1.5, 500))),
        1.0,
        1e-5,
    ),
    "2 phases and a histogram": (
        Family((Phase(0.01, 1.0, 1000), Phase(0.005, 0.8, 2000), Phase(1.0, 10.0, 1))),
        2.0,
        1e-6,
    ),
    "3 phases and 2 groups of releases": (
        Family((Phase(0.01, 1.0, 300), Phase(0.05, 2.0, 300), Phase(0.1, 3.0, 100), Phase(1.0, 12.0, 5))),
        1.0,
        1e-5,
    ),
    "20 noise levels, 100 steps each": (
        Family(tuple(Phase(0.01, 0.8 + 0.05 * i, 100) for i in range(20))),
        3.0,
        1e-6,
    ),
    "histogram and 100,000 steps": (Family((Phase(0.01, 1.0, 100_000), Phase(1.0, 3.0, 1))), 1.0, 1e-12),
    "scaler, epochs, calibrator": (
        Family((Phase(1.0, 20.0, 2), Phase(0.1, 1.0, 200), Phase(1.0, 15.0, 1))),
        1.0,
        1e-5,
    ),
    "rare steps and a histogram": (Family((Phase(1e-3, 1.0, 10_000), Phase(1.0, 10.0, 1))), 1.0, 1e-6),
    "epochs beside a fixed histogram": (
        Family((Phase(0.02, 1.0, 2_000),), (Phase(1.0, 8.0, 1),)),
        2.0,
        1e-5,
    ),
}


def grid(quick: bool) -> list[tuple[str, Family, str, float, float]]:
    """Name, noise family, adjacency, epsilon and delta of every point."""
    product = list(itertools.product(RATES, STEPS, EPSILONS, DELTAS))
    made = [("zero-out", point) for point in product] + [("replace-one", point) for point in product[::5]]
    made = [
        (
            f"q={q:g} T={steps} eps={eps:g} delta={delta:g}",
            Family((Phase(q, 1.0, steps),)),
            adjacency,
            eps,
            delta,
        )
        for adjacency, (q, steps, eps, delta) in made
    ]
    mixed = [
        (name, family, adjacency, epsilon, delta)
        for adjacency in ("zero-out", "replace-one")
        for name, (family, epsilon, delta) in MIXED.items()
    ]
    return made[7::31] + mixed[:3] if quick else made + mixed


def calibrated(family: Family, adjacency: str, epsilon: float, delta: float, repeats: int) -> dict:
    """Seconds of search and certificate (processor time, and by the clock), best of `repeats`, and what was found."""
    search, whole = [math.inf, math.inf], [math.inf, math.inf]
    for _ in range(repeats):
        started = time.process_time(), time.perf_counter()
        found = smallest_scale(family, adjacency, epsilon, delta - margin(family.at(1.0), delta))
        search = _best(search, started)
        calibration._normalised.cache_clear()
        started = time.process_time(), time.perf_counter()
        scale, certified, accountant = calibration._calibrated(family, adjacency, epsilon, delta)
        whole = _best(whole, started)
    return {
        "plan": found.plan,
        "scale": scale,
        "epsilon": certified,
        "accountant": accountant,
        "search_s": search[0],
        "certificate_s": max(whole[0] - search[0], 0.0),
        "search_clock_s": search[1],
        "certificate_clock_s": max(whole[1] - search[1], 0.0),
        "raised": scale / found.scale - 1,
    }


def _best(before: list[float], started: tuple[float, float]) -> list[float]:
    return [min(before[0], time.process_time() - started[0]), min(before[1], time.perf_counter() - started[1])]


def fine_log_delta(phases: tuple[Phase, ...], adjacency: str, epsilon: float, delta: float, plan) -> tuple:
    """Log delta of `phases` by the reference, its name, and its grid step.

    Each grid gives an upper bound. The finest that rounding does not spoil is the best: a second difference of deltas
    on a grid twice as fine loses two more bits.
    """
    if plan is None or all(rate == 1 for rate, _, _ in phases):
        return log_delta(gaussian_mu(phases, adjacency), epsilon), "closed form", 0.0
    pld, ways = resolves(phases, delta), directions(adjacency)
    best, least = math.inf, plan.step
    for step in (plan.step / 4, plan.step / 2, plan.step):
        if points(phases, adjacency, step, plan.tail) > 700_000:
            continue
        if pld:
            found = float(composed_pld(phases, adjacency, step, delta).get_delta_for_epsilon(epsilon))
        else:
            found = max(bound_like(phases, way, epsilon, delta, plan._replace(step=step)) for way in ways)
        if found < best:
            best, least = found, step
        if best <= delta:
            break
    return math.log(max(best, 1e-300)), "dp_accounting PLD" if pld else "own bound", least


def slope(family: Family, scale: float, adjacency: str, epsilon: float, delta: float, plan) -> float:
    """Change of log delta with log noise, on the grid of the search."""
    way = directions(adjacency)[0]
    there, here = (
        math.log(max(bound_like(family.at(scale * by), way, epsilon, delta, plan), 1e-300)) for by in (1.004, 1.0)
    )
    return (there - here) / math.log(1.004)


def measure(point: tuple[str, Family, str, float, float], repeats: int) -> dict:
    """One row of the results."""
    name, family, adjacency, epsilon, delta = point
    row = calibrated(family, adjacency, epsilon, delta, repeats)
    plan = row.pop("plan")
    phases = family.at(row["scale"])
    row = {"point": name, "adjacency": adjacency, **row}
    if -math.expm1(log_never_sampled(phases)) <= delta:
        return {
            **row,
            "excess": None,
            "note": "a row is drawn with probability at most delta: any noise will do",
        }
    reference, kind, step = fine_log_delta(phases, adjacency, epsilon, delta, plan)
    row |= {"reference": kind, "log_ratio": reference - math.log(delta)}
    if kind == "closed form":
        return {**row, "excess": 0.0 if abs(row["log_ratio"]) < 1e-6 else 1.0}
    steep = slope(family, row["scale"], adjacency, epsilon, delta, plan)
    row |= {"slope": steep, "reference_step": step / plan.step}
    row["excess"] = row["log_ratio"] / steep if steep < -1e-6 else None
    if min(s for _, s, _ in phases) < LEAST_MULTIPLIER * 1.01:
        row["note"] = f"least multiplier that is given out: {LEAST_MULTIPLIER}"
    return row


def reasons(row: dict) -> list[str]:
    """Why a point misses a target; empty for a hit."""
    found = []
    if row["search_s"] > TARGETS["search_p95_s"]:
        why = "few rare draws, a long window on a fine grid" if "q=" in row["point"] else "one transform per phase"
        found.append(f"search {row['search_s'] * 1e3:.0f} ms: {why}")
    if row["certificate_s"] > TARGETS["certificate_p95_s"]:
        found.append(f"certificate {row['certificate_s']:.2f} s: dp_accounting builds a long grid point by point")
    if row["excess"] is None:
        found.append(row.get("note", "delta does not depend on the noise here: no excess is defined"))
    elif row["excess"] > TARGETS["excess_worst"]:
        found.append(f"excess noise {row['excess']:.2%}: " + row.get("note", "delta is almost flat in the noise"))
    if row.get("log_ratio", -1.0) > 1e-9:
        found.append(f"BELOW the reference: delta is {math.exp(row['log_ratio']):.6f} of the target")
    if row["accountant"] == "rdp":
        found.append("certified by Renyi differential privacy, which asks for more noise")
    return found


def summary(rows: list[dict]) -> dict:
    """Figures over a set of rows."""

    def figures(values: list[float]) -> dict:
        if not values:
            return {}
        at = {"median": 50, "p90": 90, "p95": 95, "p99": 99, "worst": 100}
        return {name: float(np.percentile(values, percent)) for name, percent in at.items()}

    excesses = [row["excess"] for row in rows if row["excess"] is not None]
    return {
        "points": len(rows),
        "search_s": figures([row["search_s"] for row in rows]),
        "certificate_s": figures([row["certificate_s"] for row in rows]),
        "search_clock_s": figures([row["search_clock_s"] for row in rows]),
        "certificate_clock_s": figures([row["certificate_clock_s"] for row in rows]),
        "excess": figures(excesses),
        "excess_least": min(excesses, default=None),
        "below_reference": sum(1 for row in rows if row.get("log_ratio", -1.0) > 1e-9),
        "raised_by_certificate": sum(1 for row in rows if row["raised"] > 1e-9),
        "accountants": {
            name: sum(row["accountant"] == name for row in rows) for name in sorted({row["accountant"] for row in rows})
        },
    }


def main() -> None:
    """Run the grid and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="every 31st point and three mixed events")
    parser.add_argument("--repeats", type=int, default=1, help="cold repetitions, of which the best is kept")
    parser.add_argument("--output", type=Path, help=f"default: {RESULTS.name} here, nowhere with --quick")
    given = parser.parse_args()
    calibration.noise_multiplier(1.0, 1e-5, sampling_rate=0.01, steps=100)  # imports and first transforms
    started, rows = time.time(), []
    for number, point in enumerate(grid(given.quick)):
        rows.append(measure(point, given.repeats))
        if number % 25 == 0:
            print(f"{number:4d} {time.time() - started:6.0f} s  {point[0]}", file=sys.stderr, flush=True)
    single = [row for row in rows if row["point"].startswith("q=")]
    sampled = [row for row in single if not row["point"].startswith("q=1 ")]
    mixed = [row for row in rows if not row["point"].startswith("q=")]
    missed = [{**row, "reasons": why} for row in rows if (why := reasons(row))]
    result = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/calibration.py" + (" --quick" if given.quick else ""),
        "versions": {name: version(name) for name in ("numpy", "scipy", "dp-accounting")}
        | {"python": platform.python_version()},
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "threads": 1},
        "seconds": round(time.time() - started),
        "timing": f"best of {given.repeats} cold runs per point, one thread; search_s and certificate_s are processor "
        "time, the clock ran on a machine shared with other work",
        "targets": TARGETS,
        "summary": {
            "all": summary(rows),
            "one phase": summary(single),
            "one phase, sampled (q < 1)": summary(sampled),
            "one phase, replace-one": summary([row for row in single if row["adjacency"] == "replace-one"]),
            "mixed": summary(mixed),
        },
        "misses": [{k: _short(v) for k, v in row.items() if k != "raised"} for row in missed],
    }
    text = json.dumps(result, indent=1)
    print(text)
    output = given.output or (None if given.quick else RESULTS)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text[:-2] + _table(rows) + "\n}\n", encoding="utf-8")


def _table(rows: list[dict]) -> str:
    """All points as JSON, one line each under a line of names."""
    lines = [json.dumps([_short(row.get(name)) for name in COLUMNS]) for row in rows]
    return ',\n "columns": ' + json.dumps(COLUMNS) + ',\n "points": [\n  ' + ",\n  ".join(lines) + "\n ]"


def _short(value):
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
