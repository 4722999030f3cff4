"""How a fit, of one process or several, closes its book, and what it counts as spent where an error ends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skdp.exceptions import RankFailureError

if TYPE_CHECKING:
    from skdp.distributed.ranks import Ranks

__all__ = ["name_what_is_spent", "note_interrupt", "settled_after", "settled_together"]


def settled_together(ranks: Ranks | None, book: Any) -> dict[str, int]:
    """Executed counts of a book that is then settled; one query that any rank began is spent on all."""
    reserved = book.reservation
    mine = {} if reserved is None else book.executed(reserved)
    if ranks is not None:
        most = [theirs for theirs in ranks.gather(mine, "queries begun") if theirs]
        for touch in reserved.charge.touches if reserved else ():
            for _ in range(max(theirs[touch.name] for theirs in most) - mine[touch.name]):
                book.spend(reserved, touch)
    return mine if reserved is None else book.settle(reserved)


def settled_after(error: BaseException, ranks: Ranks | None, book: Any, planned: Any) -> dict[str, int]:
    """Executed counts after an error, of which the other ranks hear, and which says what was spent if it is theirs."""
    if ranks is not None:
        ranks.report(error)
    try:
        executed = settled_together(None if ranks is None or ranks.broken else ranks, book)
    except RankFailureError:  # another rank went meanwhile
        executed = settled_together(None, book)
    if isinstance(error, RankFailureError):
        name_what_is_spent(error, planned, executed)
    elif not book.covered:  # otherwise what paid for the fit says what all of it counts as
        note_interrupt(error, planned, executed)
    return executed


def note_interrupt(error: BaseException, planned: Any, executed: Mapping[str, int]) -> None:
    """Let a Ctrl-C that comes out of a fit say that there is no model, and what counts as spent all the same."""
    if not isinstance(error, KeyboardInterrupt):
        return
    spent = what_is_spent(planned, executed) if any(executed.values()) else "No query was begun, and nothing is spent"
    error.add_note(f"The fit was interrupted and leaves no model. {spent}.")


def name_what_is_spent(error: RankFailureError, planned: Any, executed: Mapping[str, int]) -> None:
    """Let the failure of another rank say what the fit that it ended counts as spent."""
    if error.spent is not None or not any(executed.values()):
        return
    error.spent = planned
    error.args = (f"{error}. {what_is_spent(planned, executed)}",)


def what_is_spent(planned: Any, executed: Mapping[str, int]) -> str:
    """What a fit that began queries counts as, in words."""
    queries = ", ".join(f"{count} of {name!r}" for name, count in executed.items() if count)
    return (
        f"The fit counts as spent as it was planned, epsilon={planned.epsilon:.4g} at delta={planned.delta:.3g} "
        f"(queries begun: {queries}): privacy_ of the estimator and open ledgers say so"
    )
