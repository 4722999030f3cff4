"""Gradients kept by chance: unbiased, of one norm, as often as they should be, and bounded whatever a row holds.

Statistical tests fail an honest implementation with probability 1e-6 each, and are shown to fail a dishonest one.
"""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from scipy import stats
from small_net import MSE, data, net
from suite import check_noise, flat

from skdp.contract import ClippedSum, Gaussian, NormSum, Poisson, Query, ThinnedSum, Touch
from skdp.training import Captured, NetModel, PerExample, PrivateRows, SecretRandomness, TorchExecutor, thinning_factors

FALSE_ALARM = 1e-6
CPU = torch.device("cpu")


def make(X, y, weights=None, *, module=None, seed=0, piece=1000):
    module = module or net()
    per_example = PerExample(module)
    return TorchExecutor(
        NetModel(module, per_example.parameters, CPU, lambda outputs, targets: MSE(outputs, targets).sum(1)),
        PrivateRows(X, y, weights),
        forward=module,
        per_example=per_example,
        spend=lambda touch: 0,
        randomness=SecretRandomness(CPU, seed),
        piece=piece,
    )


def query(*values, rate=1.0, z=None):
    return Query(Touch("gradient", Poisson(rate), z and Gaussian((z,) * len(values)), 10**6), values)


def gradients(X, y):
    """One by one, by autograd: (rows, parameters)."""
    module, found = net(), []
    for i in range(len(X)):
        module.zero_grad()
        MSE(module(X[i : i + 1]), y[i : i + 1]).sum().backward()
        found.append(torch.cat([p.grad.ravel() for p in module.parameters()]))
    return torch.stack(found).double().numpy()


# ------------------------------------------------------------------ the factors
@pytest.mark.parametrize("bound", [0.3, torch.tensor(0.3)])
def test_what_is_kept_has_exactly_the_clip_norm(bound):
    norms = torch.tensor([1e-3, 0.1, 0.3, 2.0, 1e30]).repeat(1000)
    coins = 1 - torch.rand(len(norms), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lengths = thinning_factors(norms, bound, coins) * norms
    kept = lengths > 0
    torch.testing.assert_close(lengths[kept], torch.full_like(lengths[kept], 0.3), rtol=1e-6, atol=0)
    assert kept[norms >= 0.3].all() and 0 < kept[norms < 0.3].sum() < 1500


def test_null_rows_and_zero_gradients_are_never_kept():
    bad = torch.tensor([float("nan"), float("inf"), 0.0, 1e-19, 1e-45])
    for coin in (2.0**-53, 0.5, 1.0):
        factors = thinning_factors(bad, 1.0, torch.full((5,), coin, dtype=torch.float64))
        assert (factors == 0).all()


def test_no_factor_overflows():
    norms = torch.logspace(-30, 19, 200)  # longer ones have infinite squares and are null rows
    for bound in (1e-10, 1.0, 1e30):
        factors = thinning_factors(norms, bound, torch.full((200,), 2.0**-53, dtype=torch.float64))
        assert torch.isfinite(factors).all() and (factors * norms <= bound * (1 + 1e-6)).all()


def test_inclusion_is_the_rate_times_the_capped_norm():
    """Counted over Poisson samples of the executor's own randomness; each row at FALSE_ALARM / rows."""
    norms, bound, rate, draws = torch.tensor([0.05, 0.2, 0.5, 0.9, 5.0]), 1.0, 0.5, 15_000
    secret, counts = SecretRandomness(CPU), np.zeros(5)
    for _ in range(draws):
        rows = secret.draw_rows(5, rate)
        counts[rows] += (thinning_factors(norms[rows], bound, torch.from_numpy(secret.coins(len(rows)))) > 0).numpy()
    wanted = rate * np.minimum(norms.numpy(), bound) / bound

    def differs(found, wanted):
        low, high = stats.binom.interval(1 - FALSE_ALARM / 5, draws, wanted)
        return ((found < low) | (found > high)).any()

    assert not differs(counts, wanted)
    assert differs(counts, wanted * 1.1), "the test has no power"


# ------------------------------------------------------------------ the sum
@pytest.mark.parametrize("share", [0.7, 1.0, 4.0], ids=["clips most", "clips half", "clips none"])
def test_the_thinned_sum_is_unbiased_at_any_clip_norm(share):
    """Mean of 1200 answers against the clipped sum of single autograd gradients, in a chi-square test.

    Deviations are taken along the principal axes of the answers' covariance, which is known.
    """
    X, y = data(12)
    each = gradients(X, y)
    norms = np.linalg.norm(each, axis=1)
    bound = share * float(np.median(norms))
    clipped = each * np.minimum(1, bound / norms)[:, None]
    executor, draws = make(X, y, seed=None), 1200
    mean = np.mean([flat(executor.answer(query(ThinnedSum(bound)))[0]) for _ in range(draws)], axis=0)
    chance = np.minimum(1, norms / bound)
    directions = each / norms[:, None] * bound * np.sqrt(chance * (1 - chance))[:, None]

    def statistic(wanted):
        values, axes = np.linalg.eigh(directions.T @ directions / draws)
        seen = values > 1e-6 * values.max()
        off = axes.T @ (mean - wanted)
        assert np.abs(off[~seen]).max(initial=0) < 1e-2 * bound
        return (off[seen] ** 2 / values[seen]).sum(), seen.sum()

    (found, dimensions) = statistic(clipped.sum(0))
    assert found < stats.chi2.isf(FALSE_ALARM, dimensions)
    # Without stretching, a kept gradient would count with its own norm.
    shrunk = (clipped * chance[:, None]).sum(0)
    assert statistic(shrunk)[0] > stats.chi2.isf(FALSE_ALARM, dimensions), "the test has no power"


def test_gradients_that_all_reach_the_clip_norm_are_those_of_dp_sgd():
    X, y = data(40)
    bound = 0.9 * float(np.linalg.norm(gradients(X, y), axis=1).min())
    thinned = make(X, y).answer(query(ThinnedSum(bound), rate=0.5, z=1.0))
    plain = make(X, y).answer(query(ClippedSum(bound), rate=0.5, z=1.0))
    np.testing.assert_allclose(flat(thinned[0]), flat(plain[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [1e30, 3.4e38, float("nan"), float("inf"), 1e-45, 1.8e19, -1e-19])
def test_no_row_moves_an_answer_by_more_than_its_sensitivity(bad):
    """Zero-out: the same candidates and coins, with the row and with the null row in its place."""
    X, y = data(12)
    null, changed = torch.ones(12), X.clone()
    null[3], changed[3] = 0, bad
    for seed in range(5):
        for target in (y, torch.full_like(y, 1e20)):
            asked = query(ThinnedSum(0.7), NormSum(0.7))
            without = make(X, y, null, seed=seed).answer(asked)
            moved = y.clone()
            moved[3] = target[3]
            answer = make(changed, moved, seed=seed).answer(asked)
            for value, a, b in zip(asked.values, answer, without, strict=True):
                assert np.isfinite(flat(a)).all()
                assert np.linalg.norm(flat(a) - flat(b)) <= value.sensitivity * (1 + 1e-5)


def test_a_row_moves_the_answer_by_nothing_or_by_the_whole_sensitivity():
    """Whatever its norm, so the bound is tight and the coins of the others stay."""
    X, y = data(12)
    null = torch.ones(12)
    null[3] = 0
    bound = 4 * float(np.linalg.norm(gradients(X, y), axis=1)[3])
    moves = []
    for seed in range(60):
        one, two = (make(X, y, w, seed=seed).answer(query(ThinnedSum(bound), rate=0.9)) for w in (None, null))
        moves.append(np.linalg.norm(flat(one[0]) - flat(two[0])) / bound)
    moves = np.array(moves)
    assert np.allclose(moves[moves > 0.5], 1, atol=1e-4) and np.allclose(moves[moves < 0.5], 0, atol=1e-4)
    assert 0 < (moves > 0.5).sum() < 40


@pytest.mark.parametrize("piece", [1, 5, 11])
def test_pieces_change_nothing(piece):
    X, y = data(30)
    asked = query(ThinnedSum(3.0), NormSum(3.0), rate=0.6)
    whole, pieces = make(X, y).answer(asked), make(X, y, piece=piece).answer(asked)
    np.testing.assert_allclose(flat(pieces[0]), flat(whole[0]), rtol=1e-5, atol=1e-5)
    assert float(pieces[1]) == pytest.approx(float(whole[1]), rel=1e-6)


def test_noise_is_multiplier_times_sensitivity():
    """At rate 1e-9 every sample is empty, so an answer is its noise."""
    X, y = data()
    executor = make(X, y, seed=None)
    asked = query(ThinnedSum(0.7), NormSum(0.7), rate=1e-9, z=1.5)
    sums, norms = zip(*((flat(a), flat(b)) for a, b in (executor.answer(asked) for _ in range(700))), strict=True)
    for samples in (np.concatenate(sums), np.concatenate(norms)):
        check_noise(samples, 1.5 * 0.7)
        with pytest.raises(AssertionError, match=r"noise is 0\.[67]"):
            check_noise(samples * 2 / 3, 1.5 * 0.7)


@pytest.mark.parametrize("bound", [0, -1.0, float("inf"), float("nan")])
def test_a_clip_norm_that_lets_nothing_in_is_refused(bound):
    with pytest.raises(ValueError, match="must be positive and finite"):
        ThinnedSum(bound)


# ------------------------------------------------------------------ norms alone
def test_the_norm_sum_is_that_of_single_gradients_and_adds_up_none():
    X, y = data(12)
    norms = np.linalg.norm(gradients(X, y), axis=1)
    bound = float(np.median(norms))
    weights = torch.ones(12)
    weights[2] = 0
    X[5] = float("nan")
    with mock.patch.object(Captured, "add_weighted_sums", side_effect=AssertionError("a gradient was added up")):
        (total,) = make(X, y, weights).answer(query(NormSum(bound)))
    wanted = np.minimum(norms, bound)[[i for i in range(12) if i not in (2, 5)]].sum()
    assert total.dtype == torch.float64 and float(total) == pytest.approx(wanted, rel=1e-5)
    assert float(make(X, y, torch.zeros(12)).answer(query(NormSum(bound)))[0]) == 0
    assert float(make(X, y).answer(query(NormSum(bound), rate=1e-12))[0]) == 0
