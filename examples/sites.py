"""One linear model over hospitals that show no row to each other: each runs this with a file of its own.

torchrun --nproc-per-node 2 examples/sites.py  # two sites on one machine, with made-up rows
"""

from __future__ import annotations

import argparse
import os

import numpy as np
import pandas as pd

from skdp.distributed import process_group
from skdp.linear_model import DPADMMClassifier

# What all sites agreed on before anybody looked at a row.
BOUNDS = {"age": (0, 110), "pressure": (60, 220), "smoker": (0, 1)}
LABELS = [0, 1]


def read(path: str | None, rank: int) -> pd.DataFrame:
    """The rows of this site."""
    if path is not None:
        return pd.read_csv(path)
    rng = np.random.default_rng(rank)
    n = 3000 + 2000 * rank
    frame = pd.DataFrame({
        "age": rng.uniform(20, 100, n), "pressure": rng.normal(130 + 10 * rank, 20, n), "smoker": rng.integers(0, 2, n),
    })  # fmt: skip
    risk = 0.06 * (frame["age"] - 60) + 0.03 * (frame["pressure"] - 135) + frame["smoker"] - 0.5
    return frame.assign(ill=(risk + rng.logistic(size=n) > 0).astype(int))


def main() -> None:
    """Train with the other sites, go on where a stopped training ended, and keep the common model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", help="CSV file of this site")
    parser.add_argument("--site", help="name of this site")
    parser.add_argument("--epsilon", type=float, default=1.0, help="budget of this site's rows")
    parser.add_argument("--store", help="file that lets this site go on after a crash")
    options = parser.parse_args()
    rows = read(options.file, int(os.environ["RANK"]))
    with process_group(timeout=300) as ranks:
        model = DPADMMClassifier(
            epsilon=options.epsilon,
            classes=LABELS,
            feature_bounds=list(BOUNDS.values()),
            engine="torch.distributed",
            site=options.site,
            store=options.store,
        )
        model.fit(rows[list(BOUNDS)], rows["ill"])
        name = options.site or str(ranks.rank)
        own = model.privacy_by_site_[name].epsilon
        print(f"site {name}: {len(rows)} of {model.privacy_.n} rows, which paid epsilon {own:.3f}")
        print(f"coefficients {model.coef_.round(3).tolist()}")


if __name__ == "__main__":
    main()
