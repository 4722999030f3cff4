"""Does the verdict of `skdp.plan` predict whether the default net beats the prior, and a linear net?

    SKDP_DATA_DIR=/path/to/data python benchmarks/plan_verdict.py [--seeds 0-2] [--judge-only] [--quick]

Each cell is one table, cut to n training rows, at one epsilon. The default net and a linear one are trained on several
splits and judged by their loss (log loss or squared error) on test rows: *skill* is the share of the prior's loss that
they take away. The verdict comes from `skdp.plan`, which sees n, the columns and epsilon, and no row.
``--judge-only`` asks for the verdicts again and keeps the fits of the committed file.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import Counter

import numpy as np
import record
import torch
from accuracy import scores, split, table

import skdp

DATA = ("readmission", "california", "wine", "adult", "digits", "credit")
SIZES = (200, 1000, 5000)
EPSILONS = (0.02, 0.1, 0.5, 2.0, 8.0)
TEST_ROWS = 3000
BEATEN = 0.01  # skill from which the prior counts as beaten


def estimator(data: dict, epsilon: float, module: str | None = None) -> skdp.DPClassifier | skdp.DPRegressor:
    """The untuned estimator; bounds (0, 1) tell which columns hold categories."""
    bounds = np.where(data["mask"][:, None], (0.0, 1.0), (-1.0, 1.0))
    if data["task"] == "r2":
        return skdp.DPRegressor(module, epsilon=epsilon, feature_bounds=bounds, y_bounds=data["bounds"])
    return skdp.DPClassifier(module, epsilon=epsilon, feature_bounds=bounds, classes=data["classes"])


def prior_output(data: dict) -> np.ndarray:
    """What a model that knows the training rows' base rates or mean, and nothing else, says about test rows."""
    if data["task"] == "r2":
        return np.full(len(data["y_test"]), np.mean(data["y"]))
    rates = np.array([np.mean(data["y"] == label) for label in data["classes"]])
    return np.tile(rates, (len(data["y_test"]), 1))


def cut(raw: tuple, name: str, n: int, seed: int) -> dict:
    """A split with n training rows and at most `TEST_ROWS` test rows, which come in random order."""
    data = split(raw, name, seed)
    data |= {key: data[key][:n] for key in ("X", "y")} | {key: data[key][:TEST_ROWS] for key in ("X_test", "y_test")}
    return data | {"classes": np.unique(raw[2]).tolist() if data["task"] != "r2" else None}


def skill(data: dict, epsilon: float, module: str | None) -> float:
    """Share of the prior's loss that a fit takes away."""
    model = estimator(data, epsilon, module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(data["X"], data["y"])
        output = model.predict(data["X_test"]) if data["task"] == "r2" else model.predict_proba(data["X_test"])
    return 1 - scores(data, output)["loss"] / scores(data, prior_output(data))["loss"]


def judged(row: dict, data: dict) -> dict:
    """The row with what `skdp.plan` says about it."""
    given = {"task": "regression"} if data["task"] == "r2" else {"n_classes": len(data["classes"])}
    found = skdp.plan(
        n=row["rows"], n_features=len(data["mask"]), estimator=estimator(data, row["epsilon"]), **given
    )  # fmt: skip
    return row | {"verdict": found.verdict, "signal": found.signal, "needed": found.signal_needed}


def tally(rows: list[dict]) -> list[dict]:
    """For each verdict: number of cells, and in how many the default net beat the prior, or the linear net."""
    found = []
    for verdict in ("prior", "linear", "nonlinear"):
        cells = [row for row in rows if row["verdict"] == verdict]
        beaten = Counter()
        for row in cells:
            beaten["prior"] += row["default"] > BEATEN
            beaten["linear"] += row["default"] > max(row["linear"], 0)
        if cells:
            found.append({
                "verdict": verdict, "cells": len(cells), "beat_prior": beaten["prior"], "beat_linear": beaten["linear"],
                "median_skill": float(np.median([row["default"] for row in cells])),
                "median_gain_over_linear": float(np.median([row["default"] - max(row["linear"], 0) for row in cells])),
            })  # fmt: skip
    return found


def promised(rows: list[dict]) -> list[dict]:
    """By table: cells with a better verdict than "prior", and in how many the default net did beat the prior."""
    found = []
    for name in dict.fromkeys(row["data"] for row in rows):
        cells = [row["default"] for row in rows if row["data"] == name and row["verdict"] != "prior"]
        found.append({"data": name, "cells": len(cells), "beat_prior": sum(skill > BEATEN for skill in cells)})
    return found


def figures(seeds: list[int], rows: list[dict]) -> dict:
    """What is stored."""
    return {"seeds": seeds, "tally": tally(rows), "promised": promised(rows), "results": rows}


def main() -> None:
    """Run all cells and write ``results/plan_verdict.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0-2", help="split seeds, FIRST-LAST")
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--output", default="plan_verdict", help="name of the file in results/")
    parser.add_argument("--judge-only", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one bundled table, two sizes, two epsilons")
    options, _ = parser.parse_known_args()
    sizes, epsilons = SIZES, EPSILONS
    if options.quick:
        options.data, options.output, sizes, epsilons = "digits", "plan_verdict-quick", (200, 1000), (0.1, 2.0)
    torch.set_num_threads(1)
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if options.judge_only:
        earlier = json.loads((record.RESULTS / f"{options.output}.json").read_text())
        raws = {name: table(name) for name in dict.fromkeys(row["data"] for row in earlier["results"])}
        rows = [judged(row, cut(raws[row["data"]], row["data"], row["rows"], 0)) for row in earlier["results"]]
        print(record.write(options.output, figures(earlier["seeds"], rows)))
        return
    rows = []
    for name in options.data.split(","):
        raw, previous = table(name), 0
        for size in sizes:
            cuts = [cut(raw, name, size, seed) for seed in seeds]
            n = len(cuts[0]["y"])
            if n < 1.2 * previous:
                continue
            previous = n
            for epsilon in epsilons:
                start = time.perf_counter()
                found = {kind: [skill(data, epsilon, module) for data in cuts]
                         for kind, module in (("default", None), ("linear", "linear"))}  # fmt: skip
                row = {"data": name, "rows": n, "epsilon": epsilon, "skills": found}
                row |= {kind: float(np.median(skills)) for kind, skills in found.items()}
                rows.append(judged(row, cuts[0]))
                print(
                    f"{name:12s} n {n:<6d} epsilon {epsilon:<5g} signal {rows[-1]['signal']:9.3g} verdict "
                    f"{rows[-1]['verdict']:9s} default {row['default']:+.3f} linear {row['linear']:+.3f} "
                    f"{time.perf_counter() - start:.1f} s",
                    flush=True,
                )
                record.write(options.output, figures(list(seeds), rows))
    print(tally(rows))


if __name__ == "__main__":
    main()
