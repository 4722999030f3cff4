"""One model trained by several processes, each with some of the rows: the same fit, the same statement.

False alarms of the statistical tests: below 1e-6 each.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from processes import play
from scenarios import CLIPPINGS, LINEAR, NOISY, exact_sums, executor, line, linear, plain, private, rows, table, weights
from scipy import stats

from skdp import DPRegressor
from skdp.distributed import current, membership, process_group
from skdp.training.sum_total import FLOAT_SLACK

SUMS = [*CLIPPINGS, "below", "norms", "thinned", "carriers"]


def of_chi_square(numbers, std):
    """Whether the squares of independent normal numbers are those of `std`."""
    total = np.square(np.asarray(numbers, dtype=np.float64) / std).sum()
    return min(stats.chi2.cdf(total, len(numbers)), stats.chi2.sf(total, len(numbers))) > 1e-7


# ------------------------------------------------------------------ the same numbers
@pytest.mark.parametrize("kind", SUMS)
def test_sums_are_those_of_all_rows_and_the_same_bits_on_every_rank(pair, kind):
    first, second = (found[kind] for found in pair["sums"])
    assert np.array_equal(first, second)
    np.testing.assert_allclose(first, exact_sums(executor(*rows()))[kind], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scenario", ["full_batches", "empty_shard"])
def test_a_fit_without_noise_is_that_of_one_process(pair, scenario):
    X, y = table()
    alone = weights(plain().fit(X, y))
    first, second = (found[0] for found in pair[scenario])
    assert np.array_equal(first, second)
    np.testing.assert_allclose(first, alone, rtol=1e-4, atol=1e-5)
    assert np.abs(weights(plain().fit(X[::2], y[::2])) - alone).max() > 1e-3  # half the rows give another net


def test_sample_weights_count_on_their_shard(pair):
    X, y = table()
    alone = weights(plain().fit(X, y, sample_weight=np.linspace(0, 1, len(X))))
    for found in pair["weighted"]:
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)


def test_private_bounds_and_class_counts_are_those_of_all_rows(pair):
    X, y = table()
    model = plain(feature_bounds="private", class_weight="balanced", module="linear").fit(3 * X + 1, y)
    fit = DPRegressor(epsilon=float("inf"), random_state=0, batch_size=600, max_epochs=3, module="linear")
    fit.fit(X, 5 * X[:, 0] - 2)
    for bounds, net, y_bounds, regressor in pair["estimates"]:
        assert np.array_equal(bounds, model.feature_bounds_)
        assert np.array_equal(y_bounds, fit.y_bounds_)
        np.testing.assert_allclose(net, weights(model), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(regressor, weights(fit), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["adaptive", "dpis", "rgp", "scheduled"])
def test_private_weights_are_the_same_bits_on_every_rank(pair, kind):
    first, second = (found[kind] for found in pair["mechanisms"])
    assert np.array_equal(first, second)
    assert np.abs(first).max() > 0


def test_classes_read_from_y_are_those_of_all_ranks(pair):
    assert pair["classes_of_all"] == (["a", "b", "c"],) * 2


@pytest.mark.parametrize("kind", LINEAR)
def test_linear_models_are_those_of_one_process(pair, kind):
    X, y = table()
    solver = {"solver": "gradient-descent"} if kind == "auto" else {}  # alone, it would be the exact minimum
    alone = line(linear(kind, feature_bounds="private", **solver).fit(X, y))
    first, second = (found[kind] for found in pair["linear_sums"])
    assert np.array_equal(first, second)
    np.testing.assert_allclose(first, alone, rtol=1e-8, atol=1e-10)
    assert np.abs(line(linear(kind, feature_bounds="private", **solver).fit(X[::2], y[::2])) - alone).max() > 1e-3


def test_linear_models_of_sparse_rows_files_and_empty_shards(pair):
    X, y = table()
    alone = line(linear("descent").fit(X, y, sample_weight=np.linspace(0, 1, len(X))))
    for found in pair["linear_sums"]:
        np.testing.assert_allclose(found["sparse"], alone, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found["mapped"], alone, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found["empty"], line(linear("boosted").fit(X, y)), rtol=1e-8, atol=1e-10)
        full = line(linear("descent").fit(X, y))
        np.testing.assert_allclose(found["empty and sparse"], full, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", NOISY)
def test_private_linear_models_are_one_with_one_statement(pair, kind):
    (first, stated, seeded), (second, stated_, _) = (found[kind] for found, _, _ in pair["linear_noise"])
    assert np.array_equal(first, second) and stated == stated_
    alone = linear(kind, epsilon=2.0, feature_bounds="private").fit(*table())
    noisy = dict.fromkeys(("released", "warnings"))  # what noise did to the bounds
    assert {**stated, **noisy} == {**alone.privacy_.to_dict(), **noisy} and stated["released"]
    assert np.array_equal(*seeded) and np.abs(first - seeded[0]).max() > 0
    assert [entries[kind] for _, entries, _ in pair["linear_noise"]] == [1, 1]


def test_noise_on_second_moments_is_drawn_once(pair):
    one, other = (noise for _, _, noise in pair["linear_noise"])
    assert np.array_equal(one, other)
    std = 2.0 * 1.5**2
    for share in (one[: len(one) // 2], one[len(one) // 2 :]):
        assert of_chi_square(share, std)
        assert not of_chi_square(share, std * 1.5)  # noise scaled by 2/3 would be seen
        assert not of_chi_square(share, std * 2**0.5)  # noise of both ranks as well


@pytest.mark.parametrize(
    ("attempt", "kinds", "words"),
    [
        ("minimum", ("ValueError", "ValueError"), "is no sum over rows, which the processes of a process_group()"),
        ("alpha", ("ValueError", "ValueError"), "alpha differs between the ranks: 0.1 on rank 0, 1.1 on rank 1"),
        ("columns", ("ValueError", "ValueError"), "input_shape differs between the ranks"),
        ("rows", ("RankFailureError", "ValueError"), "X contains NaN"),
        (
            "sparse",
            ("ValueError", "ValueError"),
            "what is taken as public differs between the ranks",
        ),
    ],
)
def test_what_one_rank_refuses_of_a_linear_model_is_refused_by_all(pair, attempt, kinds, words):
    found = [refused[attempt] for refused in pair["linear_refusals"]]
    assert tuple(kind for kind, _ in found) == kinds
    assert all(words in message for _, message in found)


def test_an_error_in_mid_fit_of_a_linear_model_is_raised_on_all_ranks_and_counted(pair):
    (kind, message, stated), (own, _, own_stated) = (found["mid-fit"] for found in pair["linear_refusals"])
    assert (kind, own) == ("RankFailureError", "MemoryError")
    assert "rank 1 failed: MemoryError: out of memory" in message and "counts as spent as it was planned" in message
    planned = linear("descent", epsilon=2.0).fit(*table()).privacy_
    assert stated == own_stated and stated["epsilon"] == planned.epsilon


# ------------------------------------------------------------------ noise and samples
def test_noise_is_drawn_once_for_every_number(pair):
    total, scalars, _ = pair["noise_alone"][0]
    std = 1.5 * 2.0 * (1 + FLOAT_SLACK)
    assert np.array_equal(total, pair["noise_alone"][1][0])
    half = len(total) // 2  # the share of either rank
    for share in (total[:half], total[half:]):
        assert of_chi_square(share, std)
        assert not of_chi_square(share, std * 1.5)  # noise scaled by 2/3 would be seen
        assert not of_chi_square(share, std * 2**0.5)  # noise of both ranks as well
    assert abs(np.corrcoef(total[:half], total[half:])[0, 1]) < 5 / half**0.5
    for numbers, scale in zip(scalars.T, (0.5 * 3.0, 1.5 * 3.0 * (1 + FLOAT_SLACK)), strict=True):
        assert of_chi_square(numbers, scale)
        assert not of_chi_square(numbers, scale * 1.5)


def test_ranks_draw_rows_and_noise_independently_even_from_one_seed(pair):
    (dense, sparse, noise), (dense_, sparse_, noise_) = pair["draws"]
    for mine, theirs, rate in ((dense, dense_, 0.5), (sparse, sparse_, 0.05)):
        both = len(np.intersect1d(mine, theirs))
        assert stats.binom(4000, rate**2).ppf(1e-7) <= both <= stats.binom(4000, rate**2).isf(1e-7)
        assert not stats.binom(4000, rate**2).ppf(1e-7) <= len(mine) <= stats.binom(4000, rate**2).isf(1e-7)
    assert abs(np.corrcoef(noise, noise_)[0, 1]) < 5 / len(noise) ** 0.5


def test_an_insecure_seed_makes_the_fit_reproducible(pair):
    (one, other), _ = pair["own_seed"]
    assert np.array_equal(one, other)


# ------------------------------------------------------------------ the promises
def test_the_statement_is_that_of_one_process_and_a_ledger_has_one_entry(pair):
    alone = private().fit(*table()).privacy_.to_dict()
    for found, _, entries in pair["statement"]:
        assert found == alone
        assert entries == 1
    assert [found[1] for found in pair["empty_shard"]] == [600, 600]


def test_the_number_of_rows_is_nobodys_under_add_remove(pair):
    assert pair["declared"] == (580, 580)


@pytest.mark.parametrize("kind", ["adaptive", "dpis", "rgp"])
def test_a_row_of_rank_1_changes_no_query_and_moves_no_answer_too_far(pair, kind):
    for asked, moves in (found[kind] for found in pair["replayed"]):
        assert asked == 24 + (kind == "dpis") * 0
        assert all(same for same, _ in moves)
        sizes = [size for _, size in moves]
        assert 0.01 < max(sizes) < 1 + FLOAT_SLACK


# ------------------------------------------------------------------ all or none
@pytest.mark.parametrize(
    ("attempt", "kinds", "words"),
    [
        ("epsilon", ("ValueError", "ValueError"), "epsilon differs between the ranks: 1.0 on rank 0, 2.0 on rank 1"),
        ("columns", ("ValueError", "ValueError"), "input_shape differs between the ranks"),
        (
            "names",
            ("ValueError", "ValueError"),
            "names of columns differs between the ranks: ['a', 'b', 'c', 'd'] on",
        ),
        ("nameless", ("ValueError", "ValueError"), "the names of columns differs between the ranks"),
        ("dp-ftrl", ("ValueError", "ValueError"), "Use mechanism='dp-sgd', 'dpis' or 'rgp'"),
        ("neuraldp", ("ValueError", "ValueError"), "cannot train inside process_group()"),
        ("spender", ("ValueError", "ValueError"), "DPMinMaxScaler would see the rows of one process alone"),
        ("nested", ("ValueError", "ValueError"), "one group at a time"),
        ("places", ("RankFailureError", "RankFailureError"), "rank 0: a sum of 1 numbers; rank 1: gather"),
        ("parameter", ("RankFailureError", "ValueError"), "lr=-1.0"),
        ("rows", ("RankFailureError", "ValueError"), "inconsistent numbers of samples"),
        ("ledgers", ("ValueError", "ValueError"), "number of open ledgers differs between the ranks: 0 on rank 0, 1"),
        ("budget", ("BudgetExceededError", "RankFailureError"), "epsilon"),
    ],
)
def test_what_one_rank_refuses_is_refused_by_all_and_spends_nothing(pair, attempt, kinds, words):
    found = [refused[attempt] for refused in pair["refusals"]]
    assert tuple(kind for kind, _, _ in found) == kinds
    for kind, message, spent in found:
        assert words in message
        assert not spent
        if kind == "RankFailureError" and attempt != "places":
            assert message.endswith("Nothing was spent")


def test_an_error_in_mid_fit_is_raised_on_all_ranks_and_counted(pair):
    (kind, message, statement, spent, after), (own, _, own_statement, _, own_after) = pair["error_in_mid_fit"]
    planned = private().fit(*table()).privacy_
    assert (kind, own) == ("RankFailureError", "MemoryError")
    assert "rank 1 failed: MemoryError: out of memory" in message and "epsilon=2 at delta=0.0001" in message
    assert spent == planned.epsilon == statement["epsilon"]
    assert statement == own_statement
    assert np.array_equal(after, own_after)


@pytest.mark.parametrize("how", [0, 1], ids=["ctrl-c on rank 1", "a callback of rank 0"])
def test_an_interrupt_of_one_rank_stops_all_with_one_model(pair, how):
    (net, executed, heard), (net_, executed_, heard_) = (found[how] for found in pair["stopped"])
    assert np.array_equal(net, net_)
    assert executed == executed_ == [8]  # step 7 was the last; the next was begun on a rank
    assert heard == heard_ == ["InterruptedFitWarning"]


def test_a_checkpoint_of_rank_0_lets_all_go_on(pair):
    (kind, net, statement, files), (own, net_, statement_, _) = pair["resumed"]
    assert (kind, own) == ("MemoryError", "MemoryError")
    assert np.array_equal(net, net_)
    assert statement == statement_
    assert statement["epsilon"] == private().fit(*table()).privacy_.epsilon
    assert files == ["fit.ckpt", "fit.ckpt.lock"]


def test_another_thread_is_refused(pair):
    assert [kind for kind, _ in pair["other_thread"]] == ["ValueError"] * 2


def test_a_group_that_we_began_is_ended(pair):
    assert pair["left"][0] == (False, True)


def test_a_killed_rank_ends_the_others_with_what_was_spent(pair):
    kind, message, rank, spent, statement, seconds, later = pair["killed"][0]
    planned = private().fit(*table()).privacy_.epsilon
    assert (kind, rank) == ("RankFailureError", 1)
    assert "rank 1 ended, or did not answer" in message and "counts as spent as it was planned, epsilon=2" in message
    assert spent == planned == statement["epsilon"]
    assert seconds < 30
    assert later[0] == "RankFailureError" and "start all ranks anew" in later[1]


# ------------------------------------------------------------------ outside of a group
def test_no_group_without_its_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="torchrun --nproc-per-node 2"), process_group():
        pass
    assert current() is None


@pytest.mark.parametrize(("option", "value"), [("timeout", 0), ("backend", "mpi")])
def test_wrong_options_name_themselves(option, value):
    with pytest.raises(ValueError, match=f"{option}={value!r}"), process_group(**{option: value}):
        pass


@pytest.mark.slow
def test_a_group_of_one_process_is_an_ordinary_fit(tmp_path):
    found = play(1, "full_batches,linear_sums", tmp_path)
    assert np.array_equal(found["full_batches"][0][0], weights(plain().fit(*table())))
    alone = line(linear("boosted", feature_bounds="private").fit(*table()))
    assert np.array_equal(found["linear_sums"][0]["boosted"], alone)


def test_fits_of_torchrun_outside_of_a_group_are_told_once(monkeypatch):
    monkeypatch.setattr(membership, "_told", False)
    X, y = table(60)
    for size, expected in (("1", 0), ("2", 1), ("2", 0)):
        monkeypatch.setenv("WORLD_SIZE", size)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            private(max_epochs=1).fit(X, y)
        assert len([w for w in heard if "no process_group() is open" in str(w.message)]) == expected


# ------------------------------------------------------------------ slow
@pytest.mark.slow
def test_four_processes_in_a_group_of_the_users(tmp_path):
    found = play(4, "sums,full_batches,linear_sums,empty_shard,noise_alone,stopped,replayed", tmp_path, FOREIGN=1)
    alone = weights(plain().fit(*table()))
    for rank in range(4):
        for kind, exact in exact_sums(executor(*rows())).items():
            assert np.array_equal(found["sums"][rank][kind], found["sums"][0][kind])
            np.testing.assert_allclose(found["sums"][rank][kind], exact, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found["full_batches"][rank][0], alone, rtol=1e-4, atol=1e-5)
        assert np.array_equal(found["stopped"][rank][0][0], found["stopped"][0][0][0])
        for kind, alike in found["linear_sums"][rank].items():
            assert np.array_equal(alike, found["linear_sums"][0][kind])
    assert of_chi_square(found["noise_alone"][0][0], 3.0 * (1 + FLOAT_SLACK))
    assert found["left"] == ((True, True),) * 4


@pytest.mark.slow
def test_a_hanging_rank_ends_the_others_within_the_timeout(tmp_path):
    found = play(3, "hanging", tmp_path, survivors=[1, 2], TIMEOUT=5)
    for kind, message, _, spent, _, seconds, _ in found["hanging"][1:]:
        assert kind == "RankFailureError" and "within 5 s" in message
        assert spent is not None and 5 <= seconds < 25


@pytest.mark.slow
def test_a_killed_rank_is_named_by_all_that_are_left(tmp_path):
    found = play(3, "killed", tmp_path, survivors=[0, 2])
    assert [found["killed"][rank][2] for rank in (0, 2)] == [1, 1]


@pytest.mark.slow
def test_a_rank_that_fails_before_the_fit_is_heard_of(tmp_path):
    found = play(2, "absent", tmp_path)
    kind, message = found["absent"][0]
    assert kind == "RankFailureError" and "rank 1 failed: FileNotFoundError, see its own output" in message
