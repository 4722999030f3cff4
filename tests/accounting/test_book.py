"""The book of a fit: reserve, spend, lease, crash, resume, settle."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skdp.accounting import FitBook, PrivacyStatement, charge_from_dict, charge_to_dict
from skdp.contract import Charge, Gaussian, Poisson, Touch
from skdp.exceptions import PlanViolationError

GRADIENT = Touch("gradient", Poisson(0.1), Gaussian((1.0, 3.0)), 120)
ONCE = Touch("histogram", Poisson(), Gaussian((20.0,)), 1)
CHARGE = Charge((GRADIENT, ONCE), "replace-one", "customer", 1e-9, "first half by position")


def opened(lease=None, charge=CHARGE):
    book = FitBook()
    return book, book.reserve(charge, lease)


def through_a_file(book):
    return FitBook.from_dict(json.loads(json.dumps(book.to_dict(), allow_nan=False)))


def test_spending_counts_each_touch_from_zero():
    book, reservation = opened()
    assert [book.spend(reservation, GRADIENT) for _ in range(3)] == [0, 1, 2]
    assert book.spend(reservation, ONCE) == 0
    assert book.executed(reservation) == {"gradient": 3, "histogram": 1}
    equal = Touch("gradient", Poisson(0.1), Gaussian((1.0, 3.0)), 120)  # not the same object
    assert book.spend(reservation, equal) == 3


def test_more_than_reserved_is_refused():
    book, reservation = opened()
    for _ in range(120):
        book.spend(reservation, GRADIENT)
    with pytest.raises(PlanViolationError, match="all 120 reserved queries are spent"):
        book.spend(reservation, GRADIENT)
    assert book.executed(reservation)["gradient"] == 120


@pytest.mark.parametrize(
    "touch",
    [
        Touch("loss", Poisson(0.1), Gaussian((1.0,)), 1),
        dataclasses.replace(GRADIENT, sampler=Poisson(0.2)),
        dataclasses.replace(GRADIENT, noise=Gaussian((0.5, 3.0))),
        dataclasses.replace(GRADIENT, noise=None),
        dataclasses.replace(GRADIENT, count=121),
    ],
)
def test_what_was_not_declared_is_refused(touch):
    book, reservation = opened()
    with pytest.raises(PlanViolationError, match="is not in the reserved charge"):
        book.spend(reservation, touch)
    assert book.executed(reservation) == {"gradient": 0, "histogram": 0}


def test_a_lease_stops_spending_until_it_is_extended():
    book, reservation = opened(lease=50)
    for _ in range(50):
        book.spend(reservation, GRADIENT)
    with pytest.raises(PlanViolationError, match="query 50 lies beyond the lease of 50; call extend"):
        book.spend(reservation, GRADIENT)
    book.extend(reservation, {"gradient": 100})
    assert book.spend(reservation, GRADIENT) == 50
    book.extend(reservation, {"gradient": 10_000})  # more than there is: all of it
    assert [book.spend(reservation, GRADIENT) for _ in range(69)][-1] == 119
    with pytest.raises(PlanViolationError, match="cannot be taken back"):
        opened(lease=50)[0].extend(opened(lease=50)[1], {"gradient": 20})
    with pytest.raises(PlanViolationError, match="'loss' is not in"):
        book.extend(reservation, {"loss": 1})


def test_a_failed_extend_changes_nothing():
    book, reservation = opened(lease=10)
    with pytest.raises(PlanViolationError):
        book.extend(reservation, {"gradient": 20, "histogram": 1, "loss": 3})
    assert book.to_dict()["lines"]["gradient"]["leased"] == 10


def test_after_a_crash_the_open_lease_counts_as_spent():
    book, reservation = opened(lease=50)
    for _ in range(50):
        book.spend(reservation, GRADIENT)
    book.extend(reservation, {"gradient": 100})
    file = through_a_file(book)  # the checkpoint, then 13 more queries, then the power goes
    for _ in range(13):
        book.spend(reservation, GRADIENT)
    assert book.executed(reservation)["gradient"] == 63
    assert file.reopen(file.reservation, CHARGE) == {"gradient": 100, "histogram": 1}
    assert [file.spend(file.reservation, GRADIENT) for _ in range(20)] == list(range(100, 120))
    with pytest.raises(PlanViolationError, match="all 120"):
        file.spend(file.reservation, GRADIENT)
    assert file.settle(file.reservation)["gradient"] == 120


def test_a_second_crash_counts_its_own_lease():
    file = through_a_file(opened(lease=50)[0])
    file.reopen(file.reservation, CHARGE, lease=30)
    again = through_a_file(file)
    assert again.reopen(again.reservation, CHARGE) == {"gradient": 80, "histogram": 1}


def test_a_clean_stop_settles_exactly_and_can_be_resumed():
    book, reservation = opened(lease=50)
    for _ in range(13):
        book.spend(reservation, GRADIENT)
    assert book.settle(reservation) == {"gradient": 13, "histogram": 0}
    assert book.settle(reservation) == {"gradient": 13, "histogram": 0}
    with pytest.raises(PlanViolationError, match="settled"):
        book.spend(reservation, GRADIENT)
    with pytest.raises(PlanViolationError, match="settled"):
        book.extend(reservation, {"gradient": 100})
    file = through_a_file(book)
    assert file.settled
    assert file.reopen(file.reservation, CHARGE) == {"gradient": 13, "histogram": 0}
    assert file.spend(file.reservation, GRADIENT) == 13


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(CHARGE, adjacency="zero-out"),
        dataclasses.replace(CHARGE, unit="row"),
        dataclasses.replace(CHARGE, delta_fail=0.0),
        dataclasses.replace(CHARGE, touches=(GRADIENT,)),
        dataclasses.replace(CHARGE, touches=(dataclasses.replace(GRADIENT, count=240), ONCE)),
    ],
)
def test_resuming_with_another_charge_is_refused(other):
    book, reservation = opened()
    with pytest.raises(PlanViolationError, match="no longer gives the charge that was reserved"):
        book.reopen(reservation, other)


def test_a_book_holds_one_fit():
    book, _ = opened()
    with pytest.raises(PlanViolationError, match="already holds a reservation"):
        book.reserve(CHARGE)
    assert through_a_file(FitBook()).reservation is None
    for wrong in (0, -1, 2.5):
        with pytest.raises(ValueError, match="lease="):
            FitBook().reserve(CHARGE, wrong)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    events=st.lists(st.sampled_from(["spend", "checkpoint", "crash", "stop"]), max_size=60),
    lease=st.integers(1, 20),
)
def test_no_history_of_crashes_spends_a_query_twice(events, lease):
    """Whatever happens, ordinals are never repeated, never pass the count, and what was answered is counted."""
    touch = Touch("gradient", Poisson(0.5), Gaussian((1.0,)), 40)
    charge = Charge((touch,))
    book, reservation = opened(lease, charge)
    disk, answered = json.dumps(book.to_dict()), []
    for event in events:
        if event == "spend":
            try:
                answered.append(book.spend(reservation, touch))
            except PlanViolationError:
                continue
        elif event == "checkpoint":
            book.extend(reservation, {"gradient": book.executed(reservation)["gradient"] + lease + 20})
            disk = json.dumps(book.to_dict())
        else:
            if event == "stop":
                book.settle(reservation)
                disk = json.dumps(book.to_dict())
            book = FitBook.from_dict(json.loads(disk))
            reservation = book.reservation
            spent = book.reopen(reservation, charge, lease)["gradient"]
            disk = json.dumps(book.to_dict())
            assert spent >= len(answered)
    assert answered == sorted(set(answered))
    assert all(0 <= ordinal < 40 for ordinal in answered)
    assert len(answered) <= book.settle(reservation)["gradient"] <= 40


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "not a book of version 1"),
        ({"lines": {}}, "missing or malformed"),
        ({"lines": None}, "missing or malformed"),
        (
            {"lines": {"gradient": {"spent": 5, "leased": 3}, "histogram": {"spent": 0, "leased": 1}}},
            "spent=5",
        ),
        (
            {"lines": {"gradient": {"spent": -1, "leased": 3}, "histogram": {"spent": 0, "leased": 1}}},
            "spent=-1",
        ),
        (
            {"lines": {"gradient": {"spent": 0, "leased": 999}, "histogram": {"spent": 0, "leased": 1}}},
            "leased=999",
        ),
        (
            {"lines": {"gradient": {"spent": 0, "leased": 1.0}, "histogram": {"spent": 0, "leased": 1}}},
            "leased=1.0",
        ),
        ({"charge": {"type": "Charge"}}, "needs the fields"),
        ({"charge": {"type": "Budget"}}, "is no charge"),
        ({"charge": "all"}, "is no charge"),
    ],
)
def test_a_damaged_book_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        FitBook.from_dict({**opened()[0].to_dict(), **change})


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    rate=st.floats(1e-9, 1.0),
    multipliers=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=3) | st.none(),
    count=st.integers(0, 10**9),
    fail=st.floats(0, 1e-3),
    name=st.text(max_size=8),
)
def test_charges_survive_json(rate, multipliers, count, fail, name):
    noise = None if multipliers is None else Gaussian(tuple(multipliers))
    charge = Charge((Touch(name, Poisson(rate), noise, count),), "zero-out", "row", fail, name)
    assert charge_from_dict(json.loads(json.dumps(charge_to_dict(charge), allow_nan=False))) == charge


def test_impossible_charges_are_refused():
    plain = charge_to_dict(CHARGE)
    plain["touches"][0]["sampler"]["rate"] = 7.0
    with pytest.raises(ValueError, match="rate=7.0"):
        charge_from_dict(plain)


def test_counts_of_the_book_make_the_statement():
    book, reservation = opened()
    for _ in range(60):
        book.spend(reservation, GRADIENT)
    counts = book.settle(reservation)
    made = PrivacyStatement.from_charge(CHARGE, 1e-5, executed=counts, mechanism="dp-sgd", n=1000)
    assert made.steps == 60
    assert made.executed_epsilon < made.epsilon < math.inf
    assert made.status == "interrupted"
