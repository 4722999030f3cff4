"""What a fit promises, in a form to hand to somebody else."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dp_accounting import dp_event

from skdp.accounting import accountants, statement_json, statement_text
from skdp.accounting.checks import event_delta
from skdp.accounting.events_json import event_from_dict, event_to_dict
from skdp.accounting.ledger_filter import RENYI_FILTER, are_sound
from skdp.accounting.queries import QueryLine, query_lines
from skdp.accounting.relations import check_adjacency
from skdp.accounting.statement_lines import (
    CAVEATS,
    STANDARD_ASSUMPTIONS,
    caveats,
    count_line,
    standard_assumptions,
    unique,
)
from skdp.accounting.statement_text import round_up
from skdp.accounting.versions import versions
from skdp.contract import Charge

STATUSES = ("complete", "resumed", "interrupted")


@dataclass(frozen=True)
class PrivacyStatement:
    """What was promised, about whom, under which assumptions, and from which event it follows.

    Usually made by `from_charge` at the end of a fit and read from an estimator's ``privacy_``.

    Parameters
    ----------
    epsilon : float
        The claim. For a fit that stopped early this is what the *whole plan* costs.
    delta : float
        In [0, 1), together with `epsilon`.
    adjacency : {"zero-out", "replace-one", "add-remove"}
    unit : str
        What one neighbour differs in, ``"row"`` unless a unit column was given.
    mechanism : str
        Name of the mechanism.
    noise_multiplier : float or None
        Standard deviation over zero-out sensitivity of one query of the largest touch; None where there are
        several or no noise.
    sampling_rate : float or None
    steps : int
        Queries of the largest touch that were executed.
    event : DpEvent
        What was executed, as `dp_accounting` describes it.
    accountant : {"analytic", "pld", "tilted-pld", "rdp", "renyi-filter"}
        The last one is that of an adaptive `PrivacyLedger`.
    n : int
        Public number of units.
    status : {"complete", "resumed", "interrupted"}
        Interrupted exactly where there is a `planned_event`.
    target_epsilon : float, optional
        What was asked for; None where the noise multiplier was.
    planned_event : DpEvent, optional
        The whole plan, where it was not executed in full.
    executed_epsilon : float, optional
        What `event` alone costs, where it was not executed in full. Valid only if the stop did not depend on
        results.
    delta_fail : float
        Part of `delta` that is not spent on the event.
    split : str
        How the rows came to this fit; empty when it saw all of them.
    public, assumptions, warnings : tuple of str
        What was taken as public; what the claim rests on; what the reader should know.
    versions : mapping of str to str
    reproducible_noise : bool
        Whether the noise was made from a fixed seed, which protects nobody: for tests only.
    queries : tuple of QueryLine
        The price list, where there was one; `steps`, `noise_multiplier` and `sampling_rate` are of its largest line.
    created : str
        ISO date (UTC) of the statement.
    net : str
        What was trained, by class, and how many of its parameters; empty where nothing was.
    released : tuple of str
        What queries made known before the training, with the values: paid for, and part of the claim.
    orders : tuple of (float, float)
        Orders of the Renyi filter with their shares of delta; empty for every other accountant.

    Notes
    -----
    *Formal guarantee*: the composition that the claim's event describes is (epsilon, delta)-differentially
    private for `adjacency`, under `assumptions`.

    Examples
    --------
    >>> from skdp.contract import Charge, Gaussian, Poisson, Touch
    >>> charge = Charge((Touch("gradient", Poisson(0.01), Gaussian((1.0,)), 1000),))
    >>> statement = PrivacyStatement.from_charge(charge, 1e-5, mechanism="dp-sgd", n=50_000)
    >>> print(f"{statement.epsilon:.2f} {statement.adjacency} {statement.accountant}")
    1.83 zero-out pld
    >>> PrivacyStatement.from_json(statement.to_json()) == statement
    True
    """

    epsilon: float
    delta: float
    adjacency: str
    unit: str
    mechanism: str
    noise_multiplier: float | None
    sampling_rate: float | None
    steps: int
    event: dp_event.DpEvent = field(hash=False)
    accountant: str
    n: int
    status: str = "complete"
    target_epsilon: float | None = None
    planned_event: dp_event.DpEvent | None = field(default=None, hash=False)
    executed_epsilon: float | None = None
    delta_fail: float = 0.0
    split: str = ""
    public: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = STANDARD_ASSUMPTIONS
    warnings: tuple[str, ...] = CAVEATS
    versions: Mapping[str, str] = field(default_factory=dict, hash=False)
    reproducible_noise: bool = False
    queries: tuple[QueryLine, ...] = ()
    created: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).date().isoformat())
    net: str = ""
    released: tuple[str, ...] = ()
    orders: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        check_adjacency(self.adjacency)
        if not statement_json.is_number(self.epsilon) or not self.epsilon >= 0:
            raise ValueError(f"epsilon={self.epsilon!r} must be a number of 0 or more")
        if not statement_json.is_number(self.delta) or not 0 <= self.delta < 1:
            raise ValueError(f"delta={self.delta!r} must be a number in [0, 1)")
        if not statement_json.is_number(self.delta_fail) or not 0 <= self.delta_fail <= self.delta:
            raise ValueError(f"delta_fail={self.delta_fail!r} must lie between 0 and delta={self.delta!r}")
        if self.status not in STATUSES:
            raise ValueError(f"status={self.status!r} must be one of {', '.join(STATUSES)}")
        known = (*accountants.ACCOUNTANTS, RENYI_FILTER)
        if self.accountant not in known:
            raise ValueError(f"accountant={self.accountant!r} must be one of {', '.join(known)}")
        object.__setattr__(self, "orders", tuple(map(tuple, self.orders)))
        if bool(self.orders) != (self.accountant == RENYI_FILTER) or not are_sound(self.orders):
            raise ValueError(
                f"orders={self.orders!r} must be numbers above 1 with shares of delta that sum up to 1 at most, for "
                "accountant='renyi-filter' alone"
            )
        if not isinstance(self.reproducible_noise, bool):
            raise ValueError(f"reproducible_noise={self.reproducible_noise!r} must be True or False")
        try:
            datetime.date.fromisoformat(self.created)
        except (TypeError, ValueError) as error:
            raise ValueError(f"created={self.created!r} must be an ISO date, for instance '2026-01-31'") from error
        object.__setattr__(self, "queries", tuple(self.queries))
        for name in ("event", "planned_event"):
            value = getattr(self, name)
            if isinstance(value, dp_event.DpEvent):  # as a file would give it back, so that equality survives
                object.__setattr__(self, name, event_from_dict(event_to_dict(value)))
            elif value is not None or name == "event":
                raise ValueError(f"{name}={value!r} must be a dp_accounting event")
        for name in ("public", "assumptions", "warnings", "released"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(line, str) for line in value):
                raise ValueError(f"{name}={value!r} must be a tuple of strings")
            object.__setattr__(self, name, tuple(value))

    # -------------------------------------------------------------- figures
    @property
    def claimed_event(self) -> dp_event.DpEvent:
        """The event whose cost `epsilon` is: the whole plan where it was not executed in full."""
        return self.event if self.planned_event is None else self.planned_event

    @property
    def attack_accuracy(self) -> float:
        """Best share of right guesses that anybody can reach about one unit; see `attack_accuracy`."""
        return 1.0 if self.reproducible_noise else statement_text.attack_accuracy(self.epsilon, self.delta)

    # -------------------------------------------------------------- making one
    @classmethod
    def from_charge(
        cls,
        charge: Charge,
        delta: float,
        *,
        executed: Mapping[str, int] | None = None,
        mechanism: str,
        n: int,
        target_epsilon: float | None = None,
        certificate: Any = None,
        public: Iterable[str] = (),
        assumptions: Iterable[str] = (),
        warnings: Iterable[str] = (),
        resumed: bool = False,
        accountant: str = "auto",
        reproducible_noise: bool = False,
        net: str = "",
        released: Iterable[str] = (),
    ) -> PrivacyStatement:
        """The statement of a fit, from its charge and what was executed of it.

        Parameters
        ----------
        charge : Charge
            Everything that was reserved.
        delta : float
            Of the claim, `charge.delta_fail` included.
        executed : mapping of str to int, optional
            Queries spent by touch name (``book.settle(...)``); None means everything. If it is less than the
            charge, the claim is the planned epsilon and the executed one is computed and stated beside it.
        mechanism : str
        n : int
            Public number of units.
        target_epsilon : float, optional
        certificate : Calibration, optional
            Result of `calibrate` for exactly this charge. Its certified epsilon is the claim, so that no accountant
            runs here unless the fit stopped early.
        public, assumptions, warnings : iterable of str
            Added to what every statement says.
        resumed : bool
            Whether a fit went on that had been stopped. One that did not execute everything is "interrupted" all the
            same: the status says what is claimed, and `executed` alone decides it.
        accountant : {"auto", "analytic", "pld", "tilted-pld", "rdp"}
            Used where there is no certificate.
        reproducible_noise : bool
            Whether the noise was made from a fixed seed: the statement then says that nobody is protected.
        net : str
        released : iterable of str

        Returns
        -------
        PrivacyStatement

        Raises
        ------
        ValueError
            More was executed than reserved, or the certificate is of another charge, delta or adjacency.
        """
        counts = {t.name: t.count for t in charge.touches} if executed is None else dict(executed)
        unknown = set(counts) - {t.name for t in charge.touches}
        if unknown:
            raise ValueError(f"executed={counts} names touches that are not in the charge: {sorted(unknown)}")
        event, planned = charge.event(counts), charge.event()
        whole = all(counts.get(t.name, 0) == t.count for t in charge.touches)
        budget = event_delta(delta, charge.delta_fail)
        if certificate is None:
            name = accountants.which_accountant(planned, charge.adjacency, accountant, budget)
            claim = accountants.epsilon(planned, budget, charge.adjacency, name)
        else:
            _check_certificate(certificate, charge, delta)
            name, claim = certificate.accountant, certificate.epsilon
        main = max((t for t in charge.touches if t.count), key=lambda t: t.count, default=None)
        noise = main.noise if main else None
        return cls(
            epsilon=float(claim),
            delta=float(delta),
            adjacency=charge.adjacency,
            unit=charge.unit,
            mechanism=mechanism,
            noise_multiplier=None if noise is None else noise.combined,
            sampling_rate=main.sampler.rate if main else None,
            steps=counts.get(main.name, 0) if main else 0,
            event=event,
            accountant=name,
            n=int(n),
            status="interrupted" if not whole else "resumed" if resumed else "complete",
            target_epsilon=target_epsilon,
            planned_event=None if whole else planned,
            # A part costs no more than the whole, though another accountant may answer for it, with more slack.
            executed_epsilon=None if whole else min(claim, accountants.epsilon(event, budget, charge.adjacency)),
            delta_fail=charge.delta_fail,
            split=charge.split,
            public=unique((count_line(charge.adjacency, charge.unit, int(n)), *public)),
            assumptions=unique((*standard_assumptions(charge.unit), *assumptions)),
            warnings=caveats(claim, reproducible_noise, warnings),
            versions=versions(),
            reproducible_noise=reproducible_noise,
            queries=query_lines(charge, counts),
            net=net,
            released=unique(released),
        )

    # -------------------------------------------------------------- forms
    @property
    def text(self) -> str:
        """A page of prose, wrapped at 100 columns; epsilon is rounded up."""
        return statement_text.text(self)

    def __repr__(self) -> str:
        bare = "NOT PRIVATE, " if self.reproducible_noise or math.isinf(self.epsilon) else ""
        return (
            f"PrivacyStatement({bare}epsilon={round_up(self.epsilon)}, delta={round_up(self.delta)}, "
            f"adjacency={self.adjacency!r}, unit={self.unit!r}, mechanism={self.mechanism!r}, n={self.n}, "
            f"status={self.status!r})"
        )

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return statement_text.html(self)

    def to_dict(self) -> dict[str, Any]:
        """The statement in plain JSON types."""
        return statement_json.to_dict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> PrivacyStatement:
        """The statement that `to_dict` wrote.

        Parameters
        ----------
        plain : mapping

        Returns
        -------
        PrivacyStatement

        Raises
        ------
        ValueError
            Not a statement, a version that this skdp does not know, or impossible values.
        """
        return statement_json.from_dict(cls, plain)

    def to_json(self) -> str:
        """The statement as JSON text; `from_json` gives back an equal one."""
        return statement_json.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> PrivacyStatement:
        """The statement that `to_json` wrote; `ValueError` as in `from_dict`, and for malformed JSON."""
        return statement_json.from_json(cls, text)

    def save(self, path: str | os.PathLike) -> None:
        """Write the statement to a file, as JSON."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> PrivacyStatement:
        """The statement in a file; the `ValueError` of one that holds none names the file."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error


def _check_certificate(certificate: Any, charge: Charge, delta: float) -> None:
    if certificate.adjacency != charge.adjacency or certificate.delta != delta:
        raise ValueError(
            f"the certificate holds for delta={certificate.delta!r} under {certificate.adjacency!r}, the charge is "
            f"stated for delta={delta!r} under {charge.adjacency!r}; calibrate this charge at this delta"
        )
    if certificate.charge != charge:
        raise ValueError(
            f"the certificate is that of another charge: {certificate.charge!r} was calibrated, {charge!r} is stated; "
            "pass the result of calibrate for this charge, at its scale"
        )
