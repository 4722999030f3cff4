"""Private ADMM over 1, 5, 20 and 100 sites against central training, on the tables of `linear_models.py`.

    SKDP_DATA_DIR=/path/to/data python benchmarks/admm.py [--data adult] [--seeds 100-104] [--epsilons 1,4]

Same encodings, bounds, splits and delta as in `linear_models.py`, whose results hold what DP-SGD and diffprivlib score
on them; rows are given to sites by position, in even parts. Every estimator as it comes. All promise epsilon under
zero-out for one row; what ADMM protects a row from is everybody but its own site, the coordinator included, where
central training shows all rows to one party.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
from accuracy import TASKS, interval, split, table
from cells import run_cells
from linear_models import DATA, EPSILONS, bounds, exact, ours, scores

SITES = (1, 5, 20, 100)


def admm(sites: int) -> Callable:
    """Private ADMM over so many sites."""

    def run(data: dict, epsilon: float) -> np.ndarray:
        from skdp.linear_model import DPADMMClassifier, DPADMMRegressor

        shared = {"epsilon": epsilon, "delta": data["delta"], "feature_bounds": bounds(data), "n_agents": sites}
        if data["task"] == "r2":
            model = DPADMMRegressor(y_bounds=data["bounds"], **shared)
            return model.fit(data["X"], data["y"]).predict(data["X_test"])
        model = DPADMMClassifier(classes=[0, 1], **shared).fit(data["X"], data["y"])
        return model.predict_proba(data["X_test"])[:, 1]

    return run


CONTESTANTS = {
    **{f"admm-{sites}": admm(sites) for sites in SITES},
    "central": ours("gradient-descent"),
    "no noise": exact,
}


def compare(name: str, epsilon: float, seeds: list[int]) -> dict:
    """Medians of all on the same splits, and what ADMM over one site loses to central training."""
    raw = table(name)
    runs: dict[str, list[dict]] = {kind: [] for kind in CONTESTANTS}
    for seed in seeds:
        data = split(raw, name, seed)
        for kind, run in CONTESTANTS.items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = run(data, epsilon)
            runs[kind].append({**scores(data, found), "seconds": time.perf_counter() - start})
    medians = {
        kind: {key: float(np.median([one[key] for one in found])) for key in ("score", "loss", "seconds")}
        for kind, found in runs.items()
    }
    losses = {
        kind: np.array([a["loss"] - b["loss"] for a, b in zip(runs[kind], runs["central"], strict=True)])
        for kind in runs
        if kind.startswith("admm")
    }
    return {
        "data": name,
        "task": "regression" if TASKS[name] == "r2" else "classification",
        "epsilon": epsilon,
        "n": len(data["y"]),
        "columns": int(data["X"].shape[1]),
        "delta": float(data["delta"]),
        "seeds": seeds,
        "medians": medians,
        "loss_above_central": {kind: float(np.median(gaps)) for kind, gaps in losses.items()},
        "loss_above_central_interval": {kind: interval(gaps) for kind, gaps in losses.items()},
        "runs": runs,
    }


if __name__ == "__main__":
    splits = {"seeds": "100-104", "quick": ("wine", "1", "0-1")}
    run_cells("admm", __doc__, compare, data=DATA, epsilons=EPSILONS, **splits)
