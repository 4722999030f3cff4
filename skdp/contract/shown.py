"""Values of parameters and counts of rows in messages."""

from __future__ import annotations

from typing import Any

__all__ = ["rows_in_words", "shown"]

_MOST = 120


def rows_in_words(count: int) -> str:
    """A number of rows.

    Examples
    --------
    >>> rows_in_words(1), rows_in_words(2)
    ('1 row', '2 rows')
    """
    return f"{int(count)} row{'s' * (int(count) != 1)}"


def shown(value: Any) -> str:
    """The representation of a public value on one line, without its middle where it is long.

    Examples
    --------
    >>> shown((0, 1)), len(shown(list(range(10**4))))
    ('(0, 1)', 120)
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= _MOST else f"{text[: _MOST - 35]} ... {text[-30:]}"
