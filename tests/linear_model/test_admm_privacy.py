"""What one row can do to a site's messages, what noise is on them, and what that costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from admm_runs import joined, play, rows, sites, terms
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from scipy.stats import norm
from suite import check_noise

from skdp import DPClassifier, PrivacyLedger
from skdp.accounting import epsilon, noise_multiplier, verify
from skdp.exceptions import BudgetExceededError, ProtocolError
from skdp.linear_model import DPADMMClassifier
from skdp.linear_model.admm import Site
from skdp.linear_model.admm.messages import Call, Reply, read_message

ROWS = [
    np.full(5, np.nan),
    np.full(5, np.inf),
    np.full(5, 1e30),
    np.full(5, -1e300),
    np.zeros(5),
    np.array([1e-310, 0, 0, 0, 1]),
]


def silent(agreed, arrays, null=None, name="a"):
    """A site with a price, whose noise is switched off."""
    null = np.zeros(len(arrays["X"]), dtype=bool) if null is None else null
    site = Site(agreed, arrays, null, name, epsilon=None, noise_multiplier=1.0)
    return site


def exact(task):
    """The sum without its noise."""
    from dataclasses import replace

    touch = replace(task.query.touch, noise=None)
    return replace(task, query=replace(task.query, touch=touch), _total=None).run()


def answered(site, call):
    task = site.begin(call)
    return site.finish(task, exact(task))


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("label", [-1.0, 1.0, np.nan, 1e300])
def test_one_row_moves_a_message_by_no_more_than_the_stated_sensitivity(row, label):
    agreed, arrays = terms(sites=1), rows()
    changed = {name: array.copy() for name, array in arrays.items()}
    changed["X"][5], changed["y"][5] = row, label
    null = np.arange(240) == 5
    without, with_row = silent(agreed, arrays, null), silent(agreed, changed)
    coordinator = joined(agreed, [without])
    call = coordinator.call()
    one, other = (read_message(answered(site, call), Reply, agreed).model for site in (without, with_row))
    bound = agreed.clip / (agreed.rows * (agreed.rho + agreed.inverse_step(1)))
    assert np.isfinite(other).all() and np.linalg.norm(one - other) <= bound * (1 + 1e-9)


def test_the_sensitivity_is_attained_and_falls_with_the_number_of_rows():
    for n in (240, 2400):
        agreed, arrays = terms(rows=n, sites=1), rows(n)
        arrays["X"][0], arrays["y"][0] = 1e6, 1.0  # as long as a row can be
        sites_ = [silent(agreed, arrays, np.arange(n) == (0 if null else -1)) for null in (True, False)]
        call = joined(agreed, sites_[:1]).call()
        one, other = (read_message(answered(site, call), Reply, agreed).model for site in sites_)
        bound = agreed.clip / (n * (agreed.rho + agreed.inverse_step(1)))
        assert np.linalg.norm(one - other) == pytest.approx(bound)


def test_noise_on_messages_has_the_stated_deviation_in_every_round():
    """False alarm 1e-6 in all; certain to see noise scaled by 2/3, or a variance in the place of a deviation."""
    multiplier, samples = 30.0, {1: [], 5: [], 50: []}
    agreed, arrays = terms(sites=1, growth=0.02, momentum=0.0), rows()
    for _ in range(60):
        site = Site(agreed, arrays, np.zeros(240, dtype=bool), "a", epsilon=None, noise_multiplier=multiplier)
        coordinator = joined(agreed, [site])
        for k in range(1, 51):
            call = coordinator.call()
            task = site.begin(call)
            sent = read_message(site.finish(task, task.run()), Reply, agreed)
            if k in samples:
                told = read_message(call, Call, agreed)
                twin = exact(task) / agreed.rows
                silent_model = sent.model - site._iterate.model  # zero: what was sent is where the site stands
                assert not silent_model.any()
                before = task.query.values[0].coef
                noise = sent.model - _moved(agreed, before, twin, coordinator, told.round)
                samples[k].append(noise.ravel())
            coordinator.receive(Reply("a", agreed.digest, k, k - 1, sent.model).to_bytes())
            coordinator.advance()
    for k, found in samples.items():
        std = multiplier * agreed.clip / (agreed.rows * (agreed.rho + agreed.inverse_step(k)))
        check_noise(np.concatenate(found), std)
        with pytest.raises(AssertionError, match=r"noise is 0\.[5-7]"):
            check_noise(np.concatenate(found) * 2 / 3, std)
    assert np.std(samples[50]) < np.std(samples[1]), "it shrinks with the steps"


def _moved(agreed, before, gradient, coordinator, k):
    """The update by its formula, from what is public; the multipliers are those that the coordinator computed."""
    iterate = coordinator._iterates["a"].heard(coordinator.consensus.model)
    pulled = (
        before * agreed.inverse_step(k) + agreed.rho * coordinator.consensus.model + iterate._multipliers - gradient
    )
    return pulled / (agreed.rho + agreed.inverse_step(k))


def test_all_rounds_of_full_batches_are_one_gaussian():
    agreed = terms(rounds=64)
    for z in (20.0, 40.0):
        mu = math.sqrt(64) / z
        price = epsilon(agreed.charge(z).event(), 1e-5, "zero-out")
        assert norm.cdf(-price / mu + mu / 2) - math.exp(price) * norm.cdf(-price / mu - mu / 2) == pytest.approx(
            1e-5, rel=1e-3
        )
        many = PLDAccountant().compose(dp_event.GaussianDpEvent(z), 64).get_epsilon(1e-5)
        assert price == pytest.approx(many, rel=2e-3)
    assert noise_multiplier(1.0, 1e-5, steps=64) == pytest.approx(8 * noise_multiplier(1.0, 1e-5))


def test_the_papers_sensitivity_of_twice_the_clip_norm_under_replace_one_is_ours():
    """Delta = 2c and sigma = Delta / nu there; here the multiplier is sigma / c, and the accountant doubles."""
    t, nu = 100, 0.02
    multiplier = 2 / nu  # sigma over the clip norm
    ours = epsilon(terms(rounds=t, adjacency="replace-one").charge(multiplier).event(), 1e-5, "replace-one")
    mu = math.sqrt(t) * nu
    assert norm.cdf(-ours / mu + mu / 2) - math.exp(ours) * norm.cdf(-ours / mu - mu / 2) == pytest.approx(
        1e-5, rel=1e-3
    )


def test_sampled_rounds_are_priced_as_poisson_gaussians_and_drawn_so():
    agreed = terms(sampling_rate=0.1, rounds=50)
    event = agreed.charge(2.0).event().events[0]
    assert event == dp_event.SelfComposedDpEvent(dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(2.0)), 50)
    arrays = {name: array[:1] for name, array in rows().items()}
    site = silent(terms(rows=1, sites=1, sampling_rate=0.1, rounds=900), arrays)
    coordinator, taken = joined(site.terms, [site]), 0
    for _ in range(900):
        task = site.begin(coordinator.call())
        taken += bool(exact(task).any())
        site.finish(task, np.zeros((1, 5)))
        coordinator.receive(site.answer(coordinator.call()))
        coordinator.advance()
    assert abs(taken - 90) < 6 * math.sqrt(900 * 0.1 * 0.9), "one row comes to its turn by chance; false alarm 2e-9"


def test_queries_depend_on_messages_alone():
    """Replay: with a neighbour's row and the same messages, every query is the same."""
    agreed, arrays = terms(sites=1, rounds=12), rows()
    other = {name: array.copy() for name, array in arrays.items()}
    other["X"][3] = 1e9
    one, two = silent(agreed, arrays), silent(agreed, other)
    coordinator = joined(agreed, [one])
    for _ in range(12):
        call = coordinator.call()
        tasks = one.begin(call), two.begin(call)
        assert tasks[0].query.fingerprint() == tasks[1].query.fingerprint()
        noisy = tasks[0].run()
        replies = one.finish(tasks[0], noisy), two.finish(tasks[1], noisy)
        assert replies[0] == replies[1]
        coordinator.receive(replies[0])
        coordinator.advance()


@pytest.mark.parametrize("model", ["zeros", "huge", "noise"])
def test_a_hostile_coordinator_changes_neither_noise_nor_bound_nor_count(model):
    agreed = terms(sites=1, rounds=20)
    site = Site(agreed, rows(), np.zeros(240, dtype=bool), "a", epsilon=None, noise_multiplier=3.0)
    rng = np.random.default_rng(0)
    for k in range(1, 21):
        sent = {"zeros": np.zeros((1, 5)), "huge": np.full((1, 5), 1e200), "noise": rng.normal(size=(1, 5))}[model]
        task = site.begin(Call(agreed.digest, k, sent).to_bytes())
        assert task.query.values[0].bound == agreed.clip and task.query.touch.noise.multipliers == (3.0,)
        assert np.linalg.norm(exact(task)) <= 240 * agreed.clip
        site.finish(task, task.run())
    with pytest.raises(ProtocolError, match="20 rounds"):
        site.answer(Call(agreed.digest, 22, sent).to_bytes())
    assert site.answer(Call(agreed.digest, 21, sent).to_bytes()) is None
    assert site.settle().steps == 20


# ------------------------------------------------------------------ estimators
def table(n=1200):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(n, 3))
    return X, (X[:, 0] > 0).astype(int)


def model(**kwargs):
    return DPADMMClassifier(**{"classes": [0, 1], "rounds": 10, "feature_bounds": (-1, 1)} | kwargs)


def test_epsilon_is_the_total_and_does_not_depend_on_the_number_of_sites():
    X, y = table()
    for sites_ in (1, 3, 10):
        stated = model(n_agents=sites_, epsilon=0.7).fit(X, y).privacy_
        assert stated.epsilon == pytest.approx(0.7, rel=1e-3) and stated.epsilon <= 0.7 and stated.steps == 10
        assert stated.n == 1200 and stated.adjacency == DPClassifier().adjacency
    both = model(epsilon=0.7, adjacency="replace-one").fit(X, y).privacy_
    assert both.noise_multiplier == pytest.approx(2 * stated.noise_multiplier)


def test_a_person_at_several_sites_pays_at_each():
    X, y = table()
    groups = np.arange(1200) % 4
    budgets = {"0": 0.5, "1": 1.0, "2": 2.0, "3": 0.1}
    fitted = model(epsilon=budgets).fit(X, y, groups=groups)
    assert fitted.privacy_.epsilon == pytest.approx(2.0, rel=1e-3) and fitted.privacy_.unit == "row"
    by_site = fitted.privacy_by_site_
    assert {name: round(s.epsilon, 3) for name, s in by_site.items()} == budgets
    assert {s.n for s in by_site.values()} == {300}
    person = model(epsilon=budgets, max_sites_per_person=2).fit(X, y, groups=groups).privacy_
    mu = math.hypot(*(1 / noise_multiplier(e, 1e-5) for e in (2.0, 1.0)))
    assert person.unit == "person" and person.epsilon == pytest.approx(epsilon(dp_event.GaussianDpEvent(1 / mu), 1e-5))
    assert any("at more than 2 sites" in line for line in person.assumptions)
    all_four = model(epsilon=budgets, max_sites_per_person=9).fit(X, y, groups=groups).privacy_
    assert all_four.epsilon > person.epsilon
    for stated in (fitted.privacy_, person, by_site["2"]):
        assert verify(stated).holds, verify(stated)


def test_a_ledger_is_told_once_and_refuses_before_a_row_is_read():
    X, y = table()
    with PrivacyLedger(epsilon=3.0, delta=1e-4) as ledger:
        model(n_agents=4, epsilon=1.0).fit(X, y)
        assert len(ledger.table()) == 1
        with pytest.raises(BudgetExceededError):
            model(n_agents=4, epsilon=3.0).fit(X, y)
        assert len(ledger.table()) == 1
    with PrivacyLedger(epsilon=3.0, delta=1e-4, unit="person") as ledger:
        groups = np.arange(1200) % 3
        fitted = model(max_sites_per_person=2, epsilon={"0": 0.5, "1": 0.4, "2": 0.1}).fit(X, y, groups=groups)
    assert ledger.statement.epsilon >= fitted.privacy_.epsilon > 0.5
    assert len(ledger.table()) == 1 and ledger.table()["queries"][0].count("10 queries") == 2


def test_what_an_interrupted_fit_spent_is_stated(monkeypatch):
    X, y = table()
    from skdp.linear_model.admm import fitting

    broken = model(n_agents=3, verbose=1)
    calls = []

    def interrupt(self, consensus):
        calls.append(consensus.round)
        if len(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting.ADMMEstimator, "_tell", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        broken.fit(X, y)
    assert not hasattr(broken, "coef_")
    (note,) = caught.value.__notes__
    assert "leaves no model" in note and "epsilon=1 at" in note and "4 of 'rounds'" in note
    assert broken.privacy_.status == "interrupted" and broken.privacy_.steps == 4
    assert broken.privacy_.epsilon == pytest.approx(1.0, rel=1e-3)


def test_one_row_more_may_move_no_other_to_another_site():
    X, y = table()
    with pytest.raises(ValueError, match="say by groups"):
        model(adjacency="add-remove", n_public=1200, n_agents=4).fit(X, y)
    stated = model(adjacency="add-remove", n_public=1200).fit(X, y, groups=np.arange(1200) % 4).privacy_
    assert stated.adjacency == "add-remove"


def test_warnings_of_one_site_are_not_said_of_another():
    X, y = table()
    groups = np.where(np.arange(1200) < 600, "careful", "open")
    fitted = model(epsilon={"careful": 0.5, "open": math.inf}).fit(X, y, groups=groups)
    by_site = fitted.privacy_by_site_
    assert verify(by_site["careful"]).holds and not any("NOT PRIVATE" in w for w in by_site["careful"].warnings)
    assert math.isinf(fitted.privacy_.epsilon) and any("NOT PRIVATE" in w for w in by_site["open"].warnings)


def test_noise_is_fresh_unless_it_is_asked_for():
    X, y = table()
    one, two = model(n_agents=3).fit(X, y), model(n_agents=3).fit(X, y)
    assert (one.coef_ != two.coef_).all()
    fixed = [model(n_agents=3, insecure_noise_seed=7).fit(X, y) for _ in range(2)]
    np.testing.assert_array_equal(fixed[0].coef_, fixed[1].coef_)
    assert fixed[0].privacy_.reproducible_noise
    parts = sites(terms(), rows(), epsilon=1.0)
    replies = [site.answer(joined(terms(), parts).call()) for site in parts]
    assert len({reply[-40:] for reply in replies}) == 3
    played = play(joined(terms(rounds=5), again := sites(terms(rounds=5), rows(), epsilon=1.0)), again)
    assert played.finished
