"""Modules without a rule: run record by record, whatever they do inside."""

from __future__ import annotations

import pytest
import torch
from rule_cases import one_by_one, per_record
from torch import nn

from skdp.exceptions import UnsupportedModuleError
from skdp.training.clipping import total_squares
from skdp.training.per_example import PerExample


class Scaled(nn.Module):
    """Own parameter, and whatever `act` does with the input."""

    def __init__(self, act=lambda x: x):
        super().__init__()
        self.scale, self.act = nn.Parameter(torch.randn(4)), act

    def forward(self, *args, **kwargs):
        return self.act(*args, **kwargs) * self.scale


def squares(module, *args, **kwargs):
    with PerExample(module) as per_example:
        captured = per_example.backward(per_record(module(*args, **kwargs)))
    return total_squares(captured.squared_norms())


def truth(module, x):
    return sum(t.flatten(1).square().sum(1) for t in one_by_one(module, x).values())


def test_a_module_that_mixes_records_sees_one_at_a_time():
    torch.manual_seed(0)
    module, x = Scaled(lambda x: x - x.mean(0)), torch.randn(5, 4)
    changed = x.clone()
    changed[0] += 10
    torch.testing.assert_close(squares(module, changed)[1:], squares(module, x)[1:], rtol=0, atol=0)


def test_dropout_inside_is_drawn_per_record_and_once():
    torch.manual_seed(0)
    module, x = Scaled(lambda x: torch.dropout(x, 0.5, True)), torch.ones(64, 4)
    with PerExample(module) as per_example:
        output = module(x)
        captured = per_example.backward(output.sum(1))
    kept = (output / module.scale).detach()
    assert 0 < (kept == 0).float().mean() < 1 and len(kept.unique(dim=0)) > 4
    torch.testing.assert_close(captured.squared_norms()[0], kept.square().sum(1))


def test_keyword_and_shared_arguments():
    torch.manual_seed(0)
    module, x = Scaled(lambda x, mask=None, power=1: (x * mask) ** power), torch.randn(5, 4)
    mask = torch.tensor([1.0, 0.0, 1.0, 2.0])
    with_rows = squares(module, x, mask=mask.expand(5, 4), power=2)
    torch.testing.assert_close(squares(module, x, mask=mask[None], power=2), with_rows)


def test_an_argument_once_seen_as_shared_stays_so():
    torch.manual_seed(0)
    module, mask = Scaled(lambda x, mask: torch.einsum("btd,ts->bsd", x, mask)), torch.randn(4, 4)
    x = torch.randn(5, 4, 4)
    expected = squares(module, x, mask)
    torch.testing.assert_close(squares(module, x[:4], mask), expected[:4])


def test_loops_where_no_batching_rule_exists():
    torch.manual_seed(0)
    module = Scaled(lambda x: x * 2 if x.detach().sum().item() > 0 else x.tanh())
    x = torch.randn(6, 4)
    torch.testing.assert_close(squares(module, x), truth(module, x))


def test_several_outputs_and_other_types():
    class Two(Scaled):
        def forward(self, x):
            return x * self.scale, {"text": "as it is", "sum": (x * self.scale).sum(1)}

    module, x = Two(), torch.randn(3, 4)
    with PerExample(module):
        first, rest = module(x)
    assert first.shape == (3, 4) and rest["text"] == "as it is" and rest["sum"].shape == (3,)


def test_a_buffer_written_in_forward_is_looped_over():
    class Counting(Scaled):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += (x.detach() > 0).any()
            return x * self.scale

    module, x = Counting(), torch.randn(5, 4)
    torch.testing.assert_close(squares(module, x), truth(module, x))


def test_forward_hooks_of_the_user_run_once():
    module, x = Scaled(), torch.randn(3, 4)
    calls = []
    module.register_forward_hook(lambda *args: calls.append(1))
    squares(module, x)
    assert len(calls) == 1


def test_a_hook_that_changes_what_a_layer_returns():
    torch.manual_seed(0)
    module, x = nn.Linear(4, 3), torch.randn(5, 4)
    module.register_forward_hook(lambda module, args, output: output.square())
    torch.testing.assert_close(squares(module, x), truth(module, x))


def test_a_subclass_with_another_forward_is_not_served_by_the_rule():
    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(2 * x) + self.weight.sum()

    torch.manual_seed(0)
    module, x = Doubled(4, 3), torch.randn(5, 4)
    torch.testing.assert_close(squares(module, x), truth(module, x))


def test_records_along_another_dimension_are_refused():
    module = nn.Sequential(Scaled(lambda x: x.sum(0)))
    with pytest.raises(UnsupportedModuleError, match=r"layer '0' \(Scaled\) returns a tensor of shape \(4,\)"):
        squares(module, torch.randn(3, 4))


def test_evaluation_without_gradients_runs_the_module_itself():
    module, x = Scaled(lambda x: x - x.mean(0)), torch.randn(5, 4)
    with PerExample(module), torch.no_grad():
        inside = module(x)
    torch.testing.assert_close(inside, module(x).detach())
