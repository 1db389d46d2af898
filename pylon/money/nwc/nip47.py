"""The events of NIP-47: info, requests, responses and notifications, encoded and decoded.

Both sides use it, the client (`client`, `requests`) and the playbank. Pure functions, without relay or clock.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from pylon.errors import MalformedError
from pylon.money.nwc import nip04
from pylon.nostr.crypto import nip44
from pylon.nostr.crypto.agreement import shared_x
from pylon.nostr.event import Event, EventDraft, Tag, expiration
from pylon.nostr.keys import SecretKey

INFO = 13194
REQUEST = 23194
RESPONSE = 23195
NOTIFICATION_NIP04 = 23196
NOTIFICATION = 23197

MAX_CONTENT = 64 * 1024
# How much the clocks of a wallet and its client may differ, in seconds.
CLOCK_SLACK_S = 900


class Scheme(StrEnum):
    """How a payload is encrypted; the values of the `encryption` tag."""

    NIP44 = "nip44_v2"
    NIP04 = "nip04"


class ErrorCode(StrEnum):
    """The error codes of NIP-47."""

    RATE_LIMITED = "RATE_LIMITED"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    INSUFFICIENT_BALANCE = "INSUFFICIENT_BALANCE"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    RESTRICTED = "RESTRICTED"
    UNAUTHORIZED = "UNAUTHORIZED"
    INTERNAL = "INTERNAL"
    UNSUPPORTED_ENCRYPTION = "UNSUPPORTED_ENCRYPTION"
    PAYMENT_FAILED = "PAYMENT_FAILED"
    NOT_FOUND = "NOT_FOUND"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class Info:
    """What a wallet service announces (kind 13194)."""

    methods: frozenset[str]
    schemes: frozenset[Scheme]
    notifications: frozenset[str]

    @property
    def best(self) -> Scheme:
        """The encryption to use: NIP-44 whenever the wallet knows it."""
        return Scheme.NIP44 if Scheme.NIP44 in self.schemes else Scheme.NIP04


@dataclass(frozen=True, slots=True)
class Request:
    """A decrypted request. `scheme` is how it was encrypted, and how its answer is."""

    method: str
    params: dict[str, Any]
    scheme: Scheme


@dataclass(frozen=True, slots=True)
class Response:
    """A decrypted response: either an `error` (one of `ErrorCode`, or a code of the wallet's own) or a `result`."""

    method: str
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    message: str = ""


class Cipher:
    """Both encryptions between a key of ours and one of a peer. The secret does not leave it."""

    def __init__(self, secret: SecretKey, peer: str) -> None:
        self.peer = peer
        self._nip44 = nip44.conversation_key(secret, peer)
        self._nip04 = shared_x(secret, peer)

    def encrypt(self, scheme: Scheme, value: dict[str, Any]) -> str:
        """Encrypts an object to a payload."""
        data = orjson.dumps(value)
        return nip44.encrypt(self._nip44, data) if scheme is Scheme.NIP44 else nip04.encrypt(self._nip04, data)

    def decrypt(self, payload: str) -> tuple[Scheme, dict[str, Any]]:
        """Decrypts a payload to an object and the scheme it was encrypted with. Raises `WireError`."""
        if len(payload) > 2 * MAX_CONTENT:
            raise MalformedError("a wallet message is too large")
        if nip04.is_nip04(payload):
            scheme, data = Scheme.NIP04, nip04.decrypt(self._nip04, payload)
        else:
            scheme, data = Scheme.NIP44, nip44.decrypt(self._nip44, payload)
        try:
            value = orjson.loads(data)
        except (orjson.JSONDecodeError, RecursionError) as error:
            raise MalformedError("a wallet message is not JSON") from error
        if not isinstance(value, dict):
            raise MalformedError("a wallet message is not an object")
        return scheme, value


def info_draft(methods: list[str], notifications: list[str]) -> EventDraft:
    """The info event of our own wallet service."""
    tags: tuple[Tag, ...] = (
        ("encryption", f"{Scheme.NIP44} {Scheme.NIP04}"),
        ("notifications", " ".join(notifications)),
    )
    return EventDraft(INFO, " ".join([*methods, "notifications"]), tags)


def parse_info(event: Event) -> Info:
    """Parses an info event. A missing `encryption` tag means NIP-04 only. Raises `MalformedError`."""
    if event.kind != INFO:
        raise MalformedError("this is no NIP-47 info event")
    words = (event.tag("encryption") or "").split()
    schemes = frozenset(scheme for scheme in Scheme if scheme.value in words) or frozenset({Scheme.NIP04})
    # The notice types may be separated by commas in older wallets.
    notices = (event.tag("notifications") or "").replace(",", " ").split()
    return Info(frozenset(event.content.replace(",", " ").split()), schemes, frozenset(notices))


def request_draft(
    cipher: Cipher, scheme: Scheme, method: str, params: dict[str, Any], *, now: int, expires_at: int
) -> EventDraft:
    """A request. A wallet ignores it after `expires_at` (Unix seconds), so a late one is never acted on."""
    tags: tuple[Tag, ...] = (("p", cipher.peer), ("expiration", str(expires_at)))
    if scheme is Scheme.NIP44:
        # A request without the tag is in NIP-04.
        tags = (*tags, ("encryption", scheme.value))
    return EventDraft(REQUEST, cipher.encrypt(scheme, {"method": method, "params": params}), tags, now)


def parse_request(event: Event, cipher: Cipher) -> Request:
    """Parses a request to our wallet service. Raises `WireError`."""
    scheme, value = cipher.decrypt(event.content)
    method, params = value.get("method"), value.get("params", {})
    if not isinstance(method, str) or not isinstance(params, dict):
        raise MalformedError("a wallet request has a method and params")
    return Request(method[:60], params, scheme)


def response_draft(cipher: Cipher, scheme: Scheme, request_id: str, response: Response) -> EventDraft:
    """The response to a request, encrypted as the request was."""
    failed = {"code": response.error, "message": response.message} if response.error else None
    value = {"result_type": response.method, "error": failed, "result": None if failed else response.result}
    return EventDraft(RESPONSE, cipher.encrypt(scheme, value), (("p", cipher.peer), ("e", request_id)))


def parse_response(event: Event, cipher: Cipher) -> Response:
    """Parses a response. Raises `WireError`."""
    _, value = cipher.decrypt(event.content)
    method, result, error = value.get("result_type"), value.get("result"), value.get("error")
    if error is not None:
        if not isinstance(error, dict):
            raise MalformedError("a wallet's error is an object")
        # Some wallets leave `result_type` out of errors.
        kind = method[:60] if isinstance(method, str) else ""
        return Response(kind, error=str(error.get("code") or "OTHER")[:60], message=str(error.get("message"))[:300])
    if not isinstance(method, str):
        raise MalformedError("a wallet response has a result_type")
    if not isinstance(result, dict):
        raise MalformedError("a wallet response has a result or an error")
    return Response(method, result)


def notification_draft(cipher: Cipher, scheme: Scheme, kind: str, notification: dict[str, Any]) -> EventDraft:
    """A notification of a payment."""
    value = {"notification_type": kind, "notification": notification}
    number = NOTIFICATION if scheme is Scheme.NIP44 else NOTIFICATION_NIP04
    return EventDraft(number, cipher.encrypt(scheme, value), (("p", cipher.peer),))


def parse_notification(event: Event, cipher: Cipher) -> tuple[str, dict[str, Any]]:
    """Parses a notification: its type and its content. Raises `WireError`."""
    _, value = cipher.decrypt(event.content)
    kind, notification = value.get("notification_type"), value.get("notification")
    if not isinstance(kind, str) or not isinstance(notification, dict):
        raise MalformedError("a wallet notice has a type and a body")
    return kind, notification


def is_expired(event: Event, now: float) -> bool:
    """Whether a request has passed its expiration, and must not be acted on."""
    at = expiration(event)
    return at is not None and now > at
