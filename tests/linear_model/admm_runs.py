"""Small federations for tests: rows, terms, sites, and rounds by hand."""

from __future__ import annotations

import math

import numpy as np

from skdp.linear_model.admm import Coordinator, Site, Terms


def rows(n=240, d=4, outputs=1, seed=0):
    """Rows with an intercept column, targets of -1 and 1, and no null row."""
    rng = np.random.default_rng(seed)
    X = np.hstack([rng.uniform(-1, 1, size=(n, d)), np.ones((n, 1))])
    noise = rng.logistic(size=(n, outputs))
    return {"X": X, "y": np.where(X @ rng.normal(scale=2, size=(d + 1, outputs)) + noise > 0, 1.0, -1.0)}


def terms(rows=240, d=4, sites=3, *, rounds=60, clip=1.5, **changed):
    step = 0.25 * (d / 3 + 1) / sites
    given = {"rho": step / 2, "curvature": step / 2, "momentum": 0.9, "alpha": 1e-3, "average": 0.0, "delta": 1e-5}
    return Terms(
        columns=tuple(map(str, range(d))), task="binary", outputs=1, rows=rows, sites=sites, classes=(0, 1),
        rounds=rounds, clip=clip, **(given | changed),
    )  # fmt: skip


def sites(agreed, arrays, **kwargs):
    """Sites with even parts of the rows; without noise unless told otherwise."""
    kwargs = {"epsilon": math.inf} | kwargs
    found = []
    for i, index in enumerate(np.array_split(np.arange(len(arrays["X"])), agreed.sites)):
        part = {name: array[index] for name, array in arrays.items()}
        found.append(Site(agreed, part, np.zeros(len(index), dtype=bool), f"site {i}", **kwargs))
    return found


def joined(agreed, members, **kwargs):
    coordinator = Coordinator(agreed, **kwargs)
    for site in members:
        coordinator.admit(site.join())
    return coordinator


def play(coordinator, members, rounds=None):
    """Rounds to the end, or so many."""
    stop = coordinator.terms.rounds if rounds is None else coordinator.consensus.round + rounds
    while coordinator.consensus.round < stop:
        call = coordinator.call()
        for site in members:
            coordinator.receive(site.answer(call))
        coordinator.advance()
    return coordinator
