"""The executor's stream of correlated noise, and samples of rows that take turns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import toeplitz

from skdp.contract import ClippedSum, Correlated, CyclicPoisson, FixedOrder, NormBelow, Poisson, Query, Touch
from skdp.exceptions import PlanViolationError
from skdp.mechanisms.factorisation import coefficients, noise_levels
from skdp.training import SecretRandomness
from skdp.training.correlated import CorrelatedNoise
from skdp.training.sampling import draw

CPU = torch.device("cpu")
FALSE_ALARM = 1e-6
STEPS, SIZE, BANDS = 40, 3000, 6


def stream(bands=BANDS, seed=None):
    return CorrelatedNoise(Correlated((2.0,), coefficients(bands, STEPS)), SecretRandomness(CPU, seed))


def drawn(source, steps=STEPS, size=SIZE):
    return np.stack([source.normal(size).numpy().astype(np.float64) for _ in range(steps)])


def matrix(bands=BANDS):
    return np.tril(toeplitz(np.pad(coefficients(bands, STEPS), (0, STEPS - bands))))


def check_white(z):
    """Fail unless the rows look independent and standard normal; false alarm `FALSE_ALARM`.

    Each entry of the matrix of covariances between steps is compared with its limits.
    """
    covariance = z @ z.T / z.shape[1]
    pairs = STEPS * (STEPS + 1) / 2
    bound = stats.norm.isf(FALSE_ALARM / pairs / 4) / np.sqrt(z.shape[1])
    off = covariance - np.eye(len(z))
    assert np.abs(off[~np.eye(len(z), dtype=bool)]).max() < 1.1 * bound
    assert np.abs(np.diag(off)).max() < 1.1 * np.sqrt(2) * bound


def test_the_correlation_is_that_of_the_factorisation():
    w = drawn(stream())
    check_white(matrix() @ w)
    np.testing.assert_allclose(w.std(axis=1), noise_levels(coefficients(BANDS, STEPS), STEPS), rtol=0.1)


@pytest.mark.parametrize("wrong", [lambda w: w, lambda w: matrix() @ w * 2 / 3, lambda w: matrix(5) @ w])
def test_a_wrong_correlation_or_too_little_noise_is_noticed(wrong):
    with pytest.raises(AssertionError):
        check_white(wrong(drawn(stream())))


def test_the_stream_is_the_inverse_of_the_matrix():
    z, w = drawn(SecretRandomness(CPU, 4)), drawn(stream(seed=4))
    np.testing.assert_allclose(matrix() @ w, z, atol=2e-5)


def test_one_band_is_independent_noise_and_nobody_can_change_the_past():
    np.testing.assert_array_equal(drawn(stream(1, seed=4)), drawn(SecretRandomness(CPU, 4)))
    spoilt, plain = stream(seed=4), stream(seed=4)
    spoilt.normal(5).zero_()
    plain.normal(5)
    assert torch.equal(spoilt.normal(5), plain.normal(5))


def test_what_the_price_does_not_cover_is_refused():
    touch = Touch("gradient", FixedOrder(8), Correlated((2.0,), coefficients(4, 40)), 40)
    source = stream(4)
    for values in ((NormBelow(1.0),), (ClippedSum(1.0), NormBelow(1.0)), (ClippedSum(1.0), ClippedSum(1.0))):
        with pytest.raises(PlanViolationError, match="one ClippedSum per query"):
            source.check(Query(touch, values), 0)
    source.check(Query(touch, (ClippedSum(1.0),)), 0)
    source.normal(5)
    with pytest.raises(PlanViolationError, match="clip norm changed from 1.0 to 0.5"):
        source.check(Query(touch, (ClippedSum(0.5),)), 1)
    with pytest.raises(PlanViolationError, match="spent and never answered"):
        source.check(Query(touch, (ClippedSum(1.0),)), 2)
    with pytest.raises(PlanViolationError, match="freeze layers before the fit"):
        source.normal(4)


@pytest.mark.parametrize(("n", "epoch"), [(12, 4), (13, 4), (100, 7), (5, 5), (3, 2)])
def test_a_fixed_order_deals_every_row_once_an_epoch(n, epoch):
    secret = SecretRandomness(CPU)
    batches = [draw(FixedOrder(epoch), t, n, secret) for t in range(3 * epoch)]
    sizes = [len(batch) for batch in batches]
    assert sorted(np.concatenate(batches[:epoch]).tolist()) == list(range(n))
    assert max(sizes) - min(sizes) <= 1
    assert all((np.diff(batch) > 0).all() for batch in batches)
    for t in range(epoch, 3 * epoch):
        np.testing.assert_array_equal(batches[t], batches[t - epoch])


def test_the_order_is_secret_and_depends_on_the_number_of_rows_only():
    one, other = (draw(FixedOrder(2), 0, 60, SecretRandomness(CPU)) for _ in range(2))
    assert one.tolist() != other.tolist() != list(range(30))
    busy, idle = SecretRandomness(CPU, 7), SecretRandomness(CPU, 7)
    busy.draw_rows(50, 0.5)
    busy.normal(10)
    np.testing.assert_array_equal(draw(FixedOrder(3), 1, 60, busy), draw(FixedOrder(3), 1, 60, idle))


def test_cyclic_samples_come_from_the_group_whose_turn_it_is():
    secret, sampler, n = SecretRandomness(CPU), CyclicPoisson(0.1, 4), 400
    groups = [set(secret.group(n, 4, k).tolist()) for k in range(4)]
    assert sorted(row for group in groups for row in group) == list(range(n))
    counts = np.zeros(n)
    for t in range(400):
        rows = draw(sampler, t, n, secret)
        assert set(rows.tolist()) <= groups[t % 4] and (np.diff(rows) > 0).all()
        counts[rows] += 1
    # Every row had 100 turns at rate 0.4; false alarm 1e-6 over all rows, and rate 0.3 would be noticed.
    low, high = stats.binom.interval(1 - FALSE_ALARM, 40_000, 0.4)
    assert low <= counts.sum() <= high and not low <= 0.75 * counts.sum() <= high
    assert stats.binom.isf(1 - FALSE_ALARM / n, 100, 0.4) <= counts.min()
    assert counts.max() <= stats.binom.isf(FALSE_ALARM / n, 100, 0.4)


def test_one_group_draws_what_poisson_draws():
    one, other = (SecretRandomness(CPU, 3) for _ in range(2))
    drawn_by = [set(draw(CyclicPoisson(0.2, 1), t, 50, one).tolist()) for t in range(5)]
    places = [draw(Poisson(0.2), t, 50, other) for t in range(5)]
    order = one.group(50, 1, 0)
    assert drawn_by == [set(order[rows].tolist()) for rows in places]
