"""The private form: a text and its tags inside a NIP-44 payload, compressed when that is shorter.

    content = NIP-44( JSON {"tags": [...], "text": …} )                                 without an encoding tag
    content = NIP-44( base64( zstd( JSON {"tags": [...], "text": …} ) ) )               ["encoding", "zstd"]

Decompression is bounded before anything else is done with the bytes: a few kilobytes of zstd can say gigabytes.
"""

import base64
import binascii
from dataclasses import dataclass

import orjson
import zstandard

from pylon.errors import DecryptionError, MalformedError, TooLargeError
from pylon.nostr.event import Tag
from pylon.nostr.nip44 import ConversationKeys

MAX_DECOMPRESSED_BYTES = 4 * 1024 * 1024
MAX_RATIO = 100
# Below this zstd's frame and base64 cost more than they save.
MIN_COMPRESSED_BYTES = 256
# Level 3 is zstd's own default: above it, time grows much faster than prose shrinks.
_LEVEL = 3

ENCRYPTED: Tag = ("encrypted",)
ZSTD: Tag = ("encoding", "zstd")


@dataclass(frozen=True, slots=True)
class Payload:
    """What the private form hides."""

    text: str = ""
    tags: tuple[Tag, ...] = ()


def seal(keys: ConversationKeys, peer: str, payload: Payload) -> tuple[str, tuple[Tag, ...]]:
    """The event's content, and the tags that say outside how to read it.

    Raises `TooLargeError` for more than 4 MiB, `MalformedError` for text that is not Unicode.
    """
    try:
        plain = orjson.dumps({"text": payload.text, "tags": payload.tags})
    except TypeError as error:
        raise MalformedError("the text holds characters that are not valid Unicode") from error
    if len(plain) > MAX_DECOMPRESSED_BYTES:
        raise TooLargeError(f"a payload of {len(plain)} bytes is over the limit of {MAX_DECOMPRESSED_BYTES}")
    if len(plain) >= MIN_COMPRESSED_BYTES:
        compressed = zstandard.ZstdCompressor(level=_LEVEL).compress(plain)
        packed = base64.b64encode(compressed)
        # A text that shrinks more than a hundredfold would be taken for a bomb by the other side.
        if len(packed) < len(plain) <= MAX_RATIO * len(compressed):
            return keys.encrypt(peer, packed), (ENCRYPTED, ZSTD)
    return keys.encrypt(peer, plain), (ENCRYPTED,)


def open_payload(keys: ConversationKeys, peer: str, content: str, encoding: str | None) -> Payload:
    """The payload that `peer` sealed for us. `encoding` is the value of the event's `encoding` tag.

    Raises `DecryptionError` when it was not sealed for us, `TooLargeError` when it expands beyond 4 MiB or a
    hundredfold, `MalformedError` when what it holds is not a payload.
    """
    try:
        plain = keys.decrypt(peer, content)
    except MalformedError as error:
        raise DecryptionError(str(error)) from error
    if encoding == "zstd":
        plain = decompress(plain)
    elif encoding is not None:
        raise MalformedError(f"the encoding {encoding[:20]!r} is not known")
    try:
        raw = orjson.loads(plain)
    except orjson.JSONDecodeError as error:
        raise MalformedError("a private payload is not valid JSON") from error
    return _parse(raw)


def decompress(packed: bytes) -> bytes:
    """base64, then zstd, bounded. Raises `MalformedError`, `TooLargeError`."""
    try:
        compressed = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("a compressed payload is not base64") from error
    limit = min(MAX_DECOMPRESSED_BYTES, MAX_RATIO * len(compressed))
    # The window is what the decompressor allocates before it has seen a byte of content.
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_DECOMPRESSED_BYTES * 2)
    try:
        with decompressor.stream_reader(compressed) as reader:
            plain = reader.read(limit + 1)
            while 0 < len(plain) <= limit and (more := reader.read(limit + 1 - len(plain))):
                plain += more
    except zstandard.ZstdError as error:
        raise MalformedError("a compressed payload is not zstd") from error
    if len(plain) > limit:
        raise TooLargeError(f"a payload expands beyond {limit} bytes")
    return plain


def _parse(raw: object) -> Payload:
    if isinstance(raw, list):
        # NIP-90 "Encrypted Params": plain peers seal the bare list of tags.
        raw = {"tags": raw}
    if not isinstance(raw, dict):
        raise MalformedError("a private payload must be a JSON object")
    text, tags = raw.get("text", ""), raw.get("tags", [])
    if not isinstance(text, str) or not isinstance(tags, list) or len(tags) > 1_000:
        raise MalformedError("a private payload needs a text and a list of tags")
    for tag in tags:
        if not isinstance(tag, list) or not tag or not all(isinstance(value, str) for value in tag):
            raise MalformedError("a tag of a private payload must be a list of strings")
    return Payload(text, tuple(tuple(tag) for tag in tags))
