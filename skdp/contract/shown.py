"""Values of parameters in error messages: whole where they are short."""

from __future__ import annotations

from typing import Any

__all__ = ["shown"]

_MOST = 120


def shown(value: Any) -> str:
    """The representation of a public value on one line, without its middle where it is long.

    Examples
    --------
    >>> shown((0, 1)), len(shown(list(range(10**4))))
    ('(0, 1)', 120)
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= _MOST else f"{text[: _MOST - 35]} ... {text[-30:]}"
