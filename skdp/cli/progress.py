"""Progress on standard error: a bar on a terminal where rich is installed, else plain lines."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Progress", "progress"]


class Progress:
    """Plain lines: one when a model begins and one for each warning."""

    def __init__(self) -> None:
        self.total = 0
        self.begun = 0

    def expect(self, total: int) -> None:
        """Say how many models there will be.

        Parameters
        ----------
        total : int
        """
        self.total = total

    def begin(self, name: str) -> None:
        """Say that a model is being trained.

        Parameters
        ----------
        name : str
        """
        self.begun += 1
        self.line(f"[{self.begun}/{self.total}] {name}")

    def share(self, done: float) -> None:
        """Take note of how far the running model is; plain lines do not show it.

        Parameters
        ----------
        done : float
            In [0, 1].
        """

    def line(self, text: str) -> None:
        """Print a line.

        Parameters
        ----------
        text : str
        """
        print(text, file=sys.stderr, flush=True)


class _Bar(Progress):
    """A bar that fills over all models."""

    def __init__(self, bar: Any):
        super().__init__()
        self.bar = bar
        self.task = bar.add_task("preparing", total=None)

    def expect(self, total: int) -> None:
        self.bar.update(self.task, total=total)

    def begin(self, name: str) -> None:
        self.begun += 1
        self.bar.update(self.task, description=name, completed=self.begun - 1)

    def share(self, done: float) -> None:
        self.bar.update(self.task, completed=self.begun - 1 + done)

    def line(self, text: str) -> None:
        self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress, and warnings as single lines without source code.

    Yields
    ------
    Progress
    """
    with warnings.catch_warnings(), _shown() as shown:
        seen = set()

        def show(message, category, filename, lineno, file=None, line=None):
            if str(message) not in seen:
                seen.add(str(message))
                shown.line(f"warning: {message}")

        warnings.showwarning = show
        yield shown


@contextmanager
def _shown() -> Iterator[Progress]:
    """A bar where it can be drawn."""
    bar = _bar()
    if bar is None:
        yield Progress()
        return
    with bar:
        yield _Bar(bar)


def _bar() -> Any:
    """An empty bar of rich's, or None."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress
    except ImportError:
        return None
    columns = (SpinnerColumn(), BarColumn(bar_width=20), TextColumn("{task.description}"), TimeElapsedColumn())
    return RichProgress(*columns, console=Console(stderr=True), transient=True)
