"""The command ``skdp predict``: what a saved model says about the rows of a file, piece by piece."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skdp.cli.column_facts import check_names
from skdp.cli.errors import UsageError, check_writable
from skdp.cli.model_files import load_model
from skdp.cli.table_files import TableFile

__all__ = ["run"]

_EXPECTED = {
    "numeric": "numbers, such as 1234.5",
    "date": "dates, such as 2024-12-31",
    "boolean": "truth values: true/false, yes/no or 1/0",
}


def run(arguments: argparse.Namespace) -> bool:
    """Predict and write CSV.

    Parameters
    ----------
    arguments : argparse.Namespace
        With `model`, `file`, `out` and `delimiter`.

    Returns
    -------
    bool
        True.

    Raises
    ------
    UsageError
        A file cannot be read or written, or lacks a column that the model needs.
    """
    if arguments.out is not None:
        check_writable("--out", arguments.out)
    model = load_model(arguments.model)
    file = TableFile(arguments.file, arguments.delimiter)
    kinds, categories = _columns(model)
    check_names(f"the model in {arguments.model!r}", kinds, file.kinds)
    unread: Counter[str] = Counter()
    try:
        if arguments.out is None:
            for first, piece in _predictions(model, file, kinds, categories, unread):
                piece.to_csv(sys.stdout, header=first, index=False)
            _tell(unread, kinds)
            return True
        # Whole or not at all: an interrupted run must not look like a finished one.
        part = f"{arguments.out}.part"
        try:
            with open(part, "w", encoding="utf-8", newline="") as out:
                for first, piece in _predictions(model, file, kinds, categories, unread):
                    piece.to_csv(out, header=first, index=False)
            os.replace(part, arguments.out)
        finally:
            Path(part).unlink(missing_ok=True)
        _tell(unread, kinds)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return True


def _columns(model: Any) -> tuple[dict[str, str], dict[str, tuple]]:
    """Kinds of the columns that a model was fitted on, and declared categories."""
    from skdp.preprocessing import DPTableVectorizer, SchemaEncoder

    first = model.steps[0][1] if hasattr(model, "steps") else model
    if isinstance(first, DPTableVectorizer):
        lists = {name: tuple(known) for name, known in first.columns_.items() if isinstance(known, list)}
        return dict(first.kinds_), {name: known for name, known in lists.items() if first.kinds_[name] == "categorical"}
    if isinstance(first, SchemaEncoder):
        return {c.name: c.kind for c in first.schema}, {c.name: c.categories for c in first.schema if c.categories}
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        raise UsageError("the model was fitted on columns without names, so they cannot be found in a file")
    return dict.fromkeys(map(str, names), "numeric"), {}


def _tell(unread: Counter[str], kinds: dict[str, str]) -> None:
    """How many cells the model took as missing, although something stands there.

    They are counted exactly, which gives away no more than the predictions do: both are functions of the rows that the
    user asked about, for the user alone, and no training row is among them.
    """
    for name, cells in (+unread).items():
        what = "1 cell was" if cells == 1 else f"{cells} cells were"
        print(
            f"warning: column {name!r}: {what} taken as missing; the model expects {_EXPECTED[kinds[name]]}",
            file=sys.stderr,
        )


def _predictions(
    model: Any, file: TableFile, kinds: dict, categories: dict, unread: Counter[str]
) -> Iterator[tuple[bool, pd.DataFrame]]:
    """Whether it is the first, and a piece of predictions with the probability of each class."""
    first = True
    for piece in file.pieces(kinds, categories, unread):
        found = pd.DataFrame({"prediction": np.asarray(model.predict(piece)).tolist()})
        if hasattr(model, "predict_proba"):
            for label, column in zip(model.classes_, np.asarray(model.predict_proba(piece)).T, strict=True):
                found[f"probability of {label}"] = np.round(column.astype(float), 6)
        yield first, found
        first = False
