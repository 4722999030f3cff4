"""What repairs over-confident private probabilities at the same total epsilon? Who is served worse? Do sets hold?

    SKDP_DATA_DIR=/path/to/data python benchmarks/calibration_repair.py [--fits 3] [--epsilon 1] [--quick]

Data, net, rate and number of steps are those of `clipping.py`, the pace of each data set, too: it was chosen there for
the smallest clip norm. Every contender costs the same epsilon in total. Contenders without repair train on all training
rows. A repair trains on four fifths of them and spends the same epsilon on the other fifth, which is the public split
that parallel composition asks for; so it pays with rows. Medians over fits with initial weights and noise of their own,
on test rows that nothing was chosen on. Data sets that are not found are skipped.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from functools import partial
from typing import Any

import accuracy
import clipping
import numpy as np
import pandas as pd
import record
import torch
from scipy.optimize import minimize_scalar
from sklearn.model_selection import train_test_split

from skdp import DPRegressor
from skdp.calibration import DPConformalClassifier, DPConformalRegressor, DPTemperatureScaling, DPVectorScaling
from skdp.calibration.temperature import tempered
from skdp.metrics import (
    brier_score,
    group_report,
    interval_coverage,
    interval_width,
    negative_log_likelihood,
    set_coverage,
    set_size,
)

DATA = ("adult", "credit", "pneumonia", "fashion")
SMALL, LARGER = clipping.Setting("flat", 0.1), clipping.Setting("flat", 1.0)
WHOLE = {
    "small clip norm (0.1)": SMALL,
    "larger clip norm (1)": LARGER,
    "larger clip norm (3)": clipping.Setting("flat", 3.0),
    "global clipping (10)": clipping.Setting("global", 10.0, "global"),
}
ALPHAS, EPSILONS = (0.1, 0.05), (0.1, 1.0)
GROUPS = ("sex", "race", "sex and income")


def paces() -> dict[str, float]:
    """Of each data set, as `clipping.py` found it."""
    path = record.RESULTS / "clipping.json"
    found = json.loads(path.read_text())["results"] if path.exists() else []
    return {row["data"]: row["shared"]["pace"] for row in found}


def parts(data: dict) -> tuple[dict, np.ndarray, np.ndarray]:
    """Four fifths to train on, and the other fifth; by position of rows that were shuffled before."""
    order = np.random.default_rng(1).permutation(len(data["y"]))
    rest, train = np.split(order, [len(order) // 5])
    return data | {"X": data["X"][train], "y": data["y"][train]}, data["X"][rest], data["y"][rest]


def scores(data: dict, proba: np.ndarray) -> dict[str, float]:
    """Those of the accuracy benchmark, and the Brier score."""
    return accuracy.scores(data, proba) | {"brier": brier_score(data["y_test"], proba, labels=np.unique(data["y"]))}


def contenders(data: dict, epsilon: float, pace: float, seed: int) -> tuple[dict[str, dict], list[dict]]:
    """Scores of every contender, and of prediction sets."""
    options = {"epsilon": epsilon, "delta": data["delta"]}
    part, X, y = parts(data)
    noise, part_noise = (clipping.noise_multiplier(d, epsilon) for d in (data, part))
    found = {}
    for name, setting in WHOLE.items():
        found[name] = scores(data, setting.fit(data, noise, pace, seed).predict_proba(data["X_test"]))
    sets: list[dict] = []
    for name, setting in (("small clip norm (0.1)", SMALL), ("larger clip norm (1)", LARGER)):
        model = setting.fit(part, part_noise, pace, seed)
        proba = model.predict_proba(data["X_test"])
        temperature = DPTemperatureScaling(model, **options).fit(X, y)
        found[f"{name}, DP temperature"] = scores(data, temperature.predict_proba(data["X_test"])) | {
            "temperature": temperature.temperature_
        }
        assert (temperature.predict_proba(data["X_test"]).argmax(1) == proba.argmax(1)).all()
        if setting is SMALL:
            vector = DPVectorScaling(model, **options).fit(X, y)
            found[f"{name}, DP vector"] = scores(data, vector.predict_proba(data["X_test"]))
            cold = {"epsilon": epsilon / 10, "delta": data["delta"]}
            weak = DPTemperatureScaling(model, **cold).fit(X, y).predict_proba(data["X_test"])
            found[f"{name}, DP temperature at a tenth of epsilon"] = scores(data, weak)
            best = exact_inverse(model.predict_proba(X), y, model.classes_)
            found[f"{name}, exact temperature (not private)"] = scores(data, tempered(proba, best))
            found[f"{name}, four fifths of the rows"] = scores(data, proba)
            sets = [prediction_sets(data, temperature, X, y, alpha, e) for alpha in ALPHAS for e in EPSILONS]
    return found, sets


def exact_inverse(proba: np.ndarray, y: np.ndarray, classes: np.ndarray) -> float:
    """Best inverse temperature on exact rows."""

    def loss(log_inverse: float) -> float:
        return negative_log_likelihood(y, tempered(proba, np.exp(log_inverse)), labels=classes)

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.1), np.log(2)), method="bounded").x))


def prediction_sets(data: dict, model: Any, X: np.ndarray, y: np.ndarray, alpha: float, epsilon: float) -> dict:
    """Coverage and size of private sets, and of those without noise."""
    figures = {"alpha": alpha, "epsilon": epsilon}
    for kind, budget in (("private", epsilon), ("exact", float("inf"))):
        sets = DPConformalClassifier(model, alpha=alpha, epsilon=budget, delta=data["delta"]).fit(X, y)
        held = sets.predict_set(data["X_test"])
        figures |= {f"{kind}_coverage": set_coverage(data["y_test"], held, sets.classes_)}
        figures |= {f"{kind}_size": set_size(held)}
    return figures


def intervals(epsilon: float, fits: int) -> list[dict]:
    """Coverage and width of intervals for house prices."""
    data = accuracy.split(accuracy.table("california"), "california", 0)
    part, X, y = parts(data)
    bounds = np.where(data["mask"][:, None], (0.0, 1.0), (-1.0, 1.0))
    models = [
        DPRegressor(epsilon=epsilon, delta=data["delta"], feature_bounds=bounds, y_bounds=data["bounds"],
        random_state=seed) .fit(part["X"], part["y"])
        for seed in range(fits)
    ]  # fmt: skip
    # The guarantee is about targets within their bounds.
    truth = np.clip(data["y_test"], *data["bounds"])
    rows = []
    for alpha in ALPHAS:
        for budget in EPSILONS:
            figures: dict[str, Any] = {"data": "california", "alpha": alpha, "epsilon": budget}
            for kind, spent in (("private", budget), ("exact", float("inf"))):
                ends = [
                    DPConformalRegressor(m, alpha=alpha, epsilon=spent, delta=data["delta"]).fit(X, y)
                    .predict_interval(data["X_test"]) for m in models
                ]  # fmt: skip
                figures[f"{kind}_coverage"] = float(np.median([interval_coverage(truth, e) for e in ends]))
                figures[f"{kind}_size"] = float(np.median([interval_width(e) for e in ends]))
            rows.append(figures)
    return rows


def by_group(epsilon: float, pace: float, fits: int) -> list[dict]:
    """What clip norms do to groups of Adult's test rows; medians over fits."""
    raw = clipping.fewer(clipping.table("adult"))
    data = clipping.split(raw, "adult", 0)
    noise = clipping.noise_multiplier(data, epsilon)
    test = partial(train_test_split, test_size=0.2, random_state=0, stratify=raw[2])
    sex, rich = raw[0]["sex"].to_numpy(), np.where(raw[2] == 1, ">50K", "<=50K")
    kinds = dict(
        zip(
            GROUPS, (sex, raw[0]["race"].to_numpy(), [f"{a}, {b}" for a, b in zip(sex, rich, strict=True)]), strict=True
        )
    )
    rows = []
    for name, setting in WHOLE.items():
        models = [setting.fit(data, noise, pace, seed) for seed in range(fits)]
        for column in GROUPS:
            groups = test(kinds[column])[1]
            reports = [group_report(model, data["X_test"], data["y_test"], groups) for model in models]
            middle = pd.concat(reports).groupby(level=0, sort=False).median()
            rows += [
                {"clipping": name, "column": column, "group": str(group), **figures}
                for group, figures in middle.to_dict("index").items()
            ]
    return rows


def medians(found: list[dict]) -> dict[str, float]:
    """Field by field."""
    return {field: float(np.median([one[field] for one in found])) for field in found[0]}


def compare(name: str, epsilon: float, pace: float, fits: int) -> tuple[list[dict], list[dict]]:
    """Rows of contenders and rows of prediction sets for one data set."""
    data = clipping.split(clipping.fewer(clipping.table(name)), name, seed=0)
    runs = [contenders(data, epsilon, pace, seed) for seed in range(fits)]
    rows = []
    for contender in runs[0][0]:
        middle = medians([run[0][contender] for run in runs])
        print(f"{name:10s} {contender:52s}", *(f"{middle[f]:.4f}" for f in ("score", "loss", "ece")), flush=True)
        rows.append({"data": name, "metric": data["task"], "contender": contender, "pace": pace, **middle})
    sets = [{"data": name, **medians([run[1][place] for run in runs])} for place in range(len(runs[0][1]))]
    return rows, sets


def main() -> None:
    """Run the comparison and write ``results/calibration_repair.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=3, help="of each contender on each data set")
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--quick", action="store_true", help="small bundled data, one fit, no groups or intervals")
    options, _ = parser.parse_known_args()
    output = "calibration_repair"
    if options.quick:
        options.fits, options.data, output = 1, "breast_cancer", "calibration_repair-quick"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    start, pace, notes = time.process_time(), paces(), []
    figures: dict[str, list[dict]] = {"results": [], "sets": [], "intervals": [], "groups": []}
    for name in options.data.split(","):
        try:
            rows, sets = compare(name, options.epsilon, pace.get(name, 0.3), options.fits)
            figures["results"] += rows
            figures["sets"] += sets
        except FileNotFoundError as error:
            notes.append(f"{name} was left out: {error.filename} not found; set SKDP_DATA_DIR")
    if not options.quick:
        try:
            figures["intervals"] = intervals(options.epsilon, options.fits)
            figures["groups"] = by_group(options.epsilon, pace.get("adult", 0.3), options.fits)
        except FileNotFoundError as error:
            notes.append(f"intervals and groups were left out: {error.filename} not found; set SKDP_DATA_DIR")
    head = {"epsilon": options.epsilon, "fits": options.fits, "processor_seconds": round(time.process_time() - start)}
    print(record.write(output, {**head, "notes": notes, **figures}))


if __name__ == "__main__":
    main()
