"""How much faster a sweep is whose fits share their steps: ``python benchmarks/sweep.py [--repeats 3]``.

Twelve settings (learning rate by clip norm) on one half of an Adult-like table and of scikit-learn's digits, by
`skdp.model_selection.fit_many` and by `GridSearchCV` with one and two processes. All of them run one after the other
within each repeat. Workers are warm: they have imported skdp and calibrated the same noise before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings

import numpy as np
import record
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, KFold, ParameterGrid

from skdp import DPClassifier
from skdp.model_selection import fit_many
from skdp.nets import MLP
from skdp.neural_network import together

GRID = {"lr": [0.05, 0.1, 0.2, 0.4], "max_grad_norm": [0.5, 1.0, 2.0]}
BATCHES = (16, 64, 256, 1024, 4096)
STEPS = 80  # of a fit, about


def adult_like() -> tuple[np.ndarray, np.ndarray]:
    """A table of 20,000 rows and 100 columns, most of them indicators."""
    rng = np.random.default_rng(0)
    X = np.hstack([rng.uniform(-1, 1, (20_000, 6)), rng.random((20_000, 94)) < 0.08])
    return X, (X[:, :12].sum(1) + rng.normal(size=len(X)) > 1).astype(int)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images of 64 pixels, ten times over: rows for large batches."""
    X, y = load_digits(return_X_y=True)
    return np.tile(X / 8 - 1, (10, 1)), np.tile(y, 10)


def model(batch: int, rows: int, classes: list, module: object) -> DPClassifier:
    """An estimator whose fit takes about `STEPS` steps, so that every batch size costs the same number of them."""
    epochs = max(1, round(STEPS * batch / rows))
    return DPClassifier(module, epsilon=2.0, classes=classes, feature_bounds=(-1, 1), batch_size=batch,
                        max_epochs=epochs, random_state=0)  # fmt: skip


def warmed(estimator: DPClassifier, X: np.ndarray, y: np.ndarray) -> int:
    """Calibrate in this process."""
    warnings.simplefilter("ignore")
    estimator.fit(X, y)
    return os.getpid()


def timed(run: object) -> tuple[float, float]:
    """Seconds of a call, and those that this process computed."""
    start, computed = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - computed


def compare(X: np.ndarray, y: np.ndarray, module: object, batch: int, repeats: int) -> dict[str, float]:
    """Median seconds of each way, interleaved."""
    train = [next(KFold(2).split(X))[1]]
    # Fits of equal length whatever the batch, on part of the rows where batches are small.
    rows = min(len(train[0]), STEPS * batch)
    train = [part[:rows] for part in train]
    estimator = model(batch, rows, sorted(set(y.tolist())), module)
    settings = list(ParameterGrid(GRID))
    cv = [(part, part[:1]) for part in train]
    ways = {
        "together": lambda: fit_many(
            estimator, [params for params in settings for _ in train], X, y, rows=train * len(settings)
        ),
        "two processes": lambda: GridSearchCV(estimator, GRID, cv=cv, scoring=nothing, refit=False, n_jobs=2).fit(X, y),
        "one process": lambda: GridSearchCV(estimator, GRID, cv=cv, scoring=nothing, refit=False).fit(X, y),
    }
    warmed(estimator, X[train[0]], y[train[0]])
    Parallel(2)(delayed(warmed)(estimator, X[train[0]], y[train[0]]) for _ in range(4))
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            seconds[name].append(timed(run))
    return {
        **{name: round(statistics.median(wall for wall, _ in found), 2) for name, found in seconds.items()},
        "times as fast as two": ratio(seconds["two processes"], seconds["together"], 0),
        "computed by one": ratio(seconds["one process"], seconds["together"], 1),
    }


def ratio(slow: list, fast: list, which: int) -> float:
    """Median over repeats of how many times as long one way takes."""
    return round(statistics.median(a[which] / b[which] for a, b in zip(slow, fast, strict=True)), 2)


def nothing(estimator: object, X: object, y: object) -> float:
    """No score: what is timed is training."""
    return 0.0


def main() -> None:
    """Run all sweeps and write them down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    together.LARGEST_BATCH = max(options.batches)  # measured beyond the limit as well
    rows = []
    for name, (X, y), module in (
        ("adult-like, MLP of 64", adult_like(), MLP(hidden_units=(64,))),
        ("digits, MLP of 64", digits(), MLP(hidden_units=(64,))),
        ("adult-like, linear", adult_like(), "linear"),
    ):
        for batch in options.batches:
            rows.append({"sweep": name, "batch": batch, **compare(X, y, module, batch, options.repeats)})
            print(rows[-1], flush=True)
            write(rows, options.repeats)


def write(rows: list[dict], repeats: int) -> None:
    """Store what has been measured so far."""
    notes = [
        f"12 fits of about {STEPS} steps; medians of {repeats} repeats, in seconds; the ratio is the median over "
        "repeats of ratios within a repeat",
        f"the machine was shared while this ran (load average {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores), so "
        "only ratios mean anything; ways took turns within each repeat",
        "'computed by one' compares processor time, which other load moves little: half of it is what two "
        "processes on two idle cores could make up for at best",
        "workers were warm, and noise was calibrated before in all processes",
    ]
    record.write("sweep", {"rows": rows, "notes": notes})


if __name__ == "__main__":
    main()
