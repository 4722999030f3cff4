"""The command ``skdp baseline``: what private models reach on a table, and what they cost."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skdp.accounting.statement_text import round_up
from skdp.accounting.versions import versions
from skdp.cli.errors import UsageError, check_writable
from skdp.cli.model_files import check_model_path, save_model
from skdp.cli.models import Contender, check, contenders, table_contenders
from skdp.cli.progress import progress
from skdp.cli.results import Result, evaluate, table, wrapped
from skdp.exceptions import SkdpError

__all__ = ["LOADERS", "run"]

DEFAULT_EPSILON = 1.0
NOT_A_TERMINAL = 100
# What makes sense for a user's file alone, by the name of its argument.
_FOR_FILES = ("target", "schema", "drop", "keep", "delimiter", "classes", "reference", "save")


def _adult() -> tuple[Any, Any]:
    """The data set and the schema of its features; the survey's weight is not one."""
    from skdp.datasets import load_adult

    adult = load_adult()
    return adult, adult.schema.without("fnlwgt")


LOADERS: dict[str, Callable[[], tuple[Any, Any]]] = {"adult": _adult}


@dataclass(frozen=True, eq=False)
class _Job:
    """A data set as models take it, and how to make them.

    `looked`: what was read off the values of a user's file although nothing protects it; None for bundled data sets,
    whose test rows are public.
    """

    name: str
    X_train: Any
    X_test: Any
    y_train: Any
    y_test: Any
    classes: tuple
    make: Callable[[Callable[[float], None]], list[Contender]]
    looked: tuple[str, ...] | None = None
    classes_are_public: bool = True


def run(arguments: argparse.Namespace) -> bool:
    """Train, evaluate, print.

    Parameters
    ----------
    arguments : argparse.Namespace
        With `name`, `epsilon`, `only`, `delta`, `mechanism`, `device`, `seed`, `json`, `statement`, `report`, and for
        files `target`, `schema`, `drop`, `keep`, `delimiter`, `classes`, `reference` and `save`.

    Returns
    -------
    bool
        True.

    Raises
    ------
    UsageError
        If there is no such data set or file, a file cannot be read or written, or an estimator refuses a parameter.
    KeyboardInterrupt
        If the user interrupted a fit.
    """
    bundled = arguments.name in LOADERS
    if not bundled and not Path(arguments.name).exists():
        raise UsageError(_no_such_data(arguments.name))
    given = next((option for option in _FOR_FILES if bundled and getattr(arguments, option)), None)
    if given:
        raise UsageError(f"--{given} is for files, and {arguments.name!r} is a bundled data set")
    _check_outputs(arguments)
    # The same budget twice would be trained, and charged, twice.
    epsilons = list(dict.fromkeys(arguments.epsilon or [DEFAULT_EPSILON]))
    try:
        with progress() as shown, _interrupts() as interrupted:
            job = _bundled(arguments, epsilons) if bundled else _own(arguments, epsilons, shown)
            models, results, statement = _compare(job, shown, interrupted, only=arguments.only)
    except (SkdpError, ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    except (ArithmeticError, MemoryError) as error:
        raise UsageError(f"the budget is out of the accountants' range ({error}); use a usual epsilon") from error
    _write(arguments, job, models, results, statement)
    return True


# ------------------------------------------------------------------ training
def _bundled(arguments: argparse.Namespace, epsilons: list[float]) -> _Job:
    from skdp.preprocessing import SchemaEncoder

    data, schema = LOADERS[arguments.name]()
    encoder = SchemaEncoder(schema)
    X_train, X_test = encoder.fit_transform(data.X_train), encoder.transform(data.X_test)

    def make(share: Callable[[float], None]) -> list[Contender]:
        options = _options(arguments, share)
        return contenders(epsilons, classes=data.classes, bounds=encoder.output_bounds_, **options)

    return _Job(data.name, X_train, X_test, data.y_train, data.y_test, data.classes, make)


def _own(arguments: argparse.Namespace, epsilons: list[float], shown: Any) -> _Job:
    from skdp.cli.own_tables import load
    from skdp.exceptions import PrivacyLeakWarning

    shown.line(f"reading {arguments.name}")
    own = load(arguments)
    rows = len(own.X_train) + len(own.X_test)
    shown.line(f"{rows} rows of {own.X_train.shape[1]} columns, {own.megabytes:.1f} MB in memory")
    for what in own.looked:
        remedy = "--classes" if "classes of" in what else "a file that `skdp schema FILE` makes, and --schema"
        warnings.warn(f"{what} are not protected; pass them by {remedy}", PrivacyLeakWarning, stacklevel=2)
    for words in own.advice:
        warnings.warn(words, stacklevel=2)
    # Said above, with this command's remedy, and unless a schema overrules the guess.
    warnings.filterwarnings("ignore", message="columns .* are named like identifiers.*leave them out$")

    def make(share: Callable[[float], None]) -> list[Contender]:
        options = _options(arguments, share)
        reference = bool(arguments.reference)
        return table_contenders(epsilons, classes=own.classes, knowledge=own.knowledge, reference=reference, **options)

    known = own.y_test.isin(own.classes).to_numpy()
    X_test, y_test = own.X_test[known].reset_index(drop=True), own.y_test[known].reset_index(drop=True)
    if not len(X_test):
        raise UsageError(f"none of the test rows has one of the classes {', '.join(own.classes)}")
    return _Job(own.name, own.X_train, X_test, own.y_train, y_test, own.classes, make, own.looked,
                own.classes_are_public)  # fmt: skip


def _options(arguments: argparse.Namespace, share: Callable[[float], None]) -> dict[str, Any]:
    names = ("delta", "mechanism", "device", "seed", "only")
    return {name: getattr(arguments, name) for name in names} | {"progress": share}


def _compare(
    job: _Job, shown: Any, interrupted: Callable[[], bool], *, only: str | None
) -> tuple[list[Contender], list[Result], Any]:
    """Models, results, and one statement about all private models."""
    from skdp.accounting import compose

    results = []
    models = job.make(shown.share)
    planned = check(models, job.X_train, job.y_train)
    if len(planned) > 1:
        shown.line(_total(planned, one="; --only linear or --only net trains one of each pair" * (not only)))
    shown.expect(len(models))
    for model in models:
        shown.begin(model.name)
        # An ordinary model knows no null rows.
        rows = slice(None) if model.private or job.looked is None else job.y_train.isin(job.classes).to_numpy()
        start = time.perf_counter()
        model.estimator.fit(job.X_train[rows], job.y_train[rows])
        seconds = time.perf_counter() - start
        if interrupted():
            raise KeyboardInterrupt
        results.append(evaluate(model, job.X_test, job.y_test, job.classes, seconds))
    # Statements of fits without noise would only say again that these are not private.
    made = [model for model in models if hasattr(model.estimator, "privacy_")]
    covered = [model for model in made if model.private] or made
    statements = [model.estimator.privacy_ for model in covered]
    # A composition is computed anew and would round up another time.
    statement = statements[0] if len(statements) == 1 else compose(statements)
    if job.looked:
        statement = replace(statement, public=(*statement.public, *job.looked))
    return models, results, statement


def _total(planned: Sequence[Any], one: str) -> str:
    """What all private models will cost, before the first one is trained."""
    from skdp.accounting import compose

    total = compose(planned)
    alone = ", ".join(round_up(one.epsilon) for one in planned)
    return (
        f"{_number(len(planned))} private models will spend epsilon = {round_up(total.epsilon)} together ({alone} "
        f"alone) at delta = {round_up(total.delta)}{one}"
    )


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


# ------------------------------------------------------------------ what is written
def _write(arguments: argparse.Namespace, job: _Job, models: list[Contender], results: list[Result],
           statement: Any) -> None:  # fmt: skip
    # Ordinary models are shown on the terminal and leave no trace in a file.
    stating = {model.name for model in models if hasattr(model.estimator, "privacy_")}
    kept = results if job.looked is None else [result for result in results if result.model in stating]
    document = _document(arguments, job, kept, statement)
    try:
        if arguments.statement is not None:
            statement.save(arguments.statement)
        if arguments.report is not None:
            _save_report(arguments, job, models, statement)
        if arguments.save is not None:
            save_model(_handed_on(models).estimator, arguments.save)
        if arguments.json not in (None, "-"):
            Path(arguments.json).write_text(document, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {error.filename!r}: {error.strerror}") from error
    if arguments.json == "-":
        sys.stdout.write(document)
    else:
        print(_report(arguments, job, results, statement))


def _handed_on(models: list[Contender]) -> Contender:
    """The default net at the first epsilon, if it was trained: a choice by test figures would be one more release."""
    ours = [model for model in models if model.name.endswith(("default net", "linear model"))]
    return next((model for model in ours if model.name.endswith("default net")), ours[0])


def _save_report(arguments: argparse.Namespace, job: _Job, models: list[Contender], statement: Any) -> None:
    from skdp.reporting import report
    from skdp.reporting.columns import READ_OFF, TARGET

    chosen = _handed_on(models)
    made = report(
        chosen.estimator,
        job.X_test,
        job.y_test,
        title=f"Privacy report: {Path(job.name).name}, {chosen.name}",
        test_rows="public" if job.looked is None else "exact",
        statement=statement,
    )
    if not job.classes_are_public:  # though the net was told them, so that a row cannot change their number
        made = replace(
            made, columns=tuple(replace(c, origin=READ_OFF) if c.name == TARGET else c for c in made.columns)
        )
    made.save(arguments.report)


# ------------------------------------------------------------------ what the user reads
def _report(arguments: argparse.Namespace, job: _Job, results: list[Result], statement: Any) -> str:
    """Table, notes and statement, as wide as the terminal."""
    width = shutil.get_terminal_size((NOT_A_TERMINAL, 24)).columns if _has_width() else NOT_A_TERMINAL
    title = f"{job.name}: {len(job.X_train)} training rows, {len(job.X_test)} test rows"
    parts = [title, table(results, width), wrapped("\n".join(_notes(job, results)), width)]
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
    kind = "linear model" if arguments.only == "linear" else "default net"
    if arguments.report is not None:
        parts.append(wrapped(f"Report about the {kind} saved: {arguments.report}", width))
    if arguments.save is not None:
        parts.append(wrapped(f"{kind.capitalize()} saved; use it with: skdp predict {arguments.save} FILE", width))
    return "\n\n".join(parts)


def _number(count: int) -> str:
    return {2: "Two", 3: "Three", 4: "Four", 6: "Six"}.get(count, str(count))


def _has_width() -> bool:
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def _notes(job: _Job, results: list[Result]) -> list[str]:
    """What a reader has to know about the figures."""
    if job.looked is None:
        notes = [
            f"Metrics are computed exactly on the {len(job.X_test)} rows of the public test split; on private "
            "rows they would be releases of their own."
        ]
    else:
        notes = [
            f"Metrics are NOT COVERED by the statement: they are computed exactly on {len(job.X_test)} test rows, one "
            "in five by position in the file. If these rows are private, show the metrics to nobody else.",
            "Rows whose label is none of the classes count for nothing, and are left out of the metrics.",
        ]
    notes += ["ECE: expected calibration error of the predicted class, 15 bins. Seconds: of the fit."]
    if not all(result.private for result in results):
        notes.append("Models marked 'not private' add no noise: nobody in their training rows is protected.")
    if any(math.isfinite(result.epsilon) for result in results):
        notes.append(
            "Privacy noise is seeded by the operating system: private models differ between runs, also with --seed."
        )
    private = [result for result in results if result.private]
    if len(private) > 1:
        notes.append(f"The statement is about all {len(private)} private models together, so its epsilon is larger.")
    return [f"- {note}" for note in notes]


def _document(arguments: argparse.Namespace, job: _Job, results: list[Result], statement: Any) -> str:
    """Everything as JSON text."""
    on = "public test split, exact" if job.looked is None else "test rows by position, exact: not covered"
    document = {
        "skdp": versions().get("skdp"),
        "data": {"name": job.name, "n_train": len(job.X_train), "n_test": len(job.X_test)},
        "metrics_on": on,
        "mechanism": arguments.mechanism,
        "device": arguments.device,
        "seed": arguments.seed,
        "models": [result.to_dict() for result in results],
        "statement": json.loads(statement.to_json()),
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


# ------------------------------------------------------------------ requests that make no sense
def _no_such_data(name: str) -> str:
    return (
        f"{name!r} is neither a file nor a bundled data set; there is: {', '.join(LOADERS)}. For a table of your own:\n"
        "    skdp schema table.csv --out schema.json     (then write down what is public)\n"
        "    skdp baseline table.csv --target COLUMN --schema schema.json"
    )


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be written before minutes are spent on training."""
    for option in ("json", "statement", "report", "save"):
        path = getattr(arguments, option)
        if path is not None and (option, path) != ("json", "-"):
            check_writable(f"--{option}", path)
    if arguments.save is not None:
        check_model_path(arguments.save)
    if arguments.report is not None and Path(arguments.report).suffix.lower() not in (".html", ".htm", ".json"):
        raise UsageError(f"--report {arguments.report!r} must end in .html or .json")
