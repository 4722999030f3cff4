"""What a private search gains or loses against the default recipe at the same total epsilon.

    SKDP_DATA_DIR=/path/to/data python benchmarks/private_search.py [--seeds 0-2] [--epsilons 1,4] [--quick]

The default recipe spends the whole budget on one fit of all training rows. `DPSearchCV` spends the same budget on
everything: the trials, which train on four fifths of the rows, and the noisy scores that choose among them.
"narrow" tries the kind of net alone, "wide" learning rate, clip norm and net; half of their trials are the recipe
itself. "own" starts from a net that is not the best one, a perceptron 64 wide, draws all trials from the nets of
"narrow", and is compared with a single fit of the perceptron ("net"). All numbers are from test rows that
nothing was chosen on. Tables are cut to `ROWS` training rows; `WHOLE` ones are measured uncut as well.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import record
import torch
from accuracy import scores, table
from plan_verdict import cut, estimator, prior_output

from skdp.model_selection import DPSearchCV
from skdp.nets import MLP

DATA = ("adult", "credit", "wine")
WHOLE = ("adult",)
EPSILONS = (1.0, 4.0)
ROWS = 4000
NETS = ["linear", None, MLP(hidden_units=(16,)), MLP(hidden_units=(64,))]
RATES = {"lr": ["auto", 0.03, 0.1, 0.3, 1.0], "max_grad_norm": ["auto", 0.3, 1.0, 3.0]}
# What a single fit and a search start from, what is tried, how often on average, and the share of unchanged trials.
SEARCHES = {
    "narrow": ("default", {"module": NETS}, 5, 0.5),
    "wide": ("default", {"module": NETS} | RATES, 8, 0.5),
    "own": ("net", {"module": NETS}, 5, 0.0),
}
STARTS = {"default": None, "net": MLP(hidden_units=(64,))}


def measured(data: dict, model: object) -> dict[str, float]:
    """Scores of a fitted model on test rows."""
    regression = data["task"] == "r2"
    return scores(data, model.predict(data["X_test"]) if regression else model.predict_proba(data["X_test"]))


def contestants(data: dict, epsilon: float) -> dict[str, dict[str, float]]:
    """Test scores of the default recipe and of each search."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {"prior": scores(data, prior_output(data))}
        for name, net in STARTS.items():
            found[name] = measured(data, estimator(data, epsilon, net).fit(data["X"], data["y"]))
        for name in SEARCHES:
            found[name] = searched(data, epsilon, name)
    return found


def searched(data: dict, epsilon: float, name: str) -> dict:
    """Test scores of a search, and what it chose."""
    start, space, trials, unchanged = SEARCHES[name]
    search = DPSearchCV(
        estimator(data, epsilon, STARTS[start]), space, epsilon=epsilon, mean_trials=trials, unchanged_share=unchanged
    ).fit(data["X"], data["y"])
    chosen = {key: _name(value) for key, value in search.best_params_.items()} or "unchanged"
    return measured(data, search) | {"chosen": chosen}


def row_of(name: str, epsilon: float, data: dict, runs: list[dict]) -> dict:
    """Medians over splits, and the median of what each search gains on the same split over what it starts from."""
    medians = {
        kind: {field: float(np.median([run[kind][field] for run in runs])) for field in ("score", "loss")}
        for kind in runs[0]
    }
    gains = {
        kind: {
            "score": float(np.median([run[kind]["score"] - run[start]["score"] for run in runs])),
            "loss": float(np.median([run[start]["loss"] - run[kind]["loss"] for run in runs])),
            "wins": sum(run[kind]["loss"] < run[start]["loss"] for run in runs),
        }
        for kind, (start, *_) in SEARCHES.items()
    }
    return {"data": name, "metric": data["task"], "epsilon": epsilon, "rows": len(data["y"]), "splits": len(runs),
            "medians": medians, "gains": gains, "runs": runs}  # fmt: skip


def main() -> None:
    """Run the comparison and write ``results/private_search.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0-2", help="split seeds, FIRST-LAST")
    parser.add_argument("--epsilons", default=",".join(map(str, EPSILONS)))
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--output", default="private_search", help="name of the file in results/")
    parser.add_argument("--quick", action="store_true", help="a small bundled table, two splits, one epsilon")
    options, _ = parser.parse_known_args()
    if options.quick:
        options.seeds, options.epsilons, options.data = "0-1", "1", "breast_cancer"
        options.output = "private_search-quick"
    torch.set_num_threads(1)
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    rows = []
    names = options.data.split(",")
    for name, most in [(n, ROWS) for n in names] + [(n, 10**9) for n in names if n in WHOLE]:
        raw = table(name)
        cuts = [cut(raw, name, most, seed) for seed in seeds]
        for epsilon in map(float, options.epsilons.split(",")):
            start = time.perf_counter()
            rows.append(row_of(name, epsilon, cuts[0], [contestants(data, epsilon) for data in cuts]))
            losses = {kind: round(fields["loss"], 4) for kind, fields in rows[-1]["medians"].items()}
            seconds = time.perf_counter() - start
            print(f"{name} n {rows[-1]['rows']} epsilon {epsilon:g} loss {losses} {seconds:.0f} s", flush=True)
            record.write(options.output, {"seeds": list(seeds), "searches": _spaces(), "results": rows})


def _name(value: object) -> str:
    """A candidate's value in words."""
    if isinstance(value, MLP):
        return f"MLP, {value.hidden_units[0]} wide"
    return "default" if value is None else str(value)


def _spaces() -> dict:
    """The searches in words."""
    return {
        name: {"starts_from": start, "unchanged_share": unchanged, "mean_trials": trials, "trials": "logarithmic"}
        | {key: list(map(_name, v)) for key, v in space.items()}
        for name, (start, space, trials, unchanged) in SEARCHES.items()
    }


if __name__ == "__main__":
    main()
