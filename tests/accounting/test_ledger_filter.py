"""The Renyi filter: golden numbers, what it admits, and a run of an adversary who chooses by results."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent, SelfComposedDpEvent, dp_event
from dp_accounting.rdp import RdpAccountant
from scipy import stats

from skdp.accounting import epsilon
from skdp.accounting.ledger_filter import RenyiFilter
from skdp.accounting.relations import phases
from skdp.accounting.renyi import ORDERS

SGD = SelfComposedDpEvent(PoissonSampledDpEvent(0.01, GaussianDpEvent(1.0)), 1000)
EVENTS = [
    GaussianDpEvent(3.0),
    SGD,
    dp_event.ComposedDpEvent([SGD, GaussianDpEvent(10.0), SGD]),
    dp_event.RandomizedResponseDpEvent(0.5, 3),
]


def figure(renyi, event, adjacency="zero-out"):
    return renyi.epsilon(renyi.divergences(phases(event), adjacency))


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("order", [2.0, 8.0, 10.5, 64.0])
def test_one_order_is_that_of_dp_accounting(event, order):
    peer = RdpAccountant([order], NeighboringRelation.REPLACE_SPECIAL).compose(event)
    ours = RenyiFilter.fixed(None, 1e-6, order).divergences(phases(event), "zero-out")
    assert ours == pytest.approx(peer.rdp, rel=1e-6) and ours[0] >= peer.rdp[0]
    assert figure(RenyiFilter.fixed(None, 1e-6, order), event) == pytest.approx(peer.get_epsilon(1e-6), rel=1e-6)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("ceiling", [None, 0.5, 3.0, 10.0])
def test_never_below_the_privacy_loss_distribution(event, ceiling):
    assert figure(RenyiFilter.fixed(ceiling, 1e-6), event) >= epsilon(event, 1e-6)


def test_replace_one_is_charged_twice_the_sensitivity():
    renyi = RenyiFilter.fixed(3.0, 1e-6)
    near, far = (renyi.divergences(phases(GaussianDpEvent(4.0)), a) for a in ("zero-out", "replace-one"))
    assert far == pytest.approx(4 * near, rel=1e-6)


def test_the_automatic_order_leaves_most_for_gaussians():
    for ceiling in (0.3, 1.0, 3.0, 12.0):
        auto = RenyiFilter.fixed(ceiling, 1e-6)
        best = max((ceiling - RenyiFilter.fixed(None, 1e-6, a).gaps[0]) / a for a in ORDERS)
        mine = np.max((ceiling - auto.gaps) / [a for a, _ in auto.orders])
        assert 0.97 * best < mine <= best  # the share of delta for other orders costs little


@pytest.mark.parametrize("multiplier", [0.4, 1.0, 3.0, 10.0, 60.0])
def test_without_a_ceiling_every_size_is_told_within_a_quarter(multiplier):
    event = GaussianDpEvent(multiplier)
    best = min(figure(RenyiFilter.fixed(None, 1e-6, a), event) for a in ORDERS)
    assert best <= figure(RenyiFilter.fixed(None, 1e-6), event) < 1.25 * best


def test_shares_sum_up_to_at_most_delta():
    for ceiling in (None, 1.0):
        orders = RenyiFilter.fixed(ceiling, 1e-6).orders
        assert sum(share for _, share in orders) == pytest.approx(1.0)


@pytest.mark.parametrize("order", [1, 0.5, math.inf, "best", None, (), (2, 1)])
def test_impossible_orders(order):
    with pytest.raises(ValueError, match="order="):
        RenyiFilter.fixed(1.0, 1e-6, order)


def test_a_ceiling_below_the_gap_of_its_order():
    with pytest.raises(ValueError, match="admits nothing"):
        RenyiFilter.fixed(0.1, 1e-6, 2.0)


def played(rng, games, renyi, ceiling, cheat=1.0):
    """Privacy losses at the end, and figures, of an adversary who spends more the better it goes for him.

    Each move is a Gaussian release whose multiplier hangs on the loss so far, as long as the filter admits it.
    """
    loss, spent = np.zeros(games), np.zeros((games, len(renyi.orders)))
    alphas = np.array([a for a, _ in renyi.orders])
    for _ in range(60):
        mu = np.where(loss > spent.min(axis=1), 0.45, 0.15)
        after = spent + alphas * (mu * cheat)[:, None] ** 2 / 2
        going = (np.min(after + renyi.gaps, axis=1) <= ceiling) & (loss < ceiling)
        mu = np.where(going, mu, 0.0)
        loss += mu * rng.standard_normal(games) + mu**2 / 2
        spent = np.where(going[:, None], after, spent)
    figures = np.where(spent.any(axis=1), np.min(spent + renyi.gaps, axis=1), 0.0)
    return loss, figures


def violation(loss, figures, delta, false_alarm=1e-6):
    """Whether the losses show that more than delta escapes the figures: the hockey-stick mean is bounded by 1."""
    excess = -np.expm1(np.minimum(figures - loss, 0.0))
    return stats.binom.sf(math.floor(excess.sum()) - 1, len(loss), delta) < false_alarm


def test_an_adversary_who_chooses_by_results_stays_within_delta():
    delta, ceiling, rng = 0.01, 3.0, np.random.default_rng(0)
    renyi = RenyiFilter.fixed(ceiling, delta)
    loss, figures = played(rng, 200_000, renyi, ceiling)
    assert figures.max() <= ceiling
    assert not violation(loss, figures, delta)
    loss, figures = played(rng, 200_000, renyi, ceiling, cheat=2 / 3)  # power: noise that is a third too small
    assert violation(loss, figures, delta)
