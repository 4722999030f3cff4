"""DP-FTRL against DP-SGD at equal batch size, epochs and (epsilon, delta): validation scores, and the noise alone.

    SKDP_DATA_DIR=/path/to/data python benchmarks/ftrl.py [--quick] [--go-on]

Scores are of validation rows, which play the part of public ones. Each contender gets the best of `FACTORS` times the
automatic learning rate by mean validation score over the seeds, at no charge: it is a comparison of mechanisms, not of
what an honest user reaches. The noise alone is the root mean squared error of the sums of the first t mean gradients,
in clip norms. It is known beforehand, and given over that of DP-SGD.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import time
import warnings
from typing import Any

import accuracy
import idx_images
import numpy as np
import record
import torch
from sklearn.model_selection import train_test_split

from skdp import DPClassifier
from skdp.accounting import noise_multiplier
from skdp.contract import Public
from skdp.mechanisms import DPFTRL, DPSGD, TrainingPlan
from skdp.mechanisms.factorisation import prefix_error
from skdp.nets import MLP

CONTENDERS = {"dp-sgd": DPSGD(), "fixed order": DPFTRL(), "cyclic Poisson": DPFTRL(sampling="cyclic-poisson")}
EPSILONS = (1.0, 2.0, 4.0, 8.0)
EPOCHS = (1, 10)
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
SEEDS = (0, 1, 2)
DELTA = 1e-5


@functools.cache
def rows(name: str, seed: int) -> tuple[np.ndarray, ...]:
    """Training and validation rows and labels."""
    if name == "adult":
        data = accuracy.split(accuracy.table("adult"), "adult", 100 + seed)
        return data["X"][:8000], data["X_test"], data["y"][:8000], data["y_test"]
    images, labels = (part[:10_000] for part in idx_images.read("fashion_mnist"))
    X = images.reshape(-1, 784).astype(np.float32) / 127.5 - 1
    return train_test_split(X, labels, test_size=0.2, random_state=seed)


SETTINGS = {
    "adult": {"module": MLP(), "batch_size": 128},
    "fashion_mnist": {"module": "linear", "batch_size": 160},
}


def score(name: str, mechanism: Any, epsilon: float, epochs: int, lr: float, seed: int) -> float:
    """Validation accuracy of one fit."""
    X, X_valid, y, y_valid = rows(name, seed)
    model = DPClassifier(
        mechanism=mechanism, epsilon=epsilon, delta=DELTA, max_epochs=epochs, lr=lr, random_state=seed,
        classes=np.unique(y), feature_bounds=None, **SETTINGS[name],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(model.fit(X, y).score(X_valid, y_valid))


def automatic_rate(name: str, epsilon: float, n: int) -> float:
    """The automatic learning rate, which depends on the budget and the number of rows and not on the mechanism."""
    signal = n / noise_multiplier(epsilon, DELTA)
    return min(0.6, max(0.05, 0.5 * (signal / 1e4) ** 0.35))


def tuned(name: str, who: str, epsilon: float, epochs: int, quick: bool) -> dict[str, Any]:
    """Best mean validation accuracy over learning rates."""
    n = len(rows(name, 0)[0])
    base, found = automatic_rate(name, epsilon, n), {}
    for factor in FACTORS[1:3] if quick else FACTORS:
        scores = [
            score(name, CONTENDERS[who], epsilon, epochs, base * factor, s) for s in (SEEDS[:1] if quick else SEEDS)
        ]
        found[factor] = float(np.mean(scores))
    best = max(found, key=found.get)
    return {"accuracy": found[best], "factor": best, "by_factor": {str(k): v for k, v in found.items()}}


def noise_alone(rate: float, epochs: int, epsilon: float) -> dict[str, Any]:
    """Known error of prefix sums of each contender, over that of DP-SGD."""
    steps = epochs * math.ceil(1 / rate - 1e-9)

    def affordable(at: float, count: int) -> float:
        return noise_multiplier(epsilon, DELTA, sampling_rate=at, steps=count)

    public = Public(n=10_000, input_shape=(4,), n_outputs=1, task="binary")
    training = TrainingPlan(rate, steps, 1.0, "flat", affordable)
    errors, bands = {}, {}
    for who, mechanism in CONTENDERS.items():
        (touch,) = mechanism.plan(public, training, 1.0).charge.touches
        column = getattr(touch.noise, "coefficients", (1.0,))
        multiplier = affordable(touch.sampler.turn_rate, touch.sampler.turns(steps))
        errors[who], bands[who] = multiplier * prefix_error(column, steps), len(column)
    return {
        "rate": rate, "epochs": epochs, "epsilon": epsilon, "steps": steps,
        "fixed": errors["fixed order"] / errors["dp-sgd"], "fixed_bands": bands["fixed order"],
        "cyclic": errors["cyclic Poisson"] / errors["dp-sgd"], "cyclic_bands": bands["cyclic Poisson"],
    }  # fmt: skip


def main() -> None:
    """Write ``results/ftrl.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--go-on", action="store_true", help="keep what an earlier run of this script has written")
    arguments = parser.parse_args()
    quick = arguments.quick
    torch.set_num_threads(1)
    noise = [
        noise_alone(rate, epochs, epsilon)
        for rate, epochs, epsilon in itertools.product((0.05, 0.01), (1, 10, 50), (1.0, 8.0, 20.0))
    ]
    written = record.RESULTS / "ftrl.json"
    results = json.loads(written.read_text())["results"] if arguments.go_on and written.exists() else []
    done = {(one["epochs"], one["data"], one["epsilon"]) for one in results}
    for key in itertools.product(EPOCHS, SETTINGS, EPSILONS[::3] if quick else EPSILONS):
        if key in done:
            continue
        epochs, name, epsilon = key
        started = time.perf_counter()
        found = {who: tuned(name, who, epsilon, epochs, quick) for who in CONTENDERS}
        results.append({"data": name, "epochs": epochs, "epsilon": epsilon, **found})
        scores = {who: round(one["accuracy"], 4) for who, one in found.items()}
        print(name, epochs, epsilon, scores, f"{time.perf_counter() - started:.0f} s", flush=True)
        results.sort(key=lambda one: (one["data"], one["epochs"], one["epsilon"]))
        record.write("ftrl", {"noise": noise, "results": results, "seeds": len(SEEDS[:1] if quick else SEEDS)})


if __name__ == "__main__":
    main()
