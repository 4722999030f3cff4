"""One thread where more are no faster, and torch's own number afterwards."""

from __future__ import annotations

import time

import pytest
import torch

from skdp.training.threads import worthwhile_threads


@pytest.fixture
def three():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("slow", "chosen"), [(1, 3), (3, 1)])
def test_the_faster_number_is_taken_and_given_back(three, slow, chosen):
    def one_pass():
        time.sleep(0.02 if torch.get_num_threads() == slow else 0.001)

    with worthwhile_threads(one_pass):
        assert torch.get_num_threads() == chosen
    assert torch.get_num_threads() == 3
    with pytest.raises(RuntimeError), worthwhile_threads(one_pass):
        raise RuntimeError
    assert torch.get_num_threads() == 3
