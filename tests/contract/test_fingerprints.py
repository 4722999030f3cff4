"""Fingerprints of queries tell apart whatever differs, to the last bit, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skdp.contract import ClippedSum, Counts, Gaussian, Poisson, Query, Touch

TOUCH = Touch("counts", Poisson(), Gaussian((2.0,)), 1)
EDGES = np.linspace(0, 1, 5000).reshape(50, 100)


def nudged(array):
    """The same numbers but for one bit in the middle, which a repr leaves out."""
    other = array.copy()
    other[25, 50] = np.nextafter(other[25, 50], 2)
    return other


def digest(value, touch=TOUCH, weights=None):
    return Query(touch, (value,)).fingerprint(weights)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (EDGES, nudged(EDGES)),
        (EDGES, EDGES.reshape(100, 50)),
        (EDGES, EDGES.view(np.int64)),
        (torch.tensor(EDGES), torch.tensor(nudged(EDGES))),
        (list(EDGES), list(nudged(EDGES))),
    ],
    ids=["bit", "shape", "dtype", "tensor", "list"],
)
def test_arrays_that_differ_have_different_fingerprints(one, other):
    assert digest(Counts("X", one)) == digest(Counts("X", one))
    assert digest(Counts("X", one)) != digest(Counts("X", other))


@pytest.mark.parametrize("kind", [float, torch.tensor, np.float32, lambda b: torch.tensor(b, dtype=torch.bfloat16)])
def test_bounds_are_compared_exactly(kind):
    near = np.nextafter(np.float32(0.1), 1) if kind is not float else np.nextafter(0.1, 1)
    near = 0.1015625 if "lambda" in kind.__name__ else near
    assert digest(ClippedSum(kind(0.1))) == digest(ClippedSum(kind(0.1)))
    assert digest(ClippedSum(kind(0.1))) != digest(ClippedSum(kind(near)))


def test_everything_else_counts_too():
    plain = ClippedSum(1.0)
    touch = Touch("counts", Poisson(), Gaussian((np.nextafter(2.0, 3),)), 1)
    weights, moved = {"w": torch.tensor(EDGES)}, {"w": torch.tensor(nudged(EDGES))}
    seen = {
        digest(plain),
        digest(plain, touch),
        digest(ClippedSum(1.0, "automatic")),
        digest(plain, weights=weights),
        digest(plain, weights=moved),
        digest(plain, weights={"v": torch.tensor(EDGES)}),
    }
    assert len(seen) == 6
    assert digest(plain, weights=weights) == digest(ClippedSum(1.0), weights={"w": torch.tensor(EDGES)})
