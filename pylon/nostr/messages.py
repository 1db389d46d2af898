"""The messages between clients and relays (NIP-01, NIP-42, NIP-45): one type for each, to and from websocket frames.

Parsing is strict on the fields that we act on, and decodes each frame once. A message of any other type is `Unknown`:
new types appear, and that is no reason to hang up.
"""

from dataclasses import dataclass
from typing import Any

import orjson
from websockets.typing import BytesLike

from pylon.errors import MalformedError
from pylon.nostr.event import Event, parse_event
from pylon.nostr.filter import Filter, parse_filter
from pylon.records import record
from pylon.text import clean_line

MAX_SUBSCRIPTION_ID = 64
MAX_FILTERS = 20
MAX_CHALLENGE = 1_024
# JSON is parsed in one step while everything else waits. Text takes next to no time, but two megabytes of empty lists
# half a second. These characters count the values; an event with as many tags as are allowed has fewer, and so has a
# message of the size of most, which is not counted.
MAX_MARKS, _UNCOUNTED_BYTES = 50_000, 64 * 1024
_MARKS = b"[{,:"


@record
class EventMessage:
    """`["EVENT", …]`: a client's publication, then `subscription` is empty; or a relay's answer to a REQ."""

    event: Event
    subscription: str = ""


@dataclass(frozen=True, slots=True)
class Req:
    """`["REQ", id, filter…]` from a client."""

    subscription: str
    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """`["COUNT", id, filter…]` from a client (NIP-45)."""

    subscription: str
    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class CountResult:
    """`["COUNT", id, {"count": n}]` from a relay (NIP-45)."""

    subscription: str
    count: int


@dataclass(frozen=True, slots=True)
class Close:
    """`["CLOSE", id]` from a client."""

    subscription: str


@dataclass(frozen=True, slots=True)
class AuthChallenge:
    """`["AUTH", challenge]` from a relay (NIP-42)."""

    challenge: str


@dataclass(frozen=True, slots=True)
class Auth:
    """`["AUTH", event]` from a client: a signed kind 22242 (NIP-42)."""

    event: Event


@record
class Ok:
    """`["OK", event id, accepted, message]` from a relay. The message starts with a machine-readable word."""

    event_id: str
    accepted: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Eose:
    """`["EOSE", id]` from a relay: all stored events have been sent, and live ones follow."""

    subscription: str


@dataclass(frozen=True, slots=True)
class Closed:
    """`["CLOSED", id, message]` from a relay: it ended the subscription."""

    subscription: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """`["NOTICE", text]` from a relay: text for people."""

    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A well-formed message of a type that is not known here."""

    kind: str


type ClientMessage = EventMessage | Req | Count | Close | Auth | Unknown
type RelayMessage = EventMessage | Ok | Eose | Closed | Notice | AuthChallenge | CountResult | Unknown


def encode(message: ClientMessage | RelayMessage) -> bytes:
    """The text of the websocket frame. Raises `MalformedError` for text that UTF-8 cannot hold (lone surrogates)."""
    try:
        # Nearly all messages are of these two types.
        if type(message) is Ok:
            return orjson.dumps(("OK", message.event_id, message.accepted, message.message))
        if type(message) is EventMessage and not message.subscription:
            return b'["EVENT",%b]' % message.event.to_json()
        return orjson.dumps(_to_list(message))
    except TypeError as error:
        raise MalformedError("a message holds text that is not valid Unicode") from error


def _to_list(message: ClientMessage | RelayMessage) -> list[Any]:
    match message:
        case EventMessage(event, subscription):
            return ["EVENT", subscription, event.to_dict()]
        case Req(subscription, filters):
            return ["REQ", subscription, *(f.to_dict() for f in filters)]
        case Count(subscription, filters):
            return ["COUNT", subscription, *(f.to_dict() for f in filters)]
        case CountResult(subscription, count):
            return ["COUNT", subscription, {"count": count}]
        case Close(subscription):
            return ["CLOSE", subscription]
        case AuthChallenge(challenge):
            return ["AUTH", challenge]
        case Auth(event):
            return ["AUTH", event.to_dict()]
        case Ok(event_id, accepted, text):
            return ["OK", event_id, accepted, text]
        case Eose(subscription):
            return ["EOSE", subscription]
        case Closed(subscription, text):
            return ["CLOSED", subscription, text]
        case Notice(text):
            return ["NOTICE", text]
        case Unknown(kind):
            return [kind]


def parse_client_message(frame: str | BytesLike) -> ClientMessage:
    """The message in a frame from a client. Raises `MalformedError`."""
    kind, items = _split(frame)
    match kind:
        case "EVENT":
            return EventMessage(parse_event(_only(kind, items)))
        case "REQ" | "COUNT":
            if len(items) < 2:
                raise MalformedError(f"{kind} needs a subscription id and at least one filter")
            if len(items) > 1 + MAX_FILTERS:
                raise MalformedError(f"{kind} may hold at most {MAX_FILTERS} filters")
            filters = tuple(parse_filter(item) for item in items[1:])
            subscription = _subscription(items[0])
            return Req(subscription, filters) if kind == "REQ" else Count(subscription, filters)
        case "CLOSE":
            return Close(_subscription(_only(kind, items)))
        case "AUTH":
            return Auth(parse_event(_only(kind, items)))
        case _:
            return Unknown(kind[:40])


def parse_relay_message(frame: str | BytesLike) -> RelayMessage:
    """The message in a frame from a relay. Raises `MalformedError`."""
    kind, items = _split(frame)
    if kind == "EVENT" and len(items) > 1:
        return EventMessage(parse_event(items[1]), _subscription(items[0]))
    if kind == "OK" and len(items) > 1 and type(items[0]) is str and type(items[1]) is bool:
        return Ok(items[0], items[1], _text(items[2:]))
    match kind, items:
        case "EOSE", [subscription, *_]:
            return Eose(_subscription(subscription))
        case "CLOSED", [subscription, *rest]:
            return Closed(_subscription(subscription), _text(rest))
        case "NOTICE", rest:
            return Notice(_text(rest))
        # The challenge is signed with our key and sent back, and has no reason to be long.
        case "AUTH", [str(challenge), *_] if len(challenge) <= MAX_CHALLENGE:
            return AuthChallenge(challenge)
        # `type(…) is int`: JSON's true and false match int().
        case "COUNT", [subscription, {"count": count}, *_] if type(count) is int and count >= 0:
            return CountResult(_subscription(subscription), count)
        case (("EVENT" | "OK" | "EOSE" | "CLOSED" | "AUTH" | "COUNT"), _):
            raise MalformedError(f"a relay's {kind} message has the wrong fields")
        case _:
            return Unknown(kind[:40])


def _split(frame: str | BytesLike) -> tuple[str, list[Any]]:
    if len(frame) > _UNCOUNTED_BYTES:
        _check_marks(frame.encode("utf-8", "replace") if isinstance(frame, str) else bytes(frame))
    try:
        raw = orjson.loads(frame)
    except orjson.JSONDecodeError as error:
        raise MalformedError("a message is not valid JSON") from error
    if not isinstance(raw, list) or not raw or not isinstance(raw[0], str):
        raise MalformedError("a message must be a list that starts with its type")
    return raw[0], raw[1:]


def _check_marks(frame: bytes) -> None:
    if len(frame) - len(frame.translate(None, _MARKS)) > MAX_MARKS:
        raise MalformedError(f"a message of this size may hold about {MAX_MARKS // 2:,} values")


def _only(kind: str, items: list[Any]) -> Any:
    if len(items) != 1:
        raise MalformedError(f"{kind} takes exactly one value")
    return items[0]


def _subscription(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_SUBSCRIPTION_ID:
        raise MalformedError(f"a subscription id is 1 to {MAX_SUBSCRIPTION_ID} characters")
    return value


def _text(rest: list[Any]) -> str:
    # Relays leave the text out, or put something else there. It is only shown, so it is cut and not refused.
    return clean_line(rest[0][:1_000]) if rest and isinstance(rest[0], str) else ""
