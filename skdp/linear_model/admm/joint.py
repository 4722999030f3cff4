"""What all sites together cost: to a row, which is at one of them, or to a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from skdp.accounting import PrivacyStatement, compose, compose_disjoint
from skdp.contract import PERSON, Charge

__all__ = ["joint_charge", "joint_statement"]


def joint_charge(charges: Mapping[str, Charge], most_sites: int) -> Charge:
    """What all messages of all sites cost: a row the dearest site's charge, a person those of the dearest sites.

    Parameters
    ----------
    charges : mapping of str to Charge
        Of each site, by name; all with the same rounds.
    most_sites : int
        At how many sites a person may have a row.

    Returns
    -------
    Charge
    """
    dearest = sorted(charges.items(), key=lambda pair: _noise(pair[1]))[:most_sites]
    if most_sites == 1:
        return dearest[0][1]
    touches = (replace(touch, name=f"{name}: {touch.name}") for name, charge in dearest for touch in charge.touches)
    return Charge(tuple(touches), dearest[0][1].adjacency, PERSON)


def _noise(charge: Charge) -> float:
    noise = charge.touches[0].noise
    return 0.0 if noise is None else noise.combined


def joint_statement(
    of_rows: Sequence[PrivacyStatement], of_persons: Sequence[PrivacyStatement], most_sites: int
) -> PrivacyStatement:
    """One statement about all messages of all sites.

    Parameters
    ----------
    of_rows : sequence of PrivacyStatement
        Of each site about its rows.
    of_persons : sequence of PrivacyStatement
        Of each site about persons, from `Site.person_statement`.
    most_sites : int
        At how many sites a person may have a row.

    Returns
    -------
    PrivacyStatement

    Notes
    -----
    *Formal guarantee.* Neighbours differ in a row of one site, so the messages of the others are functions of what that
    site sent: all together cost what the dearest site costs. A person with rows at k sites is nulled at all of them at
    once, which costs the composition of their charges, at most that of the k dearest: sites share rounds, sampling and
    delta, so that a smaller noise multiplier is dearer at every delta.
    """
    if most_sites == 1:
        joint = compose_disjoint(of_rows)
    else:
        joint = compose(sorted(of_persons, key=lambda statement: statement.noise_multiplier or 0.0)[:most_sites])
    return replace(joint, mechanism=f"DP-ADMM over {len(of_rows)} sites" if len(of_rows) > 1 else "DP-ADMM")
