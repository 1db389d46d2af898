"""NIP-11 relay information: a relay's limits, read before the relay is used.

Source: https://github.com/nostr-protocol/nips/blob/master/11.md
"""

import asyncio
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import orjson
from websockets.exceptions import WebSocketException
from websockets.http11 import Response
from websockets.streams import StreamReader

from pylon.errors import RelayError
from pylon.nostr.event import AROUND_CONTENT_BYTES, MAX_TIMESTAMP
from pylon.nostr.filter import Filter
from pylon.nostr.websocket.dialing import NEXT_ADDRESS_S, Dial
from pylon.nostr.websocket.opening import USER_AGENT
from pylon.nostr.websocket.tls import context_for
from pylon.relay_url import host_and_port, normalize_relay_url

MAX_DOCUMENT_BYTES = 64 * 1024
TIMEOUT_SECONDS = 5.0
_EVENT_FRAME_BYTES = len('["EVENT",]')


@dataclass(frozen=True, slots=True)
class RelayInformation:
    """The fields that are used here, or shown by `pylon status`; None where one is absent or not valid.

    Lengths: `max_message_length` in bytes of a websocket message, `max_content_length` in Unicode characters.
    `min_pow_difficulty` is in bits (NIP-13); zero counts as absent.
    """

    max_message_length: int | None = None
    max_subscriptions: int | None = None
    max_limit: int | None = None
    default_limit: int | None = None
    max_content_length: int | None = None
    min_pow_difficulty: int | None = None
    auth_required: bool | None = None
    payment_required: bool | None = None
    restricted_writes: bool | None = None

    @property
    def event_bytes(self) -> int | None:
        """How many bytes of JSON an event may have for this relay to take it; None when it does not say."""
        bounds = []
        if self.max_message_length is not None:
            bounds.append(self.max_message_length - _EVENT_FRAME_BYTES)
        if self.max_content_length is not None:
            # This bounds the characters of the content alone. It has at least as many bytes, so the bound is safe.
            bounds.append(self.max_content_length + AROUND_CONTENT_BYTES)
        return max(0, min(bounds)) if bounds else None

    def lowered(self, filters: tuple[Filter, ...]) -> tuple[Filter, ...]:
        """The filters with each `limit` lowered to this relay's; some relays answer a larger one with CLOSED."""
        most = self.max_limit
        if most is None:
            return filters
        return tuple(replace(f, limit=most) if f.limit is not None and f.limit > most else f for f in filters)

    def most_for(self, wanted: Filter) -> int | None:
        """The number of events at which this relay cuts its answer to a filter; None: nowhere, or it does not say."""
        if wanted.limit is not None:
            return self.max_limit if self.max_limit is not None and self.max_limit < wanted.limit else None
        return min((most for most in (self.max_limit, self.default_limit) if most is not None), default=None)


def parse_relay_information(raw: object) -> RelayInformation:
    """The limits in a decoded JSON document. Never fails: an invalid value counts as absent."""
    limitation = raw.get("limitation") if isinstance(raw, dict) else None
    if not isinstance(limitation, dict):
        return RelayInformation()

    def number(name: str) -> int | None:
        value = limitation.get(name)
        # Relays that write zero mean "no limit": one that takes nothing would not be running.
        return value if type(value) is int and 0 < value <= MAX_TIMESTAMP else None

    def flag(name: str) -> bool | None:
        value = limitation.get(name)
        return value if isinstance(value, bool) else None

    return RelayInformation(
        max_message_length=number("max_message_length"),
        max_subscriptions=number("max_subscriptions"),
        max_limit=number("max_limit"),
        default_limit=number("default_limit"),
        max_content_length=number("max_content_length"),
        min_pow_difficulty=number("min_pow_difficulty"),
        auth_required=flag("auth_required"),
        payment_required=flag("payment_required"),
        restricted_writes=flag("restricted_writes"),
    )


async def fetch_relay_information(
    relay_url: str, *, timeout: float = TIMEOUT_SECONDS, dial: Dial | None = None
) -> RelayInformation:
    """Fetch the document over HTTP from the relay's own address; `dial` makes the connection, where it is given.

    Redirects are not followed, and at most 64 KiB are read. Raises `MalformedError` for an invalid address, and
    `RelayError` when no document comes within `timeout` seconds.
    """
    url = normalize_relay_url(relay_url)
    try:
        async with asyncio.timeout(timeout):
            response = await _get(url, dial)
        if response.status_code != 200:
            raise RelayError(f"{url} answered {response.status_code} when asked about itself (NIP-11)")
        return parse_relay_information(orjson.loads(response.body))
    except TimeoutError:
        raise RelayError(f"{url} did not say within {timeout:g} seconds what it is (NIP-11)") from None
    except (OSError, EOFError, ValueError, NotImplementedError, WebSocketException) as error:
        raise RelayError(f"{url} gave no relay information document (NIP-11)") from error


async def _get(url: str, dial: Dial | None) -> Response:
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    host, port = host_and_port(url)
    if dial is None:
        reader, writer = await asyncio.open_connection(
            host, port, ssl=context_for(secure), happy_eyeballs_delay=NEXT_ADDRESS_S
        )
    else:
        reader, writer = await asyncio.open_connection(
            sock=await dial(host, port), ssl=context_for(secure), server_hostname=host if secure else None
        )
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/nostr+json\r\n"
            f"User-Agent: {USER_AGENT}\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        return await _read_response(reader)
    finally:
        # Not waited for: how the relay closes does not matter once its answer is there.
        writer.close()


async def _read_response(stream: asyncio.StreamReader) -> Response:
    # The websockets library's parser for handshakes: a generator that waits for data and returns by StopIteration.
    buffer = StreamReader()
    parser = Response.parse(buffer.read_line, buffer.read_exact, buffer.read_to_eof)
    received = 0
    while True:
        try:
            next(parser)
        except StopIteration as done:
            response: Response = done.value
            return response
        data = await stream.read(MAX_DOCUMENT_BYTES)
        received += len(data)
        if received > MAX_DOCUMENT_BYTES:
            raise RelayError("a relay information document (NIP-11) is longer than 64 KiB")
        if data:
            buffer.feed_data(data)
        else:
            buffer.feed_eof()
