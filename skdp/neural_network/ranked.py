"""What the processes of one group settle among themselves around a fit that they share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Checkpoint, PrintLog, ProgressBar, TrainEndCheckpoint
from torch import nn

from skdp.accounting import ledger_sessions
from skdp.callbacks import FitCheckpoint
from skdp.contract import Public
from skdp.contract.queries import exactly
from skdp.contract.shown import shown
from skdp.distributed import Ranks, current
from skdp.neural_network.problem import Problem

__all__ = [
    "agree_on", "agree_on_parameters", "agree_on_weights", "for_this_rank", "joined", "refuse_what_is_no_sum",
    "start_alike",
]  # fmt: skip

# How a rank works, which may differ between machines and changes no distribution.
_OWN = ("callbacks", "device", "max_physical_batch_size", "verbose")
# Callbacks that only print or write; all others run on every rank, because they may change the net or its optimizer.
_ONLY_TELL = (Checkpoint, PrintLog, ProgressBar, TrainEndCheckpoint)


def agree_on_parameters(ranks: Ranks, estimator: Any, earlier: Any, failed: Iterable[dict]) -> None:
    """Refuse, on all ranks, estimators that differ in a parameter or in what they did before.

    Raises
    ------
    ValueError
        Names the parameter and what the ranks have.
    """
    facts = {name: value for name, value in estimator.get_params(deep=False).items() if name not in _OWN}
    facts = {"the class of the estimator": type(estimator).__name__, **facts}
    said = {name: (_digest(value), shown(value)) for name, value in facts.items()}
    weights = getattr(estimator, "_weights", None) if getattr(estimator, "warm_start", False) else None
    before = [earlier, list(failed), weights]
    said["what earlier fits of the estimator left"] = _digest(before), "its own fits"
    kinds = [c[1] if isinstance(c, tuple) else c for c in getattr(estimator, "callbacks", None) or []]
    kinds = [getattr(c, "__qualname__", type(c).__qualname__) for c in kinds]
    said["callbacks"] = _digest(kinds), shown(kinds)
    ledgers = len({token.ledger for token in ledger_sessions.tokens()})
    said["the number of open ledgers"] = str(ledgers), str(ledgers)
    ranks.agree(said)


def agree_on(ranks: Ranks, facts: Mapping[str, Any]) -> None:
    """Refuse, on all ranks, facts in which they differ.

    Raises
    ------
    ValueError
        Names the fact and what the ranks have.
    """
    ranks.agree({name: (_digest(value), shown(value)) for name, value in facts.items()})


def joined(ranks: Ranks, problem: Problem, names: Any = None) -> Problem:
    """The problem of all ranks, of which this one holds some rows, in columns of the same names and order.

    Raises
    ------
    ValueError
        Public facts differ: names which, and what the ranks have.
    """
    public = problem.public
    # Under add-remove the number of rows is declared, and agreed on as a parameter; the real one is nobody's.
    n = public.n if public.adjacency == "add-remove" else int(ranks.sum(public.n))
    problem = replace(problem, public=replace(public, n=n))
    facts = {f.name: getattr(problem.public, f.name) for f in fields(Public) if f.name != "n"}
    facts["the names of columns"] = None if names is None else list(names)
    facts["classes"] = None if problem.classes is None else problem.classes.tolist()
    facts["what is taken as public"] = (problem.facts, problem.assumptions, problem.weighted)
    facts["the number of targets"] = problem.targets.shape[1:]
    agree_on(ranks, facts)
    return problem


def refuse_what_is_no_sum(mechanism: Any) -> None:
    """Refuse a mechanism whose answers are no sums over rows.

    Raises
    ------
    ValueError
    """
    if current() is not None and not mechanism.sums_over_rows:
        raise ValueError(
            f"mechanism={type(mechanism).__name__}() cannot train inside process_group(): it needs all rows in one "
            "process (one order over all of them, or an answer for each row), and not sums over rows, which processes "
            "can add up. Use mechanism='dp-sgd', 'dpis' or 'rgp', or fit in one process"
        )


def start_alike(ranks: Ranks | None, module: nn.Module) -> None:
    """Weights and buffers of rank 0 on all ranks."""
    if ranks is None:
        return
    state = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()} if ranks.leads else None
    module.load_state_dict(ranks.broadcast(state, "weights"))


def agree_on_weights(ranks: Ranks, module: nn.Module) -> None:
    """Refuse weights that are not the same, bit by bit, on all ranks.

    Raises
    ------
    ValueError
    """
    digest = _digest(dict(module.state_dict()))
    ranks.agree({"the net after the same steps": (digest, f"digest {digest[:8]}")})


def for_this_rank(callbacks: Iterable[Any] | None, ranks: Ranks | None) -> list[Any]:
    """The callbacks that run here: those that only print or write files on rank 0 alone."""
    callbacks = list(callbacks or [])
    if ranks is None or ranks.leads:
        return callbacks
    here = []
    for given in callbacks:
        callback = given[1] if isinstance(given, tuple) else given
        if isinstance(callback, FitCheckpoint):
            here.append(_Leases(None, callback.every))
        elif not issubclass(callback if isinstance(callback, type) else type(callback), _ONLY_TELL):
            here.append(given)
    return here


class _Leases(FitCheckpoint):
    """Leases steps as the checkpoint of rank 0 does, and has no file."""

    def initialize(self) -> _Leases:
        """Nothing to check."""
        return self


def _digest(value: Any) -> str:
    return hashlib.sha256(b"".join(exactly(_plain(value)))).hexdigest()


def _plain(value: Any) -> Any:
    """What makes a value, where its representation holds an address."""
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=True)
    if isinstance(value, nn.Module):
        return repr(value)  # the weights of rank 0 are those of all
    if hasattr(value, "to_numpy"):
        return [list(map(str, getattr(value, "columns", ()))), value.to_numpy()]
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "get_params") and not isinstance(value, type):
        return [type(value).__qualname__, _plain(value.get_params(deep=False))]
    return value if not torch.is_tensor(value) else value.detach().cpu()
