"""Charges for books, and a fit that is nothing but its book; on the import path, also of other processes."""

from __future__ import annotations

from skdp.accounting import FitBook
from skdp.contract import Charge, Gaussian, Poisson, Touch


def gaussian(multiplier, count=1, **more):
    """A charge of full-batch Gaussian answers."""
    return Charge((Touch("release", Poisson(), Gaussian((float(multiplier),)), count),), **more)


def sgd(multiplier=1.0, rate=0.01, count=1000):
    """A charge of subsampled ones."""
    return Charge((Touch("gradient", Poisson(rate), Gaussian((float(multiplier),)), count),))


def spend(charge, executed=None, n=10_000, what="release"):
    """A whole fit, as far as its book is concerned: reserve, ask, settle."""
    book = FitBook(what, n)
    reservation = book.reserve(charge)
    for touch in charge.touches:
        for _ in range(touch.count if executed is None else executed):
            book.spend(reservation, touch)
    book.settle(reservation)
    return book
