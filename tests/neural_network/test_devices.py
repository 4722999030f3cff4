"""Worker processes of one machine spread over its GPUs, which are pretended here."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed

from skdp import worker_process
from skdp.neural_network import devices
from skdp.worker_process import worker_number

PROGRAMME = SimpleNamespace(settings=SimpleNamespace(sampling_rate=0.5), public=SimpleNamespace(n=10_000_000))
PROBLEM = SimpleNamespace(inputs=np.zeros((2, 30)))


@pytest.fixture
def gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_workers_take_gpus_in_turn(gpus, device, monkeypatch):
    taken = []
    for number in range(8):
        monkeypatch.setattr(devices, "worker_number", lambda number=number: number)
        taken.append(devices.resolve_device(device, PROGRAMME, PROBLEM).index)
        assert devices.resolve_device("cuda:1", PROGRAMME, PROBLEM) == torch.device("cuda:1")
        assert devices.resolve_device("cpu", PROGRAMME, PROBLEM) == torch.device("cpu")
    assert sorted(taken) == sorted([0, 1, 2, 3] * 2)


def test_what_is_no_worker_keeps_the_current_gpu(gpus):
    assert worker_number() is None
    assert devices.resolve_device("cuda", PROGRAMME, PROBLEM) == torch.device("cuda")
    assert devices.resolve_device("auto", PROGRAMME, PROBLEM).index in range(4)


def test_numbers_of_workers():
    started = {number for number in Parallel(2)([delayed(worker_number)()] * 8) if number is not None}
    assert started and all(number >= 1 for number in started)


@pytest.mark.parametrize(("name", "number"), [(3, 3), ("SLURMCluster-5", 5), ("tcp://10.0.0.1:4000", None)])
def test_dask_names_its_workers_by_numbers(name, number, monkeypatch):
    monkeypatch.setattr(worker_process, "_dask_workers", lambda: [SimpleNamespace(name=name)])
    assert worker_number() == (os.getpid() if number is None else number)


def test_a_cluster_that_was_closed_leaves_no_worker_here():
    distributed = pytest.importorskip("distributed")
    with distributed.Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"):
        assert worker_process.is_cluster_worker() and worker_number() == 0
    assert not worker_process.is_cluster_worker() and worker_number() is None
