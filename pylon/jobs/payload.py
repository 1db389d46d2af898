"""The private form: a text and its tags encrypted with NIP-44, compressed when that is shorter.

    content = NIP-44( JSON {"tags": [...], "text": …} )                                 without an encoding tag
    content = NIP-44( base64( zstd( JSON {"tags": [...], "text": …} ) ) )               ["encoding", "zstd"]

Decompression is bounded before anything else is done with the bytes: a few kilobytes of zstd can say gigabytes.
"""

import binascii
import re
import threading
from itertools import chain
from typing import Any

import orjson
import pybase64
import zstandard

from pylon.errors import DecryptionError, MalformedError, TooLargeError
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Tag
from pylon.records import record

MAX_DECOMPRESSED_BYTES = 4 * 1024 * 1024
MAX_RATIO = 100
# The most JSON outside strings: brackets, commas and numbers, a few characters a tag. Each may become an object of
# forty times its size, so that four megabytes of empty lists would take well over a hundred.
MAX_STRUCTURE_BYTES = 64 * 1024
MAX_PAYLOAD_TAGS = 1_000
# Up to here a float that is whole is exactly the number that was written.
MAX_WHOLE = 2.0**53
# Shorter payloads are not compressed. zstd, in base64, saves 6 % on prose of 450 bytes and nothing on shorter prose,
# NIP-44's padding undoes that, and both sides would pay for it.
MIN_COMPRESSED_BYTES = 512
# Level 3 takes half as long again, and makes prose only a twentieth shorter.
_LEVEL = 1

# One JSON string, possibly cut off by the end of the data: so no match fails after a long way, and time is linear.
_STRING = re.compile(rb'"(?:[^"\\]++|\\(?s:.)?)*+"?')

_LISTS, _STRINGS = frozenset({list}), frozenset({str})

ENCRYPTED: Tag = ("encrypted",)
ZSTD: Tag = ("encoding", "zstd")


@record
class Payload:
    """The content of the private form."""

    text: str = ""
    tags: tuple[Tag, ...] = ()


def _decompressor() -> zstandard.ZstdDecompressor:
    # Bounds the window, which the decompressor allocates before it has seen a byte of content.
    return zstandard.ZstdDecompressor(max_window_size=MAX_DECOMPRESSED_BYTES * 2)


class _Zstd(threading.local):
    """A compressor and a decompressor that are reused: their tables are 300 kB, which cost more to make than to use.

    Each thread has its own, since answers are sealed in the database's thread.
    """

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = _decompressor()


_zstd = _Zstd()


def seal(keys: ConversationKeys, peer: str, payload: Payload) -> tuple[str, tuple[Tag, ...]]:
    """The event's content, and the outside tags that say how to read it. Raises what `pack` does."""
    packed, tags = pack(payload)
    return keys.encrypt(peer, packed), tags


def pack(payload: Payload) -> tuple[bytes, tuple[Tag, ...]]:
    """The bytes to encrypt, compressed where that is shorter, and the tags that say so.

    Raises `TooLargeError` for more than 4 MiB, `MalformedError` for text that is not Unicode.
    """
    try:
        plain = orjson.dumps({"text": payload.text, "tags": payload.tags})
    except TypeError as error:
        raise MalformedError("the text holds characters that are not valid Unicode") from error
    if len(plain) > MAX_DECOMPRESSED_BYTES:
        raise TooLargeError(
            f"this makes a payload of {len(plain):,} bytes, and at most {MAX_DECOMPRESSED_BYTES:,} are read",
            hint="Split the prompt into smaller pieces.",
        )
    if len(plain) >= MIN_COMPRESSED_BYTES:
        compressed = _zstd.compressor.compress(plain)
        packed = pybase64.b64encode(compressed)
        # A text that shrinks more than a hundredfold would be taken for a bomb by the other side.
        if len(packed) < len(plain) <= MAX_RATIO * len(compressed):
            return packed, (ENCRYPTED, ZSTD)
    return plain, (ENCRYPTED,)


def open_payload(keys: ConversationKeys, peer: str, content: str, encoding: str | None) -> Payload:
    """The payload that `peer` sealed for us. `encoding` is the value of the event's `encoding` tag, if it has one.

    Raises `DecryptionError` when it was not sealed for us, `TooLargeError` when it expands beyond 4 MiB or a
    hundredfold, and `MalformedError` when it does not hold a payload.
    """
    try:
        plain = keys.decrypt(peer, content)
    except MalformedError as error:
        raise DecryptionError(str(error)) from error
    if encoding == "zstd":
        plain = decompress(plain)
    elif encoding is not None:
        raise MalformedError(f"the encoding {encoding[:20]!r} is not known")
    return _parse(load_json(plain))


def load_json(data: bytes) -> Any:
    """Parses a stranger's JSON. Raises `MalformedError`, and `TooLargeError` for more structure than a job needs."""
    if len(data) > MAX_STRUCTURE_BYTES and _has_much_structure(data):
        raise TooLargeError("this JSON holds more lists and objects than any job needs")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise MalformedError("this is not valid JSON") from error


def _has_much_structure(data: bytes) -> bool:
    structure = end = 0
    for string in _STRING.finditer(data):
        structure += string.start() - end
        end = string.end()
        if structure > MAX_STRUCTURE_BYTES:
            return True
    return structure + len(data) - end > MAX_STRUCTURE_BYTES


def decompress(packed: bytes) -> bytes:
    """Undoes base64 and zstd, within bounds. Raises `MalformedError`, `TooLargeError`."""
    try:
        compressed = pybase64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("a compressed payload is not base64") from error
    limit = min(MAX_DECOMPRESSED_BYTES, MAX_RATIO * len(compressed))
    try:
        # Most frames say how large their content is; the others are read up to the limit.
        size = zstandard.frame_content_size(compressed)
        if 0 <= size <= limit:
            return _zstd.decompressor.decompress(compressed)
        # A decompressor of its own, whose memory for the frame's window is freed with it.
        with _decompressor().stream_reader(compressed) as reader:
            plain = reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise MalformedError("a compressed payload is not zstd") from error
    if len(plain) > limit:
        raise TooLargeError(f"a payload expands beyond {limit} bytes")
    return plain


def _parse(raw: object) -> Payload:
    if isinstance(raw, list):
        # NIP-90 "Encrypted Params": plain peers seal the bare list of tags. It may hold numbers, which a relay would
        # have refused in an event.
        raw = {"tags": [_with_numbers_as_text(tag) for tag in raw]}
    if not isinstance(raw, dict):
        raise MalformedError("a private payload must be a JSON object")
    text, tags = raw.get("text", ""), raw.get("tags", [])
    if not isinstance(text, str) or not isinstance(tags, list) or len(tags) > MAX_PAYLOAD_TAGS:
        raise MalformedError("a private payload needs a text and a list of tags")
    # Without a Python call for each value, since every payload passes here. Values from JSON have no subclasses.
    if not ({*map(type, tags)} <= _LISTS and all(tags) and {*map(type, chain.from_iterable(tags))} <= _STRINGS):
        raise MalformedError("a tag of a private payload must be a list of strings")
    return Payload(text, tuple(map(tuple, tags)))


def _with_numbers_as_text(tag: object) -> object:
    if not isinstance(tag, list):
        return tag
    # `type(…)`: JSON's true and false are ints as well.
    return [_number_as_text(value) if type(value) in (int, float) else value for value in tag]


def _number_as_text(value: float) -> str:
    # JSON has one kind of number, and some write 32 as 32.0.
    whole = int(value) if abs(value) <= MAX_WHOLE and value == int(value) else value
    return orjson.dumps(whole).decode()
