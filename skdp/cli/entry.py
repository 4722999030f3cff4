"""Arguments, and what becomes of errors: the only place that knows exit codes."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import Any

from skdp.accounting.versions import versions
from skdp.cli import baseline, predict, schema, verify
from skdp.cli.errors import UsageError

__all__ = ["main"]

HOLDS_NOT, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process when None.

    Returns
    -------
    int
        0 for success, 1 for a statement that does not hold, 2 for a request that makes no sense, 130 after an
        interrupt, 141 if the reader of the output went away.

    Raises
    ------
    SystemExit
        From ``--help``, ``--version`` (0) and arguments that cannot be parsed (2).

    Examples
    --------
    >>> from skdp.cli import main
    >>> main(["verify", "no-such-file.json"])
    2
    """
    arguments = _parser().parse_args(argv)
    try:
        holds = arguments.run(arguments)
        sys.stdout.flush()
        return 0 if holds else HOLDS_NOT
    except UsageError as error:
        print(f"skdp: error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("skdp: interrupted; no result was printed or saved", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; the interpreter must not try to flush it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skdp",
        description="Differentially private learning: train baselines, predict, check privacy statements.",
        epilog="Exit status: 0 success, 1 a statement does not hold, 2 a request that makes no sense, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"skdp {versions().get('skdp', '(not installed)')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = commands.add_parser(
        "baseline",
        help="train private models on a table and compare them",
        description="Train a private linear model and the private default net; print their test metrics, and one "
        "privacy statement for all private models together, which spend more than each of them: the total is said "
        "before the first fit. A bundled data set is public, and a majority-class "
        "predictor and a logistic regression (both not private) are trained for comparison; for a file they need "
        "--reference.",
    )
    train.add_argument(
        "name", metavar="NAME|FILE", help=f"bundled data set ({', '.join(baseline.LOADERS)}), or a CSV or Parquet file"
    )
    own = train.add_argument_group("for files")
    own.add_argument("--target", metavar="COLUMN", help="column to be predicted")
    own.add_argument("--schema", metavar="PATH", help="what is public about the columns; see `skdp schema`")
    own.add_argument(
        "--drop", action="append", default=[], metavar="COLUMN", help="leave a column out; may be repeated"
    )
    own.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="COLUMN",
        help="use a column that would be left out, without a schema, for a name like those of identifiers",
    )
    own.add_argument("--classes", metavar="A,B,..", help="public list of classes; read off the target when left out")
    _add_delimiter(own)
    own.add_argument(
        "--reference",
        action="store_true",
        help="also train models without privacy, and print their figures to the terminal only",
    )
    own.add_argument(
        "--save", metavar="PATH", help="save the private default net, as .joblib or .skops, for `skdp predict`"
    )
    train.add_argument(
        "--epsilon",
        type=_epsilon,
        action="append",
        metavar="E",
        help="privacy budget of EACH private model, of which there are two: about 1.5 times as much together, or this "
        "alone with --only; repeat it to compare several, which adds to the total (default: 1)",
    )
    train.add_argument(
        "--only",
        choices=("linear", "net"),
        help="train, and pay for, the linear model or the default net alone",
    )
    train.add_argument(
        "--delta",
        type=_delta,
        default="auto",
        metavar="D",
        help="delta of each private model (default: auto, from n)",
    )
    train.add_argument("--mechanism", default="dp-sgd", help="how the private models are trained (default: dp-sgd)")
    train.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps or auto (default: auto)")
    train.add_argument(
        "--seed",
        type=_seed,
        metavar="S",
        help="seed of initial weights only; privacy noise is always seeded by the operating system, so "
        "private models differ from run to run",
    )
    train.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="PATH",
        help="write results and statement as JSON to PATH, or to standard output in place of the table",
    )
    train.add_argument("--statement", metavar="PATH", help="save the composed privacy statement for `skdp verify`")
    train.add_argument("--report", metavar="PATH", help="save a report about the default net, as .html or .json")
    train.set_defaults(run=baseline.run)

    describe = commands.add_parser(
        "schema",
        help="write a schema file with a table's column names, to be filled with what is public",
        description="Write names and declared types of a table's columns, and no value, as a schema file to be filled "
        "with public knowledge: what is public costs no privacy, and what was read off the rows must not stand "
        "there.",
    )
    describe.add_argument("file", metavar="FILE", help="a CSV or Parquet file")
    describe.add_argument("--out", metavar="PATH", help="where to write it (default: standard output)")
    _add_delimiter(describe)
    describe.set_defaults(run=schema.run)

    use = commands.add_parser(
        "predict",
        help="predict the rows of a table by a saved model",
        description="Predict the rows of a table by a model that `skdp baseline --save` wrote, as CSV. Opening a "
        "pickle (.joblib) runs the code in it: open only what you or people you trust have saved.",
    )
    use.add_argument("model", metavar="MODEL", help="a model saved as .joblib or .skops")
    use.add_argument("file", metavar="FILE", help="a CSV or Parquet file")
    use.add_argument("--out", metavar="PATH", help="where to write predictions (default: standard output)")
    _add_delimiter(use)
    use.set_defaults(run=predict.run)

    check = commands.add_parser(
        "verify",
        help="recompute the epsilon of a privacy statement with a second accountant",
        description="Recompute the epsilon of a saved privacy statement from its event with a second "
        "accountant, and say whether the claim holds.",
    )
    check.add_argument("statement", metavar="STATEMENT.json", help="a statement saved by --statement or .save(path)")
    check.set_defaults(run=verify.run)
    return parser


def _add_delimiter(parser: Any) -> None:
    parser.add_argument("--delimiter", metavar="MARK", help="between the cells of a CSV file (default: a comma)")


def _epsilon(text: str) -> float:
    value = _number(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive number, or inf for training without privacy")
    return value


def _delta(text: str) -> float | str:
    if text == "auto":
        return text
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be 'auto' or lie strictly between 0 and 1")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 to 4294967295")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
