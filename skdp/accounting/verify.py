"""Does a statement hold? Its figures must belong to its event, and a second accountant must agree."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from dp_accounting import dp_event

from skdp.accounting import accountants, calibration
from skdp.accounting.calibration_search import LEAST_MULTIPLIER
from skdp.accounting.checks import event_delta
from skdp.accounting.consistency import contradiction, misfit, silence
from skdp.accounting.ledger_filter import RENYI_FILTER, RenyiFilter
from skdp.accounting.pld import loss_epsilon, rounding, runs, too_wide
from skdp.accounting.relations import Phases, gaussian_phases, leaves, phases, supports, without_noise
from skdp.accounting.statement import PrivacyStatement
from skdp.accounting.statement_lines import REPRODUCIBLE
from skdp.accounting.statement_text import round_up

# Both accountants round up, each by its own slack, which is largest in proportion where few rare draws decide.
BELOW, BELOW_BY = 1e-3, 3e-4  # how far a claim may lie below the second figure: relative plus absolute
ABOVE, ABOVE_TARGET = 0.02, 0.25  # how far above; a target met with too much noise costs less than it claims
_AGAIN = " once more"
NOT_CHECKED = (
    "Not checked: that this event is what was run, that the assumptions are true, what is said in free words "
    "(mechanism, split, names of queries, further lines, also whether lines about what is not protected, such as "
    "labels taken as public, were deleted), and who wrote the statement. This is a recalculation, not a signature."
)
_AGREE = 0.05  # how far below the PLD the tilted PLD may lie where both can tell


@dataclass(frozen=True)
class Verification:
    """Outcome of `verify`; true where the statement holds.

    Parameters
    ----------
    holds : bool
    claimed : float
        Epsilon that the statement states.
    recomputed : float
        Epsilon of the statement's event by the second accountant; nan where none could be computed.
    accountant : str
        The second accountant, in words.
    reason : str
        Why it holds or does not.

    Examples
    --------
    >>> Verification(True, 1.0, 0.9995, "fine PLD", "as claimed").text.splitlines()[0]
    'HOLDS: claimed epsilon 1, recomputed 0.9995 (fine PLD): as claimed'
    """

    holds: bool
    claimed: float
    recomputed: float
    accountant: str
    reason: str

    @property
    def text(self) -> str:
        """The verdict on one line, and what was not checked on the next."""
        verdict = "HOLDS" if self.holds else "DOES NOT HOLD"
        found = "nothing" if math.isnan(self.recomputed) else round_up(self.recomputed)
        return (
            f"{verdict}: claimed epsilon {round_up(self.claimed)}, recomputed {found} ({self.accountant}): "
            f"{self.reason}\n{NOT_CHECKED}"
        )

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        return self.text


def verify(statement: PrivacyStatement | str | os.PathLike) -> Verification:
    """Recompute a statement's epsilon from its event with a second accountant.

    Parameters
    ----------
    statement : PrivacyStatement or path-like
        The statement, or the file that it was saved to.

    Returns
    -------
    Verification
        It holds if

        1. no field contradicts another: status, planned event and executed epsilon say the same, and so do the
           seed of the noise and the warnings; the date has come;
        2. the figures belong to the event: delta is below 1 / n, noise multiplier, sampling rate and steps are those
           of the largest line of the price list or occur in the event, what was executed is part of what was
           planned, and the price list adds up to the event;
        3. it says what every statement of skdp says: the unit is one that skdp knows, and the standard assumptions
           and caveats and the public number of units are there. One that says that its noise came from a fixed seed
           never holds;
        4. the second accountant's epsilon is at most 0.1 % (and 0.0003) above the claim, also for the executed
           part;
        5. the claim is at most 2 % (and 0.0003) above what either accountant finds, because a claim that does not
           follow from its event was altered. A claim that is the target may be 25 % above: calibration errs on the
           side of noise, and cannot give less than its least.

    Raises
    ------
    ValueError
        The file holds no statement.

    Notes
    -----
    The second accountant is

    - of the closed form: `dp_accounting`'s PLD on a finer grid than usual;
    - of PLD and RDP claims: skdp's tilted PLD (other code and another method) where the event is made of
      Gaussians, and the fine PLD elsewhere or where the tilted bound is looser than the claim;
    - of the tilted PLD: the fine PLD where it resolves delta; else the claim is computed once more, and compared
      with the PLD at a larger delta;
    - of RDP for an event that only RDP bounds: none. It is computed once more, and the reason says so;
    - of a Renyi filter (an adaptive `PrivacyLedger`): the same as of RDP, for the event as if it had been fixed
      beforehand, which the claim must not lie below; the filter's own figure is computed once more, and is the claim.

    RDP is looser than all others: where it bounds the event it must not lie below the recomputed figure.

    A file can be consistent and still be false: verification shows that the figures follow from the event, not that
    the event is what was run, and not who wrote the file. It is a recalculation, not a signature.

    Examples
    --------
    >>> import dataclasses
    >>> from skdp.contract import Charge, Gaussian, Poisson, Touch
    >>> charge = Charge((Touch("gradient", Poisson(0.01), Gaussian((1.0,)), 1000),))
    >>> statement = PrivacyStatement.from_charge(charge, 1e-5, mechanism="dp-sgd", n=50_000)
    >>> verify(statement).holds, verify(dataclasses.replace(statement, epsilon=1.0)).holds
    (True, False)
    """
    if not isinstance(statement, PrivacyStatement):
        statement = PrivacyStatement.load(statement)
    name, recomputed = "no accountant", math.nan
    try:
        name, recomputed = _second(statement, statement.claimed_event, statement.epsilon)
        complaint = contradiction(statement) or misfit(statement) or _wrong(statement, recomputed) or silence(statement)
        complaint = REPRODUCIBLE if statement.reproducible_noise else complaint
    except ValueError as error:  # an impossible event, or one that nothing bounds
        complaint = str(error)
    if complaint:
        return Verification(False, statement.epsilon, recomputed, name, complaint)
    return Verification(True, statement.epsilon, recomputed, name, _praise(statement, name, recomputed))


# ------------------------------------------------------------------ the second accountant
def _second(statement: PrivacyStatement, event: dp_event.DpEvent, claim: float) -> tuple[str, float]:
    """Name and epsilon of an accountant other than the statement's."""
    delta, adjacency = event_delta(statement.delta, statement.delta_fail), statement.adjacency
    parts = phases(event)
    if claim > 0:  # zero may be known in closed form for any event: rows that are practically never drawn
        accountants.which_accountant(event, adjacency, "rdp" if statement.orders else statement.accountant)
    if not parts:
        return "nothing was done", 0.0
    if without_noise(parts):
        return "no noise", math.inf
    if delta == 0:
        return "no noise of this kind has delta 0", math.inf
    gaussian = gaussian_phases(parts)
    if gaussian is not None and (statement.accountant in ("pld", "rdp", RENYI_FILTER) or claim == 0):
        tilted = calibration.epsilon_of(gaussian, delta, adjacency)
        if not _below(claim, tilted):
            return "tilted PLD", tilted  # else perhaps loose, as it is where few rare draws decide
    fits = not too_wide(parts, adjacency)
    resolved = 50 if gaussian is None else 1000  # rounding in the FFT is charged to delta, which is no match
    if (
        delta >= resolved * rounding(runs(parts))
        and fits
        and all(supports(leaf, adjacency, "pld") for leaf, _ in parts)
    ):
        return "fine PLD", loss_epsilon(parts, delta, adjacency, fine=True)
    if gaussian is not None and fits:
        return _tilted_again(gaussian, parts, delta, adjacency)
    return "RDP" + _AGAIN, accountants.epsilon(event, delta, adjacency, "rdp")


def _tilted_again(gaussian: tuple, parts: Phases, delta: float, adjacency: str) -> tuple[str, float]:
    """Our bound where no PLD resolves delta, once it agrees with the PLD at a delta that the PLD resolves."""
    larger = 10_000 * rounding(runs(parts))
    if larger > 0.1:
        raise ValueError(f"no second accountant resolves {sum(count for _, count in parts)} compositions")
    ours, theirs = calibration.epsilon_of(gaussian, larger, adjacency), loss_epsilon(parts, larger, adjacency)
    if ours < theirs * (1 - _AGREE):
        raise ValueError(f"the accountants disagree at delta {larger:.1g}: {ours:.4g} and {theirs:.4g}")
    return "tilted PLD" + _AGAIN, calibration.epsilon_of(gaussian, delta, adjacency)


def _first(statement: PrivacyStatement, event: dp_event.DpEvent, name: str) -> float:
    """Epsilon of an event by accountant `name`, or by the statement's own filter."""
    delta, adjacency = event_delta(statement.delta, statement.delta_fail), statement.adjacency
    if statement.orders:
        renyi = RenyiFilter(statement.orders, delta)
        return renyi.epsilon(renyi.divergences(phases(event), adjacency))
    return accountants.epsilon(event, delta, adjacency, name)


# ------------------------------------------------------------------ the verdict
def _wrong(statement: PrivacyStatement, recomputed: float) -> str:
    """Complaint about epsilon, empty where there is none."""
    claim, event, adjacency = statement.epsilon, statement.claimed_event, statement.adjacency
    delta = event_delta(statement.delta, statement.delta_fail)
    # One event knows nothing of choices that hang on results, so its cost alone is no measure of a filter's claim.
    least = max(recomputed, _first(statement, event, RENYI_FILTER)) if statement.orders else recomputed
    if _below(claim, least):
        return f"the event costs epsilon {round_up(least)} at delta {round_up(statement.delta)}"
    if statement.executed_epsilon is not None:
        executed = min(recomputed, _second(statement, statement.event, statement.executed_epsilon)[1])
        most = min(claim, _first(statement, statement.event, "auto"))
        if _below(statement.executed_epsilon, executed) or statement.executed_epsilon > most * (1 + ABOVE) + BELOW_BY:
            return f"what was executed costs epsilon {round_up(executed)}, not {round_up(statement.executed_epsilon)}"
    if math.isfinite(recomputed):
        if all(supports(leaf, adjacency, "rdp") for leaf, _ in phases(event)):
            loose = accountants.epsilon(event, delta, adjacency, "rdp")
            if _below(loose, recomputed):
                return f"RDP's looser bound {round_up(loose)} lies below the recomputed figure: a contradiction"
        if _above(statement, recomputed):
            if _above(statement, _first(statement, event, statement.accountant)):
                return f"the event costs only epsilon {round_up(recomputed)}: the claim was altered"
    return ""


def _below(claim: float, recomputed: float) -> bool:
    return claim < recomputed * (1 - BELOW) - BELOW_BY


def _above(statement: PrivacyStatement, recomputed: float) -> bool:
    """Whether the claim is larger than an honest one would be: it was altered, or the event was."""
    claim, target = statement.epsilon, statement.target_epsilon
    usual = claim > recomputed * (1 + ABOVE) + BELOW_BY
    if target is None or claim > target:
        return usual
    # Not even the least noise that calibration gives may cost the target: what it claims then lies anywhere below.
    multipliers = [z for _, z, _ in gaussian_phases(leaves(statement.claimed_event)) or ()]
    if recomputed == 0 or min(multipliers, default=math.inf) <= LEAST_MULTIPLIER * 1.01:
        return False
    return usual and not (target * (1 - BELOW) <= claim <= recomputed * (1 + ABOVE_TARGET) + BELOW_BY)


def _praise(statement: PrivacyStatement, name: str, recomputed: float) -> str:
    if math.isinf(statement.epsilon):
        return "it claims no privacy, and there is none"
    praise = "the figures follow from the event"
    if name.endswith(_AGAIN):
        praise += ", though nothing independent bounds it this closely"
    if recomputed > statement.epsilon:
        praise += (
            f"; the two agree within the numerical tolerance of {100 * BELOW:g} % (and {BELOW_BY:g}): both accountants "
            "round up, each by its own slack, so the one that came out larger is no lower bound"
        )
    return praise
