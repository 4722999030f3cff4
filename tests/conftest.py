"""Shared by all tests: one thread, small data sets, and the contract suite on the import path."""

from __future__ import annotations

import sys
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
