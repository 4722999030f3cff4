"""What all sites together cost: to a row, which is at one of them, or to a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from skdp.accounting import PrivacyStatement, compose, compose_disjoint

__all__ = ["joint_statement"]


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
    once, which costs the composition of their charges, at most that of the k dearest.
    """
    if most_sites == 1:
        joint = compose_disjoint(of_rows)
    else:
        joint = compose(sorted(of_persons, key=lambda statement: -statement.epsilon)[:most_sites])
    return replace(joint, mechanism=f"DP-ADMM over {len(of_rows)} sites" if len(of_rows) > 1 else "DP-ADMM")
