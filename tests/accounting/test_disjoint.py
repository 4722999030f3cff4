"""Statements of fits on disjoint rows: the dearest counts."""

from __future__ import annotations

import pytest

from skdp.accounting import PrivacyStatement, compose, compose_disjoint, verify
from skdp.contract import Charge, Gaussian, Poisson, Touch


def statement(noise, delta=1e-5, n=1000, **charge):
    touches = (Touch("sum", Poisson(), Gaussian((noise,)), 1),)
    return PrivacyStatement.from_charge(Charge(touches, **charge), delta, mechanism=f"sum {noise:g}", n=n)


def test_the_dearest_decides_and_both_are_named():
    dear, cheap = statement(3.0), statement(9.0, delta=1e-4, n=500)
    both = compose_disjoint([cheap, dear])
    assert both.delta == 1e-4 and both.n == 1500
    assert both.epsilon == compose([dear], delta=1e-4).epsilon < dear.epsilon
    assert "sum 3" in both.mechanism and "sum 9" in both.mechanism and "disjoint" in both.split
    assert any("without looking" in line for line in both.assumptions)
    assert verify(both).holds
    assert PrivacyStatement.from_json(both.to_json()) == both


def test_a_delta_for_few_rows_is_not_taken_for_many():
    few, many = statement(9.0, delta=1e-3, n=100), statement(3.0, delta=1e-5, n=5000)
    both = compose_disjoint([few, many])
    assert (both.delta, both.epsilon) == (1e-5, many.epsilon)
    assert compose_disjoint([few, many], delta=1e-4).delta == 1e-4
    with pytest.raises(ValueError, match="delta"):
        compose_disjoint([few, many], delta=1e-3)


def test_one_part_is_itself():
    assert compose_disjoint([statement(3.0)]).epsilon == statement(3.0).epsilon


def test_what_does_not_compare_is_refused():
    with pytest.raises(ValueError, match="adjacency"):
        compose_disjoint([statement(3.0), statement(3.0, adjacency="replace-one")])
    with pytest.raises(ValueError, match="nothing"):
        compose_disjoint([])
