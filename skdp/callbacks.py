"""Callbacks of skdp's own; skorch's work as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skorch.callbacks import Callback

from skdp.accounting import PrivacyStatement

__all__ = ["FitCheckpoint"]


class FitCheckpoint(Callback):
    """Write everything that a killed fit needs to go on, at step boundaries.

    Before a batch of `every` steps runs, the file says that they may be spent. After a crash all of them count as
    spent, whether they ran or not, and `DPClassifier.resume` goes on behind them: nothing is drawn twice.

    Parameters
    ----------
    path : str or path
        File to write; every write replaces it as a whole. It holds no row, no secret seed and no noise. One that
        holds an unfinished fit is not overwritten: `resume` goes on with that, or it is moved away.
    every : int, default=50
        Steps between two writes, and so the most that a crash forfeits.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from skdp import DPClassifier
    >>> from skdp.callbacks import FitCheckpoint
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(200, 3))
    >>> path = tempfile.mkdtemp() + "/fit.ckpt"
    >>> model = DPClassifier(classes=[0, 1], feature_bounds=(-1, 1), callbacks=[FitCheckpoint(path)])
    >>> again = DPClassifier.resume(path, X, (X[:, 0] > 0).astype(int)) if model.fit(
    ...     X, (X[:, 0] > 0).astype(int)) else None
    >>> again.privacy_.epsilon <= 1.0
    True
    """

    def __init__(self, path: Any, every: int = 50):
        self.path = path
        self.every = every

    def initialize(self) -> FitCheckpoint:
        """Check the parameters."""
        if not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"FitCheckpoint(every={self.every!r}) must be a whole number of at least 1")
        if not Path(self.path).expanduser().parent.is_dir():
            raise ValueError(f"FitCheckpoint(path={self.path!r}): the folder does not exist")
        return self

    def statement(self) -> PrivacyStatement:
        """What the fit in the file, finished or not, costs as a whole, with all that its estimator did before it.

        Where a fit was killed and is not resumed, this is what it may have spent.
        """
        with open(Path(self.path).expanduser(), "rb") as file:
            return PrivacyStatement.from_dict(json.loads(file.readline())["statement"])

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Write the untrained state and lease the first steps."""
        net.lease_and_save(self)

    def on_batch_end(self, net: Any, training: bool, **kwargs: Any) -> None:
        """Write after every `every` steps."""
        if training and net.state_["step"] % self.every == 0:
            net.lease_and_save(self)
