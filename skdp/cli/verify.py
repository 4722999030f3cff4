"""The command ``skdp verify``: whether a privacy statement holds."""

from __future__ import annotations

import argparse

from skdp.cli.errors import UsageError

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> bool:
    """Check the statement and print what came out.

    Parameters
    ----------
    arguments : argparse.Namespace
        With `statement`, a path.

    Returns
    -------
    bool
        Whether the statement holds.

    Raises
    ------
    UsageError
        If the file cannot be read as a statement.
    """
    from skdp.accounting.verify import verify

    try:
        outcome = verify(arguments.statement)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"cannot read a privacy statement from {arguments.statement!r}: {reason}") from error
    print(outcome.text)
    return outcome.holds
