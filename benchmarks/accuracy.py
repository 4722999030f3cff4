"""Untuned skdp against tuned private peers on the same splits, inputs and (epsilon, delta).

    SKDP_DATA_DIR=/path/to/data python benchmarks/accuracy.py [--seeds 100-109] [--epsilons 0.1,1] [--quick]

Every model sees one encoding: numeric columns are clipped to the training quantiles .005 and .995, a stand-in
for public bounds which is charged to nobody, and mapped to [-1, 1]; categories are one-hot; delta is
n ** -1.1. Peers are hand-written full-batch DP gradient descent whose noise is the exact Gaussian for
(epsilon, delta), hence never more than Opacus'. Their clip norm and learning rate are chosen on the *test*
score of one development split at no privacy cost, which an honest user could not do. skdp is not tuned. Data
sets that are not found are skipped.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

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
}  # fmt: skip
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
    raise ValueError(f"data={name!r} must be one of {', '.join(TASKS)}")


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
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * np.mean(bins == b) for b in np.unique(bins)]
    clipped = np.clip(output, 1e-12, 1)
    return {
        "score": main,
        "loss": log_loss(y, clipped / clipped.sum(1, keepdims=True)),
        "ece": float(sum(gaps)),
    }


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


def tune(raw: tuple, name: str, kind: str, epsilon: float) -> tuple[float, float]:
    """Best clip norm and rate by the test score of the development split."""
    data = split(raw, name, TUNING_SEED)
    best, chosen = -math.inf, (1.0, 0.1)
    for clip in (0.1, 1.0, 3.0):
        for rate in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0):
            output = descend(data, kind, epsilon, clip, rate, seed=1)
            score = scores(data, output)["score"] if np.isfinite(output).all() else -math.inf
            if score > best:
                best, chosen = score, (clip, rate)
    return chosen


def boosting(data: dict, epsilon: float) -> np.ndarray:
    """DP-EBM of interpret-core with its defaults."""
    from interpret.privacy import DPExplainableBoostingClassifier, DPExplainableBoostingRegressor

    kinds = ["nominal" if m else "continuous" for m in data["mask"]]
    bounds = {i: (0.0, 1.0) if m else (-1.0, 1.0) for i, m in enumerate(data["mask"])}
    shared = {"epsilon": epsilon, "delta": data["delta"], "feature_types": kinds, "privacy_bounds": bounds}
    if data["task"] == "r2":
        low, high = data["bounds"]
        model = DPExplainableBoostingRegressor(
            privacy_target_min=low, privacy_target_max=high, **shared
        ).fit(data["X"], np.clip(data["y"], low, high))  # fmt: skip
        return model.predict(data["X_test"])
    return DPExplainableBoostingClassifier(**shared).fit(data["X"], data["y"]).predict_proba(data["X_test"])


def other_logistic(data: dict, epsilon: float) -> np.ndarray:
    """diffprivlib's logistic regression (pure epsilon, delta 0) with the rows' public norm bound."""
    from diffprivlib.models import LogisticRegression

    norm = float(math.sqrt((~data["mask"]).sum() + data["X"][:, data["mask"]].sum(1).max()))
    model = LogisticRegression(epsilon=epsilon, data_norm=norm, max_iter=500)
    return model.fit(data["X"], data["y"]).predict_proba(data["X_test"])


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


def compare(name: str, seeds: list[int], epsilons: list[float], optional: dict) -> Iterator[dict]:
    """One row of figures for each epsilon."""
    raw = table(name)
    for epsilon in epsilons:
        chosen = {kind: tune(raw, name, kind, epsilon) for kind in PEERS}
        found: dict[str, list] = {}
        seconds = []
        for seed in seeds:
            data = split(raw, name, seed)
            start = time.perf_counter()
            found.setdefault("skdp", []).append(scores(data, ours(data, epsilon)))
            seconds.append(time.perf_counter() - start)
            for kind, (clip, rate) in chosen.items():
                output = descend(data, kind, epsilon, clip, rate, seed=seed + 1000)
                found.setdefault(kind, []).append(scores(data, np.nan_to_num(output)))
            for kind, run in optional.items():
                if not (kind == "diffprivlib" and data["task"] == "r2"):
                    found.setdefault(kind, []).append(scores(data, run(data, epsilon)))
        main = {kind: np.array([s["score"] for s in all_]) for kind, all_ in found.items()}
        best = max((k for k in main if k != "skdp"), key=lambda k: np.median(main[k]))
        gains = main["skdp"] - main[best]
        medians = {
            kind: {field: float(np.median([s[field] for s in all_])) for field in all_[0]}
            for kind, all_ in found.items()
        }
        low, high = interval(gains)
        row = {
            "data": name, "metric": TASKS[name], "epsilon": epsilon, "rows": len(data["y"]),
            "delta": data["delta"], "medians": medians, "best_peer": best,
            "gain": float(np.median(gains)), "gain_from": low, "gain_to": high,
            "fit_seconds": min(seconds), "tuned": chosen, "scores": {k: v.tolist() for k, v in main.items()},
        }  # fmt: skip
        mine = medians["skdp"]
        gain = f"{row['gain']:+.4f} [{low:+.4f}, {high:+.4f}]"
        ours_text = f"skdp {mine['score']:.4f} (ECE {mine.get('ece', math.nan):.3f})"
        theirs = f"best peer {best} {medians[best]['score']:.4f}"
        print(
            f"{name:14s} epsilon {epsilon:<4g} {ours_text} {theirs} gain {gain} {min(seconds):.1f} s",
            flush=True,
        )
        yield row


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
    optional, notes, rows = {}, [], []
    for kind, package, run in (
        ("dp-ebm", "interpret", boosting),
        ("diffprivlib", "diffprivlib", other_logistic),
    ):
        if find_spec(package):
            optional[kind] = run
        else:
            notes.append(f"{kind} was left out: {package} is not installed")
    for name in options.data.split(","):
        try:
            for row in compare(name, seeds, epsilons, optional):
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
