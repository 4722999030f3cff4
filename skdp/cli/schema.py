"""The command ``skdp schema``: a schema file with a file's column names, to be filled with what is public."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from skdp.cli.column_facts import template
from skdp.cli.errors import UsageError, check_writable
from skdp.cli.table_files import TableFile

__all__ = ["run"]

WHY = (
    "Only names and declared types of the columns were written, and no value. What is left null is private, and a "
    "model pays for learning it with noise; what you fill in must be known from elsewhere than these rows. Bounds that "
    "were read off the rows are somebody's age or income: they would stand in the model unprotected."
)


def run(arguments: argparse.Namespace) -> bool:
    """Write the template.

    Parameters
    ----------
    arguments : argparse.Namespace
        With `file`, `out` and `delimiter`.

    Returns
    -------
    bool
        True.

    Raises
    ------
    UsageError
        The file is no table, or the template cannot be written.
    """
    text = template(TableFile(arguments.file, arguments.delimiter).kinds)
    if arguments.out is None:
        sys.stdout.write(text)
    else:
        check_writable("--out", arguments.out)
        if Path(arguments.out).exists():
            raise UsageError(f"--out {arguments.out!r} is there already, and perhaps filled in; name another file")
        Path(arguments.out).write_text(text, encoding="utf-8")
        print(f"Wrote {arguments.out}.", file=sys.stderr)
    print(WHY, file=sys.stderr)
    return True
