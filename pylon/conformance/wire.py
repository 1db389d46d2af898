"""Builds requests as bare events, some malformed on purpose, and reads answers as they are on the wire."""

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
class OpenedAnswer:
    """The text and tags of an answer, decrypted if it was `sealed`."""

    text: str
    tags: tuple[Tag, ...]
    sealed: bool

    def find(self, name: str) -> Tag | None:
        """The first tag of that name."""
        return next((tag for tag in self.tags if tag[0] == name), None)


def opened(event: Event, keys: ConversationKeys, *, plain: bool = False) -> OpenedAnswer:
    """Reads an answer. `plain`: to a request without `pylon/1`, whose answer is the encrypted text alone.

    Raises `WireError` if a sealed answer cannot be decrypted or read.
    """
    if not is_sealed(event):
        return OpenedAnswer(event.content, event.tags, sealed=False)
    if plain:
        text = keys.decrypt(event.pubkey, event.content).decode(errors="replace")
        return OpenedAnswer(text, event.tags, sealed=True)
    payload = open_payload(keys, event.pubkey, event.content, event.tag("encoding"))
    return OpenedAnswer(payload.text, payload.tags, sealed=True)


def is_sealed(event: Event) -> bool:
    """Whether the event is marked as encrypted."""
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

    `sealed_for` another key, the provider cannot decrypt it. `bare` is NIP-90's own encrypted form, of a customer
    that does not know `pylon/1`: its plaintext is a list of tags.
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
    """Whether this is an answer and not feedback. Whether its kind is right is judged by a clause."""
    return 6_000 <= event.kind < FEEDBACK
