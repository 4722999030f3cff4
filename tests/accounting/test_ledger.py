"""A ledger as its user sees it: what it admits, counts, refuses and states."""

from __future__ import annotations

import dataclasses
import math
import threading

import numpy as np
import pandas as pd
import pytest
from charges import gaussian, sgd, spend
from spenders import Majority

import skdp
from skdp.accounting import FitBook, compose, epsilon, ledger_sessions, verify
from skdp.accounting.ledger_admission import filter_of
from skdp.accounting.relations import phases
from skdp.accounting.statement_text import round_up
from skdp.contract import Charge, Poisson, Touch
from skdp.exceptions import BudgetExceededError, PlanViolationError, UnsupportedEventError

X, Y = np.zeros((2000, 1)), np.arange(2000) % 2


@pytest.fixture(autouse=True)
def nothing_stays_open():
    yield
    assert not ledger_sessions.tokens()


def opened(ceiling=3.0, **more):
    return skdp.PrivacyLedger(ceiling, 1e-6, **{"delta_fail": 0.0} | more)


def said(ledger):
    return " ".join(ledger.statement.text.split())


# ------------------------------------------------------------------ counting
def test_what_is_made_inside_is_counted_and_nothing_else():
    spend(gaussian(5))
    with opened() as ledger:
        spend(gaussian(5))
        Majority().fit(X, Y)
    spend(gaussian(5))
    table = ledger.table()
    assert list(table["what"]) == ["release", "Majority"] and list(table["state"]) == ["charged", "charged"]
    assert table["epsilon so far"].is_monotonic_increasing and isinstance(table["when"][0], pd.Timestamp)
    assert ledger.epsilon == table["epsilon so far"].iloc[-1] == ledger.statement.epsilon


def test_print_says_what_was_spent_and_what_is_left():
    with opened() as ledger:
        assert "0 charges made" in str(ledger) and "left for one charge: epsilon = 2." in str(ledger)
        spend(gaussian(5))
        spend(gaussian(5))
    table, text = ledger.table(), str(ledger)
    assert "2 charges made" in text and f"spent so far:     epsilon = {round_up(ledger.epsilon)} (ceiling 3)" in text
    assert f"left for one charge: epsilon = {ledger.remaining:.4g}" in text and "do not add up" in text
    # What was added sums up to the whole; what each costs alone does not.
    assert table["epsilon added"].sum() == pytest.approx(ledger.epsilon)
    assert table["epsilon added"][1] < table["epsilon"][1] and table["epsilon"].sum() > ledger.epsilon
    assert "left" not in str(skdp.PrivacyLedger(delta=1e-6))
    declared = opened(mode="declared")
    declared.declare(gaussian(5), n=10_000, count=2)
    assert f"declared in all:  epsilon = {round_up(declared.epsilon)}" in str(declared) and "Renyi" not in str(declared)


def test_the_figure_is_the_filters():
    with opened(6.0) as ledger:
        spend(gaussian(5))
        spend(sgd())
    renyi = filter_of(ledger._store.terms)
    total = sum(renyi.divergences(phases(c.event()), "zero-out") for c in (gaussian(5), sgd()))
    assert ledger.epsilon == pytest.approx(renyi.epsilon(total), rel=1e-12)
    both = compose([skdp.PrivacyStatement.from_charge(c, 1e-6, mechanism="m", n=10_000) for c in (gaussian(5), sgd())])
    assert both.epsilon <= ledger.epsilon


def test_an_empty_ledger_has_spent_nothing():
    with opened() as ledger:
        spend(Charge(()))
    assert ledger.epsilon == 0 and 2.0 < ledger.remaining < 3.0
    with pytest.raises(ValueError, match="no charge yet"):
        _ = ledger.statement


def test_a_fit_without_a_query_is_void():
    with opened() as ledger:
        spend(gaussian(5), executed=0)
        assert ledger.epsilon == 0
        spend(gaussian(9, count=10), executed=3)
    assert list(ledger.table()["state"]) == [
        "void: it ended before its first query",
        "stopped early, charged in full",
    ]
    whole = epsilon(gaussian(9, count=10).event(), 1e-6)
    assert ledger.epsilon > whole and ledger.statement.executed_epsilon < ledger.epsilon
    assert verify(ledger.statement)


def test_whatever_ended_without_a_word_counts_in_full():
    with opened() as ledger:
        FitBook("crashed", 10_000).reserve(gaussian(5))
    assert ledger.epsilon > 0 and "counts in full" in ledger.table()["state"][0]


def test_errors_and_interrupts_pass_and_close_the_ledger():
    for kind in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(kind), opened() as ledger:
            Majority().fit(X, Y)
            raise kind
        Majority().fit(X, Y)
        assert len(ledger.table()) == 1


def test_a_fit_that_fails_before_its_first_query_is_void_and_one_that_fails_later_is_not(monkeypatch):
    class Stop(BaseException):
        pass

    def stop(*_):
        raise Stop

    with opened() as ledger:
        monkeypatch.setattr("spenders.class_counts_queries", stop)
        with pytest.raises(Stop):
            Majority().fit(X, Y)
        monkeypatch.undo()
        monkeypatch.setattr("skdp.releases.arrays.ArrayExecutor._noisy", stop)
        with pytest.raises(Stop):
            Majority().fit(X, Y)
        monkeypatch.undo()
    assert [state.split(":")[0] for state in ledger.table()["state"]] == ["void", "charged"]


def test_nested_ledgers_all_count():
    with opened() as outer, opened(2.0) as inner:
        spend(gaussian(5))
    with outer:
        spend(gaussian(5))
    assert (len(outer.table()), len(inner.table())) == (2, 1)


def test_one_that_refuses_keeps_the_others_clean():
    with opened() as outer, opened(0.5), pytest.raises(BudgetExceededError):
        spend(gaussian(2))
    assert outer.table().empty


def test_a_ledger_entered_twice_counts_once():
    with opened() as ledger, ledger:
        spend(gaussian(5))
    assert len(ledger.table()) == 1


# ------------------------------------------------------------------ the ceiling
def test_admits_up_to_the_ceiling_and_no_further():
    with opened() as ledger:
        renyi = filter_of(ledger._store.terms)
        once = renyi.divergences(phases(gaussian(8).event()), "zero-out")
        most = int(np.max(np.floor((3.0 - renyi.gaps) / once)))
        for _ in range(most):
            spend(gaussian(8))
        with pytest.raises(BudgetExceededError) as refused:
            spend(gaussian(8))
        assert ledger.epsilon <= 3.0 < refused.value.asked and refused.value.so_far == ledger.epsilon
        assert len(ledger.table()) == most


def test_the_epsilon_that_the_refusal_names_fits_and_not_much_more_would():
    with opened() as ledger:
        Majority(epsilon=1.5, noise_multiplier=None).fit(X, Y)
        with pytest.raises(BudgetExceededError, match="with epsilon=.* it would fit") as refused:
            Majority(epsilon=3.0, noise_multiplier=None).fit(X, Y)
        fits = refused.value.fits
        with pytest.raises(BudgetExceededError):
            Majority(epsilon=fits * 1.2, noise_multiplier=None).fit(X, Y)
        Majority(epsilon=fits, noise_multiplier=None).fit(X, Y)
    assert 0.9 * 3.0 < ledger.epsilon <= 3.0


def test_what_remains_fits():
    with opened() as ledger:
        spend(gaussian(5))
        left = ledger.remaining
        assert 0 < left < 3.0
        spend(gaussian(skdp.accounting.noise_multiplier(left, 1e-6) * 1.001))
        assert ledger.remaining < 0.05 * left


def test_no_noise_under_a_ceiling_is_refused_and_without_one_is_not_private():
    bare = Charge((Touch("sum", Poisson(), None, 1),))
    with opened(), pytest.raises(BudgetExceededError, match="infinity"):
        spend(bare)
    with opened(None) as ledger:
        spend(bare)
    assert math.isinf(ledger.epsilon) and "NOT PRIVATE" in said(ledger)


def test_threads_that_race_get_what_fits():
    refused = []

    def fit():
        try:
            spend(gaussian(8))
        except BudgetExceededError:
            refused.append(1)

    with opened() as ledger:
        threads = [threading.Thread(target=fit) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    renyi = filter_of(ledger._store.terms)
    most = int(np.max(np.floor((3.0 - renyi.gaps) / renyi.divergences(phases(gaussian(8).event()), "zero-out"))))
    assert len(ledger.table()) == most == 40 - len(refused) and ledger.epsilon <= 3.0


# ------------------------------------------------------------------ what belongs together
@pytest.mark.parametrize("other", [gaussian(9, adjacency="replace-one"), gaussian(9, unit="feature row")])
def test_other_neighbours_are_refused(other):
    with opened() as ledger:
        spend(gaussian(9))
        with pytest.raises(ValueError, match="speaks of other neighbours"):
            spend(other)
    assert len(ledger.table()) == 1


def test_adjacency_may_be_fixed_beforehand():
    with opened(adjacency="replace-one"), pytest.raises(ValueError, match="replace-one"):
        spend(gaussian(9))


def test_a_delta_too_large_for_so_few_rows():
    with skdp.PrivacyLedger(3.0, 1e-3), pytest.raises(ValueError, match="below 1 / n"):
        spend(gaussian(9), n=1000)


def test_an_event_without_a_renyi_bound_is_refused():
    with opened() as ledger, pytest.raises(UnsupportedEventError):
        spend(dataclasses.replace(sgd(), adjacency="replace-one"))
    assert ledger.table().empty


def test_thresholds_need_a_share_of_delta():
    charge = gaussian(9, delta_fail=1e-8)
    with opened(), pytest.raises(BudgetExceededError, match="delta_fail"):
        spend(charge)
    with opened(delta_fail=2e-8) as ledger:
        spend(charge)
        spend(charge)
        with pytest.raises(BudgetExceededError, match="delta_fail"):
            spend(charge)
    assert ledger.statement.delta_fail == 2e-8 and verify(ledger.statement)


def test_seeds_show_in_the_statement():
    with opened() as ledger:
        Majority(insecure_noise_seed=0).fit(X, Y)
    assert ledger.statement.reproducible_noise and not verify(ledger.statement)


# ------------------------------------------------------------------ disjoint blocks
def test_disjoint_blocks_cost_what_the_dearest_costs():
    with opened() as ledger:
        spend(gaussian(9))
        with ledger.disjoint("A"):
            spend(gaussian(9))
        with ledger.disjoint("B"):
            spend(gaussian(5))
    with opened() as same:
        spend(gaussian(9))
        spend(gaussian(5))
    assert ledger.epsilon == pytest.approx(same.epsilon)
    assert list(ledger.table()["key"].fillna("")) == ["", "A", "B"]
    assert "declared by the user" in said(ledger) and verify(ledger.statement)


@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one"])
def test_a_row_that_replaces_another_has_its_key(adjacency):
    with opened() as ledger:
        for key in "AB":
            with ledger.disjoint(key):
                spend(dataclasses.replace(gaussian(9), adjacency=adjacency))
    assert ("a row that replaces another has the same key" in said(ledger)) == (adjacency == "replace-one")


def test_units_are_compared_and_kept_nowhere(tmp_path):
    with opened(path=tmp_path / "l") as ledger:
        with ledger.disjoint("A", units=["ann-1", "bob-2"]):
            spend(gaussian(9))
        with (
            pytest.raises(ValueError, match=r"\): there are units that have key 'A' already"),
            ledger.disjoint("B", ["bob-2"]),
        ):
            pass
        with ledger.disjoint("B", units=["cy-3"]):
            spend(gaussian(9))
    assert "ids were compared" in said(ledger)
    assert "ann-1" not in (tmp_path / "l").read_text()


def test_blocks_do_not_nest_and_need_an_open_ledger():
    ledger = opened()
    with pytest.raises(PlanViolationError, match="inside of the ledger"), ledger.disjoint("A"):
        pass
    with ledger, ledger.disjoint("A"), pytest.raises(PlanViolationError, match="'A' is open"), ledger.disjoint("B"):
        pass


def test_a_thread_that_was_busy_before_the_block_is_charged_to_all():
    go, done = threading.Event(), threading.Event()

    def busy():
        go.wait(10)
        spend(gaussian(9), what="old")
        done.set()

    thread = threading.Thread(target=busy)
    thread.start()
    with opened() as ledger, ledger.disjoint("A"):
        go.set()
        assert done.wait(10)
        young = threading.Thread(target=spend, args=(gaussian(9),), kwargs={"what": "young"})
        young.start()
        young.join()
    thread.join()
    assert dict(zip(ledger.table()["what"], ledger.table()["key"].fillna(""), strict=True)) == {"old": "", "young": "A"}


# ------------------------------------------------------------------ declared beforehand
def test_declared_charges_are_composed_exactly():
    with opened(mode="declared") as ledger:
        ledger.declare(gaussian(5), n=10_000, count=2)
        ledger.declare(sgd(), n=10_000)
        spend(gaussian(5))
        spend(sgd())
        spend(gaussian(5))
    together = [gaussian(5), gaussian(5), sgd()]
    exact = compose([skdp.PrivacyStatement.from_charge(c, 1e-6, mechanism="m", n=10_000) for c in together])
    assert ledger.epsilon == pytest.approx(exact.epsilon)
    assert ledger.statement.status == "complete" and verify(ledger.statement)
    assert "mode 'declared'" in said(ledger)


def test_what_was_not_declared_or_not_so_often_is_refused():
    with opened(mode="declared") as ledger:
        ledger.declare(gaussian(5), n=10_000)
        with pytest.raises(PlanViolationError, match="was not"):
            spend(gaussian(5.1))
        spend(gaussian(5), executed=0)  # void, so its place is free again
        spend(gaussian(5))
        with pytest.raises(PlanViolationError, match="declare a larger count"):
            spend(gaussian(5))
        with pytest.raises(PlanViolationError, match="may hang on their results"):
            ledger.declare(gaussian(5), n=10_000)


def test_declared_and_not_made_is_claimed_all_the_same():
    ledger = opened(mode="declared")
    ledger.declare(gaussian(5), n=10_000, count=3)
    with ledger:
        spend(gaussian(5))
    statement = ledger.statement
    assert statement.status == "interrupted" and statement.executed_epsilon < statement.epsilon
    assert verify(statement)


def test_declaring_stops_at_the_ceiling():
    ledger = opened(1.0, mode="declared")
    ledger.declare(gaussian(8), n=10_000)
    with pytest.raises(BudgetExceededError, match="would fit"):
        ledger.declare(gaussian(3), n=10_000)
    assert ledger.remaining < 1.0
    with pytest.raises(PlanViolationError, match="mode='declared'"):
        opened().declare(gaussian(3), n=10_000)


def test_estimators_are_declared_from_public_facts_alone():
    models = [
        Majority(epsilon=0.5, noise_multiplier=None),
        skdp.DPClassifier(module="linear", epsilon=0.5, classes=[0, 1], feature_bounds=(-1, 1), max_epochs=2),
    ]
    with opened(mode="declared") as ledger:
        for model in models:
            ledger.declare(model, n=len(X), n_features=1)
        for model in models:
            model.fit(X, Y)
    assert ledger.statement.status == "complete"


# ------------------------------------------------------------------ statements
def test_a_statement_survives_its_file_and_shows_what_was_altered(tmp_path):
    with opened(6.0) as ledger:
        spend(sgd())
        spend(gaussian(5))
    statement = ledger.statement
    statement.save(tmp_path / "s.json")
    assert skdp.PrivacyStatement.load(tmp_path / "s.json") == statement
    assert verify(tmp_path / "s.json")
    assert "skdp.audit" not in said(ledger) and "public values alone" in said(ledger)
    less = dataclasses.replace(statement, epsilon=statement.epsilon * 0.95)
    other = dataclasses.replace(statement, orders=((statement.orders[0][0] + 3, 1.0),))
    quiet = dataclasses.replace(statement, assumptions=tuple(a for a in statement.assumptions if "filter" not in a))
    assert not verify(less) and not verify(other) and not verify(quiet)


def test_adaptive_statements_do_not_compose():
    with opened() as ledger:
        spend(gaussian(5))
    with pytest.raises(ValueError, match="adaptive ledger does not compose"):
        compose([ledger.statement, ledger.statement])


def test_a_rehearsal_is_named_as_not_covered():
    from skdp.audit import audit_query

    model = skdp.DPClassifier(
        module="linear", classes=[0, 1], epsilon=None, noise_multiplier=1.0, feature_bounds=(-1, 1)
    )
    with opened() as ledger:
        spend(gaussian(9))
        audit_query(model, X[:200] + 0.5, Y[:200], draws=100, random_state=0)
    assert len(ledger.table()) == 1 and "audit_query looked at exact answers" in said(ledger)


def test_it_shows_itself():
    with opened() as ledger:
        spend(gaussian(5))
    assert repr(ledger).startswith("PrivacyLedger(epsilon=")
    assert repr(ledger).endswith(" of 3, delta=1e-06, mode='adaptive', 1 charge)")
    assert "<table" in ledger._repr_html_()


@pytest.mark.parametrize(
    "wrong",
    [
        {"delta": None},
        {"delta": 1.0},
        {"epsilon": -1},
        {"mode": "both"},
        {"adjacency": "one"},
        {"delta_fail": 1e-6},
        {"order": 1},
    ],
)
def test_impossible_parameters(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        skdp.PrivacyLedger(**{"epsilon": 3.0, "delta": 1e-6, **wrong})
