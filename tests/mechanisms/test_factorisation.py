"""Banded factorisations against full matrices, independent noise, the binary tree, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import toeplitz

from skdp.mechanisms.factorisation import coefficients, noise_levels, prefix_error

SIZES = [(1, 24), (2, 24), (3, 24), (8, 24), (24, 24), (7, 7), (2, 1)]


def matrix(column, steps):
    """Lower triangular Toeplitz matrix of a first column, cut or padded to `steps`."""
    padded = np.zeros(steps)
    padded[: min(len(column), steps)] = column[:steps]
    return np.tril(toeplitz(padded))


@pytest.mark.parametrize(("bands", "steps"), SIZES)
def test_formulas_are_those_of_the_matrices(bands, steps):
    column = coefficients(bands, max(bands, steps))
    C, sums = matrix(column, steps), np.tril(np.ones((steps, steps)))
    inverse = np.linalg.inv(C)
    np.testing.assert_allclose(noise_levels(column, steps), np.linalg.norm(inverse, axis=1), rtol=1e-9)
    np.testing.assert_allclose(prefix_error(column, steps), np.linalg.norm(sums @ inverse) / np.sqrt(steps), rtol=1e-9)
    assert len(column) == bands and np.linalg.norm(C, axis=0).max() <= 1 + 1e-12
    assert np.linalg.norm(column) == pytest.approx(1)


@pytest.mark.parametrize("steps", [24, 400, 5000])
def test_each_doubling_of_the_bands_helps_and_beats_the_truncated_closed_form(steps):
    counts = [b for b in (1, 2, 4, 8, 16, 32, 64) if b <= steps]
    errors = [prefix_error(coefficients(b, steps), steps) for b in counts]
    assert errors == sorted(errors, reverse=True) and errors[0] > 1.3 * errors[1]
    assert errors[0] == pytest.approx(np.sqrt((steps + 1) / 2))  # independent noise
    for bands, error in zip(counts[1:], errors[1:], strict=True):
        odd = 2 * np.arange(1, bands) - 1
        closed = np.concatenate([[1.0], np.cumprod(odd / (odd + 1))])
        assert error <= prefix_error(tuple(closed / np.linalg.norm(closed)), steps) * (1 + 1e-9)


@pytest.mark.parametrize(("bands", "steps"), [(2, 100), (4, 30), (6, 2000)])
def test_no_small_change_of_the_coefficients_helps(bands, steps):
    best = np.array(coefficients(bands, steps))
    rng = np.random.default_rng(0)
    for _ in range(50):
        other = best + 1e-3 * rng.standard_normal(bands)
        assert prefix_error(tuple(other / np.linalg.norm(other)), steps) >= prefix_error(tuple(best), steps) * (
            1 - 1e-6
        )


@pytest.mark.parametrize("height", [3, 6, 9])
def test_less_error_than_the_binary_tree_in_one_epoch(height):
    steps = 2**height
    nodes = np.array([bin(t).count("1") for t in range(1, steps + 1)])
    tree = np.sqrt((height + 1) * nodes.mean())  # a row is in height + 1 nodes
    assert prefix_error(coefficients(steps, steps), steps) < 0.7 * tree


def test_with_all_bands_nothing_is_much_better():
    """No factorisation of the sums is below their nuclear norm over the number of steps (Li et al., 2015)."""
    steps = 256
    least = np.linalg.norm(np.tril(np.ones((steps, steps))), "nuc") / steps
    assert 1 <= prefix_error(coefficients(steps, steps), steps) / least < 1.1
