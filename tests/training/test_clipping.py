"""Clip factors: under the bound for every norm, zero for null rows."""

from __future__ import annotations

import math

import pytest
import torch

from skdp.training.clipping import CLIPPINGS, clip_factors, total_squares

NORMS = torch.tensor([0.0, 1e-19, 1e-3, 0.999, 1.0, 1.001, 7.0, 1e8, 1.8e19, math.inf, math.nan])


def as_list(factors):
    return factors if isinstance(factors, list) else [factors]


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("bound", [0.0, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_factor_times_norm_is_at_most_the_bound(clipping, bound, tensor):
    groups = [NORMS.square(), NORMS.square().flip(0).nan_to_num(1.0, 1.0)]
    factors = clip_factors(groups, torch.tensor(bound) if tensor else bound, clipping)
    parts = [
        (f.double().square() * g.double())
        for f, g in zip(as_list(factors) * (1 if isinstance(factors, list) else 2), groups, strict=True)
    ]
    finite = torch.isfinite(total_squares(groups))
    assert all((f[~finite] == 0).all() and (f >= 0).all() for f in as_list(factors))
    assert (sum(parts)[finite].sqrt() <= bound * (1 + 1e-6)).all()


@pytest.mark.parametrize("bound", [math.inf, torch.tensor(math.inf)])
@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_an_infinite_bound_leaves_finite_rows_alone(clipping, bound):
    squares = torch.tensor([0.0, 1.0, 1e30, math.inf, math.nan])
    for factors in as_list(clip_factors([squares], bound, clipping)):
        assert factors.tolist() == [1, 1, 1, 0, 0]


def test_values():
    squares = [torch.tensor([0.09, 9.0]), torch.tensor([0.16, 16.0])]
    flat = clip_factors(squares, 1.0, "flat")
    torch.testing.assert_close(flat, torch.tensor([1.0, 0.2]))
    torch.testing.assert_close(clip_factors(squares, 1.0, "automatic"), torch.tensor([1 / 1.5, 1 / 6]))
    assert clip_factors(squares, 1.0, "global").tolist() == [1, 0]
    first, second = clip_factors(squares, 1.0, "per-layer")
    torch.testing.assert_close(first, torch.tensor([1.0, 0.5**0.5 / 3]))
    torch.testing.assert_close(second, torch.tensor([1.0, 0.5**0.5 / 4]))


def test_a_row_that_is_not_finite_in_one_group_is_null_in_all():
    for factors in clip_factors([torch.tensor([math.nan, 1.0]), torch.tensor([1.0, 1.0])], 1.0, "per-layer"):
        assert factors[0] == 0 and factors[1] > 0


def test_an_overflowing_total_is_a_null_row():
    assert clip_factors([torch.tensor([3e38]), torch.tensor([3e38])], 1.0).tolist() == [0]


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_empty_batch(clipping):
    assert all(f.shape == (0,) for f in as_list(clip_factors([torch.zeros(0)], 1.0, clipping)))


def test_the_norms_are_left_as_they_were():
    squares = torch.tensor([4.0])
    for clipping in CLIPPINGS:
        clip_factors([squares], 1.0, clipping)
    assert squares.item() == 4


def test_unknown_clipping():
    with pytest.raises(ValueError, match="'flatt' must be one of 'flat', 'automatic', 'global', 'per-layer'"):
        clip_factors([torch.ones(1)], 1.0, "flatt")
