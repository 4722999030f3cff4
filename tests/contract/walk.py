"""Everything that can be reached from an object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def walk(value: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """Yield `value` and whatever it holds, each once."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    yield value
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(value)
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        inner = list(vars(value).values())
    for item in inner:
        yield from walk(item, seen)
