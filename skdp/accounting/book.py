"""Where one fit reserves its charge before a row is read, and ticks off every query before it is answered."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skdp.accounting import ledger_charges
from skdp.accounting.covered import take_cover
from skdp.accounting.events_json import charge_from_dict, charge_to_dict
from skdp.accounting.searches import warn_inside_search
from skdp.contract import Charge, Touch
from skdp.distributed import current
from skdp.exceptions import PlanViolationError

if TYPE_CHECKING:
    from skdp.accounting.statement import PrivacyStatement

_VERSION = 1


@dataclass(eq=False)
class _Line:
    """One touch: how many queries were spent, and up to which one spending is on disk (`leased`)."""

    touch: Touch
    spent: int
    leased: int


@dataclass(frozen=True, eq=False)
class Reservation:
    """A charge that was reserved in a book.

    Parameters
    ----------
    charge : Charge
    lines : dict
        Counts and leases by touch name.

    Examples
    --------
    >>> FitBook().reserve(Charge(()))
    Reservation(charge=Charge(touches=(), adjacency='zero-out', unit='row', delta_fail=0.0, split=''))
    """

    charge: Charge
    lines: dict[str, _Line] = field(repr=False)


class FitBook:
    """The book of one fit: reserve, spend, settle; leases make a crash countable.

    A *lease* says up to which query the file on disk admits spending. Queries beyond it are refused until
    `extend` has been called *and the book written to the checkpoint*. After a crash nobody knows which
    queries of an open lease were answered, so all of it counts as spent: 63 answered, leased to 100 of 120,
    leaves 20. A clean stop (`settle`) closes the lease at what was really spent.

    Parameters
    ----------
    what : str
        What spends, in words.
    n : int, optional
        Public number of units, where it is known.
    planned : PrivacyStatement, optional
        Statement of the whole plan, whose facts, assumptions and warnings ledgers repeat.
    shared : bool, default=False
        Whether the processes of a `skdp.distributed.process_group` share what is spent: each has a book, and the one of
        rank 0 tells the ledgers.
    party : bool, default=False
        Whether the rows of this process are those of a party of its own in such a group, which tells its own ledgers.

    Notes
    -----
    Use, in this order: `reserve` (before a row is read); write the checkpoint; `spend` before each answer; at
    a checkpoint `extend`, then write; in the end `settle`. To resume: `from_dict`, `reopen`, write the
    checkpoint (so that a second crash is counted too), go on.

    Every open `PrivacyLedger` is told by `reserve`, `settle` and `reopen`; what one of them refuses is not
    reserved.

    Examples
    --------
    >>> from skdp.contract import Gaussian, Poisson
    >>> touch = Touch("gradient", Poisson(0.1), Gaussian((1.0,)), 120)
    >>> book = FitBook()
    >>> reservation = book.reserve(Charge((touch,)), lease=50)
    >>> [book.spend(reservation, touch) for _ in range(3)]
    [0, 1, 2]
    >>> crashed = FitBook.from_dict(book.to_dict())
    >>> crashed.reopen(crashed.reservation, Charge((touch,)))
    {'gradient': 50}
    """

    def __init__(
        self,
        what: str = "",
        n: int | None = None,
        planned: PrivacyStatement | None = None,
        shared: bool = False,
        party: bool = False,
    ) -> None:
        self.shared, self.party = shared, party
        self.id = uuid.uuid4().hex
        self.about = _about(what, n, planned)
        self._ledgers: tuple = ()
        self.reservation: Reservation | None = None
        self.settled = False
        self.covered = False  # whether a pipeline or search has paid for it

    def reserve(self, charge: Charge, lease: int | None = None) -> Reservation:
        """Enter the whole charge as the ceiling of this fit.

        Parameters
        ----------
        charge : Charge
        lease : int, optional
            At most so many queries of each touch before the first `extend`; None leases everything.

        Returns
        -------
        Reservation

        Raises
        ------
        PlanViolationError
            This book already holds a reservation: a fit has one. Or the fit is part of a pipeline or search that
            has paid for other charges than this one.
        BudgetExceededError
            An open ledger does not admit the charge; other errors say that it does not belong into the ledger.

        Warns
        -----
        SweepSpendsWarning
            Once for each search of scikit-learn that makes such charges while no ledger is open.
        """
        if self.reservation is not None:
            raise PlanViolationError("this book already holds a reservation; a second fit needs a FitBook of its own")
        lease = _check_lease(lease)
        lines = {t.name: _Line(t, 0, t.count if lease is None else min(lease, t.count)) for t in charge.touches}
        if self._tells(charge):
            _, self._ledgers = ledger_charges.reserve(self.id, charge, self.about)
            if any(touch.noise for touch in charge.touches) and not self._ledgers:
                warn_inside_search()
        self.reservation = Reservation(charge, lines)
        return self.reservation

    def _tells(self, charge: Charge) -> bool:
        """Whether this book is the one that tells the ledgers."""
        ranks = current()
        if ranks is not None and not (self.shared or self.party):
            raise ValueError(
                f"{self.about['what'] or 'this'} would see the rows of one process alone inside process_group(), where "
                "only DPClassifier, DPRegressor, DPLinearClassifier and DPLinearRegressor are fitted by all processes "
                "together: fit it outside, in one process"
            )
        # A pipeline or search that covers a fit told the ledgers itself.
        self.covered = take_cover(charge, self)
        return not self.covered and (ranks is None or self.party or ranks.leads)

    def spend(self, reservation: Reservation, touch: Touch) -> int:
        """Count one query of a touch, before it is answered.

        Parameters
        ----------
        reservation : Reservation
        touch : Touch
            A line of the reserved charge.

        Returns
        -------
        int
            Ordinal of the query within its touch, from 0.

        Raises
        ------
        PlanViolationError
            The touch is not in the charge, is used up, is beyond its lease, or the book is settled.
        """
        line = reservation.lines.get(touch.name)
        if line is None or (line.touch is not touch and line.touch != touch) or line.spent >= line.leased:
            self._refuse(reservation, touch, line)
        ordinal = line.spent
        line.spent = ordinal + 1
        return ordinal

    def _refuse(self, reservation: Reservation, touch: Touch, line: _Line | None) -> None:
        if line is None or line.touch != touch:
            raise PlanViolationError(
                f"touch {touch.name!r} is not in the reserved charge "
                f"({', '.join(reservation.lines) or 'empty'}): declare it in the plan, with the same "
                "sampler, noise and count"
            )
        if self.settled:
            raise PlanViolationError(f"touch {touch.name!r}: this fit is settled; a new fit reserves a new charge")
        if line.spent >= line.touch.count:
            raise PlanViolationError(
                f"touch {touch.name!r}: all {line.touch.count} reserved queries are spent; declare a larger count"
            )
        raise PlanViolationError(
            f"touch {touch.name!r}: query {line.spent} lies beyond the lease of {line.leased}; call extend() "
            f"and write the checkpoint first"
        )

    def extend(self, reservation: Reservation, upto: Mapping[str, int]) -> None:
        """Lease further queries; write the book to the checkpoint before any of them is asked.

        Parameters
        ----------
        reservation : Reservation
        upto : mapping of str to int
            For each touch by name, the total number of queries that may have been spent before the next
            `extend`; more than the touch holds means all of it.

        Raises
        ------
        PlanViolationError
            An unknown touch, a settled book, or a lease taken back.
        """
        if self.settled:
            raise PlanViolationError("this fit is settled; a settled book leases nothing")
        for name, total in upto.items():
            line = reservation.lines.get(name)
            if line is None:
                raise PlanViolationError(f"touch {name!r} is not in the reserved charge")
            if total < line.leased and total < line.touch.count:
                raise PlanViolationError(f"touch {name!r}: a lease of {line.leased} cannot be taken back to {total}")
        for name, total in upto.items():
            line = reservation.lines[name]
            line.leased = min(int(total), line.touch.count)

    def executed(self, reservation: Reservation) -> dict[str, int]:
        """Number of queries spent so far, by touch name; what `PrivacyStatement.from_charge` takes."""
        return {name: line.spent for name, line in reservation.lines.items()}

    def settle(self, reservation: Reservation) -> dict[str, int]:
        """Close the lease at what was really spent; nothing can be spent afterwards.

        Parameters
        ----------
        reservation : Reservation

        Returns
        -------
        dict of str to int
            Executed counts by touch name. Settling twice gives the same.
        """
        for line in reservation.lines.values():
            line.leased = line.spent
        executed = self.executed(reservation)
        if not self.settled:
            self.settled = True
            ledger_charges.settle(self._ledgers, self.id, executed)
        return executed

    def reopen(self, reservation: Reservation, charge: Charge, lease: int | None = None) -> dict[str, int]:
        """Go on with a fit that stopped; whatever was leased counts as spent.

        Open ledgers that hold the charge are not charged again, others are charged in full. So are all where one of
        them knows that the fit was gone on with from this state before: what goes on now is another fit, under another
        id.

        Parameters
        ----------
        reservation : Reservation
            As read by `from_dict`.
        charge : Charge
            Built afresh from the configuration; must be the reserved one.
        lease : int, optional
            At most so many further queries of each touch before the next `extend`; None leases the rest.

        Returns
        -------
        dict of str to int
            Number of queries spent by touch name, which is where each touch goes on.

        Raises
        ------
        PlanViolationError
            `charge` differs from what was reserved.
        """
        if charge != reservation.charge:
            raise PlanViolationError(
                "the configuration no longer gives the charge that was reserved:\n  reserved "
                f"{reservation.charge}\n  now      {charge}\nresume with the parameters and data size of the "
                "stopped fit, or start a new fit"
            )
        lease = _check_lease(lease)
        behind = {name: line.leased for name, line in reservation.lines.items()}
        self._ledgers = ()
        if self._tells(charge):
            self.id, self._ledgers = ledger_charges.reserve(self.id, charge, self.about, behind)
        for line in reservation.lines.values():
            line.spent = line.leased
            line.leased = line.touch.count if lease is None else min(line.spent + lease, line.touch.count)
        self.settled = False
        return self.executed(reservation)

    def to_dict(self) -> dict[str, Any]:
        """The book in plain JSON types, for the checkpoint file.

        Returns
        -------
        dict
        """
        if self.reservation is None:
            return {"version": _VERSION, "charge": None, "lines": {}, "settled": False}
        lines = {n: {"spent": line.spent, "leased": line.leased} for n, line in self.reservation.lines.items()}
        return {
            "version": _VERSION,
            "charge": charge_to_dict(self.reservation.charge),
            "lines": lines,
            "settled": self.settled,
            "id": self.id,
            "about": self.about,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FitBook:
        """The book that `to_dict` wrote; call `reopen` before spending.

        Parameters
        ----------
        plain : mapping

        Returns
        -------
        FitBook

        Raises
        ------
        ValueError
            Not a book, or one whose counts are impossible.
        """
        if not isinstance(plain, Mapping) or plain.get("version") != _VERSION:
            raise ValueError(f"not a book of version {_VERSION}: {str(plain)[:80]}")
        book = cls()
        if plain.get("charge") is None:
            return book
        book.id = plain.get("id", book.id)
        book.about = {**book.about, **plain.get("about", {})}
        try:
            charge, written = charge_from_dict(plain["charge"]), plain["lines"]
            lines = {t.name: _Line(t, written[t.name]["spent"], written[t.name]["leased"]) for t in charge.touches}
            book.settled = bool(plain["settled"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a book's entries are missing or malformed: {error!r}") from error
        for name, line in lines.items():
            whole = type(line.spent) is int and type(line.leased) is int
            if not whole or not 0 <= line.spent <= line.leased <= line.touch.count:
                raise ValueError(
                    f"touch {name!r}: spent={line.spent!r} and leased={line.leased!r} must be whole numbers "
                    f"with 0 <= spent <= leased <= {line.touch.count}"
                )
        book.reservation = Reservation(charge, lines)
        return book


def _about(what: str, n: int | None, planned: PrivacyStatement | None) -> dict[str, Any]:
    """What ledgers write beside the charge, in plain JSON types."""
    names = ("public", "assumptions", "warnings")
    return {
        "what": what,
        "n": n if n is None else int(n),
        "delta": planned and planned.delta,
        **{name: list(getattr(planned, name, ())) for name in names},
        "reproducible": bool(planned and planned.reproducible_noise),
    }


def _check_lease(lease: int | None) -> int | None:
    if lease is not None and (int(lease) != lease or lease < 1):
        raise ValueError(f"lease={lease!r} must be a whole number of queries, at least 1, or None for all of them")
    return lease
