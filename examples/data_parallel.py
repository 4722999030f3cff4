"""One model trained by several processes, each with its own part of the rows.

torchrun --nproc-per-node 2 examples/data_parallel.py
"""

from __future__ import annotations

import torch

from skdp import DPClassifier
from skdp.datasets import load_adult
from skdp.distributed import process_group
from skdp.preprocessing import SchemaEncoder


def main() -> None:
    """Train on the shards of all processes, and score once."""
    torch.set_num_threads(1)
    adult = load_adult()
    with process_group(timeout=120) as ranks:
        # Here every process could read all rows; usually it reads a file of its own.
        mine = slice(ranks.rank, None, ranks.size)
        X, y = adult.X_train[mine], adult.y_train[mine]
        encoder = SchemaEncoder(adult.schema.without("fnlwgt")).fit(X)  # by public knowledge alone
        model = DPClassifier(epsilon=1.0, classes=["<=50K", ">50K"], feature_bounds=(-1, 1), random_state=0)
        model.fit(encoder.transform(X), y)
        print(f"rank {ranks.rank}: {len(X)} of {model.privacy_.n} rows")
        if ranks.rank == 0:
            print(f"epsilon {model.privacy_.epsilon:.3f} for all {model.privacy_.n} rows together")
            print(f"accuracy on the test rows: {model.score(encoder.transform(adult.X_test), adult.y_test):.3f}")


if __name__ == "__main__":
    main()
