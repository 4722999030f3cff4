"""Private linear models on one encoding: skdp's solvers, DP-SGD of a linear net, diffprivlib.

    SKDP_DATA_DIR=/path/to/data python benchmarks/linear_models.py [--data adult] [--seeds 100-104] [--epsilons 1,4]

Every model sees what `accuracy.py` makes of the tables: numeric columns are clipped to the training quantiles .005 and
.995, a stand-in for public bounds which is charged to nobody, and mapped to [-1, 1]; categories are one-hot; delta is
n ** -1.1. Nothing is tuned: every estimator as it comes, with those bounds, classes and bounds of y. skdp's relation is
zero-out. diffprivlib promises a pure epsilon for one row replaced, which is more; its logistic regression is told the
largest norm of a row, its linear regression the bounds. It needs scikit-learn 1.3: name an interpreter that has it in
``DIFFPRIVLIB_PYTHON``, or it is left out. Without noise is the same objective solved exactly.

`CONTESTANTS` maps names to functions of ``(data, epsilon)`` which return probabilities of the second class, or
predicted numbers. Defaults of skdp were chosen on splits 0 to 9 of these tables; seeds from 100 on were run once.
"""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np
from accuracy import TASKS, interval, other_logistic, split, table
from cells import run_cells
from sklearn.metrics import log_loss, r2_score, roc_auc_score

DATA = ("adult", "credit", "readmission", "california", "wine")
EPSILONS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
OURS = {
    "classification": ("gradient-descent", "objective-perturbation"),
    "regression": ("gradient-descent", "adassp", "boosted-adassp"),
}


# ------------------------------------------------------------------ contestants
def ours(solver: str) -> Callable:
    """A solver of `skdp.linear_model` with public bounds."""

    def run(data: dict, epsilon: float) -> np.ndarray:
        from skdp.linear_model import DPLinearClassifier, DPLinearRegressor

        shared = {"epsilon": epsilon, "delta": data["delta"], "feature_bounds": bounds(data)}
        if data["task"] == "r2":
            model = DPLinearRegressor(solver, y_bounds=data["bounds"], **shared)
            return model.fit(data["X"], data["y"]).predict(data["X_test"])
        model = DPLinearClassifier(solver, classes=[0, 1], **shared).fit(data["X"], data["y"])
        return model.predict_proba(data["X_test"])[:, 1]

    return run


def net(data: dict, epsilon: float) -> np.ndarray:
    """DP-SGD of a net without hidden layers."""
    from skdp import DPClassifier, DPRegressor

    shared = {"epsilon": epsilon, "delta": data["delta"], "feature_bounds": bounds(data)}
    if data["task"] == "r2":
        model = DPRegressor("linear", y_bounds=data["bounds"], **shared)
        return model.fit(data["X"], data["y"]).predict(data["X_test"])
    model = DPClassifier("linear", classes=[0, 1], **shared).fit(data["X"], data["y"])
    return model.predict_proba(data["X_test"])[:, 1]


def exact(data: dict, epsilon: float) -> np.ndarray:
    """The objective of `ours` without noise."""
    return ours("auto")(data, math.inf)


def bounds(data: dict) -> np.ndarray:
    """Bounds (0, 1) tell which columns hold categories."""
    return np.where(data["mask"][:, None], (0.0, 1.0), (-1.0, 1.0))


OTHER = """
import sys, warnings
import numpy as np
from diffprivlib.models import LinearRegression
warnings.simplefilter("ignore")
given = np.load(sys.argv[1])
low, high = given["low"], given["high"]
model = LinearRegression(
    epsilon=float(given["epsilon"]), bounds_X=(low, high), bounds_y=tuple(map(float, given["bounds"])))
np.save(sys.argv[2], model.fit(given["X"].astype(float), given["y"]).predict(given["X_test"].astype(float)))
"""


def other(data: dict, epsilon: float) -> np.ndarray:
    """diffprivlib's logistic or linear regression."""
    if data["task"] == "auc":
        return other_logistic(data, epsilon)[:, 1]
    low, high = bounds(data).T
    with tempfile.TemporaryDirectory() as folder:
        given, found = f"{folder}/given.npz", f"{folder}/found.npy"
        np.savez(given, X=data["X"], y=data["y"], X_test=data["X_test"], epsilon=epsilon, low=low, high=high,
                 bounds=data["bounds"])  # fmt: skip
        subprocess.run([os.environ["DIFFPRIVLIB_PYTHON"], "-c", OTHER, given, found], check=True)
        return np.clip(np.load(found), *data["bounds"])


CONTESTANTS: dict[str, dict[str, Callable]] = {
    task: {**{solver: ours(solver) for solver in solvers}, "dp-sgd": net, "no noise": exact}
    for task, solvers in OURS.items()
}
if os.environ.get("DIFFPRIVLIB_PYTHON"):
    for contestants in CONTESTANTS.values():
        contestants["diffprivlib"] = other


# ------------------------------------------------------------------ comparison
def scores(data: dict, found: np.ndarray) -> dict[str, float]:
    """AUC and log loss, or R2 and root mean squared error."""
    y = data["y_test"]
    if data["task"] == "r2":
        return {"score": float(r2_score(y, found)), "loss": float(np.sqrt(np.mean((y - found) ** 2)))}
    return {"score": float(roc_auc_score(y, found)), "loss": float(log_loss(y, np.clip(found, 1e-6, 1 - 1e-6)))}


def compare(name: str, epsilon: float, seeds: list[int]) -> dict:
    """Medians of all on the same splits, and skdp's best solver against the best of the others, by loss."""
    raw, task = table(name), "regression" if TASKS[name] == "r2" else "classification"
    runs: dict[str, list[dict]] = {kind: [] for kind in CONTESTANTS[task]}
    for seed in seeds:
        data = split(raw, name, seed)
        for kind, run in CONTESTANTS[task].items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = run(data, epsilon)
            runs[kind].append({**scores(data, found), "seconds": time.perf_counter() - start})
    row: dict = {"data": name, "task": task, "epsilon": epsilon, "n": len(data["y"]), "seeds": seeds}
    row["columns"], row["delta"] = int(data["X"].shape[1]), float(data["delta"])
    row["medians"] = {
        kind: {key: float(np.median([one[key] for one in found])) for key in ("score", "loss", "seconds")}
        for kind, found in runs.items()
    }
    row["runs"] = runs
    row["default"] = OURS[task][0]
    rivals = [kind for kind in runs if kind not in (*OURS[task], "no noise")]
    best = min(rivals, key=lambda kind: row["medians"][kind]["loss"])
    gains = np.array([b["loss"] - a["loss"] for a, b in zip(runs[row["default"]], runs[best], strict=True)])
    return row | {"best_peer": best, "loss_gain": float(np.median(gains)), "loss_gain_interval": interval(gains)}


if __name__ == "__main__":
    run_cells(
        "linear_models", __doc__, compare, data=DATA, epsilons=EPSILONS, seeds="100-104", quick=("wine", "1", "0-1")
    )
