"""What a command raises when the request, and not the program, is at fault."""

from __future__ import annotations

__all__ = ["UsageError"]


class UsageError(Exception):
    """A request that makes no sense; its message is all that the user sees."""
