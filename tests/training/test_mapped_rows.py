"""How many threads rows of a file are read by; what comes out is tested with the estimators."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from skdp.neural_network.mapped_table import MappedTable
from skdp.training.mapped_rows import MappedRows


class Watched(MappedTable):
    """A table that notes who reads from it, as slowly as it is told to."""

    def __init__(self, array: np.ndarray, seconds: float = 0.0):
        super().__init__(array)
        self.seconds, self.readers, self.longest = seconds, set(), 0

    def stored(self, rows):
        self.readers.add(threading.get_ident())
        self.longest = max(self.longest, len(rows))
        time.sleep(self.seconds)
        return super().stored(rows)


@pytest.fixture
def table():
    return np.random.default_rng(0).random((4000, 200), dtype=np.float32)


def test_a_disk_is_asked_by_many_at_once(table):
    slow = Watched(table, seconds=0.1)
    rows = MappedRows(slow, lambda piece: 2 * piece)
    index = torch.arange(0, 4000, 4)
    for _ in range(2):  # the second time it has seen that it is slow
        slow.readers.clear()
        assert torch.equal(rows.index_select(0, index), 2 * torch.from_numpy(table[::4]))
        assert len(slow.readers) == 16


@pytest.mark.parametrize("from_disk", [True, False])
@pytest.mark.parametrize("count", [0, 1, 15, 17, 4000])
def test_every_row_once_whoever_reads(table, count, from_disk):
    watched = Watched(table)
    rows = MappedRows(watched, lambda piece: piece - 1)
    rows._from_disk = from_disk
    picked = np.sort(np.random.default_rng(1).permutation(4000)[:count])
    assert np.array_equal(rows.picked(picked), (table[picked].astype(np.float64) - 1).astype(np.float32))
    assert watched.longest <= 2**17 // 200
    if not from_disk:
        assert len(watched.readers) <= max(2, torch.get_num_threads())
