"""NIP-42: a client proves to a relay which key it holds, by signing the relay's challenge.

Source: https://github.com/nostr-protocol/nips/blob/master/42.md
"""

from pylon.errors import MalformedError
from pylon.nostr.event import Event, EventDraft, verify
from pylon.nostr.nip65 import normalize_relay_url

AUTH_KIND = 22242
# "within ~10 minutes of the current time".
MAX_AGE_SECONDS = 600


def auth_draft(relay_url: str, challenge: str, created_at: int) -> EventDraft:
    """What a client signs to answer a challenge. `created_at` is Unix seconds."""
    return EventDraft(AUTH_KIND, tags=(("relay", relay_url), ("challenge", challenge)), created_at=created_at)


def check_auth(event: Event, challenge: str, relay_url: str, now: float) -> None:
    """Passes when the event proves its `pubkey` to this relay: the last challenge it sent, its own address, signed.

    Raises `MalformedError` for another kind, challenge, relay or time, `SignatureError` when the proof does not
    hold. `now` is Unix seconds.
    """
    if event.kind != AUTH_KIND:
        raise MalformedError(f"authentication takes an event of kind {AUTH_KIND}")
    if abs(event.created_at - now) > MAX_AGE_SECONDS:
        raise MalformedError("the authentication event's created_at is more than ten minutes away from now")
    if event.tag("challenge") != challenge:
        raise MalformedError("the authentication event answers another challenge")
    # Without this, a hostile relay could hand on a challenge of ours and come in under its client's name.
    if normalize_relay_url(event.tag("relay") or "") != normalize_relay_url(relay_url):
        raise MalformedError("the authentication event is meant for another relay")
    verify(event)
