"""A fit between its charge and its first step, so that somebody else may run the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skdp.neural_network.checkpoint import Journal
from skdp.neural_network.fitting import Estimates, FitRun
from skdp.training import Engine, TailAverage, TorchExecutor

__all__ = ["ReadyFit"]


@dataclass(eq=False)
class ReadyFit:
    """A fit that is charged for and built, right before its first step.

    Parameters
    ----------
    run : FitRun
    engine : Engine
    executor : TorchExecutor
    average : TailAverage
    estimates : Estimates
    journal : Journal
    training : dict or None
        Where a checkpoint stands, if the fit goes on from one.
    complete : bool
        Whether all steps ran; set by whoever trains.
    """

    run: FitRun
    engine: Engine
    executor: TorchExecutor
    average: TailAverage
    estimates: Estimates
    journal: Journal
    training: dict[str, Any] | None = None
    complete: bool = False

    def train(self, context: Any = None) -> None:
        """Run the steps of this fit alone."""
        parts = (self.engine, self.executor, self.average, self.estimates, self.journal)
        self.complete = self.run.train(*parts, context=context, training=self.training)
