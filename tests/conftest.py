"""Shared by all tests: one thread, small data sets, and the contract suite on the import path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "contract"))
pytest.register_assert_rewrite("suite")
torch.set_num_threads(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of a mechanism contract once for each case of the inheriting class."""
    cases = getattr(metafunc.cls, "cases", None)
    if cases and "case" in metafunc.fixturenames:
        metafunc.parametrize("case", cases, ids=[case.name for case in cases])


@pytest.fixture(scope="session")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """400 rows of 4 features in [-1, 1] and labels 0, 1 that depend on the first two."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(400, 4))
    return X, (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int)


@pytest.fixture(scope="session")
def slope() -> tuple[np.ndarray, np.ndarray]:
    """400 rows of 3 features in [-1, 1] and a linear target in [-4, 4] with little noise."""
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, size=(400, 3))
    return X, 3 * X[:, 0] - X[:, 1] + 0.1 * rng.standard_normal(400)


@pytest.fixture(scope="session")
def three() -> tuple[np.ndarray, np.ndarray]:
    """300 rows of 3 features with labels "a", "b", "c"."""
    rng = np.random.default_rng(2)
    X = rng.uniform(-1, 1, size=(300, 3))
    return X, np.array(["a", "b", "c"])[X.argmax(axis=1)]


_FIT_OF_A_FILE = """
import sys, threading, warnings
import numpy as np
warnings.simplefilter("ignore")

def own():
    lines = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024

X, peak, over = np.load(sys.argv[1], mmap_mode="r"), [], threading.Event()
y = np.arange(len(X)) % 2
exec(sys.argv[2])
model.fit(X[:4000], y[:4000])
before = own()
def watch():
    while not over.wait(0.002):
        peak.append(own())
watcher = threading.Thread(target=watch)
watcher.start()
model.fit(X, y)
model.score(X, y)
over.set()
watcher.join()
print(max(peak) - before)
"""


@pytest.fixture
def own_memory_of_a_fit(tmp_path: Path) -> Callable[[str], float]:
    """MB by which a process grows that fits and scores 200 MB of mapped rows; it makes `model` by the given code."""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("Linux tells a process's own memory")
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (500_000, 100))
    X[:] = np.random.default_rng(0).random((500_000, 1), dtype=np.float32)
    X.flush()

    def rise(code: str) -> float:
        command = [sys.executable, "-c", _FIT_OF_A_FILE, str(tmp_path / "X.npy"), code]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return rise


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., np.ndarray]:
    """Write an array and open it as a mapped file."""

    def saved(array: np.ndarray, name: str = "X") -> np.ndarray:
        np.save(tmp_path / f"{name}.npy", array)
        return np.load(tmp_path / f"{name}.npy", mmap_mode="r")

    return saved
