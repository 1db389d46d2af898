import nostr_sdk

from pylon.nostr.keys import SecretKey
from pylon.nostr.nip42 import auth_draft

SECRET = SecretKey(b"\3" * 32)
RELAY, CHALLENGE, NOW = "wss://relay.example", "nonce", 1_700_000_000


def test_the_answer_to_a_challenge_names_relay_and_challenge_and_holds_for_others() -> None:
    event = SECRET.sign(auth_draft(RELAY, CHALLENGE, NOW))
    assert (event.kind, event.created_at, event.content) == (22242, NOW, "")
    assert event.tags == (("relay", RELAY), ("challenge", CHALLENGE))
    assert nostr_sdk.Event.from_json(event.to_json().decode()).verify()
