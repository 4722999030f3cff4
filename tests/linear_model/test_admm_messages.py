"""Messages that are broken, forged, replayed or out of order get an error, and change nothing."""

from __future__ import annotations

import gc
import json
import math

import numpy as np
import pytest
from admm_runs import joined, play, rows, sites, terms
from hypothesis import given, settings
from hypothesis import strategies as st

from skdp.exceptions import ProtocolError
from skdp.linear_model.admm import Coordinator, Site, Terms
from skdp.linear_model.admm.messages import VERSION, Call, Join, Reply, read_message

AGREED = terms()
CALL = Call(AGREED.digest, 1, np.zeros((1, 5)))
REPLY = Reply("site 0", AGREED.digest, 1, 0, np.zeros((1, 5)))
JOIN = Join("site 0", AGREED.digest, 80, 1.0)
ALL = [CALL, REPLY, JOIN]


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_messages_come_back_as_they_were(message):
    found = read_message(message.to_bytes(), type(message), AGREED)
    assert found.to_bytes() == message.to_bytes()
    model = np.array([[1.5, -0.0, 1e-300, math.pi, 1e300]])
    again = read_message(Reply("ä", AGREED.digest, 3, 0, model).to_bytes(), Reply, AGREED)
    assert again.model.tobytes() == model.tobytes() and again.site == "ä"


def test_the_form_is_the_documented_one():
    data = REPLY.to_bytes()
    length = int.from_bytes(data[11:13], "big")
    assert data[:9] == b"SKDP-ADMM" and int.from_bytes(data[9:11], "big") == VERSION
    assert json.loads(data[13 : 13 + length]) == {
        "kind": "reply", "site": "site 0", "terms": AGREED.digest, "round": 1, "after": 0,
    }  # fmt: skip
    assert np.frombuffer(data[13 + length :], "<f8").tolist() == [0.0] * 5


def forged(message, **changed):
    """A message with other header entries; None leaves one out."""
    data = message.to_bytes()
    length = int.from_bytes(data[11:13], "big")
    header = json.loads(data[13 : 13 + length]) | changed
    text = json.dumps({name: value for name, value in header.items() if value is not None}).encode()
    return data[:11] + len(text).to_bytes(2, "big") + text + data[13 + length :]


BROKEN = {
    "nothing": b"",
    "text": b"hello",
    "no bytes": "SKDP-ADMM",
    "cut off": REPLY.to_bytes()[:-1],
    "cut in the header": REPLY.to_bytes()[:40],
    "too long": REPLY.to_bytes() + b"\0" * 8,
    "another version": REPLY.to_bytes()[:10] + b"\x09" + REPLY.to_bytes()[11:],
    "a header that is too long": REPLY.to_bytes()[:11] + b"\xff\xff" + b" " * 70000,
    "no JSON": REPLY.to_bytes()[:13] + b"{" * 200,
    "endless brackets": REPLY.to_bytes()[:11] + (4000).to_bytes(2, "big") + b"[" * 4000,
    "a hundred megabytes": REPLY.to_bytes() + bytes(10**8),
    "another kind": CALL.to_bytes(),
    "an unknown kind": forged(REPLY, kind="model"),
    "other terms": forged(REPLY, terms="0" * 64),
    "no terms": forged(REPLY, terms=None),
    "something more": forged(REPLY, rows=3),
    "a round in words": forged(REPLY, round="1"),
    "a negative round": forged(REPLY, round=-1),
    "half a round": forged(REPLY, round=1.5),
    "an endless name": forged(REPLY, site="x" * 3000),
    "a name that is none": forged(REPLY, site=["site 0"]),
    "a NaN": Reply("site 0", AGREED.digest, 1, 0, np.full((1, 5), np.nan)).to_bytes(),
    "an infinity": Reply("site 0", AGREED.digest, 1, 0, np.full((1, 5), np.inf)).to_bytes(),
    "another shape": Reply("site 0", AGREED.digest, 1, 0, np.zeros((1, 6))).to_bytes(),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_broken_messages_are_refused_by_either_side(data):
    with pytest.raises(ProtocolError):
        read_message(data, Reply, AGREED)
    members = sites(AGREED, rows())
    coordinator = joined(AGREED, members)
    with pytest.raises(ProtocolError):
        coordinator.receive(data)
    if data != CALL.to_bytes():
        with pytest.raises(ProtocolError):
            members[0].answer(data)
    assert members[0].round == 0 and coordinator.consensus.round == 0
    assert play(coordinator, members).finished, "and the training goes on"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(ALL), st.integers(0, 200), st.booleans())
def test_no_bytes_crash_a_reader(noise, message, place, spliced):
    data = message.to_bytes()
    data = data[:place] + noise + data[place + len(noise) :] if spliced else noise
    for kind in (Join, Call, Reply):
        try:
            found = read_message(data, kind, AGREED)
        except ProtocolError:
            continue
        assert not hasattr(found, "model") or np.isfinite(found.model).all()


def test_a_replayed_call_gets_the_same_bytes_and_costs_nothing():
    (site,) = sites(terms(sites=1), rows(), epsilon=1.0)
    coordinator = joined(site.terms, [site])
    call = coordinator.call()
    first = site.answer(call)
    assert [site.answer(call) for _ in range(5)] == [first] * 5
    coordinator.receive(first)
    coordinator.receive(first)
    coordinator.advance()
    later = site.answer(coordinator.call())
    assert later != first
    assert site.answer(call) == first, "also of an earlier round"
    coordinator.receive(later)
    coordinator.receive(first)  # a resend that comes late
    old = Call(site.terms.digest, 1, np.ones((1, 5))).to_bytes()
    with pytest.raises(ProtocolError, match="answered round 2; a call for round 1 is out of order"):
        site.answer(old)
    other = Call(site.terms.digest, 2, np.ones((1, 5))).to_bytes()
    with pytest.raises(ProtocolError, match="says something else"):
        site.answer(other)
    assert site.settle().steps == 2


def test_a_second_and_different_reply_is_refused():
    members = sites(AGREED, rows(), epsilon=1.0)
    coordinator = joined(AGREED, members)
    reply = members[0].answer(coordinator.call())
    coordinator.receive(reply)
    told = read_message(reply, Reply, AGREED)
    with pytest.raises(ProtocolError, match="says something else"):
        coordinator.receive(Reply("site 0", AGREED.digest, 1, 0, told.model + 1e-9).to_bytes())


@pytest.mark.parametrize("size", [1e3, 1e100])
def test_a_poisoned_reply_is_refused_and_the_others_go_on(size):
    """A dishonest site moves the model by no more than as many rows of its own could."""
    members = sites(AGREED, rows(), epsilon=100.0)
    honest = play(joined(AGREED, members[:2]), members[:2]).consensus.result
    members = sites(AGREED, rows(), epsilon=100.0)
    coordinator = joined(AGREED, members, staleness=0)
    while not coordinator.finished:
        call = coordinator.call()
        for site in members[:2]:
            coordinator.receive(site.answer(call))
        with pytest.raises(ProtocolError, match="explain no more than"):
            coordinator.receive(Reply("site 2", AGREED.digest, coordinator.round, 0, np.full((1, 5), size)).to_bytes())
        coordinator.advance()
    assert np.linalg.norm(coordinator.consensus.result) < 2 * np.linalg.norm(honest)


def test_honest_replies_are_never_taken_for_poison():
    for clip, z in ((0.01, 0.5), (1.5, 200.0), (5.0, 1.0)):
        agreed = terms(clip=clip, rounds=200)
        members = sites(agreed, rows(), epsilon=None, noise_multiplier=z)
        assert play(joined(agreed, members), members).finished


def test_strangers_and_doubles_are_refused():
    coordinator = Coordinator(AGREED)
    coordinator.admit(JOIN.to_bytes())
    coordinator.admit(JOIN.to_bytes())  # a resend
    with pytest.raises(ProtocolError, match="names must differ"):
        coordinator.admit(Join("site 0", AGREED.digest, 81, 1.0).to_bytes())
    for join in (Join("liar", AGREED.digest, 2**52, 1.0), Join("loud", AGREED.digest, 80, 1e300)):
        with pytest.raises(ProtocolError, match="the terms have 3, 240"):
            coordinator.admit(join.to_bytes())
    with pytest.raises(ProtocolError, match="other terms"):
        coordinator.admit(Join("site 1", terms(clip=9.0).digest, 80, 1.0).to_bytes())
    with pytest.raises(ProtocolError, match="has not joined"):
        coordinator.receive(Reply("site 9", AGREED.digest, 1, 0, np.zeros((1, 5))).to_bytes())
    with pytest.raises(ProtocolError, match="no site has replied"):
        coordinator.advance()


def test_sites_with_another_schema_have_other_terms():
    from dataclasses import replace

    base = terms()
    changes = [{"columns": ("0", "1", "2", "age")}, {"columns": ("1", "0", "2", "3")}, {"classes": ("no", "yes")},
               {"feature_bounds": ((0.0, 1.0),) * 4}, {"clip": 1.6}, {"rounds": 61}, {"alpha": 0.0}]  # fmt: skip
    assert len({replace(base, **change).digest for change in changes} | {base.digest}) == len(changes) + 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rounds": 0}, "rounds=0"),
        ({"clip": -1.0}, "clip=-1.0"),
        ({"sampling_rate": 2.0}, "sampling_rate=2.0"),
        ({"adjacency": "none"}, "adjacency='none'"),
    ],
)
def test_terms_that_make_no_sense(change, match):
    plain = terms().to_dict() | change
    with pytest.raises(ValueError, match=match):
        Terms.from_dict(plain)


def test_terms_are_written_and_read():
    from dataclasses import replace

    for agreed in (
        terms(),
        terms(clip=math.inf, feature_bounds=((0.0, 1.0),) * 4),
        replace(terms(), classes=("inf", "x")),
    ):
        assert Terms.from_dict(json.loads(json.dumps(agreed.to_dict()))) == agreed
    for broken in ({}, [], terms().to_dict() | {"more": 1}, terms().to_dict() | {"clip": []}):
        with pytest.raises(ValueError, match="terms"):
            Terms.from_dict(broken)


# ------------------------------------------------------------------ the boundary
def test_nothing_but_checked_messages_reaches_the_coordinator():
    """What crosses is bytes of the documented form, and no object of the coordinator leads to a site's rows."""
    agreed = terms(rounds=6)
    arrays = rows()
    members = sites(agreed, arrays, epsilon=1.0)
    crossed = []

    class Listening(Coordinator):
        def admit(self, join):
            crossed.append((Join, join))
            super().admit(join)

        def receive(self, reply):
            crossed.append((Reply, reply))
            super().receive(reply)

    coordinator = Listening(agreed)
    for site in members:
        coordinator.admit(site.join())
    play(coordinator, members)
    assert len(crossed) == 3 + 3 * 6
    for kind, data in crossed:
        assert type(data) is bytes and len(data) < 500
        read_message(data, kind, agreed)
    seen, stack = set(), [coordinator]
    while stack:
        thing = stack.pop()
        if id(thing) in seen or isinstance(thing, type) or callable(thing) or type(thing).__name__ == "module":
            continue
        seen.add(id(thing))
        assert not isinstance(thing, Site)
        if isinstance(thing, np.ndarray):
            assert thing.size <= 5, "no array of the size of rows"
        stack.extend(gc.get_referents(thing))
