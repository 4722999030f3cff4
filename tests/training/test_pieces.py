"""Rows of one pass: from the memory that they keep, never from what they hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skdp.training import rows_per_pass
from skdp.training.pieces import KEPT_BYTES, LEAST_ROWS

NETS = {
    "linear": (lambda: nn.Linear(500, 1), (500,), 500),
    "wide": (lambda: nn.Sequential(nn.Linear(10, 4000), nn.ReLU(), nn.Linear(4000, 1)), (10,), 4010),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.Tanh(), nn.Flatten()), (1, 30, 30), 900 + 8 * 28 * 28),
}


@pytest.mark.parametrize("name", NETS)
def test_what_a_pass_keeps_stays_within_the_allowance(name):
    """Weights do not count; each number that is kept for the backward pass counts once or twice."""
    factory, shape, numbers = NETS[name]
    rows = rows_per_pass(factory(), torch.zeros(3, *shape))
    assert KEPT_BYTES / (4 * numbers) / 2.5 < rows < KEPT_BYTES / (4 * numbers) * 1.1


def test_rows_do_not_matter_and_torch_is_left_alone():
    module = nn.Sequential(nn.Linear(5, 9), nn.Dropout(0.5), nn.Linear(9, 1))
    few, many = torch.full((1, 5), float("nan")), torch.randn(1000, 5)
    state = torch.get_rng_state()
    assert rows_per_pass(module, few) == rows_per_pass(module, many)
    assert torch.equal(torch.get_rng_state(), state)
    assert rows_per_pass(nn.Embedding(9, 2), torch.zeros(4, 3, dtype=torch.long)) > 1000


def test_huge_rows_still_go_a_few_at_a_time():
    assert rows_per_pass(nn.Linear(3_000_000, 1), torch.zeros(1, 3_000_000)) == LEAST_ROWS
