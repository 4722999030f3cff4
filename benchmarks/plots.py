"""Plots of committed figures; run it to save them beside the JSON, or import `draw`.

python benchmarks/plots.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  the backend is chosen before pyplot is imported
from matplotlib.figure import Figure  # noqa: E402

RESULTS = Path(__file__).parent / "results"
COLOURS = {"skdp": "#d1495b", "plain": "#888888", "opacus ghost": "#30638e", "opacus hooks": "#8fb8de"}
PEERS = ("#30638e", "#8fb8de", "#edae49", "#66a182", "#888888")


def accuracy(figures: dict) -> Figure:
    """Median score against epsilon, one panel for each data set."""
    names = list(dict.fromkeys(row["data"] for row in figures["results"]))
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.1 * columns, 2.7 * rows), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        records = sorted((r for r in figures["results"] if r["data"] == name), key=lambda r: r["epsilon"])
        epsilons = [record["epsilon"] for record in records]
        for place, model in enumerate(records[0]["medians"]):
            scores = [record["medians"][model]["score"] for record in records]
            colour = COLOURS.get(model, PEERS[(place - 1) % len(PEERS)])
            width = 2.2 if model == "skdp" else 1.2
            axis.plot(epsilons, scores, marker="o", markersize=3, linewidth=width, color=colour, label=model)
        best = max(record["medians"][model]["score"] for record in records for model in record["medians"])
        least = min(r["medians"][model]["score"] for r in records for model in ("skdp", r["best_peer"]))
        axis.set_ylim(least - 0.25 * (best - least) - 1e-3, best + 0.05 * (best - least) + 1e-3)
        axis.set(xscale="log", title=name.replace("_", " "), xlabel="epsilon", ylabel=records[0]["metric"])
        axis.set_xticks(epsilons, [f"{e:g}" for e in epsilons])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    return figure


def speed(figures: dict) -> Figure:
    """Time of a step over the plain torch step."""
    steps = figures["steps"]
    models = [model for model in next(iter(steps.values()))["contestants"] if model != "plain"]
    figure, axis = plt.subplots(figsize=(7, 3))
    for place, model in enumerate(models):
        ratios = [case["contestants"][model]["ratio_of_medians"] for case in steps.values()]
        where = [x + (place - 1) * 0.27 for x in range(len(steps))]
        bars = axis.bar(where, ratios, width=0.25, color=COLOURS.get(model, "#888888"), label=model)
        axis.bar_label(bars, fmt="%.2g", fontsize=7)
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(yscale="log", ylabel="step time over plain torch")
    axis.set_xticks(range(len(steps)), [f"{name}, batch {case['batch']}" for name, case in steps.items()])
    axis.legend(frameon=False)
    axis.margins(y=0.15)
    figure.tight_layout()
    return figure


def calibration(figures: dict) -> Figure:
    """Time of the search and of the certificate, and the noise that they cost, over all points."""
    columns = {name: place for place, name in enumerate(figures["columns"])}
    figure, (times, excess) = plt.subplots(1, 2, figsize=(8, 2.8))
    for name, colour in (("search_s", "#d1495b"), ("certificate_s", "#30638e")):
        values = sorted(1e3 * point[columns[name]] for point in figures["points"] if point[columns[name]])
        shares = [(place + 1) / len(values) for place in range(len(values))]
        times.plot(values, shares, color=colour, label=name.removesuffix("_s"))
    times.set(xscale="log", xlabel="milliseconds", ylabel="share of points")
    times.legend(frameon=False)
    values = sorted(100 * point[columns["excess"]] for point in figures["points"] if point[columns["excess"]])
    excess.plot(values, [(place + 1) / len(values) for place in range(len(values))], color="#d1495b")
    excess.set(xlabel="noise above the least possible, %", ylabel="share of points")
    excess.set_xlim(0, 0.2)
    for axis in (times, excess):
        axis.grid(alpha=0.3)
    figure.tight_layout()
    return figure


def clipping(figures: dict) -> Figure:
    """Score, log loss and calibration error against the clip norm at one pace, one column for each data set."""
    names = list(dict.fromkeys(row["data"] for row in figures["results"]))
    fields = {"score": None, "loss": "log loss", "ece": "ECE"}
    figure, axes = plt.subplots(3, len(names), figsize=(2.9 * len(names), 6.6), sharex=True, squeeze=False)
    for column, name in enumerate(names):
        records = [r for r in figures["results"] if r["data"] == name]
        kinds = list(dict.fromkeys(r["clipping"] for r in records))
        for axis, (field, label) in zip(axes[:, column], fields.items(), strict=True):
            for place, kind in enumerate(kinds):
                mine = [r for r in records if r["clipping"] == kind]
                # A late switch is drawn where it goes to; its clip norm until then is the smallest.
                where = [float(kind.rsplit(" ", 1)[1]) if "late" in kind else r["clip"] for r in mine]
                colour = ("#d1495b", "#30638e", "#8fb8de", "#8fb8de", "#edae49", "#66a182", "#888888")[place % 7]
                style = {"marker": "x" if "late" in kind else "o", "markersize": 4, "color": colour}
                axis.plot(where, [r["shared"][field] for r in mine], linewidth=1.5, label=kind, **style)
            axis.set(xscale="log", ylabel=label or records[0]["metric"])
            axis.grid(alpha=0.3)
        axes[0, column].set_title(name)
        axes[2, column].set_xlabel("clip norm")
        for axis, field in zip(axes[:, column], fields, strict=True):  # global clipping may leave the panel
            seen = [r["shared"][field] for r in records if r["clipping"] != "global"]
            margin = 0.1 * (max(seen) - min(seen))
            axis.set_ylim(min(seen) - margin, max(seen) + margin)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    return figure


def mechanisms(figures: dict) -> Figure:
    """Median test accuracy against epsilon, one panel for each data set; published figures are dotted."""
    names = list(dict.fromkeys(row["data"] for row in figures["results"]))
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 3.4), squeeze=False)
    models = list(dict.fromkeys(row["mechanism"] for row in figures["results"]))
    colours = dict(zip(models, ("#d1495b", *PEERS, "#b07aa1", "#7a5195", "#c97b84"), strict=True))
    for axis, name in zip(axes.flat, names, strict=True):
        records = [row for row in figures["results"] if row["data"] == name]
        for model in models:
            mine = sorted((r["epsilon"], 100 * r["accuracy"]) for r in records if r["mechanism"] == model)
            axis.plot(
                *zip(*mine, strict=True), marker="o", markersize=3, color=colours[model], label=model
            ) if mine else 0
        for dots, row in zip((":", "--", "-."), (r for r in figures["published"] if r["data"] == name), strict=False):
            label = f"published: {row['recipe']}"
            axis.plot((1, 2, 3, 4), row["accuracy"], dots, color="black", linewidth=0.9, label=label)
        good = [100 * r["accuracy"] for r in records if r["mechanism"] not in ("neuraldp", "dp-sgd, batch of DPIS")]
        axis.set_ylim(min(good) - 1, max(good) + 1)  # what lies far below leaves the panel, and stands in the table
        axis.set(title=name.replace("_", " "), xlabel="epsilon", ylabel="test accuracy, %")
        axis.grid(alpha=0.3)
    found = {}
    for axis in axes.flat:
        found |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(found.values(), found.keys(), loc="lower center", ncols=4, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.2, 1, 1))
    return figure


def calibration_repair(figures: dict) -> Figure:
    """Log loss and calibration error of each contender, one column for each data set."""
    names = list(dict.fromkeys(row["data"] for row in figures["results"]))
    contenders = list(dict.fromkeys(row["contender"] for row in figures["results"]))[::-1]
    figure, axes = plt.subplots(2, len(names), figsize=(2.1 * len(names) + 3.2, 5.6), sharey=True, squeeze=False)
    for column, name in enumerate(names):
        found = {row["contender"]: row for row in figures["results"] if row["data"] == name}
        for axis, field, label in zip(axes[:, column], ("loss", "ece"), ("log loss", "ECE"), strict=True):
            values = [found[contender][field] for contender in contenders]
            colours = ["#888888" if "exact" in c else "#d1495b" if "DP" in c else "#30638e" for c in contenders]
            axis.scatter(values, range(len(contenders)), c=colours, s=18)
            # Global clipping may leave the panel.
            seen = [v for c, v in zip(contenders, values, strict=True) if "global" not in c]
            margin = 0.08 * (max(seen) - min(seen))
            axis.set(xlabel=label, xlim=(min(values) - margin, max(seen) + margin))
            axis.set_yticks(range(len(contenders)), contenders, fontsize=7)
            axis.grid(alpha=0.3)
        axes[0, column].set_title(name)
    figure.tight_layout()
    return figure


def draw(name: str) -> Figure | None:
    """The plot of ``results/<name>.json``, or None where that was not measured."""
    path = RESULTS / f"{name}.json"
    return KINDS[name](json.loads(path.read_text())) if path.exists() else None


KINDS = {
    "accuracy": accuracy,
    "speed": speed,
    "calibration": calibration,
    "clipping": clipping,
    "calibration_repair": calibration_repair,
    "mechanisms": mechanisms,
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        if (plot := draw(kind)) is not None:
            plot.savefig(folder / f"{kind}.svg")
            plot.savefig(folder / f"{kind}.png", dpi=110)
