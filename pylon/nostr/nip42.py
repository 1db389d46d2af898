"""NIP-42: a client proves to a relay which key it holds, by signing the relay's challenge.

The relay's side is `pylon/relay/access.py`. Source: https://github.com/nostr-protocol/nips/blob/master/42.md
"""

from pylon.nostr.event import EventDraft

AUTH_KIND = 22242


def auth_draft(relay_url: str, challenge: str, created_at: int) -> EventDraft:
    """The event that a client signs to answer a challenge. `created_at` is in Unix seconds."""
    return EventDraft(AUTH_KIND, tags=(("relay", relay_url), ("challenge", challenge)), created_at=created_at)
