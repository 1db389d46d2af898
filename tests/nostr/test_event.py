import contextlib
import hashlib
import json
from dataclasses import replace
from typing import Any

import nostr_sdk
import orjson
import pynostr.event
import pynostr.key
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.errors import MalformedError, SignatureError, WireError
from pylon.nostr import event as ev
from pylon.nostr.event import MAX_TAGS, MAX_TIMESTAMP, Event, EventDraft
from pylon.nostr.keys import SecretKey

SECRET = SecretKey(bytes(31) + b"\x03")

texts = st.text(max_size=60)
drafts = st.builds(
    EventDraft,
    kind=st.integers(0, 65_535),
    content=texts,
    tags=st.lists(st.lists(texts, min_size=1, max_size=4).map(tuple), max_size=5).map(tuple),
    created_at=st.integers(0, 2**32 - 1),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


DRAFT = EventDraft(1, "hello", (("p", SECRET.public), ("v", "pylon/1")), 1_700_000_000)
RAW = orjson.loads(SECRET.sign(DRAFT).to_json())


def signed(**changes: Any) -> dict[str, Any]:
    return {**RAW, **changes}


# Published vectors


def test_every_id_edge_case_hashes_to_the_id_that_five_implementations_agree_on(serialization_vectors: Any) -> None:
    for case in serialization_vectors["cases"]:
        event = ev.parse_event(case["event"])
        ev.verify(event)
        serialized = bytes.fromhex(case["serialized_sha256_input_hex"])
        assert hashlib.sha256(serialized).hexdigest() == event.id, case["name"]
        assert ev.loads_event(event.to_json()) == event


def test_bip340_signatures_hold_or_fail_as_published(bip340_vectors: list[dict[str, str]]) -> None:
    assert len(bip340_vectors) == 19
    for row in bip340_vectors:
        message = bytes.fromhex(row["message"])
        if row["verification result"] == "TRUE":
            ev.verify_signature(row["public key"], message, row["signature"])
        else:
            with pytest.raises(SignatureError):
                ev.verify_signature(row["public key"], message, row["signature"])


# Independent implementations


@given(drafts)
@settings(max_examples=60)
def test_nostr_sdk_and_pynostr_accept_our_events(draft: EventDraft) -> None:
    event = SECRET.sign(draft)
    assert nostr_sdk.Event.from_json(event.to_json().decode()).verify()
    theirs = pynostr.event.Event.from_dict(json.loads(event.to_json()))
    theirs.compute_id()
    assert theirs.id == event.id
    assert theirs.verify()


@given(drafts)
@settings(max_examples=60)
def test_we_accept_events_of_nostr_sdk(draft: EventDraft) -> None:
    keys = nostr_sdk.Keys.parse(SECRET.secret_bytes.hex())
    tags = [nostr_sdk.Tag.parse(list(tag)) for tag in draft.tags]
    theirs = nostr_sdk.EventBuilder(nostr_sdk.Kind(draft.kind), draft.content).tags(tags).finalize(keys)
    event = ev.loads_event(theirs.as_json())
    ev.verify(event)
    assert (event.kind, event.content, event.pubkey) == (draft.kind, draft.content, SECRET.public)


@given(texts)
@settings(max_examples=30)
def test_we_accept_events_of_pynostr(content: str) -> None:
    theirs = pynostr.event.Event(content=content, tags=[["t", content]], kind=1)
    theirs.sign(SECRET.secret_bytes.hex())
    event = ev.parse_event(theirs.to_dict())
    ev.verify(event)
    assert event.content == content


# Properties


@given(drafts)
def test_a_signed_event_survives_the_wire_and_verifies(draft: EventDraft) -> None:
    event = SECRET.sign(draft)
    again = ev.loads_event(event.to_json())
    ev.verify(again)
    assert again == event


@given(json_values)
def test_parsing_any_json_raises_nothing_but_wire_errors(value: Any) -> None:
    with contextlib.suppress(WireError):
        ev.parse_event(value)


@given(st.sampled_from(["id", "pubkey", "sig", "created_at", "kind", "content", "tags"]), json_values)
def test_an_event_with_any_field_replaced_is_parsed_or_refused(name: str, value: Any) -> None:
    try:
        event = ev.parse_event(signed(**{name: value}))
        ev.verify(event)
    except WireError:
        return
    assert orjson.loads(event.to_json()) == signed()


@given(st.binary(max_size=200) | texts)
def test_any_bytes_raise_nothing_but_wire_errors(data: bytes | str) -> None:
    with contextlib.suppress(WireError):
        ev.loads_event(data)


# Traps


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "A" * 64),
        ("id", "a" * 63),
        ("id", "a" * 64 + "\n"),
        ("id", "a" * 65),
        ("id", None),
        ("pubkey", "g" * 64),
        ("pubkey", "١" * 64),
        ("sig", "a" * 64),
        ("sig", "a" * 128 + "\n"),
        ("created_at", True),
        ("created_at", 1_700_000_000.0),
        ("created_at", "1700000000"),
        ("created_at", -1),
        ("created_at", MAX_TIMESTAMP + 1),
        ("created_at", 2**64),
        ("kind", True),
        ("kind", -1),
        ("kind", 65_536),
        ("kind", 1.0),
        ("content", None),
        ("content", ["x"]),
        ("tags", None),
        ("tags", {}),
        ("tags", [[]]),
        ("tags", ["p"]),
        ("tags", [["p", 1]]),
        ("tags", [["p", None]]),
        ("tags", [["p", ["x"]]]),
        ("tags", [["x"]] * (MAX_TAGS + 1)),
    ],
)
def test_a_field_of_wrong_type_or_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(MalformedError):
        ev.parse_event(signed(**{name: value}))


@pytest.mark.parametrize("name", ["id", "pubkey", "sig", "created_at", "kind", "content", "tags"])
def test_an_absent_field_is_refused(name: str) -> None:
    raw = signed()
    del raw[name]
    with pytest.raises(MalformedError):
        ev.parse_event(raw)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", '"x"', "1e400", "NaN", "[" * 100_000, b"\xff", '{"id": "\\ud800"}']
)
def test_text_that_is_no_event_is_refused(text: str | bytes) -> None:
    with pytest.raises(MalformedError):
        ev.loads_event(text)


def test_unknown_fields_are_dropped() -> None:
    assert ev.parse_event(signed(extra=1, id2=[])) == ev.parse_event(signed())


def test_of_a_duplicated_key_the_last_counts_and_the_id_is_of_what_was_read() -> None:
    text = orjson.dumps(signed()).decode()
    doubled = text[:-1] + ',"content":"other"}'
    event = ev.loads_event(doubled)
    assert event.content == "other"
    with pytest.raises(SignatureError):
        ev.verify(event)


def test_a_changed_event_does_not_verify() -> None:
    event = ev.parse_event(signed())
    other = SecretKey.generate().public
    for changed in (
        replace(event, content="hellp"),
        replace(event, kind=2),
        replace(event, created_at=1_700_000_001),
        replace(event, tags=()),
        replace(event, pubkey=other),
        replace(event, id="0" * 64),
        replace(event, sig="0" * 128),
    ):
        with pytest.raises(SignatureError):
            ev.verify(changed)


def test_a_valid_id_with_another_keys_signature_does_not_verify() -> None:
    mine = SECRET.sign(EventDraft(1, "x", created_at=1))
    theirs = SecretKey.generate().sign(EventDraft(1, "x", created_at=1))
    with pytest.raises(SignatureError, match="signature"):
        ev.verify(replace(mine, sig=theirs.sig))


def test_a_public_key_off_the_curve_is_a_signature_error() -> None:
    pubkey = "0" * 64
    event = Event(ev.event_id(pubkey, 1, 1, (), "").hex(), pubkey, 1, 1, (), "", "0" * 128)
    with pytest.raises(SignatureError, match="curve"):
        ev.verify(event)


def test_text_that_utf8_cannot_hold_has_no_id() -> None:
    with pytest.raises(MalformedError, match="Unicode"):
        ev.event_id(SECRET.public, 1, 1, (), "\ud800")


def test_tags_are_read_by_name() -> None:
    event = ev.parse_event(signed(tags=[["e"], ["e", "1"], ["E", "3"], ["e", "2", "relay"]]))
    assert event.tag("e") == "1"
    assert list(event.tag_values("e")) == ["1", "2"]
    assert event.tag("x") is None


@pytest.mark.parametrize(
    ("kind", "replaceable", "ephemeral", "addressable"),
    [
        (0, True, False, False),
        (1, False, False, False),
        (3, True, False, False),
        (9_999, False, False, False),
        (10_000, True, False, False),
        (19_999, True, False, False),
        (20_000, False, True, False),
        (29_999, False, True, False),
        (30_000, False, False, True),
        (39_999, False, False, True),
        (40_000, False, False, False),
    ],
)
def test_ranges_of_kinds(kind: int, replaceable: bool, ephemeral: bool, addressable: bool) -> None:
    assert (ev.is_replaceable(kind), ev.is_ephemeral(kind), ev.is_addressable(kind)) == (
        replaceable,
        ephemeral,
        addressable,
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1700000000", 1_700_000_000), ("0", 0), ("", None), ("-1", None), ("1.5", None), ("٣", None), ("9" * 17, None)],
)
def test_expiration_is_read_only_when_legible(value: str, expected: int | None) -> None:
    assert ev.expiration(ev.parse_event(signed(tags=[["expiration", value]]))) == expected


def test_an_event_without_expiration_never_ends() -> None:
    assert ev.expiration(ev.parse_event(signed())) is None
