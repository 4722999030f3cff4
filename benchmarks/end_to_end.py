"""From a raw table to probabilities at one total epsilon, preprocessing included: skdp, DP-EBM, diffprivlib.

    SKDP_DATA_DIR=/path/to/data python benchmarks/end_to_end.py [--data adult] [--seeds 100-109] [--epsilons 1,4]

Tables come as they were published: text, missing values, skewed amounts, codes; no bounds, no categories are taken as
public by anyone, as far as a peer allows that. What a peer takes without paying is in its favour and named in the
results:

- skdp: ``make_private_pipeline(DPTableVectorizer(), DPClassifier(classes=[0, 1]))``, nothing set; zero-out.
- DP-EBM (interpret-core), nothing set: it bins privately, but reads the range of each number and the list of each
  column's categories from the rows, uncharged; its relation is add or remove one row.
- diffprivlib: LogisticRegression on numbers clipped to their quantiles .005 and .995 and mapped to [-1, 1], and on all
  categories, read from the rows, uncharged: it has no way to find them privately; pure epsilon, replace-one. It needs
  scikit-learn 1.3 (newer ones divide the loss by n, and its noise not): name an interpreter that has it in
  ``DIFFPRIVLIB_PYTHON``, or it is left out.

Splits are 80/20 by position after a seeded shuffle. Nobody is tuned, and no choice of skdp was made on these test rows.
Readmission counts every stay as a row, so its epsilon protects a stay, not a patient.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from accuracy import interval, other_logistic
from cells import run_cells
from sklearn.metrics import log_loss, roc_auc_score

DATA = ("adult", "credit", "readmission")
EPSILONS = (0.5, 1.0, 2.0, 4.0)


# ------------------------------------------------------------------ data
def raw(name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The published table, missing values as such, and a target of 0 and 1."""
    root = Path(os.environ["SKDP_DATA_DIR"])
    if name == "adult":
        names = (
            "age workclass fnlwgt education education_num marital occupation relationship race sex gain loss "
            "hours country y"
        ).split()
        read = {"names": names, "skipinitialspace": True, "na_values": "?"}
        parts = [
            pd.read_csv(root / f"adult/adult.{part}", skiprows=int(part == "test"), **read) for part in ("data", "test")
        ]
        frame = pd.concat(parts, ignore_index=True).drop(columns="fnlwgt")
        return frame.drop(columns="y"), frame["y"].str.startswith(">50K").to_numpy(int)
    if name == "credit":
        frame = pd.read_csv(root / "credit_default/UCI_Credit_Card.csv.gz").drop(columns="ID")
        frame[["SEX", "EDUCATION", "MARRIAGE"]] = frame[["SEX", "EDUCATION", "MARRIAGE"]].astype(str)  # codes
        return frame.iloc[:, :-1], frame.iloc[:, -1].to_numpy(int)
    frame = pd.read_csv(root / "diabetes130/diabetic_data.csv.gz", na_values="?", low_memory=False)
    codes = [column for column in frame if column.endswith("_id") and column != "encounter_id"]
    frame[codes] = frame[codes].astype(str)
    target = (frame["readmitted"] != "NO").to_numpy(int)
    return frame.drop(columns=["encounter_id", "patient_nbr", "readmitted"]), target


# ------------------------------------------------------------------ contestants
def ours(X: pd.DataFrame, y: np.ndarray, X_test: pd.DataFrame, epsilon: float, delta: float) -> np.ndarray:
    from skdp import DPClassifier
    from skdp.pipeline import make_private_pipeline
    from skdp.preprocessing import DPTableVectorizer

    model = make_private_pipeline(DPTableVectorizer(), DPClassifier(classes=[0, 1]), epsilon=epsilon, delta=delta)
    return model.fit(X, y).predict_proba(X_test)[:, 1]


def boosting(X: pd.DataFrame, y: np.ndarray, X_test: pd.DataFrame, epsilon: float, delta: float) -> np.ndarray:
    from interpret.privacy import DPExplainableBoostingClassifier

    X, X_test = filled(X), filled(X_test)
    model = DPExplainableBoostingClassifier(epsilon=epsilon, delta=delta)
    return model.fit(X, y).predict_proba(X_test)[:, 1]


def filled(rows: pd.DataFrame) -> pd.DataFrame:
    """Texts with a word for what is missing; numbers as they are."""
    texts = [column for column in rows if not pd.api.types.is_numeric_dtype(rows[column])]
    return rows.assign(**{column: rows[column].astype(object).fillna("missing").astype(str) for column in texts})


def other(X: pd.DataFrame, y: np.ndarray, X_test: pd.DataFrame, epsilon: float, delta: float) -> np.ndarray:
    numbers = X.select_dtypes("number").columns
    low, high = X[numbers].quantile(0.005), X[numbers].quantile(0.995)
    width = (high - low).where(high > low, 1.0)
    both = filled(pd.concat([X, X_test]))
    scaled = (2 * (both[numbers].clip(low, high, axis=1) - low) / width - 1).fillna(0.0).to_numpy()
    coded = np.hstack([scaled, pd.get_dummies(both.drop(columns=numbers), dtype=float)]).astype(np.float32)
    mask = np.arange(coded.shape[1]) >= len(numbers)
    return other_logistic({"X": coded[: len(X)], "y": y, "X_test": coded[len(X) :], "mask": mask}, epsilon)[:, 1]


def contestants() -> dict[str, Callable]:
    """Whoever is installed."""
    found = {"skdp": ours}
    if find_spec("interpret"):
        found["dp-ebm"] = boosting
    if os.environ.get("DIFFPRIVLIB_PYTHON"):
        found["diffprivlib"] = other
    return found


# ------------------------------------------------------------------ comparison
def compare(name: str, epsilon: float, seeds: list[int]) -> dict:
    """Scores of all on the same splits, and skdp's paired gains over the best of the others."""
    X, y = raw(name)
    runs: dict[str, list[dict]] = {kind: [] for kind in contestants()}
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(X))
        train, test = np.split(order, [len(X) * 4 // 5])
        delta = 10.0 ** np.floor(np.log10(0.1 / len(train)))
        for kind, run in contestants().items():
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = run(X.iloc[train], y[train], X.iloc[test], epsilon, delta)
            runs[kind].append({
                "auc": float(roc_auc_score(y[test], found)),
                "loss": float(log_loss(y[test], np.clip(found, 1e-6, 1 - 1e-6))),
                "seconds": time.perf_counter() - start,
            })  # fmt: skip
    row: dict = {"data": name, "epsilon": epsilon, "n": len(train), "seeds": seeds, "delta": float(delta)}
    row["medians"] = {
        kind: {key: float(np.median([run[key] for run in found])) for key in ("auc", "loss", "seconds")}
        for kind, found in runs.items()
    }
    row["runs"] = runs
    rivals = [kind for kind in runs if kind != "skdp"]
    if rivals and len(seeds) > 1:
        best = max(rivals, key=lambda kind: row["medians"][kind]["auc"])
        gains = np.array([a["auc"] - b["auc"] for a, b in zip(runs["skdp"], runs[best], strict=True)])
        row |= {"best_peer": best, "gain": float(np.median(gains)), "gain_interval": interval(gains)}
    return row


if __name__ == "__main__":
    run_cells(
        "end_to_end", __doc__, compare, data=DATA, epsilons=EPSILONS, seeds="100-109", quick=("adult", "1", "0-1")
    )
