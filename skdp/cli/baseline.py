"""The command ``skdp baseline``: what private models reach on a bundled data set, and what they cost."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skdp.accounting.statement_text import round_up
from skdp.accounting.versions import versions
from skdp.cli.errors import UsageError
from skdp.cli.models import check, contenders
from skdp.cli.progress import progress
from skdp.cli.results import Result, evaluate, table, wrapped
from skdp.exceptions import SkdpError

__all__ = ["LOADERS", "run"]

DEFAULT_EPSILON = 1.0
NOT_A_TERMINAL = 100


def _adult() -> tuple[Any, Any]:
    """The data set and the schema of its features; the survey's weight is not one."""
    from skdp.datasets import load_adult

    adult = load_adult()
    return adult, adult.schema.without("fnlwgt")


LOADERS: dict[str, Callable[[], tuple[Any, Any]]] = {"adult": _adult}


def run(arguments: argparse.Namespace) -> bool:
    """Train, evaluate, print.

    Parameters
    ----------
    arguments : argparse.Namespace
        With `name`, `epsilon`, `delta`, `mechanism`, `device`, `seed`, `json` and `statement`.

    Returns
    -------
    bool
        True.

    Raises
    ------
    UsageError
        If the data set is not a bundled one, a file cannot be written, or an estimator refuses a parameter.
    KeyboardInterrupt
        If the user interrupted a fit.
    """
    if arguments.name not in LOADERS:
        raise UsageError(_no_such_data(arguments.name))
    for option, path in (("--json", arguments.json), ("--statement", arguments.statement)):
        _check_writable(option, path)
    # The same budget twice would be trained, and charged, twice.
    epsilons = list(dict.fromkeys(arguments.epsilon or [DEFAULT_EPSILON]))
    try:
        data, results, statement = _compare(arguments, epsilons)
    except (SkdpError, ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    except (ArithmeticError, MemoryError) as error:
        raise UsageError(f"the budget is out of the accountants' range ({error}); use a usual epsilon") from error

    document = _document(arguments, data, results, statement)
    try:
        if arguments.statement is not None:
            statement.save(arguments.statement)
        if arguments.json not in (None, "-"):
            Path(arguments.json).write_text(document, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {error.filename!r}: {error.strerror}") from error
    if arguments.json == "-":
        sys.stdout.write(document)
    else:
        print(_report(arguments, data, results, statement))
    return True


def _compare(arguments: argparse.Namespace, epsilons: list[float]) -> tuple[Any, list[Result], Any]:
    """Data set, results, and one statement about all private models."""
    from skdp.accounting import compose
    from skdp.preprocessing import SchemaEncoder

    data, schema = LOADERS[arguments.name]()
    encoder = SchemaEncoder(schema)
    X_train, X_test = encoder.fit_transform(data.X_train), encoder.transform(data.X_test)
    results = []
    with progress() as shown, _interrupts() as interrupted:
        models = contenders(
            epsilons,
            delta=arguments.delta,
            mechanism=arguments.mechanism,
            device=arguments.device,
            seed=arguments.seed,
            classes=data.classes,
            bounds=encoder.output_bounds_,
            progress=shown.share,
        )
        check(models, *X_train.shape)
        shown.expect(len(models))
        for model in models:
            shown.begin(model.name)
            start = time.perf_counter()
            model.estimator.fit(X_train, data.y_train)
            seconds = time.perf_counter() - start
            if interrupted():
                raise KeyboardInterrupt
            results.append(evaluate(model, X_test, data.y_test, data.classes, seconds))
    # Statements of fits without noise would only say again that these are not private.
    made = [model for model in models if hasattr(model.estimator, "privacy_")]
    covered = [model for model in made if model.private] or made
    return data, results, compose([model.estimator.privacy_ for model in covered])


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: a private fit answers with a usable model, but the command has to stop."""
    pressed = []

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread, which then has no signals
        yield lambda: False
        return
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


# ------------------------------------------------------------------ what the user reads
def _report(arguments: argparse.Namespace, data: Any, results: list[Result], statement: Any) -> str:
    """Table, notes and statement, as wide as the terminal."""
    width = shutil.get_terminal_size((NOT_A_TERMINAL, 24)).columns if _has_width() else NOT_A_TERMINAL
    title = f"{data.name}: {len(data.X_train)} training rows, {len(data.X_test)} test rows"
    parts = [title, table(results, width), wrapped("\n".join(_notes(data, results)), width)]
    private = [result for result in results if result.private]
    if len(private) > 1:
        alone = ", ".join(round_up(result.epsilon) for result in private)
        parts.append(
            wrapped(
                f"{_number(len(private))} private models, epsilon = {round_up(statement.epsilon)} together ({alone} "
                "alone). This statement is about all of them:",
                width,
            )
        )
    parts.append(wrapped(statement.text, width))
    if arguments.statement is not None:
        parts.append(wrapped(f"Statement saved; check it with: skdp verify {arguments.statement}", width))
    return "\n\n".join(parts)


def _number(count: int) -> str:
    return {2: "Two", 3: "Three", 4: "Four", 6: "Six"}.get(count, str(count))


def _has_width() -> bool:
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def _notes(data: Any, results: list[Result]) -> list[str]:
    """What a reader has to know about the figures."""
    notes = [
        f"Metrics are computed exactly on the {len(data.X_test)} rows of the public test split; on private "
        "rows they would be releases of their own.",
        "ECE: expected calibration error of the predicted class, 15 bins. Seconds: of the fit.",
        "Models marked 'not private' add no noise: nobody in their training rows is protected.",
    ]
    if any(math.isfinite(result.epsilon) for result in results):
        notes.append(
            "Privacy noise is seeded by the operating system: private models differ between runs, also with --seed."
        )
    private = [result for result in results if result.private]
    if len(private) > 1:
        notes.append(f"The statement is about all {len(private)} private models together, so its epsilon is larger.")
    return [f"- {note}" for note in notes]


def _document(arguments: argparse.Namespace, data: Any, results: list[Result], statement: Any) -> str:
    """Everything as JSON text."""
    document = {
        "skdp": versions().get("skdp"),
        "data": {"name": data.name, "n_train": len(data.X_train), "n_test": len(data.X_test)},
        "metrics_on": "public test split, exact",
        "mechanism": arguments.mechanism,
        "device": arguments.device,
        "seed": arguments.seed,
        "models": [result.to_dict() for result in results],
        "statement": json.loads(statement.to_json()),
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


# ------------------------------------------------------------------ requests that make no sense
def _no_such_data(name: str) -> str:
    return f"""{name!r} is not a bundled data set; there is: {", ".join(LOADERS)}.
This command does not read tables of your own yet: it cannot know what is public about them.
In Python, write that down as a schema, and train on the encoded table:

    schema = Schema([Column("age", low=0, high=120), Column("sex", categories=("F", "M"), missing=True)])
    table = pandas.read_csv("table.csv")
    encoder = SchemaEncoder(schema).fit(table)
    net = DPClassifier(epsilon=1.0, feature_bounds=encoder.output_bounds_, classes=["no", "yes"])
    print(net.fit(encoder.transform(table), table["bought"]).privacy_.text)

with `from skdp import DPClassifier` and `from skdp.preprocessing import Column, Schema, SchemaEncoder`."""


def _check_writable(option: str, path: str | None) -> None:
    """Refuse a path that cannot be written before minutes are spent on training."""
    if path is None or (option == "--json" and path == "-"):
        return
    target = Path(path)
    folder = target.parent
    if target.is_dir() or not folder.is_dir() or not os.access(target if target.exists() else folder, os.W_OK):
        raise UsageError(f"{option} {path!r} cannot be written: it must name a file in an existing, writable folder")
