"""Fits inside something that has paid for them: a pipeline with one budget, a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from skdp.contract import Charge
from skdp.exceptions import PlanViolationError

__all__ = ["Cover", "covered", "take_cover"]

_COVER: ContextVar[Cover | None] = ContextVar("skdp_cover", default=None)


class Cover:
    """Charges that are paid for, by name, and the books of the fits that spend them.

    Parameters
    ----------
    charges : mapping of str to Charge
    owners : mapping of str to str
        Class of what spends each, where it is known: of equal charges every fit takes its own.

    Examples
    --------
    >>> Cover({"scaler": Charge(())}, {}).executed()
    {}
    """

    def __init__(self, charges: Mapping[str, Charge], owners: Mapping[str, str]):
        self._charges = dict(charges)
        self._owners = dict(owners)
        self._books: dict[str, Any] = {}

    def take(self, charge: Charge, book: Any) -> None:
        """Let `book` spend `charge`.

        Raises
        ------
        PlanViolationError
            It is not among what is paid for, or was taken before.
        """
        free = [name for name, paid in self._charges.items() if name not in self._books and paid == charge]
        owner = book.about["what"].partition(",")[0]
        if free:
            self._books[next((name for name in free if self._owners.get(name) == owner), free[0])] = book
            return
        raise PlanViolationError(
            f"{book.about['what'] or 'a fit'} would spend what its pipeline or search has not paid for: {charge}; the "
            "price list of every step must follow from public parameters and the number of rows alone"
        )

    def executed(self) -> dict[str, dict[str, int]]:
        """Queries spent by touch, for every name whose charge was taken."""
        return {name: book.executed(book.reservation) for name, book in self._books.items()}

    def about(self) -> list[dict[str, Any]]:
        """What the fits take as public, assume and warn about, in the order in which they began."""
        return [book.about for book in self._books.values()]


@contextmanager
def covered(charges: Mapping[str, Charge], owners: Mapping[str, str] | None = None) -> Iterator[Cover]:
    """Fits in this block reserve what is already paid for, each of `charges` once, and nothing else.

    Parameters
    ----------
    charges : mapping of str to Charge
        Parts of a charge that was reserved before, by name.
    owners : mapping of str to str, optional
        Class names of what spends them.

    Examples
    --------
    >>> from skdp.accounting import FitBook
    >>> from skdp.contract import Gaussian, Poisson, Touch
    >>> part = Charge((Touch("sum", Poisson(), Gaussian((1.0,)), 1),))
    >>> with covered({"scaler": part}) as cover:
    ...     reservation = FitBook("a scaler").reserve(part)
    >>> cover.executed()
    {'scaler': {'sum': 0}}
    """
    cover = Cover(charges, owners or {})
    token = _COVER.set(cover)
    try:
        yield cover
    finally:
        _COVER.reset(token)


def take_cover(charge: Charge, book: Any) -> bool:
    """Whether `charge` is paid for by what surrounds the fit of `book`.

    Raises
    ------
    PlanViolationError
        Something surrounds it that has not paid for this charge.
    """
    cover = _COVER.get()
    if cover is None:
        return False
    cover.take(charge, book)
    return True
