"""What workers of a cluster are sent; on their import path."""

from __future__ import annotations

import os
from pathlib import Path

from sklearn.base import clone
from spenders import Majority

from skdp.accounting import ledger_sessions, notice_board
from skdp.accounting.ledger_store import LedgerStore


class KillsItsWorkerOnce(Majority):
    """Ends the process of its first fit, with everything spent and nothing said."""

    def __init__(self, noise_multiplier=50.0, epsilon=None, delta="auto", adjacency="zero-out", n_public=None,
                 insecure_noise_seed=None, slack=0.0, marker=""):  # fmt: skip
        super().__init__(noise_multiplier, epsilon, delta, adjacency, n_public, insecure_noise_seed, slack)
        self.marker = marker

    def fit(self, X, y):
        super().fit(X, y)
        if not Path(self.marker).exists():
            Path(self.marker).touch()
            os._exit(1)
        return self


def refit(fitted, X, y):
    """A task of a worker that is handed a fitted model, and fits a clone of it."""
    return clone(fitted).fit(X, y)


def without_board():
    """Make a worker as deaf as one that does not descend from the client."""
    notice_board.read_ancestors = tuple


def far_away():
    """Make a worker look as if it were on a machine that does not see the client's files."""
    ledger_sessions.host = lambda: "another machine"
    ledger_sessions.LedgerStore = lambda path: LedgerStore(f"/nowhere{path}")
