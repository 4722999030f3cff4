"""Which rows of one table are at which site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from skdp.contract.shown import shown
from skdp.contract.whole_numbers import is_whole

__all__ = ["budgets_of", "divided"]


def divided(groups: Any, n_agents: int | None, n: int) -> dict[str, np.ndarray]:
    """Positions of the rows of each site, by its name.

    Parameters
    ----------
    groups : array-like of shape (n,) or None
        Site of each row.
    n_agents : int or None
        Without groups: number of even parts, by position.
    n : int

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ValueError

    Examples
    --------
    >>> divided(["b", "a", "b"], None, 3)
    {'a': array([1]), 'b': array([0, 2])}
    """
    if groups is None:
        count = 1 if n_agents is None else n_agents
        if not is_whole(count) or count > n:
            raise ValueError(f"n_agents={count!r} must be a whole number between 1 and the number of rows")
        return {str(i): rows for i, rows in enumerate(np.array_split(np.arange(n), count))}
    if n_agents is not None:
        raise ValueError(f"n_agents={n_agents!r} and groups are both given: groups alone say where each row is")
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise ValueError(f"groups has shape {groups.shape}, expected ({n},): the site of each row")
    missing = sum(site is None or site != site for site in groups.tolist())
    if missing:
        raise ValueError(f"groups: {missing} rows have no site, and where a row is must be known")
    names, where = np.unique(groups.astype(str), return_inverse=True)
    return {str(name): np.flatnonzero(where == i) for i, name in enumerate(names)}


def budgets_of(epsilon: Any, names: list[str]) -> dict[str, float | None]:
    """Budget of each site: one for all, or by name.

    Raises
    ------
    ValueError
        The names are not those of the sites.
    """
    if not isinstance(epsilon, Mapping):
        return dict.fromkeys(names, epsilon)
    given = {str(name): value for name, value in epsilon.items()}
    if set(given) != set(names):
        odd = sorted(set(given) ^ set(names))
        raise ValueError(f"epsilon must name a budget for each site, no more and no less; wrong: {shown(odd)}")
    return {name: given[name] for name in names}
