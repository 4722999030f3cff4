"""Does a larger clip norm, global clipping or a late switch calibrate better at the same noise multiplier? And DPIS?

    SKDP_DATA_DIR=/path/to/data python benchmarks/clipping.py [--fits 3] [--epsilon 3] [--quick]

One net (a perceptron with one hidden layer), one rate, number of steps and noise multiplier per data set; only how
gradients are clipped differs. The learning rate is pace / clip norm. The pace of a data set is the one with the best
score (area under the curve, or accuracy) of the smallest clip norm on a fifth of the training rows that is held out for
this; it is then kept for all clip norms, as the claim has it, and chosen anew for each by log loss on the same held-out
rows, to see what is left of the claim then. Then the test rows are looked at. Medians are over fits with initial
weights and noise of their own. Data sets that are not found are skipped.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass, field

import accuracy
import idx_images
import numpy as np
import pandas as pd
import record
import torch
from sklearn.model_selection import train_test_split

from skdp import DPClassifier
from skdp.accounting import calibrate
from skdp.contract import Public
from skdp.mechanisms import DPIS, DPSGD, Mechanism

DATA = ("adult", "credit", "pneumonia", "fashion")
METRICS = {"adult": "auc", "credit": "auc", "pneumonia": "auc", "fashion": "accuracy", "breast_cancer": "auc"}
PACES = (0.1, 0.3, 0.9)
RATE, EPOCHS, LATE, MOST_ROWS = 0.05, 15, 0.9, 20_000


@dataclass(frozen=True)
class Setting:
    """How gradients are clipped."""

    name: str
    clip: float
    clipping: str = "flat"
    mechanism: Mechanism = field(default=DPSGD(), compare=False)

    def fit(self, data: dict, noise: float, pace: float, seed: int) -> DPClassifier:
        """A model whose learning rate is the pace in units of the clip norm."""
        model = DPClassifier(
            "mlp", mechanism=self.mechanism, clipping=self.clipping, max_grad_norm=self.clip, lr=pace / self.clip,
            epsilon=None, noise_multiplier=noise, delta=data["delta"], batch_size=round(RATE * len(data["y"])),
            max_epochs=EPOCHS, average=1 - LATE, classes=np.unique(data["y"]), feature_bounds=data["columns"],
            random_state=seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.fit(data["X"], data["y"])


SETTINGS = (
    *(Setting("flat", clip) for clip in (0.1, 0.3, 1.0, 3.0, 10.0)),
    *(Setting("global", clip, "global") for clip in (3.0, 10.0)),
    *(
        Setting(f"flat, late {late:g}", 0.1, mechanism=DPSGD(switch_at=LATE, late_max_grad_norm=late))
        for late in (1.0, 10.0)
    ),
    Setting("DPIS", 1.0, mechanism=DPIS()),
    *(
        Setting(f"DPIS, {kept:g} kept", clip, mechanism=DPIS(adaptive_clip=True, kept_fraction=kept))
        for clip, kept in ((1.0, 0.3), (1.0, 0.8), (10.0, 0.3))
    ),
)


# ------------------------------------------------------------------ data
def table(name: str) -> tuple[pd.DataFrame, list[str], np.ndarray]:
    """As in the accuracy benchmark, and 15,000 images of clothes as means of two by two pixels."""
    if name != "fashion":
        return accuracy.table(name)
    images, labels = (part[:15000] for part in idx_images.read("fashion_mnist"))
    small = images.reshape(-1, 14, 2, 14, 2).mean((2, 4))
    return pd.DataFrame(small.reshape(len(small), -1)).rename(columns=str), [], labels


def fewer(raw: tuple) -> tuple:
    """At most `MOST_ROWS` rows, so that the whole takes minutes."""
    frame, categorical, target = raw
    rows = np.random.default_rng(0).permutation(len(target))[:MOST_ROWS]
    return frame.iloc[rows].reset_index(drop=True), categorical, target[rows]


def split(raw: tuple, name: str, seed: int) -> dict:
    """One split with public bounds per column; `accuracy.split` reads the metric from its own list."""
    accuracy.TASKS.setdefault(name, METRICS[name])
    data = accuracy.split(raw, name, seed)
    return data | {"columns": np.where(data["mask"][:, None], (0.0, 1.0), (-1.0, 1.0))}


def held_out(data: dict) -> dict:
    """The training rows alone, a fifth of them in the place of the test rows."""
    X, X_test, y, y_test = train_test_split(data["X"], data["y"], test_size=0.2, random_state=0, stratify=data["y"])
    return data | {"X": X, "y": y, "X_test": X_test, "y_test": y_test}


def noise_multiplier(data: dict, epsilon: float) -> float:
    """Of every fit on the data."""
    classes = len(np.unique(data["y"]))
    outputs, task = (1, "binary") if classes == 2 else (classes, "multiclass")
    public = Public(n=len(data["y"]), input_shape=data["X"].shape[1:], n_outputs=outputs, task=task)
    model = DPClassifier("mlp", batch_size=round(RATE * len(data["y"])), max_epochs=EPOCHS, feature_bounds=(-1, 1),
                         delta=data["delta"], epsilon=epsilon)  # fmt: skip
    return calibrate(lambda scale: model.privacy_charge(public, scale), epsilon, data["delta"]).scale


# ------------------------------------------------------------------ the comparison
def compare(name: str, fits: int, epsilon: float) -> list[dict]:
    """One row of medians for each setting."""
    data = split(fewer(table(name)), name, seed=0)
    trial, noise = held_out(data), noise_multiplier(data, epsilon)

    def evaluate(setting: Setting, on: dict, pace: float, seed: int = 0) -> dict[str, float]:
        return accuracy.scores(on, setting.fit(on, noise, pace, seed).predict_proba(on["X_test"]))

    tried = {s: {pace: evaluate(s, trial, pace) for pace in PACES} for s in SETTINGS}
    shared = max(PACES, key=lambda pace: tried[SETTINGS[0]][pace]["score"])
    rows = []
    for setting in SETTINGS:
        own = min(PACES, key=lambda pace: tried[setting][pace]["loss"])
        found = {pace: [evaluate(setting, data, pace, seed) for seed in range(fits)] for pace in {shared, own}}
        medians = {
            how: {f: float(np.median([scores[f] for scores in found[pace]])) for f in found[pace][0]} | {"pace": pace}
            for how, pace in (("shared", shared), ("own", own))
        }
        shown = (
            f"{how} pace {m['pace']:g}: {m['score']:.4f} {m['loss']:.4f} {m['ece']:.4f}" for how, m in medians.items()
        )
        print(f"{name:10s} {setting.name:16s} {setting.clip:<4g}", *shown, sep="  ", flush=True)
        rows.append({
            "data": name, "metric": METRICS[name], "clipping": setting.name, "clip": setting.clip,
            "noise_multiplier": noise, "rows": len(data["y"]), **medians,
            "ranges": {f: [min(v), max(v)] for f in ("score", "loss", "ece")
                       for v in [[scores[f] for scores in found[shared]]]},
        })  # fmt: skip
    return rows


def main() -> None:
    """Run the comparison and write ``results/clipping.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=3, help="of each setting on each data set")
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--quick", action="store_true", help="small bundled data, one fit")
    options, _ = parser.parse_known_args()
    output = "clipping"
    if options.quick:
        options.fits, options.data, output = 1, "breast_cancer", "clipping-quick"
    torch.set_num_threads(1)
    notes: list[str] = []
    rows: list[dict] = []
    start = time.process_time()
    for name in options.data.split(","):
        try:
            rows += compare(name, options.fits, options.epsilon)
        except FileNotFoundError as error:
            notes.append(f"{name} was left out: {error.filename} not found; set SKDP_DATA_DIR")
    figures = {
        "epsilon": options.epsilon,
        "rate": RATE,
        "epochs": EPOCHS,
        "switch_at": LATE,
        "paces": PACES,
        "fits": options.fits,
    }
    figures |= {"processor_seconds": round(time.process_time() - start), "notes": notes, "results": rows}
    print(record.write(output, figures))


if __name__ == "__main__":
    main()
