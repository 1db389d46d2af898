"""What results and feedback have in common: both answer one request of one customer, in the request's form.

In the private form text and tags are sealed for the customer; in the open form they stand in the event. `e`, `p`, `v`
and `expiration` are outside in both. A customer that sealed its request as NIP-90 has it ("Encrypted Params") and did
not name `pylon/1` expects only the text to be sealed, and NIP-90's tags outside ("Encrypted Output").
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
# The tags that stay outside for a customer that knows NIP-90 alone: NIP-90's own, and the place of a partial answer.
_SHOWN = frozenset({"status", "amount", "wait", "offset"})


@record
class Address:
    """What an answer is for: the request's event id and its customer's public key, 64 hex characters each."""

    request: str
    customer: str
    private: bool = True
    # Unix seconds after which relays may forget the answer, or None.
    expiration: int | None = None


@dataclass(frozen=True, slots=True)
class Amount:
    """NIP-90's `amount` tag: the amount asked for, and perhaps an invoice for it."""

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
    """The event of an answer, to be signed.

    `echo` are tags that the private form of `pylon/1` leaves out (NIP-90's `i` and `request`). `plain`: the request
    does not say that its customer knows `pylon/1`. Raises `MalformedError` for an invalid address.
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
            # NIP-44 does not encrypt an empty text. The `encrypted` tag would make the customer try to decrypt.
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
    """For each name the first tag of at least `least[name]` elements, the name included; by default of two."""
    # One pass for all names: requests and results have half a dozen each.
    return {tag[0]: tag for tag in reversed(tags) if len(tag) >= least.get(tag[0], 2)}


def parse_amount(tag: Tag | None) -> Amount | None:
    """The amount in an `amount` tag. Raises `MalformedError`."""
    if tag is None:
        return None
    try:
        return Amount(parse_msat(tag[1]), tag[2] if len(tag) > 2 and tag[2] else None)
    except MoneyError as error:
        raise MalformedError(str(error)) from error


def check_same[T](made: T, read: T) -> None:
    """Checks that what our own reader reads from a draft is what it was made of. Raises `MalformedError`."""
    if made != read:
        raise MalformedError(f"this {type(made).__name__} holds a value that cannot be written on the wire")
