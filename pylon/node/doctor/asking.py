"""Reads relays over new connections: their limits (NIP-11), their time, and what they show of this node."""

import asyncio
import ipaddress
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from pylon.errors import MalformedError, RelayError, UnreachableError
from pylon.jobs.heartbeat import Heartbeat, parse_heartbeat
from pylon.jobs.kinds import ANNOUNCEMENT, HEARTBEAT
from pylon.node.doctor.not_a_relay import other_scheme, what_answers
from pylon.node.doctor.relays import Answers, RelayReading
from pylon.nostr.client.nip11 import RelayInformation, fetch_relay_information
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.nostr.websocket.opening import proxy_for
from pylon.nostr.websocket.tls import context_for
from pylon.relay_url import host_and_port, is_loopback, normalize_relay_url
from pylon.text import clean_line

OPEN_S, ANSWER_S = 5.0, 5.0


async def read_relays(urls: Sequence[str], public: str, secret: SecretKey | None) -> list[RelayReading]:
    """Reads all of them at once. `public` is this node's key in hex, or empty if that is not known."""
    return list(await asyncio.gather(*(read_relay(url, public, secret) for url in urls)))


async def read_relay(url: str, public: str, secret: SecretKey | None) -> RelayReading:
    """Reads one relay, within about 15 seconds. Publishes nothing."""
    try:
        url = normalize_relay_url(url)
    except MalformedError as error:
        return RelayReading(url, error=str(error))
    host = urlsplit(url).hostname or ""
    here, near = is_loopback(host), _is_near(host)
    errno, fault = await _connect(url)
    if fault:
        return RelayReading(url, fault, errno, here=here, near=near)
    pool = RelayPool([url], secret=secret)
    pool.start()
    try:
        information, ahead, _ = await asyncio.gather(_information(url), _clock_ahead_s(url), _wait_open(pool))
        status = pool.statuses[0]
        if status.state != "open":
            instead = await what_answers(url)
            why = status.error or "it does not answer as a websocket"
            return RelayReading(url, why, answers=instead, elsewhere=other_scheme(url), here=here, near=near)
        events, refusal = await _events_of(pool, public)
    finally:
        await pool.close()
    beats = [beat for event in events if event.kind == HEARTBEAT and (beat := _beat(event)) is not None]
    return RelayReading(
        url,
        answers=Answers.RELAY,
        information=information,
        ahead_s=ahead,
        announced=any(event.kind == ANNOUNCEMENT for event in events),
        heartbeat=max(beats, key=lambda beat: beat.expires_at, default=None),
        refusal=refusal,
        here=here,
        near=near,
    )


async def listens(port: int) -> bool:
    """Whether something on this machine listens on this port."""
    return not (await _connect(f"ws://127.0.0.1:{port}"))[1]


async def _connect(url: str) -> tuple[int | None, str]:
    """Why no TCP connection can be opened: the system's error number, if it has one, and words. The words are empty
    if one can."""
    host, port = host_and_port(url)
    try:
        async with asyncio.timeout(OPEN_S):
            _, writer = await asyncio.open_connection(host, port, all_errors=True)
    except TimeoutError:
        return None, f"no answer within {OPEN_S:g} s"
    except OSError as error:
        # The name is not known. The numbers of that are no system's, and on macOS look like some.
        return None, clean_line(error.strerror or str(error))
    except ExceptionGroup as errors:
        return _said_of_addresses(errors)
    writer.close()
    return None, ""


def _said_of_addresses(errors: ExceptionGroup[Exception]) -> tuple[int | None, str]:
    """The error of the address that was tried last: IPv6 comes first, and there most relays do not listen."""
    last = errors.exceptions[-1]
    number = last.errno if isinstance(last, OSError) else None
    # asyncio's own words name the call, and not what became of it.
    return number, os.strerror(number) if number else clean_line(str(last))


async def _wait_open(pool: RelayPool) -> None:
    with suppress(UnreachableError):
        await pool.wait_open(OPEN_S)


async def _information(url: str) -> RelayInformation | None:
    try:
        return await fetch_relay_information(url, timeout=ANSWER_S)
    except RelayError:
        return None


async def _clock_ahead_s(url: str) -> float | None:
    """Seconds by which this machine's clock is ahead of the `Date` header of the relay's server (RFC 9110, 6.6.1);
    None if it sends none."""
    for ask in (_date_of_http, _date_of_handshake):
        asked = time.time()
        try:
            async with asyncio.timeout(ANSWER_S):
                said = parsedate_to_datetime(await ask(url))
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, WebSocketException, ValueError, OSError):
            continue
        middle = (asked + time.time()) / 2
        # The date has whole seconds: the true time is half a second later on average.
        return middle - ((said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp() + 0.5)
    return None


async def _date_of_http(url: str) -> str:
    secure = url.startswith("wss:")
    address = f"http{url.removeprefix('ws')}"
    headers = {"Accept": "application/nostr+json"}
    # Streamed, since the body may be of any length and is not needed.
    async with (
        httpx.AsyncClient(verify=context_for(secure) or True, trust_env=False) as client,
        client.stream("GET", address, headers=headers) as answer,
    ):
        return str(answer.headers.get("date", ""))


async def _date_of_handshake(url: str) -> str:
    secured = context_for(url.startswith("wss:"))
    async with connect(url, ssl=secured, proxy=proxy_for(url), compression=None, close_timeout=1) as socket:
        return socket.response.headers.get("date", "") if socket.response is not None else ""


async def _events_of(pool: RelayPool, public: str) -> tuple[list[Event], str]:
    """The announcement and heartbeats of this key that the relay has, and why it refuses to show any."""
    if not public:
        return [], ""
    wanted = Filter(authors=frozenset({public}), kinds=frozenset({ANNOUNCEMENT, HEARTBEAT}), limit=20)
    try:
        return await pool.query((wanted,), timeout=ANSWER_S), ""
    except (UnreachableError, RelayError) as error:
        return [], clean_line(str(error).removeprefix("no relay answered: "))


def _beat(event: Event) -> Heartbeat | None:
    try:
        return parse_heartbeat(event)
    except MalformedError:
        return None


def _is_near(host: str) -> bool:
    """Whether the host is in the local network, as far as its name or address tells."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.endswith(".local")
    return address.is_private and not address.is_loopback
