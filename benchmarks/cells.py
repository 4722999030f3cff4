"""Comparisons in cells of a table and an epsilon: the command line, and a file that is written after every cell."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence

import record

__all__ = ["run_cells"]


def run_cells(
    name: str,
    about: str,
    compare: Callable[[str, float, list[int]], dict],
    *,
    data: Sequence[str],
    epsilons: Sequence[float],
    seeds: str,
    quick: tuple[str, str, str],
) -> None:
    """Compare in every cell, and write ``results/<name>.json`` after each; cells that it holds are not run again.

    Parameters
    ----------
    name : str
    about : str
        What ``--help`` says.
    compare : callable
        ``compare(table, epsilon, seeds)`` gives the record of a cell, which has "data", "epsilon", "seeds" and
        "medians".
    data, epsilons
        Cells by default.
    seeds : str
        Of the splits by default, FIRST-LAST.
    quick : tuple of (data, epsilons, seeds)
        What ``--quick`` runs, into a file of its own.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--data", default=",".join(data))
    parser.add_argument("--epsilons", default=",".join(f"{e:g}" for e in epsilons))
    parser.add_argument("--seeds", default=seeds, help="of the splits, FIRST-LAST")
    parser.add_argument("--quick", action="store_true", help=f"seeds {quick[2]} of {quick[0]}")
    options, _ = parser.parse_known_args()
    if options.quick:
        name, (options.data, options.epsilons, options.seeds) = f"{name}-quick", quick
    first, _, last = options.seeds.partition("-")
    wanted = list(range(int(first), int(last or first) + 1))
    path = record.RESULTS / f"{name}.json"
    rows = json.loads(path.read_text())["results"] if path.exists() else []
    for table in options.data.split(","):
        for epsilon in map(float, options.epsilons.split(",")):
            if any((row["data"], row["epsilon"], row["seeds"]) == (table, epsilon, wanted) for row in rows):
                continue
            row = compare(table, epsilon, wanted)
            rows = [other for other in rows if (other["data"], other["epsilon"]) != (table, epsilon)] + [row]
            record.write(name, {"results": rows})
            shown = {kind: {k: round(v, 4) for k, v in found.items()} for kind, found in row["medians"].items()}
            print(table, epsilon, shown, flush=True)
