"""Row sampling is exactly independent Bernoulli draws, and nobody's seed reaches it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from skdp.training import SecretRandomness

CPU = torch.device("cpu")
# 5.33 standard deviations: each check fails an honest sampler with probability 1e-7.
LIMIT = stats.norm.isf(5e-8)


def indicators(n: int, rate: float, repeats: int, seed: int) -> np.ndarray:
    draws = SecretRandomness(CPU, seed)
    taken = np.zeros((repeats, n), dtype=bool)
    for repeat in range(repeats):
        rows = draws.draw_rows(n, rate)
        assert (np.diff(rows) > 0).all() and (len(rows) == 0 or (rows[0] >= 0 and rows[-1] < n))
        taken[repeat, rows] = True
    return taken


def check_bernoulli(taken: np.ndarray, rate: float) -> None:
    """Participation per row, sizes of samples, and independence of neighbours and of rows ten apart."""
    repeats, n = taken.shape
    spread = rate * (1 - rate)
    centred = (taken - rate) / np.sqrt(spread)
    assert abs(centred.sum()) < LIMIT * np.sqrt(taken.size), "the rate is wrong"
    per_row = np.square(centred.sum(axis=0)).sum() / repeats
    excess = 2 + 1 / (repeats * spread)
    assert abs(per_row - n) < LIMIT * np.sqrt(n * excess), "rows do not take part equally often"
    sizes = np.square(centred.sum(axis=1)).sum() / n
    excess = 2 + 1 / (n * spread)
    assert abs(sizes - repeats) < LIMIT * np.sqrt(repeats * excess), "sample sizes are not binomial"
    for lag in (1, 10):
        together = (centred[:, :-lag] * centred[:, lag:]).sum()
        assert abs(together) < LIMIT * np.sqrt(repeats * (n - lag)), f"rows {lag} apart are dependent"


RATES = [(2000, 0.002), (300, 0.05), (100, 0.199), (100, 0.201), (60, 0.7), (60, 0.97)]


@pytest.mark.parametrize(("n", "rate"), RATES)
def test_draws_are_independent_bernoulli(n, rate):
    check_bernoulli(indicators(n, rate, 1500, seed=1), rate)


def test_the_check_has_power():
    """It sees fixed-size samples, a rate that is 5 % off, blocks of rows, and rows that never take part."""
    rng = np.random.default_rng(0)
    n, rate, repeats = 300, 0.1, 1500
    good = rng.random((repeats, n)) < rate
    check_bernoulli(good, rate)
    fixed = np.zeros_like(good)
    for row in fixed:
        row[rng.choice(n, int(n * rate), replace=False)] = True
    blocks = np.repeat(rng.random((repeats, n // 2)) < rate, 2, axis=1)
    last = good.copy()
    last[:, -1] = False
    for bad in (fixed, rng.random((repeats, n)) < 1.05 * rate, blocks, last):
        with pytest.raises(AssertionError):
            check_bernoulli(bad, rate)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.15, 0.199999, 0.200001, 0.5])
def test_draws_are_independent_bernoulli_at_length(rate):
    check_bernoulli(indicators(5000, rate, 4000, seed=2), rate)


def test_edges():
    draws = SecretRandomness(CPU, 0)
    assert draws.draw_rows(10, 1.0) is None
    assert len(draws.draw_rows(0, 0.1)) == 0
    assert all(len(draws.draw_rows(50, 1e-12)) == 0 for _ in range(20))
    assert len(draws.draw_rows(1000, 1 - 1e-12)) == 1000


def test_operating_system_seeds_differ_and_ignore_global_generators():
    def noise(seed=None):
        np.random.seed(0)
        torch.manual_seed(0)
        draws = SecretRandomness(CPU, seed)
        rows = draws.draw_rows(1000, 0.5)
        return rows.tolist(), draws.normal(5).tolist(), draws.array_normal((3,)).tolist()

    for one, two in zip(noise(), noise(), strict=True):
        assert one != two
    assert noise(7) == noise(7)
    assert noise(7) != noise(8)


def test_global_generators_are_left_alone():
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(3).tolist(), np.random.rand(3).tolist()
    torch.manual_seed(0)
    np.random.seed(0)
    draws = SecretRandomness(CPU)
    draws.normal(100)
    draws.draw_rows(100, 0.1)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist()) == expected


def test_normals_are_standard():
    draws = SecretRandomness(CPU, 3)
    for sample in (draws.normal(20_000).numpy(), draws.array_normal((20_000,))):
        assert stats.kstest(sample, "norm").pvalue > 1e-6
        assert stats.kstest(sample * 2 / 3, "norm").pvalue < 1e-6


def test_a_seeded_stream_does_not_start_again_where_a_fit_goes_on():
    def noise(spent):
        draws = SecretRandomness(CPU, 7, spent)
        return draws.draw_rows(1000, 0.5).tolist(), draws.normal(50).tolist(), draws.array_normal((50,)).tolist()

    streams = [noise(spent) for spent in (0, 1, 2, 70)]
    assert noise(0) == noise(0) and noise(70) == noise(70)
    for parts in zip(*streams, strict=True):
        assert len(set(map(tuple, parts))) == 4
    numbers = [number for stream in streams for number in stream[1]]
    assert len(set(numbers)) == len(numbers)


def test_what_a_net_draws_is_a_secret_stream_and_torch_is_left_alone_outside():
    def masks(draws, count=3):
        with draws.net_draws():
            return torch.rand(count).tolist()

    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, other = SecretRandomness(CPU), SecretRandomness(CPU)
    first = masks(one)
    assert first != masks(one) and first != masks(other)
    assert masks(SecretRandomness(CPU, 7)) == masks(SecretRandomness(CPU, 7)) != masks(SecretRandomness(CPU, 8))
    assert masks(SecretRandomness(CPU, 7, 5)) != masks(SecretRandomness(CPU, 7))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RuntimeError, match="boom"), one.net_draws():
        torch.rand(5)
        raise RuntimeError("boom")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_net_draws_from_all_of_the_generator_and_not_from_32_bits():
    """No seed of torch gives its state, every word of it is random, and its numbers are uniform."""
    draws = SecretRandomness(CPU)
    with draws.net_draws():
        words = torch.get_rng_state()[24 : 24 + 8 * 624].clone().view(torch.int64).numpy()
        uniform = torch.rand(20_000).numpy()
        torch.manual_seed(5)
        seeded = torch.rand(3).tolist()
    assert len(set(words)) > 600 and words.min() >= 0 and words.max() < 2**32
    assert stats.kstest(words / 2**32, "uniform").pvalue > 1e-6 < stats.kstest(uniform, "uniform").pvalue
    assert uniform[:3].tolist() != seeded


def test_normals_have_their_tails_and_are_independent():
    """Each check fails honest noise with a probability below 1e-6; numbers that end at 5.8 deviations fail the last."""
    draws = SecretRandomness(CPU, 11)
    numbers = np.concatenate([draws.normal(1_000_001).numpy() for _ in range(4)]).astype(float)
    count = len(numbers)
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((numbers**power).mean() - moment) < 5.5 * np.sqrt(spread / count)
    for lag in (1, 2, 500_001):  # the other of a pair is half a call away
        assert abs((numbers[lag:] * numbers[:-lag]).mean()) < LIMIT / np.sqrt(count - lag)
        assert abs((numbers[lag:] ** 2 * numbers[:-lag] ** 2).mean() - 1) < LIMIT * np.sqrt(8 / (count - lag))
    for edge in (3, 4, 4.5):
        expected = 2 * stats.norm.sf(edge) * count
        assert abs((np.abs(numbers) > edge).sum() - expected) < 6 * np.sqrt(expected) + 5

    class Smallest:
        """A generator that gives the rarest numbers."""

        def integers(self, low, high, size, kind, endpoint):
            return np.zeros(size, kind)

    draws._noise = Smallest()
    assert 9.3 < float(draws.normal(1)[0]) < 9.5
