from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MalformedError, WireError
from pylon.nostr import event as ev
from pylon.nostr import messages as m
from pylon.nostr.event import EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.text import clean_line

SECRET = SecretKey(b"\3" * 32)
EVENT = SECRET.sign(EventDraft(1, "hello\x7f\u2028", (("t", "x"),), 1_700_000_000))
RAW = orjson.loads(EVENT.to_json())

ids = st.text(min_size=1, max_size=m.MAX_SUBSCRIPTION_ID)
texts = st.text(max_size=1_000)
filters = st.lists(
    st.builds(
        Filter,
        kinds=st.none() | st.frozensets(st.integers(0, 65_535), max_size=3),
        tags=st.dictionaries(st.sampled_from("abcdfg"), st.frozensets(st.text(max_size=9), max_size=3), max_size=2),
        limit=st.none() | st.integers(0, 500),
    ),
    min_size=1,
    max_size=3,
).map(tuple)

client_messages = st.one_of(
    st.just(m.EventMessage(EVENT)),
    st.builds(m.Req, ids, filters),
    st.builds(m.Count, ids, filters),
    st.builds(m.Close, ids),
    st.just(m.Auth(EVENT)),
    st.just(m.Unknown("NEG-OPEN")),
)
relay_messages = st.one_of(
    st.builds(m.EventMessage, st.just(EVENT), ids),
    st.builds(m.Ok, texts, st.booleans(), texts.map(clean_line)),
    st.builds(m.Eose, ids),
    st.builds(m.Closed, ids, texts.map(clean_line)),
    st.builds(m.Notice, texts.map(clean_line)),
    st.builds(m.AuthChallenge, st.text(max_size=m.MAX_CHALLENGE)),
    st.builds(m.CountResult, ids, st.integers(0, 2**53)),
    st.just(m.Unknown("NEG-MSG")),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5),
    max_leaves=15,
)
types = ["EVENT", "REQ", "COUNT", "CLOSE", "AUTH", "OK", "EOSE", "CLOSED", "NOTICE", "X"]


@given(client_messages)
def test_every_client_message_parses_back(message: m.ClientMessage) -> None:
    assert m.parse_client_message(m.encode(message)) == message


@given(relay_messages)
def test_every_relay_message_parses_back(message: m.RelayMessage) -> None:
    assert m.parse_relay_message(m.encode(message)) == message


@given(st.sampled_from(types), st.lists(json_values, max_size=4))
def test_any_fields_raise_nothing_but_wire_errors(kind: str, rest: list[Any]) -> None:
    frame = orjson.dumps([kind, *rest])
    with suppress(WireError):
        m.parse_client_message(frame)
    with suppress(WireError):
        m.parse_relay_message(frame)


@given(st.text(max_size=100) | st.binary(max_size=100))
def test_any_frame_raises_nothing_but_wire_errors(frame: str | bytes) -> None:
    with suppress(WireError):
        m.parse_client_message(frame)
    with suppress(WireError):
        m.parse_relay_message(frame)


@pytest.mark.parametrize("frame", ["", "null", "{}", "[]", "[1]", "[null]", '["OK"', "[" * 100_000, b'["\xff"]'])
def test_a_frame_that_is_no_message_is_refused(frame: str | bytes) -> None:
    for parse in (m.parse_client_message, m.parse_relay_message):
        with pytest.raises(MalformedError):
            parse(frame)


@pytest.mark.parametrize(
    "message",
    [
        ["EVENT"],
        ["EVENT", RAW, RAW],
        ["EVENT", "sub", RAW],
        ["EVENT", {}],
        ["REQ"],
        ["REQ", "a"],
        ["REQ", "", {}],
        ["REQ", "a" * 65, {}],
        ["REQ", 1, {}],
        ["REQ", "a", None],
        ["REQ", "a", {"x": 1}],
        ["REQ", "a", *[{}] * (m.MAX_FILTERS + 1)],
        ["COUNT", "a"],
        ["CLOSE"],
        ["CLOSE", "a", "b"],
        ["CLOSE", None],
        ["AUTH"],
        ["AUTH", "challenge"],
    ],
)
def test_a_client_message_with_wrong_fields_is_refused(message: list[Any]) -> None:
    with pytest.raises(MalformedError):
        m.parse_client_message(orjson.dumps(message))


@pytest.mark.parametrize(
    "message",
    [
        ["EVENT"],
        ["EVENT", RAW],
        ["EVENT", "", RAW],
        ["EVENT", "a", {}],
        ["OK"],
        ["OK", "id"],
        ["OK", "id", "true"],
        ["OK", "id", 1],
        ["OK", 1, True],
        ["EOSE"],
        ["EOSE", 1],
        ["CLOSED"],
        ["CLOSED", "a" * 65],
        ["AUTH"],
        ["AUTH", RAW],
        ["AUTH", "c" * (m.MAX_CHALLENGE + 1)],
        ["COUNT", "a"],
        ["COUNT", "a", {}],
        ["COUNT", "a", {"count": True}],
        ["COUNT", "a", {"count": -1}],
        ["COUNT", "a", {"count": 1.5}],
        ["COUNT", "", {"count": 1}],
    ],
)
def test_a_relay_message_with_wrong_fields_is_refused(message: list[Any]) -> None:
    with pytest.raises(MalformedError):
        m.parse_relay_message(orjson.dumps(message))


def test_what_a_relay_says_to_people_is_cut_and_may_be_absent() -> None:
    assert m.parse_relay_message('["OK","id",false]') == m.Ok("id", False)
    assert m.parse_relay_message('["OK","id",true,null]') == m.Ok("id", True)
    assert m.parse_relay_message('["NOTICE"]') == m.Notice("")
    assert m.parse_relay_message('["CLOSED","a",{}]') == m.Closed("a")
    assert m.parse_relay_message('["NOTICE","no\\npylon: \\u001b[2Jyes\\u202e"]') == m.Notice("no pylon: [2Jyes")
    long = m.parse_relay_message(orjson.dumps(["NOTICE", "x" * 5_000]))
    assert long == m.Notice("x" * 1_000)


def test_more_fields_than_a_relay_message_needs_are_ignored() -> None:
    assert m.parse_relay_message('["EOSE","a","more"]') == m.Eose("a")
    assert m.parse_relay_message('["COUNT","a",{"count":2,"approximate":true}]') == m.CountResult("a", 2)


def test_an_unknown_type_is_no_error_and_its_name_is_cut() -> None:
    frame = orjson.dumps(["N" * 100, 1])
    assert m.parse_client_message(frame) == m.Unknown("N" * 40)
    assert m.parse_relay_message(frame) == m.Unknown("N" * 40)


def test_text_that_utf8_cannot_hold_is_not_sent() -> None:
    with pytest.raises(MalformedError, match="Unicode"):
        m.encode(m.Notice("\ud800"))


@pytest.mark.parametrize("value", [b"[]", b"{}", b'{"a":[]}', b"0"])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_frame_of_two_megabytes_of_values_is_refused_unparsed(value: bytes, as_text: bool) -> None:
    frame = b'["EVENT","q1",[' + b",".join([value] * (2 * 1024 * 1024 // (len(value) + 1))) + b"]]"
    with pytest.raises(MalformedError, match="25,000 values"):
        m.parse_relay_message(frame.decode() if as_text else frame)


def test_a_large_event_with_all_the_tags_allowed_and_a_long_text_is_read() -> None:
    tags = (("p", "0" * 64, "wss://relay.example:7447", "name"),) * ev.MAX_TAGS
    event = SECRET.sign(EventDraft(3, "A text, with a comma in it. " * 10_000, tags, 1_700_000_000))
    assert m.parse_relay_message(m.encode(m.EventMessage(event, "q1"))) == m.EventMessage(event, "q1")
