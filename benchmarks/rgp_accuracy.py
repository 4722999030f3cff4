"""RGP and DP-SGD at equal epsilon: one setting where RGP wins and one where it loses.

    SKDP_DATA_DIR=/path/to/data python benchmarks/rgp_accuracy.py [--quick]

10,000 images of Fashion-MNIST. Each learning rate is the best of `RATES` on 5,000 *validation* rows, by the mean of
`TRIES` fits and at no privacy cost, which an honest user could not do; quoted are 10,000 test rows, over fresh fits.
Both settings were found by trying a few on validation rows.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import idx_images
import numpy as np
import torch
from record import write

from skdp import DPClassifier
from skdp.mechanisms import DPSGD, RGP
from skdp.nets import MLP

ROWS = 10_000
RATES = (0.1, 0.2, 0.4, 0.8, 1.6)
TRIES = 3  # fits that a learning rate is judged by; of one, noise would choose
SETTINGS = {
    "large net, small budget": {"module": MLP((512, 512)), "epsilon": 0.1, "max_epochs": 3},
    "small net, large budget": {"module": MLP((64,)), "epsilon": 3.0, "max_epochs": 10},
}
MECHANISMS = {
    "DP-SGD": DPSGD(),
    "RGP, rank 16": RGP(rank=16),
    "RGP, rank 8, left carriers": RGP(rank=8, carriers="left"),
}


def images(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [-1, 1] and labels."""
    X, y = idx_images.read("fashion_mnist", part)
    return (X.reshape(-1, 784) / 127.5 - 1).astype(np.float32), y


def compare(setting: dict[str, Any], seeds: int) -> dict[str, dict]:
    """Test accuracy of every mechanism at its own best learning rate."""
    X, y = images("train")
    order = np.random.default_rng(0).permutation(len(X))
    train, valid = order[:ROWS], order[-5000:]
    X_test, y_test = images("t10k")

    def fitted(mechanism: Any, lr: float, seed: int) -> DPClassifier:
        model = DPClassifier(mechanism=mechanism, lr=lr, classes=range(10), feature_bounds=None, batch_size=1000,
                             max_grad_norm=1.0, random_state=seed, **setting)  # fmt: skip
        return model.fit(X[train], y[train])

    found = {}
    for name, mechanism in MECHANISMS.items():
        tried = {lr: [fitted(mechanism, lr, seed).score(X[valid], y[valid]) for seed in range(TRIES)] for lr in RATES}
        validation = {lr: statistics.mean(scores) for lr, scores in tried.items()}
        lr = max(validation, key=validation.get)
        start = time.perf_counter()
        scores = [fitted(mechanism, lr, seed).score(X_test, y_test) for seed in range(TRIES, TRIES + seeds)]
        found[name] = {
            "lr": lr,
            "accuracy": round(statistics.mean(scores), 4),
            "deviation": round(statistics.stdev(scores), 4) if seeds > 1 else None,
            "seconds": round((time.perf_counter() - start) / seeds, 1),
            "validation": {str(lr): round(score, 4) for lr, score in validation.items()},
        }
        print(name, found[name], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, nothing is written")
    options = parser.parse_args()
    if not (Path(os.environ.get("SKDP_DATA_DIR", "missing")) / "fashion_mnist").exists():
        print("Fashion-MNIST is not in SKDP_DATA_DIR: skipped")
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    seeds = 1 if options.quick else 5
    settings = {
        name: {
            "net": " - ".join(map(str, (784, *setting["module"].hidden_units, 10))),
            "epsilon": setting["epsilon"],
            "mechanisms": compare(setting, seeds),
        }
        for name, setting in SETTINGS.items()
    }
    if not options.quick:
        print(write("rgp_accuracy", {"rows": ROWS, "seeds": seeds, "settings": settings}))


if __name__ == "__main__":
    main()
