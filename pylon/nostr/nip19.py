"""NIP-19: keys and ids as text for people, `npub1…`, `nsec1…`, `nevent1…`.

Never used between programs: on the wire a key is 64 hexadecimal characters. No message here repeats its input,
because a secret key pasted into the wrong place is the commonest mistake there is.

Source: https://github.com/nostr-protocol/nips/blob/master/19.md
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pylon.errors import MalformedError, TooLargeError
from pylon.nostr import bech32
from pylon.nostr.event import MAX_KIND, is_hex64
from pylon.nostr.keys import SecretKey, check_public_key

_SPECIAL, _RELAY, _AUTHOR, _KIND = range(4)
_MAX_VALUE = 255


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`npub1…`: a public key, 64 hexadecimal characters."""

    public_key: str


@dataclass(frozen=True, slots=True)
class Note:
    """`note1…`: an event id, 64 hexadecimal characters."""

    event_id: str


@dataclass(frozen=True, slots=True)
class Profile:
    """`nprofile1…`: a public key, and relays where its owner may be found."""

    public_key: str
    relays: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventPointer:
    """`nevent1…`: an event id, relays where it may be found, and perhaps its author and kind."""

    event_id: str
    relays: tuple[str, ...] = ()
    author: str | None = None
    kind: int | None = None


@dataclass(frozen=True, slots=True)
class AddressPointer:
    """`naddr1…`: an addressable event by its `d` tag (`identifier`), author and kind."""

    identifier: str
    public_key: str
    kind: int
    relays: tuple[str, ...] = ()


type Entity = PublicKey | SecretKey | Note | Profile | EventPointer | AddressPointer


def encode(entity: Entity) -> str:
    """The text of a value.

    Raises `MalformedError` for a key or id that is not one, `TooLargeError` for a relay or identifier of more
    than 255 bytes and for text past 5,000 characters.
    """
    match entity:
        case PublicKey(public_key):
            return bech32.encode("npub", _key_bytes(public_key))
        case SecretKey():
            return bech32.encode("nsec", entity.secret_bytes)
        case Note(event_id):
            return bech32.encode("note", _id_bytes(event_id))
        case Profile(public_key, relays):
            return bech32.encode("nprofile", _pack([(_SPECIAL, _key_bytes(public_key)), *_relay_fields(relays)]))
        case EventPointer(event_id, relays, author, kind):
            fields = [(_SPECIAL, _id_bytes(event_id)), *_relay_fields(relays)]
            if author is not None:
                fields.append((_AUTHOR, _key_bytes(author)))
            if kind is not None:
                fields.append((_KIND, _kind_bytes(kind)))
            return bech32.encode("nevent", _pack(fields))
        case AddressPointer(identifier, public_key, kind, relays):
            fields = [
                (_SPECIAL, _text_bytes(identifier)),
                *_relay_fields(relays),
                (_AUTHOR, _key_bytes(public_key)),
                (_KIND, _kind_bytes(kind)),
            ]
            return bech32.encode("naddr", _pack(fields))


def decode(text: str) -> Entity:
    """The value of a text. Unknown fields are ignored, as NIP-19 asks.

    Raises `MalformedError` for a wrong checksum, prefix or field, `TooLargeError` past 5,000 characters.
    """
    prefix, data = bech32.decode(text)
    decoder = _DECODERS.get(prefix)
    if decoder is None:
        raise MalformedError("this is none of npub, nsec, note, nprofile, nevent and naddr")
    return decoder(data)


_NPUB = "npub1"
# So much of an npub may stand for it; with less a slip of the finger would name somebody.
LEAST_BEGINNING, NPUB_LENGTH = len(_NPUB) + 6, 63


def npub(public_key: str) -> str:
    """`npub1…` of 64 hexadecimal characters. Raises `MalformedError`."""
    return encode(PublicKey(public_key))


def nsec(secret: SecretKey) -> str:
    """`nsec1…`: the secret itself, to be shown to its owner alone."""
    return encode(secret)


def parse_public_key(text: str) -> str:
    """The 64 hexadecimal characters of an npub, an nprofile, or of themselves.

    Raises `MalformedError`, and `TooLargeError` past 5,000 characters.
    """
    text = text.strip()
    if text.lower().startswith(("nsec1", "ncryptsec1")):
        raise MalformedError(
            "this is a secret key, and a public key is needed here",
            hint="Give the npub instead. If others may have seen this text, make a new key.",
        )
    if is_hex64(text.lower()):
        return check_public_key(text.lower())
    match decode(text):
        case PublicKey(public_key) | Profile(public_key):
            return public_key
        case _:
            raise MalformedError("a public key is an npub, an nprofile or 64 hex characters")


def public_key_among(text: str, known: Iterable[str]) -> str:
    """The key of `known` whose npub begins so, with or without the dots of a table behind it; or any whole key.

    Raises as `parse_public_key` does, and `MalformedError` when none begins so, or several do.
    """
    beginning = text.strip().lower().removesuffix("…")
    if not (beginning.startswith(_NPUB) and LEAST_BEGINNING <= len(beginning) < NPUB_LENGTH):
        return parse_public_key(text)
    found = [key for key in known if npub(key).startswith(beginning)]
    if len(found) == 1:
        return found[0]
    raise MalformedError(f"{len(found) or 'no'} keys that are known here begin so")


def parse_secret_key(text: str) -> SecretKey:
    """The secret key of an nsec, or of 64 hexadecimal characters. Raises `MalformedError`, `TooLargeError`."""
    text = text.strip()
    if is_hex64(text.lower()):
        return SecretKey(bytes.fromhex(text))
    match decode(text):
        case SecretKey() as secret:
            return secret
        case PublicKey() | Profile():
            raise MalformedError(
                "this is a public key, and a secret key is needed here", hint="Give the nsec instead."
            )
        case _:
            raise MalformedError("a secret key is an nsec or 64 hex characters")


def _key_bytes(public_key: str) -> bytes:
    return bytes.fromhex(check_public_key(public_key))


def _id_bytes(event_id: str) -> bytes:
    if not is_hex64(event_id):
        raise MalformedError("an event id is 64 lower-case hex characters")
    return bytes.fromhex(event_id)


def _kind_bytes(kind: int) -> bytes:
    if not 0 <= kind <= MAX_KIND:
        raise MalformedError("an event kind is an integer from 0 to 65535")
    return kind.to_bytes(4)


def _text_bytes(text: str) -> bytes:
    try:
        value = text.encode()
    except UnicodeEncodeError as error:
        raise MalformedError("an identifier must be valid Unicode") from error
    if len(value) > _MAX_VALUE:
        raise TooLargeError(f"an identifier or relay address is at most {_MAX_VALUE} bytes in NIP-19")
    return value


def _relay_fields(relays: Iterable[str]) -> list[tuple[int, bytes]]:
    if not all(relay.isascii() for relay in relays):
        raise MalformedError("a relay address is ASCII in NIP-19")
    return [(_RELAY, _text_bytes(relay)) for relay in relays]


def _pack(fields: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes((name, len(value))) + value for name, value in fields)


def _unpack(data: bytes) -> dict[int, list[bytes]]:
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


def _first(fields: dict[int, list[bytes]], name: int) -> bytes:
    if name not in fields:
        raise MalformedError("a field that NIP-19 asks for is missing")
    return fields[name][0]


def _hex32(value: bytes) -> str:
    if len(value) != 32:
        raise MalformedError("a key or id is 32 bytes")
    return value.hex()


def _public_key(value: bytes) -> str:
    return check_public_key(_hex32(value))


def _text(value: bytes, encoding: str) -> str:
    try:
        return value.decode(encoding)
    except UnicodeDecodeError:
        raise MalformedError("a field of this text is not text") from None


def _relays(fields: dict[int, list[bytes]]) -> tuple[str, ...]:
    return tuple(_text(value, "ascii") for value in fields.get(_RELAY, ()))


def _kind(value: bytes) -> int:
    kind = int.from_bytes(value)
    if len(value) != 4 or kind > MAX_KIND:
        raise MalformedError("an event kind is an integer from 0 to 65535, in four bytes")
    return kind


def _profile(data: bytes) -> Profile:
    fields = _unpack(data)
    return Profile(_public_key(_first(fields, _SPECIAL)), _relays(fields))


def _event_pointer(data: bytes) -> EventPointer:
    fields = _unpack(data)
    return EventPointer(
        _hex32(_first(fields, _SPECIAL)),
        _relays(fields),
        _public_key(_first(fields, _AUTHOR)) if _AUTHOR in fields else None,
        _kind(_first(fields, _KIND)) if _KIND in fields else None,
    )


def _address_pointer(data: bytes) -> AddressPointer:
    fields = _unpack(data)
    return AddressPointer(
        _text(_first(fields, _SPECIAL), "utf-8"),
        _public_key(_first(fields, _AUTHOR)),
        _kind(_first(fields, _KIND)),
        _relays(fields),
    )


_DECODERS: dict[str, Callable[[bytes], Entity]] = {
    "npub": lambda data: PublicKey(_public_key(data)),
    "nsec": SecretKey,
    "note": lambda data: Note(_hex32(data)),
    "nprofile": _profile,
    "nevent": _event_pointer,
    "naddr": _address_pointer,
}
