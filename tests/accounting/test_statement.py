"""The statement of a fit, its forms, and the composition of several."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import math

import pytest
from dp_accounting import dp_event
from hypothesis import given, settings
from hypothesis import strategies as st
from statements import CHARGE, GRADIENT, SCALER, stated

from skdp.accounting import Calibration, PrivacyStatement, accountants, attack_accuracy, calibrate, compose, epsilon
from skdp.accounting import versions as versions_file
from skdp.accounting.events_json import event_from_dict, event_to_dict
from skdp.accounting.statement_lines import FIXED_BEFORE
from skdp.accounting.statement_text import round_up
from skdp.contract import Charge, Gaussian, Poisson, Touch


@pytest.fixture(scope="module")
def full():
    return stated(target_epsilon=2.0, public=("the classes 0 and 1",), warnings=("seeded noise",))


# ------------------------------------------------------------------ what it says
def test_a_complete_fit(full):
    assert full.epsilon == epsilon(CHARGE.event(), 1e-5)
    assert (full.status, full.accountant, full.adjacency, full.unit) == ("complete", "pld", "zero-out", "row")
    assert (full.noise_multiplier, full.sampling_rate, full.steps, full.n) == (1.0, 0.01, 1000, 50_000)
    assert full.planned_event is full.executed_epsilon is None
    assert full.claimed_event == full.event == CHARGE.event()
    assert full.assumptions[0] == "each row of X was computed from that record alone and from public values"
    assert full.public == ("the number of rows, n = 50000", "the classes 0 and 1")
    assert full.warnings[0] == "seeded noise"
    assert any("not from a cryptographically secure generator" in line for line in full.warnings)
    assert full.versions["dp-accounting"]


def test_an_interrupted_fit_claims_what_was_planned(full, stopped):
    assert stopped.status == "interrupted"
    assert stopped.epsilon == full.epsilon
    assert stopped.executed_epsilon == epsilon(CHARGE.event({"gradient": 300, "scaler": 1}), 1e-5) < full.epsilon
    assert stopped.steps == 300
    assert stopped.event == CHARGE.event({"gradient": 300, "scaler": 1})
    assert stopped.planned_event == CHARGE.event()
    assert "valid only if the decision to stop did not depend on results" in " ".join(stopped.text.split())
    assert "valid only if the decision to stop did not depend on results" in stopped._repr_html_()


def test_what_was_executed_never_costs_more_than_the_plan():
    """As where the plan's accountant has less slack than the one that answers for most of the plan."""
    most = epsilon(CHARGE.event({"gradient": 999, "scaler": 1}), 1e-5)
    certificate = Calibration(1.0, 0.999 * most, 1e-5, "zero-out", "pld", charge=CHARGE)
    made = stated(executed={"gradient": 999, "scaler": 1}, certificate=certificate)
    assert made.executed_epsilon == made.epsilon < most


def test_nor_does_it_in_a_composition(monkeypatch):
    made = stated(executed={"gradient": 999, "scaler": 1})
    honest = accountants.epsilon
    monkeypatch.setattr(
        accountants, "epsilon", lambda event, *more: honest(event, *more) * (1 if event == claimed else 1.02)
    )
    claimed = dp_event.ComposedDpEvent([made.claimed_event, made.claimed_event])
    both = compose([made, made])
    assert both.executed_epsilon == both.epsilon


@pytest.mark.parametrize("resumed", [False, True])
def test_the_status_follows_from_what_was_executed(resumed):
    assert stated(executed={"gradient": 1000, "scaler": 1}, resumed=resumed).status == (
        "resumed" if resumed else "complete"
    )
    assert stated(executed={"gradient": 999, "scaler": 1}, resumed=resumed).status == "interrupted"


def test_the_figures_of_a_charge_are_those_of_what_may_be_asked():
    made = stated(Charge((Touch("nothing", Poisson(0.5), Gaussian((9.0,)), 0),)))
    assert (made.noise_multiplier, made.sampling_rate, made.steps, made.epsilon) == (None, None, 0, 0)


def test_nothing_executed_still_claims_the_plan(full):
    none = stated(executed={})
    assert none.epsilon == full.epsilon
    assert none.executed_epsilon == 0
    assert none.event == dp_event.ComposedDpEvent([])


def test_several_answers_per_sample_state_their_joint_multiplier():
    charge = Charge((Touch("gradient", Poisson(0.1), Gaussian((2.0, 2.0)), 10),))
    assert stated(charge).noise_multiplier == pytest.approx(2**0.5)


def test_a_certificate_is_quoted_and_no_accountant_runs(monkeypatch):
    certificate = Calibration(1.0, 1.99, 1e-5, "zero-out", "pld", charge=CHARGE)

    def refuse(*args, **kwargs):
        raise AssertionError("a slow accountant ran")

    monkeypatch.setattr(accountants, "epsilon", refuse)
    monkeypatch.setattr(accountants, "which_accountant", refuse)
    made = stated(certificate=certificate, target_epsilon=2.0)
    assert (made.epsilon, made.accountant, made.target_epsilon) == (1.99, "pld", 2.0)
    with pytest.raises(AssertionError):  # but what was executed of a stopped fit has to be computed
        stated(certificate=certificate, executed={"gradient": 1})
    for change in ({"delta": 1e-6}, {"adjacency": "replace-one"}):
        wrong = dataclasses.replace(certificate, **change)
        with pytest.raises(ValueError, match="the certificate holds for"):
            stated(certificate=wrong)


def test_no_noise_is_not_private():
    bare = stated(Charge((Touch("gradient", Poisson(0.1), None, 5),)), target_epsilon=math.inf)
    assert bare.epsilon == math.inf
    assert bare.noise_multiplier is None
    assert bare.warnings[0].startswith("NOT PRIVATE")
    assert "NOT PRIVATE" in bare.text.splitlines()[2]
    assert "NOT PRIVATE" in bare._repr_html_()
    assert bare.attack_accuracy == 1
    assert PrivacyStatement.from_json(bare.to_json()) == bare


def test_failure_probabilities_come_out_of_delta():
    failing = Charge((GRADIENT,), delta_fail=4e-6)
    assert stated(failing).epsilon == epsilon(failing.event(), 1e-5 - 4e-6)
    assert stated(failing).delta == 1e-5
    with pytest.raises(ValueError, match="used up by failure probabilities of 0.001"):
        stated(Charge((GRADIENT,), delta_fail=1e-3))


def test_more_than_reserved_is_refused():
    with pytest.raises(ValueError, match="not in the charge.*'loss'"):
        stated(executed={"loss": 1})
    with pytest.raises(ValueError, match="executed=1001 lies outside"):
        stated(executed={"gradient": 1001})


@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one", "add-remove"])
def test_each_relation_is_explained_in_words(adjacency):
    made = stated(Charge((SCALER,), adjacency, unit="customer"))
    flat = " ".join(made.text.split())
    words = {
        "zero-out": "whether one customer took part",
        "replace-one": "which of two versions of one customer was used",
        "add-remove": "whether one customer took part",
    }
    assert words[adjacency] in flat
    assert adjacency in flat
    assert "the declared number of customers" in flat if adjacency == "add-remove" else True


# ------------------------------------------------------------------ the guess of an attacker
@given(mu=st.floats(0.05, 6), at=st.floats(0.01, 10))
@settings(deadline=None, derandomize=True)
def test_the_attackers_best_guess_is_a_bound(mu, at):
    """The optimal test between N(0, 1) and N(mu, 1) is right in Phi(mu / 2) of cases: never above the formula."""
    best = 0.5 * math.erfc(-mu / 2 / 2**0.5)
    exact = accountants.delta(dp_event.GaussianDpEvent(1 / mu), at)
    assert best <= attack_accuracy(at, exact) + 1e-12


def test_the_attackers_best_guess_is_reached_by_randomised_response():
    assert attack_accuracy(math.log(3)) == pytest.approx(0.75)
    assert attack_accuracy(0.0) == 0.5
    assert attack_accuracy(0.0, 0.2) == pytest.approx(0.6)
    assert attack_accuracy(math.inf) == attack_accuracy(1000.0) == 1.0


# ------------------------------------------------------------------ printing
@given(value=st.floats(1e-12, 1e9))
@settings(deadline=None, derandomize=True)
def test_printed_epsilons_are_rounded_up(value):
    shown = float(round_up(value))
    assert value <= shown <= value * 1.00101


def test_printed_numbers():
    shown = [round_up(v) for v in (1.0, 0.99998, 1.82824, 12345.6, 1e-5, 0.0, math.inf, 2.00001)]
    assert shown == ["1", "1", "1.829", "12350", "1e-5", "0", "infinity", "2.001"]


def test_text_is_prose_of_100_columns(full, stopped):
    for made in (full, stopped):
        assert str(made) == made.text
        assert max(map(len, made.text.splitlines())) <= 100
        assert round_up(made.epsilon) in made.text
    assert "86.3 % of cases" in " ".join(full.text.split())
    percent = math.ceil(full.attack_accuracy * 1000) / 10
    assert percent == 86.3


class Tags(html.parser.HTMLParser):
    """Collects open tags and everything that would be loaded or run."""

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.data = [], [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.loaded += [tag] * (tag in ("script", "link", "img", "iframe"))
        self.loaded += [name for name, _ in attrs if name in ("src", "href") or name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.data.append(data)


def test_html_is_whole_escaped_and_free_of_colours():
    evil = '<script>alert("1")</script>'
    made = stated(
        Charge((SCALER,), unit=evil, split=evil),
        mechanism=evil,
        public=(evil,),
        assumptions=(evil,),
        warnings=(evil,),
    )
    page = made._repr_html_()
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and tags.loaded == []
    assert "".join(tags.data).count(evil) >= 6
    assert "#" not in page and "rgb" not in page  # colours of the page itself: light and dark
    assert len(page) < 12_000


# ------------------------------------------------------------------ JSON
def test_json_round_trip(full, stopped, tmp_path):
    for made in (full, stopped):
        text = made.to_json()
        assert PrivacyStatement.from_json(text) == made
        assert PrivacyStatement.from_json(text).to_json() == text
        made.save(tmp_path / "statement.json")
        assert PrivacyStatement.load(str(tmp_path / "statement.json")) == made
        assert hash(PrivacyStatement.from_json(text)) == hash(made)
        assert json.loads(text)["version"] == 3


EVENTS = st.recursive(
    st.sampled_from(
        [
            dp_event.NoOpDpEvent(),
            dp_event.NonPrivateDpEvent(),
            dp_event.GaussianDpEvent(1.1),
            dp_event.LaplaceDpEvent(math.inf),
            dp_event.DiscreteLaplaceDpEvent(0.3, 2),
            dp_event.RandomizedResponseDpEvent(0.3, 4),
            dp_event.MixtureOfGaussiansDpEvent(1.0, (0.0, 1.0), (0.25, 0.75)),
            dp_event.ZCDpEvent(0.1, 0.0),
            dp_event.TruncatedSubsampledGaussianDpEvent(100, 0.1, 20, 2.0),
            dp_event.SingleEpochTreeAggregationDpEvent(1.0, [4, 8]),
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(dp_event.ComposedDpEvent)
        | st.builds(dp_event.SelfComposedDpEvent, inner, st.integers(0, 10**6))
        | st.builds(dp_event.PoissonSampledDpEvent, st.floats(0, 1), inner)
        | st.builds(dp_event.RepeatAndSelectDpEvent, inner, st.floats(1, 9), st.sampled_from([0.0, 1.0, math.inf]))
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(event=EVENTS, numbers=st.floats(0, allow_nan=False), lines=st.lists(st.text(max_size=5), max_size=3))
def test_any_statement_survives_json(event, numbers, lines):
    made = PrivacyStatement(
        epsilon=numbers,
        delta=1e-6,
        adjacency="add-remove",
        unit="row",
        mechanism="x",
        noise_multiplier=None,
        sampling_rate=0.3,
        steps=3,
        event=event,
        accountant="rdp",
        n=7,
        target_epsilon=numbers,
        planned_event=event,
        executed_epsilon=numbers,
        public=lines,
    )
    assert PrivacyStatement.from_json(made.to_json()) == made
    assert event_to_dict(event_from_dict(event_to_dict(event))) == event_to_dict(event)


def altered(made, **change):
    return json.dumps({**json.loads(made.to_json()), **change})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 1}, "has version 1, this skdp reads version 3 and 2"),
        ({"schema": "other"}, "not a privacy statement"),
        ({"spare": 1}, r"unknown \['spare'\]"),
        ({"epsilon": "low"}, "epsilon='low' must be a number"),
        ({"epsilon": None}, "epsilon=None must be a number"),
        ({"epsilon": True}, "epsilon=True must be a number"),
        ({"epsilon": -1}, "epsilon=-1 must be a number of 0 or more"),
        ({"delta": 1.0}, "delta=1.0 must be a number in"),
        ({"delta_fail": 0.5}, "delta_fail=0.5 must lie between"),
        ({"n": 2.5}, "n=2.5 must be a whole number"),
        ({"steps": -2}, "steps=-2 must be a whole number"),
        ({"adjacency": "bounded"}, "adjacency='bounded'"),
        ({"status": "done"}, "status='done' must be one of"),
        ({"accountant": "gdp"}, "accountant='gdp' must be one of"),
        ({"public": "n"}, "public='n' must be a list of strings"),
        ({"warnings": [1]}, "warnings=.1. must be a list of strings"),
        ({"versions": {"numpy": 2}}, "versions=.* must be an object of strings"),
        ({"event": {"type": "Free"}}, "is no event that skdp knows"),
        ({"event": None}, "event=None must be a dp_accounting event"),
        ({"event": {"type": "GaussianDpEvent"}}, "needs the fields"),
        ({"event": {"type": "GaussianDpEvent", "noise_multiplier": 1.0, "bonus": 1}}, "needs the fields"),
        ({"event": {"type": ["GaussianDpEvent"]}}, "is no event"),
        ({"mechanism": 3}, "mechanism=3 must be a string"),
    ],
)
def test_a_damaged_file_is_refused_with_a_reason(full, change, words):
    with pytest.raises(ValueError, match=words):
        PrivacyStatement.from_json(altered(full, **change))


def test_malformed_json_names_the_file(full, tmp_path):
    for text in ("", "{", "[]", "null", full.to_json()[:-30], altered(full, epsilon=math.nan), "[" * 100_000):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(ValueError, match=r"s\.json: .*not a privacy statement"):
            PrivacyStatement.load(tmp_path / "s.json")
    missing = json.loads(full.to_json())
    del missing["event"]
    with pytest.raises(ValueError, match=r"missing \['event'\]"):
        PrivacyStatement.from_dict(missing)
    with pytest.raises(ValueError, match="sampling_rate=nan must be a number"):
        PrivacyStatement.from_dict({**full.to_dict(), "sampling_rate": math.nan})
    with pytest.raises(FileNotFoundError):
        PrivacyStatement.load(tmp_path / "none.json")


def test_only_events_of_dp_accounting_go_into_a_file(full):
    class Home(dp_event.DpEvent):
        pass

    with pytest.raises(ValueError, match="is not one of dp_accounting's events"):
        dataclasses.replace(full, event=Home())


# ------------------------------------------------------------------ composition
def test_composition_is_one_event_at_one_delta(full):
    other = stated(Charge((Touch("release", Poisson(), Gaussian((5.0,)), 3),)), delta=1e-6, mechanism="histogram")
    both = compose([full, other])
    whole = dp_event.ComposedDpEvent([full.event, other.event])
    assert both.event == whole
    assert both.delta == 1e-5
    assert both.epsilon == epsilon(whole, 1e-5)
    assert max(full.epsilon, other.epsilon) < both.epsilon < full.epsilon + other.epsilon
    assert (both.mechanism, both.steps, both.noise_multiplier) == ("dp-sgd, histogram", 1003, None)
    assert FIXED_BEFORE in both.assumptions
    assert any("the largest of theirs" in line for line in both.assumptions)
    assert "seeded noise" in both.warnings
    assert PrivacyStatement.from_json(both.to_json()) == both
    assert compose([full, other], delta=1e-6).epsilon > both.epsilon
    assert compose([other, full]).epsilon == both.epsilon


def test_composition_of_one_changes_nothing(full):
    alone = compose([full])
    assert (alone.epsilon, alone.mechanism, alone.noise_multiplier, alone.steps) == (
        full.epsilon,
        "dp-sgd",
        1.0,
        1000,
    )
    assert FIXED_BEFORE not in alone.assumptions


def test_composition_counts_models(full):
    assert compose([full, full, full]).mechanism == "3 x dp-sgd"
    assert compose([full, compose([full, full])]).epsilon == compose([full] * 3).epsilon


def test_a_stopped_fit_is_composed_by_its_plan(full, stopped):
    both = compose([full, stopped])
    assert both.status == "interrupted"
    assert both.epsilon == compose([full, full]).epsilon
    assert both.executed_epsilon == epsilon(both.event, 1e-5) < both.epsilon


def test_an_unprotected_model_spoils_the_composition(full):
    bare = stated(Charge((Touch("gradient", Poisson(0.1), None, 5),)))
    both = compose([full, bare])
    assert both.epsilon == math.inf
    assert both.warnings[0].startswith("NOT PRIVATE")


def test_composition_refuses_what_does_not_fit(full):
    with pytest.raises(ValueError, match="nothing to compose"):
        compose([])
    swapped = stated(dataclasses.replace(CHARGE, adjacency="replace-one"))
    with pytest.raises(ValueError, match="different adjacency .replace-one, zero-out. do not compose"):
        compose([full, swapped])
    customers = stated(dataclasses.replace(CHARGE, unit="customer"))
    with pytest.raises(ValueError, match="different unit .customer, row."):
        compose([full, customers])
    with pytest.raises(ValueError, match="delta=0.001 must be below 1 / n"):
        compose([full, full], delta=1e-3)
    failing = stated(Charge((SCALER,), delta_fail=6e-6))
    with pytest.raises(ValueError, match="used up by failure probabilities"):
        compose([failing, failing])


def test_making_a_statement_with_a_certificate_is_quick(monkeypatch):
    """Counted, not timed: nothing but the event is derived, and versions are read once."""
    reads = []
    monkeypatch.setattr(versions_file.metadata, "version", lambda name: reads.append(name) or "1")
    versions_file._versions.cache_clear()
    certificate = Calibration(1.0, 1.99, 1e-5, "zero-out", "pld", charge=CHARGE)
    for _ in range(3):
        stated(certificate=certificate)
    assert len(reads) == len(set(reads))
    versions_file._versions.cache_clear()


# ------------------------------------------------------------------ for a reader who has to decide
def flat(made):
    return " ".join(made.text.split())


def test_noise_from_a_fixed_seed_is_not_private(full):
    seeded = stated(reproducible_noise=True)
    for made in (seeded, compose([full, seeded])):
        assert made.text.splitlines()[2].startswith("NOT PRIVATE, for tests only")
        assert "Differentially private with" not in made.text
        assert made._repr_html_().index("NOT PRIVATE, for tests only") < made._repr_html_().index("<table")
        assert "Differentially private with" not in made._repr_html_()
        assert "NOT PRIVATE" in repr(made)
        assert made.attack_accuracy == 1
        assert any(line.startswith("NOT PRIVATE") for line in made.warnings)
        assert PrivacyStatement.from_json(made.to_json()) == made
    assert not full.reproducible_noise and "fixed seed" not in full.text
    with pytest.raises(ValueError, match="reproducible_noise='no' must be true or false"):
        PrivacyStatement.from_json(altered(seeded, reproducible_noise="no"))


def test_terms_are_explained_in_the_text(full):
    for words in (
        "per row: what is protected is one row; a person with several rows is protected less",
        "each person has one row, or else the guarantee is per row",
        "so was y, and no scaler, imputer, encoder or feature selection was fitted on these rows unless it is charged",
        "which two data sets are compared; here they differ in one row taking part",
        "DP-SGD is differentially private stochastic gradient descent",
        "how epsilon was computed; the privacy loss distribution",
        "Not covered: - any other fit, score, search or plot made from these rows",
        "scaler: noise multiplier 20, 1 query, sampling rate 1",
        "gradient: noise multiplier 1, 1000 queries, sampling rate 0.01",
    ):
        assert words in flat(full)
    assert "mechanism DP-SGD" in flat(stated(mechanism="DPSGD"))
    assert "1000 queries paid for, 300 asked" in flat(stated(executed={"gradient": 300, "scaler": 1}))


def test_the_price_list_is_kept_and_added_up(full):
    assert not any(line.noise for line in full.queries)
    assert [line[:5] for line in full.queries] == [("scaler", 20.0, 1.0, 1, 1), ("gradient", 1.0, 0.01, 1000, 1000)]
    assert [line.planned for line in compose([full, full]).queries] == [2, 2000]
    for damage in ([{"name": "x"}], [3], [{**full.queries[0]._asdict(), "executed": 2}]):
        with pytest.raises(ValueError, match="must be a list of price list lines"):
            PrivacyStatement.from_json(altered(full, queries=damage))


def test_the_date(full):
    assert f"created {full.created}" in flat(full)
    assert len(full.created) == 10
    assert PrivacyStatement.from_json(altered(full, created="2020-02-29")).created == "2020-02-29"
    with pytest.raises(ValueError, match="created='today' must be an ISO date"):
        PrivacyStatement.from_json(altered(full, created="today"))


def test_repr_is_one_short_line(full):
    assert "\n" not in repr(full) and len(repr(full)) < 160
    assert "epsilon=1.839" in repr(full) and "zero-out" in repr(full)


@pytest.mark.parametrize(("noise", "shown"), [(4000.0, "at most 50.0"), (4e6, "at most 50.000"), (20.0, "at most 5")])
def test_a_tiny_epsilon_is_not_rounded_to_a_tenth_of_a_percent(noise, shown):
    made = stated(Charge((Touch("release", Poisson(), Gaussian((noise,)), 1),)), 1e-9)
    found = float(flat(made).split("at most ")[1].split(" %")[0])
    assert shown in flat(made)
    assert 100 * made.attack_accuracy - 1e-9 <= found < 50 + 1.2 * (100 * made.attack_accuracy - 50) + 1e-8


def test_a_fit_without_noise_says_so_once():
    bare = stated(
        Charge((Touch("gradient", Poisson(0.1), None, 5),)), warnings=("epsilon=inf: this fit is NOT PRIVATE",)
    )
    for made in (bare, compose([stated(), bare])):
        for page in (made.text, made._repr_html_()):
            assert page.count("NOT PRIVATE") == 1
            assert "floating point" not in page and "assumptions" not in page


def test_a_certificate_of_another_charge_is_refused():
    def charge_at(scale):
        return Charge((Touch("gradient", Poisson(0.01), Gaussian((scale,)), 1000),))

    found = calibrate(charge_at, 2.0, 1e-5)
    charge = charge_at(found.scale)
    assert stated(charge, certificate=found).epsilon == found.epsilon
    for other in (
        charge_at(found.scale * 0.9),
        charge + Charge((SCALER,)),
        dataclasses.replace(charge, delta_fail=1e-6),
    ):
        with pytest.raises(ValueError, match="the certificate is that of another charge"):
            stated(other, certificate=found)


# ------------------------------------------------------------------ what trained, and what was released for it
def test_a_statement_of_version_2_is_read(full):
    plain = {**full.to_dict(), "version": 2}
    del plain["net"], plain["released"]
    assert PrivacyStatement.from_dict(plain) == full and full.net == "" and full.released == ()
    with pytest.raises(ValueError, match="has version True"):
        PrivacyStatement.from_dict({**plain, "version": True})


def test_net_and_releases_are_shown_and_composed(full):
    made = [
        dataclasses.replace(full, net=net, released=("bounds: (0, 1)",))
        for net in ("MLP", "MLP", "Linear, 5 parameters")
    ]
    assert "net               MLP" in made[0].text and "- bounds: (0, 1)" in made[0].text
    assert "bounds: (0, 1)" in made[0]._repr_html_()
    assert PrivacyStatement.from_json(made[0].to_json()) == made[0]
    both = compose(made)
    assert both.net == "MLP; Linear, 5 parameters" and both.released == ("bounds: (0, 1)",)
