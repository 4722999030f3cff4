"""How much of a budget `DPTableVectorizer` should get, and whether quantiles of numeric columns are worth their price.

    SKDP_DATA_DIR=/path/to/data python benchmarks/preprocessing.py [--seeds 3] [--rows 18000] [--epsilon 1]

Each model is a `DPClassifier` with its defaults, trained with what the vectorizer left of epsilon; log loss and AUC are
those of 5,000 validation rows. A quarter of the rows is never looked at. A share is a part of the squared signal, the
square of the Gaussian-DP parameter. Data sets that are not found are skipped.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import record
from dp_accounting import dp_event
from sklearn.metrics import log_loss, roc_auc_score

from skdp import DPClassifier
from skdp.accounting import epsilon as epsilon_of
from skdp.accounting import noise_multiplier
from skdp.datasets import load_adult
from skdp.preprocessing import DPQuantileTransformer, DPTableVectorizer, SchemaEncoder

SHARES = (0.03, 0.05, 0.1, 0.3)
QUANTILE_SHARE, OF_THAT = 0.1, 0.3
VALIDATION, DELTA = 5000, 1e-6


def tables():
    """Name, raw columns, labels of 0 and 1, and the public schema where there is one."""
    adult, root = load_adult(), Path(os.environ.get("SKDP_DATA_DIR", "missing"))
    yield (
        "adult",
        adult.X_train.drop(columns="fnlwgt"),
        adult.y_train == adult.classes[1],
        adult.schema.without("fnlwgt"),
    )
    path = root / "credit_default/UCI_Credit_Card.csv.gz"
    if path.exists():
        frame = pd.read_csv(path).drop(columns="ID")
        yield "credit default", frame.iloc[:, :-1], frame.iloc[:, -1] == 1, None
    path = root / "diabetes130/diabetic_data.csv.gz"
    if path.exists():
        frame = pd.read_csv(path, na_values=["?"], keep_default_na=False, low_memory=False)
        frame = frame.drop_duplicates("patient_nbr").drop(columns=["patient_nbr", "encounter_id"])
        yield "readmission", frame.drop(columns="readmitted"), frame["readmitted"] != "NO", None


def divided(epsilon: float, share: float) -> tuple[float, float]:
    """Noise multiplier of a share, and the epsilon that is left."""
    signal = 1 / noise_multiplier(epsilon, DELTA)
    rest = dp_event.GaussianDpEvent(1 / (signal * (1 - share) ** 0.5))
    return 1 / (signal * share**0.5), epsilon_of(rest, DELTA, "zero-out")


def encoded(how: str, share: float, epsilon: float, train: pd.DataFrame, other: pd.DataFrame, schema):
    """Both tables as numbers, public bounds where there are any, and what is left of epsilon."""
    if how == "schema":
        encoder = SchemaEncoder(schema).fit(train)
        return encoder.transform(train), encoder.transform(other), encoder.output_bounds_, epsilon
    noise, rest = divided(epsilon, share)
    part = 1 - OF_THAT if how == "quantiles" else 1.0
    vectorizer = DPTableVectorizer(epsilon=None, noise_multiplier=noise / part**0.5, delta=DELTA).fit(train)
    train, other = vectorizer.transform(train), vectorizer.transform(other)
    if how == "quantiles":
        numeric = train.columns[~vectorizer.binary_features_]
        even = DPQuantileTransformer(
            feature_bounds=(-1, 1), epsilon=None, noise_multiplier=noise / OF_THAT**0.5, delta=DELTA
        ).fit(train[numeric])
        for table in (train, other):
            table[numeric] = 2 * even.transform(table[numeric]) - 1
    return train, other, None, rest


def scores(how, share, epsilon, rows, seed, X, y, schema) -> tuple[float, float]:
    """Log loss and AUC of validation rows."""
    order = np.random.default_rng(0).permutation(len(X))
    validation, pool = order[:VALIDATION], order[VALIDATION + len(X) // 4 :]
    train = np.random.default_rng(seed).permutation(pool)[:rows]
    A, B, bounds, rest = encoded(how, share, epsilon, X.iloc[train], X.iloc[validation], schema)
    model = DPClassifier(epsilon=rest, delta=DELTA, classes=[False, True], feature_bounds=bounds)
    probability = model.fit(A, y.iloc[train]).predict_proba(B)[:, 1]
    return log_loss(y.iloc[validation], probability), roc_auc_score(y.iloc[validation], probability)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=18_000)
    parser.add_argument("--epsilon", type=float, default=1.0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    contestants = [("ranges", share) for share in SHARES] + [("quantiles", QUANTILE_SHARE)]
    results = []
    for name, X, y, schema in tables():
        for how, share in contestants + [("schema", 0.0)] * (schema is not None):
            seen = [
                scores(how, share, options.epsilon, options.rows, seed, X, y, schema) for seed in range(options.seeds)
            ]
            loss, auc = np.mean(seen, axis=0)
            spread = float(np.std([one for one, _ in seen], ddof=1) / len(seen) ** 0.5) if len(seen) > 1 else None
            results.append({"table": name, "numbers": how, "share": share, "log_loss": float(loss),
                            "standard_error": spread, "auc": float(auc)})  # fmt: skip
            print(f"{name:15} {how:10} {share:4} log loss {loss:.4f} AUC {auc:.4f}", flush=True)
    settings = {"rows": options.rows, "epsilon": options.epsilon, "delta": DELTA, "seeds": options.seeds}
    record.write("preprocessing", {**settings, "results": results})


if __name__ == "__main__":
    main()
