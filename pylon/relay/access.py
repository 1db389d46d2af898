"""Who may publish to the relay and who may read from it, decided from plain values.

A refusal is the text sent in `OK`, `CLOSED` or `NOTICE`; it begins with one of NIP-01's machine-readable prefixes.
`keys` is always the set of public keys that the connection has authenticated as (NIP-42).
"""

from collections.abc import Container, Iterable

import orjson

from pylon.nostr.event import Event, expiration
from pylon.nostr.filter import Filter
from pylon.nostr.nip42 import AUTH_KIND
from pylon.relay.addresses import Addresses, authority
from pylon.relay.limits import RelayLimits

AUTH_WINDOW_S = 600
_REPOSTS = frozenset((6, 16))

AUTH_TO_READ = "auth-required: this relay answers only those who authenticate"
AUTH_TO_WRITE = "auth-required: this relay takes events only from those who authenticate"
# Sent to every client whose filters could match private events, whether or not any were withheld: sent only when some
# were, it would tell strangers which customer asks which provider, and when.
TO_READ_PRIVATE = (
    "auth-required: encrypted jobs are shown only to their author and to the key in their p tag; "
    "authenticate to be shown yours"
)


def is_private(event: Event) -> bool:
    """Whether only its author and the key in its `p` tag may read the event: it is a job request, result or feedback
    (NIP-90) with an `encrypted` tag.
    """
    return private_kind(event.kind) and "encrypted" in [tag[0] for tag in event.tags]


def private_kind(kind: int) -> bool:
    """Whether events of this kind can be private: NIP-90's kinds."""
    return 5_000 <= kind <= 7_000


def may_read(event: Event, keys: frozenset[str]) -> bool:
    """Whether a private event may be shown to a client that holds these keys."""
    return event.pubkey in keys or not keys.isdisjoint(event.tag_values("p"))


def may_match_private(filters: Iterable[Filter]) -> bool:
    """Whether any of the filters could match a private event."""
    return any(f.kinds is None or any(map(private_kind, f.kinds)) for f in filters)


def refuse_event(
    event: Event,
    *,
    size: int,
    now: float,
    limits: RelayLimits,
    keys: frozenset[str],
    require_auth: bool,
    writers: Container[str] | None,
) -> str | None:
    """Why this event is refused, or None: all checks except that of its signature, which costs the most.

    `size` is the event's JSON in bytes, `now` Unix seconds, `writers` the keys that may publish (None: all).
    """
    if size > limits.event_bytes:
        return f"invalid: the event has {size} bytes, the limit is {limits.event_bytes}"
    if event.kind == AUTH_KIND:
        return "invalid: kind 22242 is sent in an AUTH message and never published"
    if limits.kinds is not None and event.kind not in limits.kinds:
        return f"blocked: this relay does not take events of kind {event.kind}"
    if event.created_at > now + limits.ahead_s:
        return f"invalid: created_at is more than {limits.ahead_s} s ahead of this relay's clock"
    marks = {tag[0] for tag in event.tags}
    if "expiration" in marks:
        ends = expiration(event)
        if ends is None:
            # Its author expects that it will be deleted one day, and the relay would never do so.
            return "invalid: the expiration tag holds no Unix time"
        if ends <= now:
            return "invalid: the event has expired"
    if limits.tag_value_bytes is not None and _longest_tag(event) > limits.tag_value_bytes:
        return f"invalid: the value of a one-letter tag has more than {limits.tag_value_bytes} bytes"
    if require_auth and not keys:
        return AUTH_TO_WRITE
    if writers is not None and event.pubkey not in writers:
        return "restricted: this relay takes events only from the keys on its list"
    if "-" in marks and event.pubkey not in keys:
        # NIP-70: the text of the first refusal is the NIP's own.
        if not keys:
            return "auth-required: this event may only be published by its author"
        return "restricted: this event may only be published by its author"
    if event.kind in _REPOSTS and _holds_protected(event.content):
        return "blocked: the repost holds a protected event"
    return None


def refuse_reader(keys: frozenset[str], *, require_auth: bool, readers: Container[str] | None) -> str | None:
    """Why a client with these keys may read nothing, or None. `readers` are the keys that may read (None: all)."""
    if not keys and (require_auth or readers is not None):
        return AUTH_TO_READ
    if readers is not None and not any(key in readers for key in keys):
        return "restricted: this relay answers only the keys on its list"
    return None


def _longest_tag(event: Event) -> int:
    return max((len(tag[1].encode()) for tag in event.tags if len(tag) > 1 and len(tag[0]) == 1), default=0)


def _holds_protected(content: str) -> bool:
    """Whether the content of a repost is an event with NIP-70's `-` tag."""
    # Parsed and not searched: JSON can spell the tag in other ways (`"\u002d"`).
    try:
        inner = orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    tags = inner.get("tags") if isinstance(inner, dict) else None
    return isinstance(tags, list) and any(isinstance(tag, list) and tag[:1] == ["-"] for tag in tags)


def refuse_auth(event: Event, *, challenge: str, addresses: Addresses, now: float) -> str | None:
    """Why this answer to an authentication challenge is refused (NIP-42), or None. The signature is checked
    elsewhere.

    `challenge` is the one sent on this connection, `now` is Unix seconds.
    """
    if event.kind != AUTH_KIND:
        return "invalid: an AUTH message holds an event of kind 22242"
    if abs(event.created_at - now) > AUTH_WINDOW_S:
        return f"invalid: created_at is more than {AUTH_WINDOW_S} s away from this relay's clock"
    if event.tag("challenge") != challenge:
        return "invalid: the challenge is not the one sent on this connection"
    named = authority(event.tag("relay") or "")
    if named is None:
        return "invalid: the relay tag holds no address of a relay"
    if not addresses.holds(named):
        return (
            f"invalid: this relay does not know {named[0]}, port {named[1]}, as its own address; where that leads to"
            " it (a proxy, a port passed on), whoever runs it names it in public_urls of [relay]"
        )
    return None
