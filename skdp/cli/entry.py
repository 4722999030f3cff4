"""Arguments, and what becomes of errors: the only place that knows exit codes."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence

from skdp.accounting.versions import versions
from skdp.cli import baseline, verify
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
        description="Differentially private learning: train baselines, check privacy statements.",
        epilog="Exit status: 0 success, 1 a statement does not hold, 2 a request that makes no sense, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"skdp {versions().get('skdp', '(not installed)')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = commands.add_parser(
        "baseline",
        help="train private and ordinary models on a bundled data set and compare them",
        description="Train a majority-class predictor and a logistic regression (both not private), a "
        "private linear model and the private default net; print their test metrics, and one privacy "
        "statement for all private models together.",
    )
    train.add_argument("name", metavar="NAME", help=f"bundled data set: {', '.join(baseline.LOADERS)}")
    train.add_argument(
        "--epsilon",
        type=_epsilon,
        action="append",
        metavar="E",
        help="privacy budget of each private model; repeat it to compare several (default: 1)",
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
    train.set_defaults(run=baseline.run)

    check = commands.add_parser(
        "verify",
        help="recompute the epsilon of a privacy statement with a second accountant",
        description="Recompute the epsilon of a saved privacy statement from its event with a second "
        "accountant, and say whether the claim holds.",
    )
    check.add_argument("statement", metavar="STATEMENT.json", help="a statement saved by --statement or .save(path)")
    check.set_defaults(run=verify.run)
    return parser


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
