"""Statements that hold, and every way of altering one that must not."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
from dp_accounting import dp_event
from hypothesis import given, settings
from hypothesis import strategies as st
from statements import CHARGE, GRADIENT, SCALER, stated

from skdp.accounting import Calibration, PrivacyStatement, Verification, calibrate, compose, epsilon, verify
from skdp.accounting.events_json import event_to_dict
from skdp.accounting.queries import QueryLine
from skdp.accounting.statement_lines import FIXED_BEFORE, NOT_PRIVATE, count_line
from skdp.contract import Charge, FixedOrder, Gaussian, Poisson, Response, Touch


@pytest.fixture(scope="module")
def full():
    return stated(target_epsilon=2.0)


def by_hand(event, accountant, adjacency="zero-out", **more):
    """A statement of an event that no charge makes."""
    figures = {
        "epsilon": epsilon(event, 1e-5, adjacency, accountant),
        "delta": 1e-5,
        "adjacency": adjacency,
        "unit": "row",
        "mechanism": "by hand",
        "noise_multiplier": None,
        "sampling_rate": None,
        "steps": 1,
        "event": event,
        "accountant": accountant,
        "n": 1000,
        "public": (f"the {'declared ' * (adjacency == 'add-remove')}number of rows, n = 1000",),
    }
    return PrivacyStatement(**{**figures, **more})


# ------------------------------------------------------------------ what holds
def test_honest_statements_hold(full, stopped, tmp_path):
    for made in (full, stopped, compose([full, full]), compose([full, stopped])):
        found = verify(made)
        assert found, found.text
        assert found.claimed == made.epsilon
        assert found.recomputed == pytest.approx(made.epsilon, rel=2e-3)
        assert found.accountant != made.accountant
        made.save(tmp_path / "s.json")
        assert verify(tmp_path / "s.json") == verify(str(tmp_path / "s.json")) == found


@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one", "add-remove"])
@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    rate=st.sampled_from([1e-3, 0.03, 0.4, 1.0]),
    multiplier=st.floats(0.5, 20),
    steps=st.integers(1, 2000),
    at=st.sampled_from([1e-5, 1e-8]),
)
def test_honest_statements_hold_everywhere(adjacency, rate, multiplier, steps, at):
    charge = Charge((Touch("gradient", Poisson(rate), Gaussian((multiplier,)), steps), SCALER), adjacency)
    found = verify(stated(charge, at))
    assert found, found.text


@pytest.mark.parametrize(
    ("event", "accountant", "second"),
    [
        (dp_event.GaussianDpEvent(2.0), "analytic", "fine PLD"),
        (dp_event.GaussianDpEvent(2.0), "rdp", "tilted PLD"),
        (dp_event.LaplaceDpEvent(2.0), "pld", "fine PLD"),
        (dp_event.LaplaceDpEvent(2.0), "rdp", "fine PLD"),
        (dp_event.ZCDpEvent(0.1), "rdp", "RDP once more"),
        (dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(1.0)), "tilted-pld", "fine PLD"),
    ],
)
def test_the_second_accountant_is_another_one(event, accountant, second):
    found = verify(by_hand(event, accountant))
    assert found, found.text
    assert found.accountant == second
    assert ("nothing independent" in found.reason) == second.endswith("once more")


def test_a_tiny_delta_is_checked_where_the_pld_can_see():
    charge = Charge((Touch("gradient", Poisson(0.01), Gaussian((2.0,)), 20_000),))
    made = stated(charge, 1e-12)
    assert made.accountant == "tilted-pld"
    found = verify(made)
    assert found, found.text
    assert found.accountant == "tilted PLD once more"
    assert "nothing independent bounds it this closely" in found.reason
    assert not verify(dataclasses.replace(made, epsilon=made.epsilon * 0.99))
    assert not verify(dataclasses.replace(made, epsilon=made.epsilon * 1.05))


@pytest.mark.parametrize(
    ("adjacency", "rate", "steps", "target", "at"),
    [
        ("zero-out", 1.0, 10, 1.0, 1e-6),
        ("zero-out", 0.05, 500, 4.0, 1e-6),
        ("replace-one", 0.05, 500, 4.0, 1e-6),
        ("replace-one", 1e-4, 300, 0.01, 1e-4),
        ("replace-one", 1e-4, 5000, 0.1, 1e-12),
    ],
)
def test_calibrated_statements_hold(adjacency, rate, steps, target, at):
    """The certificate is quoted, not recomputed; the last two are where few rare draws decide."""

    def charge_at(scale):
        return Charge((Touch("gradient", Poisson(rate), Gaussian((scale,)), steps),), adjacency)

    certificate = calibrate(charge_at, target, at)
    charge = charge_at(certificate.scale)
    made = stated(charge, at, n=int(0.1 / at), certificate=certificate, target_epsilon=target)
    assert made.epsilon == certificate.epsilon <= target
    assert verify(made), verify(made).text
    assert not verify(dataclasses.replace(made, epsilon=made.epsilon * 0.9))


def test_no_privacy_holds_as_such():
    bare = stated(Charge((Touch("gradient", Poisson(0.1), None, 5),)))
    assert verify(bare)
    assert "no privacy" in verify(bare).reason
    assert not verify(dataclasses.replace(bare, epsilon=8.0))


def test_a_target_that_the_least_noise_undercuts_holds():
    """Whether a row is drawn at all can be rarer than delta; calibration then stops at its least noise."""
    charge = Charge((Touch("gradient", Poisson(1e-7), Gaussian((0.05,)), 3),))
    certificate = Calibration(0.05, 1.0, 1e-6, "zero-out", "pld", charge=charge)
    made = stated(charge, 1e-6, certificate=certificate, target_epsilon=1.0)
    assert verify(made), verify(made).text


# ------------------------------------------------------------------ what must not
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epsilon": 1.0}, "the event costs epsilon"),
        ({"epsilon": 1.83}, "the event costs epsilon"),  # half a per cent
        ({"epsilon": 0.0}, "the event costs epsilon"),
        ({"epsilon": 1.99}, "the claim was altered"),
        ({"epsilon": 5.0}, "exceeds what was asked for"),
        ({"epsilon": 5.0, "target_epsilon": 5.0}, "the claim was altered"),
        ({"epsilon": math.inf, "target_epsilon": None}, "the claim was altered"),
        ({"delta": 1e-6}, "the event costs epsilon"),
        ({"delta": 9e-6}, "the event costs epsilon"),
        ({"delta": 1.9e-5}, "the claim was altered"),
        ({"delta": 1e-4}, "not below 1 / n"),
        ({"delta": 0.0}, "the event costs epsilon|used up"),
        ({"delta_fail": 5e-6}, "the event costs epsilon"),
        ({"n": 100_000}, "not below 1 / n"),
        ({"adjacency": "replace-one"}, "the event costs epsilon"),
        ({"noise_multiplier": 2.0}, "nothing in the event has noise multiplier 2"),
        ({"sampling_rate": 0.02}, "nothing in the event has noise multiplier 1 at sampling rate 0.02"),
        ({"steps": 999}, "999 steps are stated"),
        ({"steps": 5000}, "5000 steps are stated"),
        ({"accountant": "analytic"}, "full-batch Gaussian noise only"),
    ],
)
def test_altered_statements_do_not_hold(full, change, words):
    found = verify(dataclasses.replace(full, **change))
    assert not found
    assert not found.holds
    assert re.search(words, found.reason), found.reason
    assert found.text.startswith("DOES NOT HOLD")


@pytest.mark.parametrize(
    "gradient",
    [
        dataclasses.replace(GRADIENT, noise=Gaussian((0.9,))),
        dataclasses.replace(GRADIENT, noise=Gaussian((1.1,))),
        dataclasses.replace(GRADIENT, sampler=Poisson(0.02)),
        dataclasses.replace(GRADIENT, count=1200),
        dataclasses.replace(GRADIENT, count=800),
    ],
)
def test_another_event_does_not_hold(full, gradient):
    assert not verify(dataclasses.replace(full, event=Charge((SCALER, gradient)).event()))


def test_a_second_release_slipped_into_the_event_does_not_hold(full):
    more = dp_event.ComposedDpEvent([full.event, dp_event.GaussianDpEvent(4.0)])
    assert not verify(dataclasses.replace(full, event=more))


def test_altered_stops_do_not_hold(stopped):
    assert verify(stopped)
    for change, words in (
        ({"executed_epsilon": stopped.executed_epsilon * 0.9}, "what was executed costs"),
        ({"event": CHARGE.event({"gradient": 900, "scaler": 1})}, "steps are stated|what was executed"),
        ({"planned_event": CHARGE.event({"gradient": 200, "scaler": 1})}, "more was executed|was altered"),
        ({"planned_event": None}, "contradict each other"),
        ({"planned_event": None, "executed_epsilon": None, "status": "complete"}, "was altered"),
        ({"planned_event": CHARGE.event({"gradient": 1000})}, "more was executed"),
    ):
        found = verify(dataclasses.replace(stopped, **change))
        assert not found, change
        assert any(word in found.reason for word in words.split("|")), found.reason


def test_impossible_events_do_not_hold_and_do_not_crash(full):
    for event in (
        dp_event.SelfComposedDpEvent(dp_event.GaussianDpEvent(1.0), -5),
        dp_event.ComposedDpEvent([full.event, dp_event.SelfComposedDpEvent(dp_event.ZCDpEvent(-1.0), 1)]),
        dp_event.UnsupportedDpEvent(),
        dp_event.ComposedDpEvent([3]),
        dp_event.ComposedDpEvent(7),
        dp_event.PoissonSampledDpEvent("a", dp_event.GaussianDpEvent(1.0)),
    ):
        text = json.loads(full.to_json())
        text["event"] = event_to_dict(event)
        try:
            found = verify(PrivacyStatement.from_dict(text))
        except ValueError:
            continue
        assert not found
        assert found.accountant == "no accountant"
        assert math.isnan(found.recomputed)
        assert "recomputed nothing" in found.text


def test_a_file_that_is_no_statement_is_an_error(tmp_path):
    (tmp_path / "s.json").write_text("{}")
    with pytest.raises(ValueError, match="not a privacy statement"):
        verify(tmp_path / "s.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "interrupted"}, "status, planned_event and executed_epsilon contradict"),
        ({"planned_event": CHARGE.event()}, "status, planned_event and executed_epsilon contradict"),
        ({"executed_epsilon": 1.8}, "status, planned_event and executed_epsilon contradict"),
        ({"noise_multiplier": None}, "not those of the price list's largest line"),
        ({"sampling_rate": None}, "not those of the price list's largest line"),
        ({"noise_multiplier": 20.0, "sampling_rate": 1.0, "steps": 1}, "not those of the price list's largest line"),
        ({"noise_multiplier": None, "sampling_rate": 1e-6, "queries": ()}, "nothing in the event has sampling rate"),
        ({"queries": (*stated().queries, QueryLine("fake", 99.0, 1.0, 0, 0))}, "a line without a query"),
        ({"created": "2999-01-01"}, "created lies in the future"),
        ({"warnings": (*stated().warnings, NOT_PRIVATE)}, "the other fields do not"),
    ],
)
def test_fields_that_contradict_each_other_do_not_hold(full, change, words):
    found = verify(dataclasses.replace(full, **change))
    assert not found
    assert words in found.reason


def test_a_stop_that_is_hidden_does_not_hold(stopped):
    for change in ({"status": "complete"}, {"status": "resumed"}, {"executed_epsilon": None}):
        assert "contradict each other" in verify(dataclasses.replace(stopped, **change)).reason
    assert "what was executed costs" in verify(dataclasses.replace(stopped, executed_epsilon=stopped.epsilon)).reason


def test_a_seed_that_is_hidden_does_not_hold():
    made = stated(reproducible_noise=True, warnings=("insecure_noise_seed is set",))
    for warnings in (made.warnings, made.warnings[1:]):
        found = verify(dataclasses.replace(made, reproducible_noise=False, warnings=warnings))
        assert not found and "the other fields do not" in found.reason


def test_compositions_of_compositions_hold(full, stopped):
    other = stated(Charge((dataclasses.replace(GRADIENT, noise=Gaussian((2.0,))),)))
    for made in (compose([full, other]), compose([compose([full, other])]), compose([compose([full, other]), stopped])):
        assert made.noise_multiplier is None
        assert verify(made), verify(made).text
        assert not verify(dataclasses.replace(made, sampling_rate=1e-6))
        left = tuple(line for line in made.assumptions if line != FIXED_BEFORE)
        assert not verify(dataclasses.replace(made, assumptions=left))


def test_more_compositions_than_anything_resolves_have_a_reason():
    event = dp_event.SelfComposedDpEvent(dp_event.PoissonSampledDpEvent(1e-3, dp_event.GaussianDpEvent(30.0)), 10**15)
    found = verify(dataclasses.replace(by_hand(dp_event.GaussianDpEvent(2.0), "pld"), event=event, epsilon=3.0))
    assert not found
    assert "no second accountant resolves 1000000000000000 compositions" in found.reason


def test_free_words_are_not_shown_as_verified():
    made = stated(dataclasses.replace(CHARGE, split="each fit saw other rows, so divide epsilon by 100"))
    assert "divide epsilon by 100 (as declared, not verified)" in " ".join(made.text.split())
    assert "Not checked" in verify(made).text and "split" in verify(made).text


def test_text():
    found = Verification(True, 1.00001, 0.99991, "tilted PLD", "fine")
    assert found.text == str(found)
    verdict, limits = found.text.splitlines()
    assert verdict == "HOLDS: claimed epsilon 1.001, recomputed 1 (tilted PLD): fine"
    assert "that this event is what was run" in limits and "a recalculation, not a signature" in limits


# ------------------------------------------------------------------ what every statement has to say
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "household"}, "unit 'household' is none that skdp states anything about"),
        ({"assumptions": ()}, "assumptions were altered: 'each row of X"),
        ({"warnings": ()}, "warnings were altered: 'noise is drawn in floating point"),
        ({"public": ()}, "public were altered: 'the number of rows, n = 50000'"),
        ({"n": 40_000}, "public were altered: 'the number of rows, n = 40000'"),
        ({"queries": ()}, ""),
    ],
)
def test_what_every_statement_says_must_be_there(full, change, words):
    for made in (full, compose([full, full])):
        found = verify(dataclasses.replace(made, **change))
        assert found.holds == (not words)
        assert words in found.reason


@pytest.mark.parametrize("number", range(3))
def test_each_standard_assumption_is_required(full, number):
    left = tuple(line for i, line in enumerate(full.assumptions) if i != number)
    assert len(left) == 2
    assert "assumptions were altered" in verify(dataclasses.replace(full, assumptions=left)).reason


def test_a_composition_has_to_say_that_budgets_were_fixed_before(full):
    both = compose([full, full])
    left = tuple(line for line in both.assumptions if line != FIXED_BEFORE)
    assert len(left) == len(both.assumptions) - 1
    assert "assumptions were altered" in verify(dataclasses.replace(both, assumptions=left)).reason


@pytest.mark.parametrize("change", [{"planned": 2, "executed": 2}, {"noise_multiplier": 21.0}, {"sampling_rate": 0.5}])
def test_a_price_list_that_is_not_the_events_does_not_hold(full, change):
    first, *others = full.queries
    found = verify(dataclasses.replace(full, queries=(first._replace(**change), *others)))
    assert not found
    assert "price list's planned queries do not make up the event" in found.reason


def test_executed_queries_of_a_stopped_fit_have_to_be_those_of_its_event(stopped):
    lines = tuple(line._replace(executed=line.planned) for line in stopped.queries)
    assert "executed queries do not make up" in verify(dataclasses.replace(stopped, queries=lines)).reason


def test_noise_from_a_fixed_seed_never_holds(full):
    for made in (stated(reproducible_noise=True), compose([full, stated(reproducible_noise=True)])):
        assert made.reproducible_noise
        found = verify(made)
        assert not found
        assert "NOT PRIVATE, for tests only" in found.text


def test_a_larger_recomputed_figure_is_explained():
    """Both figures round up: the finer grid of the second may by chance lie above the closed form."""
    made = stated(Charge((SCALER,)))
    found = verify(made)
    assert found and found.recomputed > made.epsilon
    assert "within the numerical tolerance of 0.1 %" in found.reason
    assert "tolerance" not in verify(dataclasses.replace(made, epsilon=made.epsilon * 1.001)).reason


@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one"])
@pytest.mark.parametrize("target", [1e6, 1e9, 1e300])
@pytest.mark.parametrize("rate", [0.05, 1.0])
def test_huge_budgets_are_composed_and_verified_without_a_huge_grid(target, rate, adjacency):
    def charge_at(scale):
        return Charge((Touch("gradient", Poisson(rate), Gaussian((scale,)), 300), SCALER), adjacency)

    certificate = calibrate(charge_at, target, 1e-5)
    made = stated(charge_at(certificate.scale), certificate=certificate, target_epsilon=target)
    both = compose([made, made])
    assert 1e3 < both.epsilon < math.inf
    assert rate < 1 or made.epsilon <= both.epsilon  # else the least noise costs less than the target that is claimed
    assert verify(made), verify(made).text
    assert verify(both), verify(both).text


# ------------------------------------------------------------------ price lists that are no sums
TURNS = Touch("gradient", FixedOrder(100), Gaussian((4.0,)), 1000)
ANSWERS = Touch("labels", Poisson(), Response.at(1.0, 3), 1)


@pytest.mark.parametrize("touch", [TURNS, ANSWERS], ids=["turns", "responses"])
def test_nothing_is_stated_about_data_of_other_length(touch):
    with pytest.raises(ValueError, match="adjacency='add-remove'.*use adjacency='zero-out'"):
        Charge((touch,), "add-remove")
    plain = json.loads(stated(Charge((touch,))).to_json())
    assert verify_plain(plain)
    plain["adjacency"] = "add-remove"
    plain["public"] = [count_line("add-remove", "row", plain["n"]), *plain["public"][1:]]
    assert not verify_plain(plain)


@pytest.mark.parametrize("change", [{"noise_multiplier": 1000.0}, {"sampling_rate": 0.001}, {"groups": 100}])
def test_fields_that_mean_nothing_for_a_response_are_empty(change):
    plain = json.loads(stated(Charge((ANSWERS, Touch("activations", Poisson(), Gaussian((3.0,)), 1)))).to_json())
    assert verify_plain(plain)
    plain["queries"][0].update(change)
    assert not verify_plain(plain)


def verify_plain(plain):
    try:
        return verify(PrivacyStatement.from_json(json.dumps(plain))).holds
    except ValueError:
        return False
