from dataclasses import replace

import nostr_sdk
import pytest

from pylon.errors import MalformedError, SignatureError
from pylon.nostr.event import EventDraft, loads_event, verify
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip42 import AUTH_KIND, auth_draft, check_auth

SECRET = SecretKey(b"\3" * 32)
RELAY, CHALLENGE, NOW = "wss://relay.example", "nonce", 1_700_000_000


def test_the_answer_to_a_challenge_passes_at_the_relay_that_asked() -> None:
    event = SECRET.sign(auth_draft(RELAY, CHALLENGE, NOW))
    check_auth(event, CHALLENGE, RELAY, NOW)
    assert event.kind == 22242
    assert event.tags == (("relay", RELAY), ("challenge", CHALLENGE))
    assert nostr_sdk.Event.from_json(event.to_json().decode()).verify()


@pytest.mark.parametrize("url", ["wss://relay.example/", "WSS://Relay.Example:443", " wss://relay.example/#x "])
def test_other_spellings_of_the_relays_address_pass(url: str) -> None:
    check_auth(SECRET.sign(auth_draft(url, CHALLENGE, NOW)), CHALLENGE, RELAY, NOW)
    check_auth(SECRET.sign(auth_draft(RELAY, CHALLENGE, NOW)), CHALLENGE, url, NOW)


@pytest.mark.parametrize(
    "draft",
    [
        auth_draft("wss://other.example", CHALLENGE, NOW),
        auth_draft("wss://relay.example:444", CHALLENGE, NOW),
        auth_draft("ws://relay.example", CHALLENGE, NOW),
        auth_draft("wss://relay.example/room", CHALLENGE, NOW),
        auth_draft("wss://relay.example.evil", CHALLENGE, NOW),
        auth_draft("wss://relay.example@evil.example", CHALLENGE, NOW),
        auth_draft("", CHALLENGE, NOW),
        auth_draft(RELAY, "", NOW),
        auth_draft(RELAY, "nonce2", NOW),
        auth_draft(RELAY, CHALLENGE, NOW - 601),
        auth_draft(RELAY, CHALLENGE, NOW + 601),
        EventDraft(AUTH_KIND, created_at=NOW),
        EventDraft(AUTH_KIND, tags=(("challenge", CHALLENGE),), created_at=NOW),
        EventDraft(AUTH_KIND, tags=(("relay", RELAY),), created_at=NOW),
        EventDraft(AUTH_KIND, tags=(("relay",), ("challenge",)), created_at=NOW),
        replace(auth_draft(RELAY, CHALLENGE, NOW), kind=1),
    ],
)
def test_a_proof_for_something_else_is_refused(draft: EventDraft) -> None:
    with pytest.raises(MalformedError):
        check_auth(SECRET.sign(draft), CHALLENGE, RELAY, NOW)


def test_a_proof_in_another_keys_name_is_refused() -> None:
    event = SECRET.sign(auth_draft(RELAY, CHALLENGE, NOW))
    with pytest.raises(SignatureError):
        check_auth(replace(event, pubkey=SecretKey.generate().public), CHALLENGE, RELAY, NOW)
    with pytest.raises(SignatureError):
        check_auth(replace(event, sig="0" * 128), CHALLENGE, RELAY, NOW)


def test_clocks_may_differ_by_ten_minutes() -> None:
    for created_at in (NOW - 600, NOW + 600):
        check_auth(SECRET.sign(auth_draft(RELAY, CHALLENGE, created_at)), CHALLENGE, RELAY, NOW)


def test_a_proof_made_by_nostr_sdk_passes() -> None:
    keys = nostr_sdk.Keys.parse(SECRET.secret_bytes.hex())
    tags = [nostr_sdk.Tag.parse(["challenge", CHALLENGE]), nostr_sdk.Tag.parse(["relay", "wss://relay.example/"])]
    event = loads_event(nostr_sdk.EventBuilder(nostr_sdk.Kind(AUTH_KIND), "").tags(tags).finalize(keys).as_json())
    verify(event)
    check_auth(event, CHALLENGE, RELAY, event.created_at)
