"""A user's file as a data set: what is public of it, which rows train, and what had to be read off the values."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skdp.cli.column_facts import IDENTIFIER, ColumnFacts, check_names, facts_of_file
from skdp.cli.column_names import named_like_dates, named_like_identifiers
from skdp.cli.errors import UsageError
from skdp.cli.table_files import TableFile
from skdp.preprocessing import Column

__all__ = ["OwnTable", "is_test_row", "load"]

MOST_CLASSES = 100
TEST_SHARE = 0.2
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, eq=False)
class OwnTable:
    """A file, read and split.

    Parameters
    ----------
    name : str
        Its path.
    X_train, X_test : DataFrame
        Typed columns.
    y_train, y_test : Series
        Labels as text, missing ones empty.
    classes : tuple of str
    knowledge : dict of str to Column
        What is public of columns.
    looked : tuple of str
        What was read off the values although it is not protected, in words.
    classes_are_public : bool
    advice : tuple of str
        What the names of columns suggest, in words.
    """

    name: str
    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: pd.Series
    y_test: pd.Series
    classes: tuple[str, ...]
    knowledge: Mapping[str, Column]
    looked: tuple[str, ...]
    classes_are_public: bool
    advice: tuple[str, ...] = ()

    @property
    def megabytes(self) -> float:
        """Memory that the typed columns take."""
        parts = (self.X_train, self.X_test)
        return sum(int(part.memory_usage(deep=True).sum()) for part in parts) / 1e6


def is_test_row(positions: np.ndarray) -> np.ndarray:
    """Whether rows are held out, by their position in the file alone: one in five, and no period of the file is hit.

    Parameters
    ----------
    positions : ndarray of int
        From 0.

    Returns
    -------
    ndarray of bool

    Examples
    --------
    >>> is_test_row(np.arange(1000)).sum()
    np.int64(200)
    """
    return (positions * _GOLDEN) % 1 < TEST_SHARE


def load(arguments: argparse.Namespace) -> OwnTable:
    """Read a file as its schema says.

    Parameters
    ----------
    arguments : argparse.Namespace
        With `name`, `target`, `schema`, `drop`, `keep`, `delimiter` and `classes`.

    Returns
    -------
    OwnTable

    Raises
    ------
    UsageError
        The file is no table, a column is not there, or the target holds no classes.
    """
    file = TableFile(arguments.name, arguments.delimiter)
    if arguments.target is None:
        raise UsageError(f"--target COLUMN is missing; the columns are: {', '.join(file.kinds)}")
    facts = {} if arguments.schema is None else facts_of_file(arguments.schema)
    check_names("--target", [arguments.target], file.kinds)
    check_names("--drop", arguments.drop, file.kinds)
    check_names("--keep", arguments.keep, file.kinds)
    check_names(f"--schema {arguments.schema!r}", facts, file.kinds)
    identifiers = [name for name, about in facts.items() if about.kind == IDENTIFIER]
    # As a schema that `skdp schema` made would have it; a schema that is there says by itself what is used.
    guessed = [name for name in named_like_identifiers(file.kinds) if not facts and name not in arguments.keep]
    unused = {arguments.target, *arguments.drop, *identifiers, *guessed}
    used = [name for name in (facts or file.kinds) if name not in unused]
    if not used:
        left_out = f"; {_named(guessed)} are named like identifiers, --keep COLUMN uses one" if guessed else ""
        raise UsageError(f"no column is left to predict {arguments.target!r} from{left_out}")
    target = facts.get(arguments.target, ColumnFacts(arguments.target))
    public_classes = _public_classes(arguments.classes, target)

    kinds = {name: (facts[name].kind if name in facts else None) or file.kinds[name] for name in used}
    unknown = [name for name, kind in kinds.items() if kind is None]
    kinds |= file.guessed_kinds(unknown)
    looked = [f"the kinds of columns {', '.join(map(repr, unknown))} (read off the values)"] if unknown else []
    knowledge = {name: facts[name].knowledge for name in used if name in facts and facts[name].knowledge}
    categories = {name: column.categories for name, column in knowledge.items()} | {target.name: public_classes}

    stated = [name for name in used if name in arguments.keep or (name in facts and facts[name].kind)]
    guessed = [name for name in guessed if name not in (arguments.target, *arguments.drop)]
    advice = tuple(_advice(kinds, stated, knowledge, guessed))

    train, test = _read(file, kinds | {target.name: "categorical"}, categories)
    labels = [part.pop(target.name).astype(object).where(lambda cells: cells.notna(), "") for part in (train, test)]
    if not len(train) or not len(test):
        raise UsageError(
            f"{arguments.name!r} has {len(train) + len(test)} rows, which are too few to train and to test"
        )
    classes = public_classes or _found_classes(target.name, labels)
    if not public_classes:
        advice += _numbers_as_classes(target.name, classes)
        looked.append(f"the classes of {target.name!r} (read off the values)")
    return OwnTable(arguments.name, train, test, *labels, classes, knowledge, tuple(looked), bool(public_classes),
                    advice)  # fmt: skip


def _named(names: Iterable[str]) -> str:
    return f"columns {', '.join(map(repr, names))}"


def _advice(
    kinds: Mapping[str, str], stated: list[str], knowledge: Mapping[str, Column], left_out: list[str]
) -> Iterator[str]:
    """By names and kinds of columns alone; what a schema states is not doubted, but dates as categories are."""
    if left_out:
        yield (
            f"{_named(left_out)} are left out, because they are named like identifiers, which cost budget and tell a "
            "model nothing; --keep COLUMN uses one, and so does a schema with its kind"
        )
    named = [name for name in named_like_identifiers(kinds) if name not in stated]
    if named:
        yield (
            f"{_named(named)} are named like identifiers, which cost budget and tell a model "
            "nothing; leave them out with --drop, or state their kind in a schema"
        )
    dates = [name for name in named_like_dates(kinds) if kinds[name] == "categorical" and name not in knowledge]
    if dates:
        yield (
            f"{_named(dates)} are named like dates, and are used as categories, one for each "
            'different text; if they hold YYYY-MM-DD, give them "kind": "date" in a schema, and if not, "categories"'
        )


def _public_classes(given: str | None, target: ColumnFacts) -> tuple[str, ...]:
    """Classes by ``--classes`` or the schema, as text; empty where neither tells."""
    if given is not None:
        classes = tuple(sorted({label.strip() for label in given.split(",")} - {""}))
        if len(classes) < 2:
            raise UsageError(f"--classes {given!r} must name two classes or more, as in --classes no,yes")
        return classes
    if target.knowledge is not None and target.knowledge.kind == "categorical":
        return tuple(sorted({str(label) for label in target.knowledge.categories}))
    if target.kind in ("numeric", "date"):
        raise UsageError(_continuous(target.name, f"is {target.kind} by the schema"))
    return ()


def _found_classes(name: str, labels: Iterable[pd.Series]) -> tuple[str, ...]:
    found = sorted(set().union(*(part.unique() for part in labels)) - {""})
    if len(found) > MOST_CLASSES:
        raise UsageError(_continuous(name, f"has more than {MOST_CLASSES} different values"))
    if len(found) < 2:
        raise UsageError(
            f"--target {name!r} has {len(found)} class{'es' * (not found)}, so there is nothing to predict; name all "
            "that may occur with --classes"
        )
    return tuple(found)


def _numbers_as_classes(name: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """That a target of numbers makes classes, where nobody has said that it does; 0 and 1 are classes to anybody."""
    try:
        np.array(classes, dtype=np.float64)
    except ValueError:
        return ()
    if len(classes) == 2:
        return ()
    return (
        f"--target {name!r} holds numbers, which are trained as {len(classes)} classes, one for each value. This "
        "command makes no regression: predict numbers in Python with skdp.DPRegressor or "
        "skdp.linear_model.DPLinearRegressor; where these are classes, --classes or a schema says so",
    )


def _continuous(name: str, why: str) -> str:
    return (
        f"--target {name!r} {why}, and this command compares classifiers. Predict numbers in Python with "
        "skdp.DPRegressor; or, where these are classes, name them: --classes A,B,C"
    )


def _read(file: TableFile, kinds: dict[str, str], categories: Mapping[str, tuple]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows, put together column by column so that no row is held twice."""
    pieces: dict[bool, dict[str, list]] = {part: {name: [] for name in kinds} for part in (False, True)}
    start = 0
    for piece in file.pieces(kinds, categories):
        held_out = is_test_row(np.arange(start, start + len(piece)))
        start += len(piece)
        for part, columns in pieces.items():
            rows = piece[held_out == part]
            for name, cells in columns.items():
                cells.append(rows[name])
    return tuple(
        pd.DataFrame({name: _joined(columns.pop(name)) for name in list(columns)}) for columns in pieces.values()
    )


def _joined(cells: list[pd.Series]) -> Any:
    if not cells:
        return pd.Series([], dtype="float64")
    if isinstance(cells[0].dtype, pd.CategoricalDtype):
        return pd.Series(pd.api.types.union_categoricals(cells, sort_categories=True))
    return pd.concat(cells, ignore_index=True)
