"""Untuned skdp against tuned private peers on the same splits, inputs and (epsilon, delta).

    SKDP_DATA_DIR=/path/to/data python benchmarks/accuracy.py [--seeds 100-109] [--epsilons 0.1,1] [--quick]

Every model sees one encoding: numeric columns are clipped to the training quantiles .005 and .995, a stand-in
for public bounds which is charged to nobody, and mapped to [-1, 1]; categories are one-hot; delta is
n ** -1.1. Three peers are hand-written full-batch DP gradient descent whose noise is the exact Gaussian for
(epsilon, delta), hence never more than Opacus'; their clip norm and learning rate, and the learning rate of
DP-EBM, are chosen on the *test* score of one development split at no privacy cost, which an honest user could
not do. diffprivlib needs an older scikit-learn: name an interpreter that has it in ``DIFFPRIVLIB_PYTHON``. skdp is
not tuned. No constant of skdp was chosen on the data sets in `UNSEEN`. Data sets that are not found are skipped.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import idx_images
import numpy as np
import pandas as pd
import record
import torch
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr
from sklearn import datasets
from sklearn.metrics import log_loss, r2_score, roc_auc_score
from sklearn.model_selection import train_test_split

TASKS = {
    "adult": "auc", "credit": "auc", "breast_cancer": "auc", "digits": "accuracy",
    "california": "r2", "wine": "r2", "diabetes": "r2",
    "readmission": "auc", "pneumonia": "auc", "mnist": "accuracy",
}  # fmt: skip
UNSEEN = ("pneumonia", "mnist")
EPSILONS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
PEERS = ("linear", "hats", "mlp")
TUNING_SEED = 0


# ------------------------------------------------------------------ data
def table(name: str) -> tuple[pd.DataFrame, list[str], np.ndarray]:
    """Raw columns, names of the categorical ones, and targets."""
    if name in ("breast_cancer", "digits", "diabetes"):
        bunch = getattr(datasets, f"load_{name}")()
        return pd.DataFrame(bunch.data).rename(columns=str), [], bunch.target
    root = Path(os.environ.get("SKDP_DATA_DIR", "missing"))
    if name == "adult":
        names = (
            "age workclass fnlwgt education education_num marital occupation relationship race sex gain loss "
            "hours country y"
        ).split()
        read = {"names": names, "skipinitialspace": True}
        parts = [pd.read_csv(root / "adult/adult.data", **read)]
        parts.append(pd.read_csv(root / "adult/adult.test", skiprows=1, **read))
        frame = pd.concat(parts).dropna().reset_index(drop=True).drop(columns="fnlwgt")
        target = frame.pop("y").str.startswith(">50K").to_numpy(int)
        frame[["gain", "loss"]] = np.log1p(frame[["gain", "loss"]].astype(float))
        return frame, "workclass education marital occupation relationship race sex country".split(), target
    if name == "credit":
        frame = pd.read_csv(root / "credit_default/UCI_Credit_Card.csv.gz").drop(columns="ID")
        target = frame.pop(frame.columns[-1]).to_numpy(int)
        money = [c for c in frame if "AMT" in c or c == "LIMIT_BAL"]
        frame[money] = np.sign(frame[money]) * np.log1p(frame[money].abs().astype(float))
        return frame, ["SEX", "EDUCATION", "MARRIAGE"], target
    if name == "california":
        frame = pd.read_csv(root / "california_housing/housing.csv").dropna().reset_index(drop=True)
        target = frame.pop("median_house_value").to_numpy(float) / 1e5
        counts = ["total_rooms", "total_bedrooms", "population", "households"]
        frame[counts] = np.log1p(frame[counts])
        return frame, ["ocean_proximity"], target
    if name == "wine":
        folder = root / "wine_quality"
        kinds = [pd.read_csv(folder / f"winequality-{c}.csv", header=None).assign(kind=c) for c in ("red", "white")]
        frame = pd.concat(kinds).reset_index(drop=True).rename(columns=str)
        return frame, ["kind"], frame.pop("11").to_numpy(float)
    if name == "readmission":  # first stay of each patient; readmitted at all, from what is known at discharge
        frame = pd.read_csv(root / "diabetes130/diabetic_data.csv.gz").drop_duplicates("patient_nbr")
        target = (frame.pop("readmitted") != "NO").to_numpy(int)
        kept = "time_in_hospital num_lab_procedures num_procedures num_medications number_outpatient".split()
        kept += ["number_emergency", "number_inpatient", "number_diagnoses"]
        coded = "race gender age admission_type_id discharge_disposition_id admission_source_id".split()
        coded += ["max_glu_serum", "A1Cresult", "insulin", "change", "diabetesMed"]
        return frame[kept + coded].reset_index(drop=True), coded, target
    if name == "pneumonia":
        found = np.load(root / "pneumonia_mnist/pneumoniamnist_rebuilt.npz")
        images = np.concatenate([found[part] for part in sorted(found.files) if part.endswith("images")])
        labels = np.concatenate([found[part] for part in sorted(found.files) if part.endswith("labels")])
        return pooled(images), [], labels.ravel().astype(int)
    if name == "mnist":
        images, labels = idx_images.read("mnist")
        return pooled(images[:5000]), [], labels[:5000]
    raise ValueError(f"data={name!r} must be one of {', '.join(TASKS)}")


def pooled(images: np.ndarray) -> pd.DataFrame:
    """Means of four by four pixels, as a table."""
    small = images.reshape(-1, 7, 4, 7, 4).astype(float).mean((2, 4))
    return pd.DataFrame(small.reshape(len(small), -1)).rename(columns=str)


def split(raw: tuple, name: str, seed: int) -> dict:
    """One 80/20 split in the common encoding."""
    frame, categorical, target = raw
    regression = TASKS[name] == "r2"
    train, test = train_test_split(
        np.arange(len(frame)), test_size=0.2, random_state=seed, stratify=None if regression else target
    )
    numbers = frame[[c for c in frame if c not in categorical]].to_numpy(float)
    low, high = np.quantile(numbers[train], [0.005, 0.995], axis=0)
    high = np.where(high > low, high, low + 1)
    scaled = 2 * (np.clip(numbers, low, high) - low) / (high - low) - 1
    coded = pd.get_dummies(frame[categorical].astype(str)).to_numpy(float) if categorical else np.zeros((len(frame), 0))
    X = np.hstack([scaled, coded]).astype(np.float32)
    mask = np.arange(X.shape[1]) >= scaled.shape[1]
    bounds = tuple(np.quantile(target[train], [0.005, 0.995])) if regression else None
    return {
        "X": X[train], "y": target[train], "X_test": X[test], "y_test": target[test], "mask": mask,
        "delta": len(train) ** -1.1, "bounds": bounds, "task": TASKS[name],
    }  # fmt: skip


def scores(data: dict, output: np.ndarray) -> dict[str, float]:
    """Main score, log loss (squared error for a regression) and expected calibration error in 15 bins."""
    y = data["y_test"]
    if data["task"] == "r2":
        return {"score": r2_score(y, output), "loss": float(np.mean((y - output) ** 2))}
    main = roc_auc_score(y, output[:, 1]) if data["task"] == "auc" else float(np.mean(output.argmax(1) == y))
    confidence, right = output.max(1), output.argmax(1) == y
    bins = np.clip((confidence * 15).astype(int), 0, 14)
    clipped = np.clip(output, 1e-12, 1)
    # What predictions that are exactly right would show on so few rows: the labels are drawn from them.
    lucky = np.random.default_rng(0).random((20, len(y))) < confidence
    return {
        "score": main,
        "loss": log_loss(y, clipped / clipped.sum(1, keepdims=True)),
        "ece": calibration_error(bins, confidence, right),
        "ece_floor": float(np.mean([calibration_error(bins, confidence, draw) for draw in lucky])),
    }


def calibration_error(bins: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over bins, by their share of rows."""
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * np.mean(bins == b) for b in np.unique(bins)]
    return float(sum(gaps))


# ------------------------------------------------------------------ peers
def gaussian_mu(epsilon: float, delta: float) -> float:
    """Gaussian-DP parameter that (epsilon, delta) buys."""
    return brentq(
        lambda m: ndtr(-epsilon / m + m / 2) - math.exp(epsilon + log_ndtr(-epsilon / m - m / 2)) - delta,
        1e-6,
        100,
    )


def hats(X: np.ndarray, mask: np.ndarray, count: int = 16) -> np.ndarray:
    """Piecewise linear functions of each numeric column."""
    z, centres = X[:, ~mask], np.linspace(-1, 1, count)
    height = np.clip(1 - np.abs(z[:, :, None] - centres) * (count - 1) / 2, 0, None)
    return np.hstack([height.reshape(len(X), -1), X[:, mask]]).astype(np.float32)


def descend(data: dict, kind: str, epsilon: float, clip: float, rate: float, seed: int) -> np.ndarray:
    """Test output of full-batch DP gradient descent; `rate` is in units of the clip norm."""
    encode = (lambda X: hats(X, data["mask"])) if kind == "hats" else (lambda X: X)
    X, test = (torch.as_tensor(encode(data[k]), dtype=torch.float32) for k in ("X", "X_test"))
    X, test = (torch.cat([v, torch.ones(len(v), 1)], 1) for v in (X, test))
    n, steps, momentum = len(X), 60 if len(X) < 3000 else 100, 0.9
    multiplier = math.sqrt(steps) / gaussian_mu(epsilon, data["delta"])
    if data["task"] == "r2":
        low, high = data["bounds"]
        target = torch.as_tensor(np.clip(2 * (data["y"] - low) / (high - low) - 1, -1, 1), dtype=torch.float32)[:, None]
    else:
        target = torch.nn.functional.one_hot(torch.as_tensor(data["y"])).float()
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(X.shape[1], 32, generator=draw) / math.sqrt(X.shape[1]) if kind == "mlp" else None
    last = torch.zeros(33 if kind == "mlp" else X.shape[1], target.shape[1])
    weights = [last] if hidden is None else [last, hidden]
    speed, mean = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]

    def forward(x: torch.Tensor, w: list) -> tuple[torch.Tensor, torch.Tensor]:
        inner = x if len(w) == 1 else torch.cat([torch.tanh(x @ w[1]), torch.ones(len(x), 1)], 1)
        return inner, inner @ w[0]

    for step in range(steps):
        inner, out = forward(X, weights)
        residual = out - target if data["task"] == "r2" else torch.softmax(out, 1) - target
        back = None if hidden is None else (residual @ weights[0][:-1].T) * (1 - inner[:, :-1] ** 2)
        square = residual.square().sum(1) * inner.square().sum(1)
        square = square if back is None else square + back.square().sum(1) * X.square().sum(1)
        factor = (clip / square.sqrt().clamp_min(1e-12)).clamp_max(1.0)[:, None]
        sums = [inner.T @ (factor * residual)] + ([] if back is None else [X.T @ (factor * back)])
        for w, v, m, total in zip(weights, speed, mean, sums, strict=True):
            noisy = (total + multiplier * clip * torch.randn(total.shape, generator=draw)) / n
            v.mul_(momentum).sub_(noisy, alpha=rate / clip)
            w.add_(v)
            if step >= steps * 0.75:
                m.add_(w, alpha=1 / (steps - math.ceil(steps * 0.75)))
    out = forward(test, mean)[1]
    if data["task"] == "r2":
        return (out[:, 0].clamp(-1, 1).numpy() + 1) / 2 * (high - low) + low
    return torch.softmax(out, 1).double().numpy()


def tune(raw: tuple, name: str, run: Callable, grid: list[tuple], epsilon: float) -> tuple:
    """Settings with the best test score on the development split."""
    data = split(raw, name, TUNING_SEED)
    best, chosen = -math.inf, grid[-1]
    for setting in grid:
        output = run(data, epsilon, 1, *setting)
        score = scores(data, output)["score"] if np.isfinite(output).all() else -math.inf
        if score > best:
            best, chosen = score, setting
    return chosen


def boosting(data: dict, epsilon: float, learning_rate: float) -> np.ndarray:
    """DP-EBM of interpret-core."""
    from interpret.privacy import DPExplainableBoostingClassifier, DPExplainableBoostingRegressor

    kinds = ["nominal" if m else "continuous" for m in data["mask"]]
    bounds = {i: (0.0, 1.0) if m else (-1.0, 1.0) for i, m in enumerate(data["mask"])}
    shared = {
        "epsilon": epsilon, "delta": data["delta"], "feature_types": kinds, "privacy_bounds": bounds,
        "learning_rate": learning_rate,
    }  # fmt: skip
    if data["task"] == "r2":
        low, high = data["bounds"]
        model = DPExplainableBoostingRegressor(
            privacy_target_min=low, privacy_target_max=high, **shared
        ).fit(data["X"], np.clip(data["y"], low, high))  # fmt: skip
        return model.predict(data["X_test"])
    return DPExplainableBoostingClassifier(**shared).fit(data["X"], data["y"]).predict_proba(data["X_test"])


OTHER = """
import sys, warnings
import numpy as np
from diffprivlib.models import LogisticRegression
warnings.simplefilter("ignore")
given = np.load(sys.argv[1])
model = LogisticRegression(epsilon=float(given["epsilon"]), data_norm=float(given["norm"]), max_iter=500)
np.save(sys.argv[2], model.fit(given["X"], given["y"]).predict_proba(given["X_test"]))
"""


def other_logistic(data: dict, epsilon: float) -> np.ndarray:
    """diffprivlib's logistic regression (pure epsilon, delta 0) with the rows' public norm bound."""
    norm = float(math.sqrt((~data["mask"]).sum() + data["X"][:, data["mask"]].sum(1).max()))
    with tempfile.TemporaryDirectory() as folder:
        given, found = f"{folder}/given.npz", f"{folder}/found.npy"
        np.savez(given, X=data["X"], y=data["y"], X_test=data["X_test"], epsilon=epsilon, norm=norm)
        subprocess.run([os.environ["DIFFPRIVLIB_PYTHON"], "-c", OTHER, given, found], check=True)
        return np.load(found)


def peers(name: str) -> tuple[dict[str, tuple[Callable, list[tuple]]], list[str]]:
    """How to run each peer that can take the data, with the settings that are tried, and who is missing."""
    grid = [(clip, rate) for clip in (0.1, 1.0, 3.0) for rate in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)]
    found: dict[str, tuple[Callable, list[tuple]]] = {
        kind: (lambda data, epsilon, seed, *how, kind=kind: descend(data, kind, epsilon, *how, seed=seed), grid)
        for kind in PEERS
    }
    missing = []
    if TASKS[name] == "accuracy":
        pass  # neither takes more than two classes with probabilities
    elif find_spec("interpret"):
        rates = [(rate,) for rate in (0.003, 0.01, 0.03, 0.1, 0.3)]
        found["dp-ebm"] = (lambda data, epsilon, seed, *how: boosting(data, epsilon, *how), rates)
    else:
        missing.append("dp-ebm was left out: interpret-core is not installed")
    if TASKS[name] == "auc" and os.environ.get("DIFFPRIVLIB_PYTHON"):
        found["diffprivlib"] = (lambda data, epsilon, seed: other_logistic(data, epsilon), [()])
    elif TASKS[name] == "auc":
        missing.append("diffprivlib was left out: DIFFPRIVLIB_PYTHON is not set")
    return found, missing


# ------------------------------------------------------------------ skdp
def ours(data: dict, epsilon: float) -> np.ndarray:
    """Output of the untuned estimator; bounds (0, 1) tell which columns hold categories."""
    from skdp import DPClassifier, DPRegressor

    bounds = np.where(data["mask"][:, None], (0.0, 1.0), (-1.0, 1.0))
    shared = {"epsilon": epsilon, "delta": data["delta"], "feature_bounds": bounds}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if data["task"] == "r2":
            return DPRegressor(y_bounds=data["bounds"], **shared).fit(data["X"], data["y"]).predict(data["X_test"])
        model = DPClassifier(classes=np.unique(data["y"]), **shared)
        return model.fit(data["X"], data["y"]).predict_proba(data["X_test"])


# ------------------------------------------------------------------ comparison
def interval(gains: np.ndarray, draws: int = 4000) -> list[float]:
    """Bootstrap 95 % interval of the median of paired gains."""
    picks = np.random.default_rng(0).integers(len(gains), size=(draws, len(gains)))
    return np.quantile(np.median(gains[picks], axis=1), [0.025, 0.975]).tolist()


def compare(name: str, seeds: list[int], epsilons: list[float], notes: list[str]) -> Iterator[dict]:
    """One row of figures for each epsilon."""
    raw = table(name)
    contestants, missing = peers(name)
    notes += [note for note in missing if note not in notes]
    for epsilon in epsilons:
        chosen = {kind: tune(raw, name, run, grid, epsilon) for kind, (run, grid) in contestants.items()}
        found: dict[str, list] = {kind: [] for kind in ("skdp", *contestants)}
        seconds = []
        for seed in seeds:
            data = split(raw, name, seed)
            start = time.perf_counter()
            found["skdp"].append(scores(data, ours(data, epsilon)))
            seconds.append(time.perf_counter() - start)
            for kind, (run, _) in contestants.items():
                output = run(data, epsilon, seed + 1000, *chosen[kind])
                found[kind].append(scores(data, np.nan_to_num(output)))
        yield row_of(name, epsilon, data, found, chosen, min(seconds))


def row_of(name: str, epsilon: float, data: dict, found: dict[str, list], chosen: dict, seconds: float) -> dict:
    """Medians, and the paired gain over the best peer by score and over the best by loss."""
    values = {kind: {f: np.array([s[f] for s in all_]) for f in all_[0]} for kind, all_ in found.items()}
    medians = {kind: {f: float(np.median(v)) for f, v in fields.items()} for kind, fields in values.items()}
    others = [kind for kind in found if kind != "skdp"]
    best = max(others, key=lambda kind: medians[kind]["score"])
    least = min(others, key=lambda kind: medians[kind]["loss"])
    gains = values["skdp"]["score"] - values[best]["score"]
    spared = values[least]["loss"] - values["skdp"]["loss"]
    low, high = interval(gains)
    loss_low, loss_high = interval(spared)
    mine = medians["skdp"]
    print(
        f"{name:14s} epsilon {epsilon:<4g} skdp {mine['score']:.4f} (ECE {mine.get('ece', math.nan):.3f}) best peer "
        f"{best} {medians[best]['score']:.4f} gain {np.median(gains):+.4f} [{low:+.4f}, {high:+.4f}], loss "
        f"{mine['loss']:.4f}, {least} {medians[least]['loss']:.4f}, {seconds:.1f} s",
        flush=True,
    )
    return {
        "data": name, "metric": TASKS[name], "unseen": name in UNSEEN, "epsilon": epsilon, "rows": len(data["y"]),
        "delta": data["delta"], "medians": medians, "best_peer": best, "gain": float(np.median(gains)),
        "gain_from": low, "gain_to": high, "best_peer_by_loss": least, "loss_gain": float(np.median(spared)),
        "loss_gain_from": loss_low, "loss_gain_to": loss_high, "fit_seconds": seconds, "tuned": chosen,
        "scores": {kind: fields["score"].tolist() for kind, fields in values.items()},
    }  # fmt: skip


def main() -> None:
    """Run the comparison and write ``results/accuracy.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="100-109", help="split seeds, FIRST-LAST")
    parser.add_argument("--epsilons", default=",".join(map(str, EPSILONS)))
    parser.add_argument("--data", default=",".join(TASKS))
    parser.add_argument("--output", default="accuracy", help="name of the file in results/")
    parser.add_argument("--quick", action="store_true", help="small bundled data, two splits, one epsilon")
    options, _ = parser.parse_known_args()
    if options.quick:
        options.seeds, options.epsilons, options.data = "0-1", "1", "breast_cancer,diabetes"
        options.output = "accuracy-quick"
    torch.set_num_threads(1)
    first, _, last = options.seeds.partition("-")
    seeds, epsilons = (
        list(range(int(first), int(last or first) + 1)),
        [float(e) for e in options.epsilons.split(",")],
    )
    notes: list[str] = []
    rows: list[dict] = []
    for name in options.data.split(","):
        try:
            for row in compare(name, seeds, epsilons, notes):
                rows.append(row)
                # After every row: a run of hours that is stopped keeps what it has.
                record.write(options.output, {"seeds": seeds, "notes": notes, "results": rows})
        except FileNotFoundError as error:
            notes.append(f"{name} was left out: {error.filename} not found; set SKDP_DATA_DIR")
    for note in notes:
        print("note:", note)
    print(record.write(options.output, {"seeds": seeds, "notes": notes, "results": rows}))


if __name__ == "__main__":
    main()
