"""The fields inside `nprofile1…`, `nevent1…` and `naddr1…`: a byte for the type, one for the length, the value.

Source: https://github.com/nostr-protocol/nips/blob/master/19.md "Shareable identifiers with extra metadata"
"""

from collections.abc import Iterable

from pylon.errors import MalformedError, TooLargeError
from pylon.nostr.event import MAX_KIND, is_hex64
from pylon.nostr.keys import check_public_key

SPECIAL, RELAY, AUTHOR, KIND = range(4)
_MAX_VALUE = 255


def key_bytes(public_key: str) -> bytes:
    """The 32 bytes of a public key. Raises `MalformedError`."""
    return bytes.fromhex(check_public_key(public_key))


def id_bytes(event_id: str) -> bytes:
    """The 32 bytes of an event id. Raises `MalformedError`."""
    if not is_hex64(event_id):
        raise MalformedError("an event id is 64 lower-case hex characters")
    return bytes.fromhex(event_id)


def kind_bytes(kind: int) -> bytes:
    """An event kind in four bytes. Raises `MalformedError`."""
    if not 0 <= kind <= MAX_KIND:
        raise MalformedError("an event kind is an integer from 0 to 65535")
    return kind.to_bytes(4)


def text_bytes(text: str) -> bytes:
    """A text in UTF-8. Raises `MalformedError`, and `TooLargeError` for more than 255 bytes."""
    try:
        value = text.encode()
    except UnicodeEncodeError as error:
        raise MalformedError("an identifier must be valid Unicode") from error
    if len(value) > _MAX_VALUE:
        raise TooLargeError(f"an identifier or relay address is at most {_MAX_VALUE} bytes in NIP-19")
    return value


def relay_fields(relays: Iterable[str]) -> list[tuple[int, bytes]]:
    """A field for each relay. Raises as `text_bytes` does."""
    if not all(relay.isascii() for relay in relays):
        raise MalformedError("a relay address is ASCII in NIP-19")
    return [(RELAY, text_bytes(relay)) for relay in relays]


def pack(fields: Iterable[tuple[int, bytes]]) -> bytes:
    """The fields, each of at most 255 bytes, one after another."""
    return b"".join(bytes((name, len(value))) + value for name, value in fields)


def unpack(data: bytes) -> dict[int, list[bytes]]:
    """The values of each field, in order. Raises `MalformedError`."""
    fields: dict[int, list[bytes]] = {}
    position = 0
    while position < len(data):
        name, *length = data[position : position + 2]
        end = position + 2 + (length[0] if length else 0)
        if not length or end > len(data):
            raise MalformedError("a field of this text is cut short")
        fields.setdefault(name, []).append(data[position + 2 : end])
        position = end
    return fields


def first(fields: dict[int, list[bytes]], name: int) -> bytes:
    """The first value of a required field. Raises `MalformedError` when it is missing."""
    if name not in fields:
        raise MalformedError("a field that NIP-19 asks for is missing")
    return fields[name][0]


def hex32(value: bytes) -> str:
    """32 bytes as hexadecimal characters. Raises `MalformedError`."""
    if len(value) != 32:
        raise MalformedError("a key or id is 32 bytes")
    return value.hex()


def public_key_of(value: bytes) -> str:
    """A public key in 32 bytes. Raises `MalformedError`."""
    return check_public_key(hex32(value))


def text_of(value: bytes, encoding: str) -> str:
    """A text in this encoding. Raises `MalformedError`."""
    try:
        return value.decode(encoding)
    except UnicodeDecodeError:
        raise MalformedError("a field of this text is not text") from None


def relays_of(fields: dict[int, list[bytes]]) -> tuple[str, ...]:
    """The relays among the fields. Raises `MalformedError`."""
    return tuple(text_of(value, "ascii") for value in fields.get(RELAY, ()))


def kind_of(value: bytes) -> int:
    """An event kind in four bytes. Raises `MalformedError`."""
    kind = int.from_bytes(value)
    if len(value) != 4 or kind > MAX_KIND:
        raise MalformedError("an event kind is an integer from 0 to 65535, in four bytes")
    return kind
