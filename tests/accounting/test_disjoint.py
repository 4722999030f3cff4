"""Statements of fits on disjoint rows: the dearest counts."""

from __future__ import annotations

import pytest

from skdp.accounting import PrivacyStatement, compose_disjoint, verify
from skdp.contract import Charge, Gaussian, Poisson, Touch


def statement(noise, delta=1e-5, n=1000, **charge):
    touches = (Touch("sum", Poisson(), Gaussian((noise,)), 1),)
    return PrivacyStatement.from_charge(Charge(touches, **charge), delta, mechanism=f"sum {noise:g}", n=n)


def test_the_dearest_decides_and_both_are_named():
    dear, cheap = statement(3.0), statement(9.0, delta=1e-4, n=500)
    both = compose_disjoint([cheap, dear])
    assert both.epsilon == dear.epsilon and both.delta == 1e-4 and both.n == 1500
    assert "sum 3" in both.mechanism and "sum 9" in both.mechanism and "disjoint" in both.split
    assert any("without looking" in line for line in both.assumptions)
    assert verify(both).holds
    assert PrivacyStatement.from_json(both.to_json()) == both


def test_one_part_is_itself():
    assert compose_disjoint([statement(3.0)]).epsilon == statement(3.0).epsilon


def test_what_does_not_compare_is_refused():
    with pytest.raises(ValueError, match="adjacency"):
        compose_disjoint([statement(3.0), statement(3.0, adjacency="replace-one")])
    with pytest.raises(ValueError, match="nothing"):
        compose_disjoint([])
