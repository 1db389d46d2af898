"""NIP-19: keys and ids as text for people, and in the JSON of commands: `npub1…`, `nsec1…`, `nevent1…`.

Events never hold them: there a key is 64 hexadecimal characters. No message here repeats its input, because a secret
key pasted into the wrong place is the commonest mistake there is.

Source: https://github.com/nostr-protocol/nips/blob/master/19.md
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from pylon.errors import MalformedError
from pylon.nostr.bech32 import checksum as bech32
from pylon.nostr.bech32.nip19_fields import (
    AUTHOR,
    KIND,
    SPECIAL,
    first,
    hex32,
    id_bytes,
    key_bytes,
    kind_bytes,
    kind_of,
    pack,
    public_key_of,
    relay_fields,
    relays_of,
    text_bytes,
    text_of,
    unpack,
)
from pylon.nostr.event import is_hex64
from pylon.nostr.keys import SecretKey, check_public_key


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
    """The text of a key, id or pointer.

    Raises `MalformedError` for a key or id that is not one, `TooLargeError` for a relay or identifier of more
    than 255 bytes and for text past 5,000 characters.
    """
    match entity:
        case PublicKey(public_key):
            return bech32.encode("npub", key_bytes(public_key))
        case SecretKey():
            return bech32.encode("nsec", entity.secret_bytes)
        case Note(event_id):
            return bech32.encode("note", id_bytes(event_id))
        case Profile(public_key, relays):
            return bech32.encode("nprofile", pack([(SPECIAL, key_bytes(public_key)), *relay_fields(relays)]))
        case EventPointer(event_id, relays, author, kind):
            fields = [(SPECIAL, id_bytes(event_id)), *relay_fields(relays)]
            if author is not None:
                fields.append((AUTHOR, key_bytes(author)))
            if kind is not None:
                fields.append((KIND, kind_bytes(kind)))
            return bech32.encode("nevent", pack(fields))
        case AddressPointer(identifier, public_key, kind, relays):
            fields = [
                (SPECIAL, text_bytes(identifier)),
                *relay_fields(relays),
                (AUTHOR, key_bytes(public_key)),
                (KIND, kind_bytes(kind)),
            ]
            return bech32.encode("naddr", pack(fields))


def decode(text: str) -> Entity:
    """The key, id or pointer that a text stands for. Unknown fields are ignored, as NIP-19 asks.

    Raises `MalformedError` for a wrong checksum, prefix or field, `TooLargeError` past 5,000 characters.
    """
    prefix, data = bech32.decode(text)
    decoder = _DECODERS.get(prefix)
    if decoder is None:
        raise MalformedError("this is not an npub, nsec, note, nprofile, nevent or naddr")
    return decoder(data)


_NPUB = "npub1"
# The fewest characters of an npub that may stand for it: with fewer a typing error could name somebody else.
LEAST_BEGINNING, NPUB_LENGTH = len(_NPUB) + 6, 63


# A hundred thousand answers come from a few thousand providers, and every one is shown with its provider's key. It is
# more than all providers that a customer knows of: a list of more than are kept would find none of them here.
_KNOWN = 32_768


@lru_cache(maxsize=_KNOWN)
def npub(public_key: str) -> str:
    """`npub1…` of 64 hexadecimal characters. Raises `MalformedError`."""
    return encode(PublicKey(public_key))


def shown_key(key: str) -> str:
    """The npub of a public key of 64 hexadecimal characters; any other text, as the name of a program, as it is."""
    try:
        return npub(key)
    except MalformedError:
        # Half of all such hexadecimal numbers are no key, and a program may name its models as it likes.
        return key


def nsec(secret: SecretKey) -> str:
    """`nsec1…`: the secret itself, to be shown to its owner alone."""
    return encode(secret)


def parse_public_key(text: str) -> str:
    """The public key, 64 hexadecimal characters, in an npub, an nprofile or such characters.

    Raises `MalformedError`, and `TooLargeError` past 5,000 characters.
    """
    text = text.strip()
    if text.lower().startswith(("nsec1", "ncryptsec1")):
        raise MalformedError(
            "this is a secret key, but a public key is needed here",
            hint="Give the npub instead. If others may have seen this secret key, make a new key.",
        )
    if is_hex64(text.lower()):
        return check_public_key(text.lower())
    match decode(text):
        case PublicKey(public_key) | Profile(public_key):
            return public_key
        case _:
            raise MalformedError("a public key must be an npub, an nprofile or 64 hex digits")


def public_key_among(text: str, known: Iterable[str]) -> str:
    """The key among `known` whose npub begins with this text, which may end in `…` as in a table; or any whole key.

    Raises as `parse_public_key` does, and `MalformedError` when no npub, or more than one, begins with it.
    """
    beginning = text.strip().lower().removesuffix("…")
    if not (beginning.startswith(_NPUB) and len(beginning) < NPUB_LENGTH):
        return parse_public_key(text)
    if len(beginning) < LEAST_BEGINNING:
        raise MalformedError(f"give at least the first {LEAST_BEGINNING} characters of an npub")
    found = [key for key in known if npub(key).startswith(beginning)]
    if len(found) == 1:
        return found[0]
    raise MalformedError(f"{len(found) or 'no'} known keys begin like that")


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
                "this is a public key, but a secret key is needed here", hint="Give the nsec instead."
            )
        case _:
            raise MalformedError("a secret key must be an nsec or 64 hex digits")


def _profile(data: bytes) -> Profile:
    fields = unpack(data)
    return Profile(public_key_of(first(fields, SPECIAL)), relays_of(fields))


def _event_pointer(data: bytes) -> EventPointer:
    fields = unpack(data)
    return EventPointer(
        hex32(first(fields, SPECIAL)),
        relays_of(fields),
        public_key_of(first(fields, AUTHOR)) if AUTHOR in fields else None,
        kind_of(first(fields, KIND)) if KIND in fields else None,
    )


def _address_pointer(data: bytes) -> AddressPointer:
    fields = unpack(data)
    return AddressPointer(
        text_of(first(fields, SPECIAL), "utf-8"),
        public_key_of(first(fields, AUTHOR)),
        kind_of(first(fields, KIND)),
        relays_of(fields),
    )


_DECODERS: dict[str, Callable[[bytes], Entity]] = {
    "npub": lambda data: PublicKey(public_key_of(data)),
    "nsec": SecretKey,
    "note": lambda data: Note(hex32(data)),
    "nprofile": _profile,
    "nevent": _event_pointer,
    "naddr": _address_pointer,
}
