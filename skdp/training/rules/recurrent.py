"""RNN, LSTM and GRU: the recurrence step by step, with its linear maps tapped."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skdp.exceptions import UnsupportedModuleError
from skdp.training.rules.linear import linear_gradients
from skdp.training.rules.rule import Rule, Tap, pick

__all__ = ["RECURRENT"]

State = tuple[Tensor, ...]


def _forward(
    module: nn.RNNBase, index: Mapping[str, int], tap: Tap, input: Tensor, hx: Tensor | State | None = None
) -> tuple[Tensor, Tensor | State]:
    if not isinstance(input, Tensor) or input.dim() != 3:
        raise UnsupportedModuleError(
            f"{type(module).__name__} got {type(input).__name__} input that is not a tensor (batch, positions, "
            f"features); pad sequences to one length instead of packing them"
        )
    lstm = module.mode == "LSTM"
    directions = 2 if module.bidirectional else 1
    first = None if hx is None else (hx if lstm else (hx,))
    outputs, last = input, []
    for layer in range(module.num_layers):
        if layer and module.dropout:
            outputs = F.dropout(outputs, module.dropout, module.training)
        runs = []
        for direction in range(directions):
            number = layer * directions + direction
            state = _zeros(module, input) if first is None else tuple(part[number] for part in first)
            run, state = _run(module, index, tap, f"l{layer}{'_reverse' * direction}", outputs, state)
            runs.append(run)
            last.append(state)
        outputs = torch.cat(runs, dim=-1) if directions == 2 else runs[0]
    final = tuple(torch.stack(parts) for parts in zip(*last, strict=True))
    return outputs, final if lstm else final[0]


def _zeros(module: nn.RNNBase, inputs: Tensor) -> State:
    """Initial state of one layer and direction."""
    hidden = inputs.new_zeros(len(inputs), module.proj_size or module.hidden_size)
    return (hidden, inputs.new_zeros(len(inputs), module.hidden_size)) if module.mode == "LSTM" else (hidden,)


def _run(
    module: nn.RNNBase, index: Mapping[str, int], tap: Tap, suffix: str, inputs: Tensor, state: State
) -> tuple[Tensor, State]:
    """One layer in one direction: (batch, positions, features) -> (batch, positions, hidden)."""

    def linear(kind: str, x: Tensor) -> Tensor:
        weight, bias = f"weight_{kind}_{suffix}", f"bias_{kind}_{suffix}"
        output = F.linear(x, getattr(module, weight), getattr(module, bias) if module.bias else None)
        tap(linear_gradients, pick(index, weight=weight, bias=bias), x, output)
        return output

    def project(x: Tensor) -> Tensor:
        weight = f"weight_hr_{suffix}"
        output = F.linear(x, getattr(module, weight))
        tap(linear_gradients, pick(index, weight=weight), x, output)
        return output

    step = _CELLS[module.mode]
    driven = linear("ih", inputs)
    positions = range(inputs.shape[1])
    hidden: list[Tensor] = [driven] * len(positions)
    for t in reversed(positions) if suffix.endswith("_reverse") else positions:
        state = step(driven[:, t], linear("hh", state[0]), state)
        if module.proj_size:
            state = (project(state[0]), *state[1:])
        hidden[t] = state[0]
    return torch.stack(hidden, dim=1), state


def _lstm(driven: Tensor, recurrent: Tensor, state: State) -> State:
    entry, forget, cell, exit_ = (driven + recurrent).chunk(4, dim=1)
    memory = forget.sigmoid() * state[1] + entry.sigmoid() * cell.tanh()
    return exit_.sigmoid() * memory.tanh(), memory


def _gru(driven: Tensor, recurrent: Tensor, state: State) -> State:
    reset, update, fresh = driven.chunk(3, dim=1)
    old_reset, old_update, old = recurrent.chunk(3, dim=1)
    fresh = (fresh + (reset + old_reset).sigmoid() * old).tanh()
    return (torch.lerp(fresh, state[0], (update + old_update).sigmoid()),)


_CELLS: dict[str, Callable[[Tensor, Tensor, State], State]] = {
    "RNN_TANH": lambda driven, recurrent, state: ((driven + recurrent).tanh(),),
    "RNN_RELU": lambda driven, recurrent, state: ((driven + recurrent).relu(),),
    "LSTM": _lstm,
    "GRU": _gru,
}


def _accepts(module: nn.RNNBase) -> bool:
    return set(module._parameters) == set(module._flat_weights_names)


RECURRENT = Rule((nn.RNN, nn.LSTM, nn.GRU), (), forward=_forward, accepts=_accepts)
