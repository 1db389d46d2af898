from contextlib import suppress

import nostr_sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MalformedError, WireError
from pylon.nostr.event import EventDraft, Tag
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip65 import MAX_RELAYS, RELAY_LIST_KIND, RelayList, parse_relay_list
from pylon.relay_url import MAX_URL, normalize_relay_url
from tests.relay_lists import relay_list_draft

SECRET = SecretKey(b"\3" * 32)

urls = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["ws", "wss"]),
    st.from_regex(r"[a-z][a-z0-9]{0,9}(\.[a-z]{2,5}){0,2}", fullmatch=True) | st.sampled_from(["127.0.0.1", "[::1]"]),
    st.sampled_from(["", ":7777"]),
    st.sampled_from(["", "/room", "/?key=1", "/a/b/"]),
)


def parsed(*tags: Tag) -> RelayList:
    return parse_relay_list(SECRET.sign(EventDraft(RELAY_LIST_KIND, tags=tags)))


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("wss://relay.example", "wss://relay.example"),
        (" WSS://Relay.EXAMPLE/\n", "wss://relay.example"),
        ("wss://relay.example:443/", "wss://relay.example"),
        ("ws://relay.example:80", "ws://relay.example"),
        ("ws://relay.example:443", "ws://relay.example:443"),
        ("wss://relay.example:", "wss://relay.example"),
        ("wss://relay.example/Path/", "wss://relay.example/Path/"),
        ("wss://relay.example?a=B", "wss://relay.example/?a=B"),
        ("wss://relay.example/?a=B#frag", "wss://relay.example/?a=B"),
        ("wss://relay.example/?", "wss://relay.example"),
        ("ws://[0:0::1]:7777", "ws://[::1]:7777"),
        ("ws://[::1]", "ws://[::1]"),
        ("ws://127.0.0.1:7777", "ws://127.0.0.1:7777"),
        ("ws://localhost", "ws://localhost"),
        ("wss://under_score.example", "wss://under_score.example"),
        ("wss://xn--bcher-kva.example", "wss://xn--bcher-kva.example"),
    ],
)
def test_an_address_has_one_spelling(url: str, normal: str) -> None:
    assert normalize_relay_url(url) == normal
    assert normalize_relay_url(normal) == normal


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay.example",
        "//relay.example",
        "http://relay.example",
        "https://relay.example",
        "wss:relay.example",
        "wss:///path",
        "wss://",
        "wss://user@relay.example",
        "wss://user:secret@relay.example",
        "wss://@relay.example",
        "wss://relay example",
        "wss://relay\t.example",
        "wss://relay\r\n.example",
        "wss://relay.example/\x00",
        "wss://bücher.example",
        "wss://relay.example:0",
        "wss://relay.example:65536",
        "wss://relay.example:x",
        "wss://relay.example:+80",
        "wss://-relay.example",
        "wss://relay-.example",
        "wss://relay..example",
        "wss://.example",
        "wss://relay.example.",
        "wss://" + "a" * 64 + ".example",
        "wss://relay%2eexample",
        "wss://relay\\.example",
        "ws://[::1",
        "ws://::1]",
        "ws://[::1]x",
        "ws://[::1]x:80",
        "ws://[v1.a]",
        "ws://[fe80::1%25eth0]",
        "ws://[fe80::1%eth0]",
        "ws://[127.0.0.1]",
        "wss://relay.example/" + "a" * MAX_URL,
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(MalformedError):
        normalize_relay_url(url)


def test_no_message_repeats_a_password() -> None:
    with pytest.raises(MalformedError) as caught:
        normalize_relay_url("wss://user:secret@relay.example")
    assert "secret" not in str(caught.value)


@given(urls)
def test_normalizing_twice_changes_nothing(url: str) -> None:
    once = normalize_relay_url(url)
    assert normalize_relay_url(once) == once
    assert nostr_sdk.RelayUrl.parse(once)


@given(st.text(max_size=80) | st.text(max_size=60).map("wss://".__add__))
def test_any_text_raises_nothing_but_wire_errors(text: str) -> None:
    with suppress(WireError):
        assert normalize_relay_url(normalize_relay_url(text)) == normalize_relay_url(text)


@given(st.lists(urls, max_size=6), st.lists(urls, max_size=6))
def test_every_list_parses_back(read: list[str], write: list[str]) -> None:
    draft = relay_list_draft(RelayList(tuple(read), tuple(write)), 1_700_000_000)
    relays = parse_relay_list(SECRET.sign(draft))
    assert set(relays.read) == set(map(normalize_relay_url, read))
    assert set(relays.write) == set(map(normalize_relay_url, write))
    assert parse_relay_list(SECRET.sign(relay_list_draft(relays))) == relays


def test_markers_say_the_direction_and_none_says_both() -> None:
    relays = parsed(("r", "wss://a.example"), ("r", "wss://b.example", "read"), ("r", "wss://c.example/", "write"))
    assert relays == RelayList(
        read=("wss://a.example", "wss://b.example"), write=("wss://a.example", "wss://c.example")
    )


def test_nostr_sdk_reads_a_list_the_same() -> None:
    draft = relay_list_draft(
        RelayList(("wss://a.example", "wss://b.example"), ("wss://a.example", "wss://c.example"))
    )
    theirs = nostr_sdk.extract_relay_list(nostr_sdk.Event.from_json(SECRET.sign(draft).to_json().decode()))
    assert {str(url): metadata for url, metadata in theirs.items()} == {
        "wss://a.example": None,
        "wss://b.example": nostr_sdk.RelayMetadata.READ,
        "wss://c.example": nostr_sdk.RelayMetadata.WRITE,
    }


def test_what_cannot_be_used_is_left_out() -> None:
    relays = parsed(
        ("r",),
        ("p", SECRET.public),
        ("r", "http://a.example"),
        ("r", "wss://b.example", "sideways"),
        ("r", "wss://c.example", ""),
        ("r", "wss://c.example/", "read"),
    )
    assert relays == RelayList(("wss://c.example",), ("wss://c.example",))


def test_one_relay_marked_twice_serves_both_directions() -> None:
    relays = parsed(("r", "wss://a.example", "read"), ("r", "wss://a.example", "write"))
    assert relays == RelayList(("wss://a.example",), ("wss://a.example",))


def test_a_long_list_is_cut() -> None:
    relays = parsed(*(("r", f"wss://relay{number}.example") for number in range(100)))
    assert len(relays.read) == len(relays.write) == MAX_RELAYS
    assert relays.read[0] == "wss://relay0.example"


def test_another_kind_is_no_relay_list() -> None:
    with pytest.raises(MalformedError):
        parse_relay_list(SECRET.sign(EventDraft(3)))
