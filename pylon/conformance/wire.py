"""Requests as bare events, well-formed or not on purpose, and answers as they stand on the wire."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import orjson
import zstandard

from pylon.jobs.kinds import FEEDBACK, SCHEMA
from pylon.jobs.payload import open_payload
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft, Tag

INPUT: Tag = ("i", "", "text")
PROMPT = "How many legs has a spider?"
MAX_TOKENS = 16
ENOUGH: Tag = ("param", "max_tokens", str(MAX_TOKENS))


@dataclass(frozen=True, slots=True)
class Opened:
    """What an answer says: unsealed when it was sealed, the event's own otherwise."""

    text: str
    tags: tuple[Tag, ...]
    sealed: bool

    def find(self, name: str) -> Tag | None:
        """The first tag of that name."""
        return next((tag for tag in self.tags if tag[0] == name), None)


def opened(event: Event, keys: ConversationKeys, *, plain: bool = False) -> Opened:
    """`plain`: it answers a request that does not say `pylon/1`, so that its text alone is sealed. Raises `WireError`
    for a sealed answer that does not open."""
    if not is_sealed(event):
        return Opened(event.content, event.tags, sealed=False)
    if plain:
        text = keys.decrypt(event.pubkey, event.content).decode(errors="replace")
        return Opened(text, event.tags, sealed=True)
    payload = open_payload(keys, event.pubkey, event.content, event.tag("encoding"))
    return Opened(payload.text, payload.tags, sealed=True)


def is_sealed(event: Event) -> bool:
    """Whether it claims to be."""
    return any(tag[0] == "encrypted" for tag in event.tags)


def private(
    keys: ConversationKeys,
    provider: str,
    kind: int,
    tags: Iterable[Tag] = (INPUT, ENOUGH),
    *,
    text: str = PROMPT,
    expires_at: int,
    created_at: int,
    compressed: bool = False,
    sealed_for: str = "",
    bare: bool = False,
) -> EventDraft:
    """A request in the private form.

    `sealed_for` another key makes one that the provider cannot open; `bare` is NIP-90's own form, of a customer that
    knows no `pylon/1`: a list of tags is sealed.
    """
    plain = orjson.dumps(list(tags) if bare else {"text": text, "tags": list(tags)})
    if compressed:
        plain = base64.b64encode(zstandard.compress(plain))
    content = keys.encrypt(sealed_for or provider, plain)
    encoding: tuple[Tag, ...] = (("encoding", "zstd"),) if compressed else ()
    version: tuple[Tag, ...] = () if bare else (("v", SCHEMA),)
    outside = (("p", provider), ("encrypted",), *encoding, *version, ("expiration", str(expires_at)))
    return EventDraft(kind, content, outside, created_at)


def public(
    provider: str, kind: int, source: Tag, *, salt: str, expires_at: int, created_at: int, tags: Iterable[Tag] = ()
) -> EventDraft:
    """A request in the open form."""
    outside = (source, ENOUGH, *tags, ("p", provider), ("salt", salt), ("v", SCHEMA), ("expiration", str(expires_at)))
    return EventDraft(kind, "", outside, created_at)


def is_result(event: Event) -> bool:
    """Any answer but feedback and cancellations: its kind is for a clause to judge."""
    return 6_000 <= event.kind < FEEDBACK
