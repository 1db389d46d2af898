"""What results and feedback have in common: both answer one request of one customer, in the request's form.

In the private form text and tags are sealed for the customer; in the open form they stand in the event. `e`,
`p`, `v` and `expiration` stand outside in both. Whoever sealed a request as NIP-90 does ("Encrypted Params"), without
a word of `pylon/1`, expects the text alone to be sealed, and NIP-90's tags outside ("Encrypted Output").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pylon.errors import MalformedError, MoneyError
from pylon.jobs.kinds import SCHEMA
from pylon.jobs.payload import ENCRYPTED, Payload, open_payload, seal
from pylon.money.msat import Msat, parse_msat
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft, Tag, ends_at, is_hex64
from pylon.records import record

_OUTSIDE = {"encrypted": 1}
_NONE: Tag = ("", "")
# What a customer that knows NIP-90 alone looks for outside, and what says where a piece of an answer belongs.
_SHOWN = frozenset({"status", "amount", "wait", "offset"})


@record
class Address:
    """Whom an answer is for: the request's event id and its customer's public key."""

    request: str
    customer: str
    private: bool = True
    # Unix seconds after which relays may forget the answer, or None.
    expiration: int | None = None


@dataclass(frozen=True, slots=True)
class Amount:
    """NIP-90's `amount` tag: what is asked, and perhaps the invoice to pay it."""

    msat: Msat
    bolt11: str | None = None

    def to_tag(self) -> Tag:
        return ("amount", str(self.msat), *((self.bolt11,) if self.bolt11 else ()))


def draft(
    kind: int,
    address: Address,
    payload: Payload,
    keys: ConversationKeys,
    *,
    echo: tuple[Tag, ...],
    created_at: int,
    plain: bool = False,
) -> EventDraft:
    """The event of an answer. `echo` are tags that the private form of `pylon/1` does not carry (NIP-90's `i`,
    `request`). `plain`: the request does not say that its customer knows `pylon/1`.

    Raises `MalformedError` for an address that no reader would take.
    """
    if not is_hex64(address.request) or not is_hex64(address.customer):
        raise MalformedError("an answer is addressed by two times 64 lower-case hex characters")
    if address.expiration is not None and not 0 <= address.expiration < 10**16:
        raise MalformedError("the expiration of an answer is not a Unix time")
    outside: tuple[Tag, ...] = (("e", address.request), ("p", address.customer))
    tail: tuple[Tag, ...] = (("v", SCHEMA),)
    if address.expiration is not None:
        tail = (*tail, ("expiration", str(address.expiration)))
    if address.private and plain:
        shown = (*(tag for tag in payload.tags if tag[0] in _SHOWN), *echo, *tail)
        if not payload.text:
            # NIP-44 seals no empty text, and whoever saw the tag would try to open it.
            return EventDraft(kind, "", (*outside, *shown), created_at)
        content = keys.encrypt(address.customer, payload.text.encode())
        return EventDraft(kind, content, (*outside, ENCRYPTED, *shown), created_at)
    if address.private:
        content, sealed = seal(keys, address.customer, payload)
        return EventDraft(kind, content, (*outside, *sealed, *tail), created_at)
    return EventDraft(kind, payload.text, (*outside, *payload.tags, *echo, *tail), created_at)


def read(event: Event, keys: ConversationKeys) -> tuple[Address, Payload]:
    """Address and payload of a verified result or feedback for us.

    A `7000` of a plain peer may name several events; the first `e` counts. Raises `MalformedError`,
    `DecryptionError`, `TooLargeError`.
    """
    outside = first_tags(event.tags, _OUTSIDE)
    request, customer = outside.get("e", _NONE)[1], outside.get("p", _NONE)[1]
    if not is_hex64(request):
        raise MalformedError("an answer must name the request's event id in its e tag")
    if not is_hex64(customer):
        raise MalformedError("an answer must name its customer in its p tag")
    private = "encrypted" in outside
    if private:
        encoding = outside.get("encoding")
        payload = open_payload(keys, event.pubkey, event.content, None if encoding is None else encoding[1])
    else:
        payload = Payload(event.content, event.tags)
    ends = outside.get("expiration")
    return Address(request, customer, private, None if ends is None else ends_at(ends[1])), payload


def first_tags(tags: Sequence[Tag], least: Mapping[str, int]) -> dict[str, Tag]:
    """By name the first tag with at least so many values, its name counted; two where `least` says nothing."""
    # One walk for all names: a request and a result ask for half a dozen each.
    return {tag[0]: tag for tag in reversed(tags) if len(tag) >= least.get(tag[0], 2)}


def parse_amount(tag: Tag | None) -> Amount | None:
    """An `amount` tag. Raises `MalformedError`."""
    if tag is None:
        return None
    try:
        return Amount(parse_msat(tag[1]), tag[2] if len(tag) > 2 and tag[2] else None)
    except MoneyError as error:
        raise MalformedError(str(error)) from error


def check_same[T](made: T, read: T) -> None:
    """What a draft says must be what its reader will find. Raises `MalformedError`."""
    if made != read:
        raise MalformedError(f"this {type(made).__name__} holds a value that cannot be written on the wire")
