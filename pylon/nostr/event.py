"""NIP-01 events: strict parsing of what the network sends, ids and signatures.

Every `Event` object has the right shape; `verify` checks its id and signature. The two steps are separate because
most events can be dropped (already seen, not for us) before the costly one.

Source: NIP-01 "Events and signatures".
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from pylon.errors import MalformedError, SignatureError
from pylon.nostr.crypto.point import point_of
from pylon.nostr.crypto.sha256 import sha256
from pylon.records import record

MAX_TAGS = 5_000
MAX_KIND = 65_535
# Larger integers change their value in JavaScript peers, so their ids would differ from ours.
MAX_TIMESTAMP = 2**53 - 1

_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_HEX128 = re.compile(r"[0-9a-f]{128}\Z")
_LISTS = frozenset((list,))

type Tag = tuple[str, ...]


@record
class EventDraft:
    """An event before it is signed (`keys.SecretKey.sign`). `created_at` is in Unix seconds; None stands for now."""

    kind: int
    content: str = ""
    tags: tuple[Tag, ...] = ()
    created_at: int | None = None


@record
class Event:
    """A NIP-01 event. `id` and `pubkey` are 64, `sig` 128 lower-case hexadecimal characters."""

    id: str
    pubkey: str
    created_at: int
    kind: int
    tags: tuple[Tag, ...]
    content: str
    sig: str

    def tag(self, name: str) -> str | None:
        """The first value of the first tag of that name."""
        for tag in self.tags:
            if len(tag) > 1 and tag[0] == name:
                return tag[1]
        return None

    def tag_values(self, name: str) -> Iterator[str]:
        """The first value of every tag of that name."""
        return (tag[1] for tag in self.tags if len(tag) > 1 and tag[0] == name)

    def to_dict(self) -> dict[str, Any]:
        """The event as NIP-01 writes it."""
        return {
            "id": self.id,
            "pubkey": self.pubkey,
            "created_at": self.created_at,
            "kind": self.kind,
            "tags": self.tags,
            "content": self.content,
            "sig": self.sig,
        }

    def to_json(self) -> bytes:
        """The event as one line of JSON."""
        return orjson.dumps(self.to_dict())


# The fewest bytes of an event's JSON besides its content: no tags, a kind of one digit, a ten-digit time.
AROUND_CONTENT_BYTES = len(Event("0" * 64, "0" * 64, 1_000_000_000, 1, (), "", "0" * 128).to_json())


def is_hex64(value: object) -> bool:
    """Whether this is an id or public key as NIP-01 writes them."""
    return isinstance(value, str) and _HEX64.match(value) is not None


def event_id(pubkey: str, created_at: int, kind: int, tags: Iterable[Tag], content: str) -> bytes:
    """The 32-byte id: sha256 of the canonical serialization.

    Raises `MalformedError` for text that UTF-8 cannot hold (lone surrogates).
    """
    try:
        serialized = orjson.dumps((0, pubkey, created_at, kind, tuple(tags), content))
    except TypeError as error:
        raise MalformedError("an event holds text that is not valid Unicode") from error
    return sha256(serialized)


def parse_event(raw: object) -> Event:
    """An event from a decoded JSON value.

    Unknown fields are dropped. Raises `MalformedError` when a field is absent, of another type, or out of range.
    """
    if not isinstance(raw, dict):
        raise MalformedError("an event must be a JSON object")
    id_, pubkey, sig = raw.get("id"), raw.get("pubkey"), raw.get("sig")
    created_at: Any = raw.get("created_at")
    kind: Any = raw.get("kind")
    content: Any = raw.get("content")
    if not (isinstance(id_, str) and _HEX64.match(id_)):
        raise MalformedError("event id must be 64 lower-case hex characters")
    if not (isinstance(pubkey, str) and _HEX64.match(pubkey)):
        raise MalformedError("event pubkey must be 64 lower-case hex characters")
    if not (isinstance(sig, str) and _HEX128.match(sig)):
        raise MalformedError("event sig must be 128 lower-case hex characters")
    lists = raw.get("tags")
    if not isinstance(lists, list):
        raise MalformedError("event tags must be a list")
    if not _LISTS.issuperset(map(type, lists)):
        raise MalformedError("an event tag must be a list of strings")
    tags = tuple(map(tuple, lists))
    check_fields(created_at, kind, tags, content)
    return Event(id_, pubkey, created_at, kind, tags, content, sig)


def check_fields(created_at: object, kind: object, tags: tuple[tuple[object, ...], ...], content: object) -> None:
    """Check the fields that an author chooses, tags as tuples, against NIP-01. Raises `MalformedError`."""
    # `type(…) is int`: JSON's true and false are ints to isinstance.
    if type(created_at) is not int or not 0 <= created_at <= MAX_TIMESTAMP:
        raise MalformedError("event created_at must be a Unix time in whole seconds")
    if type(kind) is not int or not 0 <= kind <= MAX_KIND:
        raise MalformedError("event kind must be an integer from 0 to 65535")
    if not isinstance(content, str):
        raise MalformedError("event content must be a string")
    if len(tags) > MAX_TAGS:
        raise MalformedError(f"an event may have at most {MAX_TAGS} tags")
    try:
        for tag in tags:
            if not tag:
                raise MalformedError("an event tag must hold at least its name")
            # One call for all of its values: every event of the network comes through here.
            "".join(tag)  # type: ignore[arg-type]
    except TypeError as error:
        raise MalformedError("an event tag must hold strings only") from error


def loads_event(data: bytes | str) -> Event:
    """An event from JSON text. Raises `MalformedError`."""
    try:
        raw = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise MalformedError("an event is not valid JSON") from error
    return parse_event(raw)


def verify(event: Event) -> None:
    """Check id and signature (NIP-01). Raises `SignatureError`, and `MalformedError` for text that is not Unicode."""
    digest = event_id(event.pubkey, event.created_at, event.kind, event.tags, event.content)
    if digest.hex() != event.id:
        raise SignatureError("event id is not the hash of the event")
    verify_signature(event.pubkey, digest, event.sig)


def verify_signature(pubkey: str, message: bytes, signature: str) -> None:
    """Check a BIP-340 signature; key and signature are hexadecimal. Raises `SignatureError`."""
    try:
        valid = point_of(pubkey).x_only.verify(bytes.fromhex(signature), message)
    except ValueError as error:
        raise SignatureError("event pubkey is not a point of the curve") from error
    if not valid:
        raise SignatureError("event signature does not hold")


def is_replaceable(kind: int) -> bool:
    """Whether only the newest event of a key and kind counts (NIP-01 "Kinds")."""
    return kind in (0, 3) or 10_000 <= kind < 20_000


def is_ephemeral(kind: int) -> bool:
    """Whether relays pass such events on without storing them (NIP-01 "Kinds")."""
    return 20_000 <= kind < 30_000


def is_addressable(kind: int) -> bool:
    """Whether only the newest event of a key, kind and `d` tag counts (NIP-01 "Kinds")."""
    return 30_000 <= kind < 40_000


def expiration(event: Event) -> int | None:
    """When the event expires, in Unix seconds (NIP-40); None when it does not expire, or its tag is not a time."""
    value = event.tag("expiration")
    return None if value is None else ends_at(value)


def ends_at(value: str) -> int | None:
    """The time in the value of an `expiration` tag (NIP-40), in Unix seconds; None when it is not a time."""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 16 else None
