import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MalformedError, RelayError
from pylon.nostr.client.nip11 import (
    MAX_DOCUMENT_BYTES,
    RelayInformation,
    fetch_relay_information,
    parse_relay_information,
)
from pylon.nostr.event import AROUND_CONTENT_BYTES
from pylon.nostr.filter import Filter
from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer

NUMBERS = (
    "max_message_length",
    "max_subscriptions",
    "max_limit",
    "default_limit",
    "max_content_length",
    "min_pow_difficulty",
)
FLAGS = ("auth_required", "payment_required", "restricted_writes")
DOCUMENT = {"name": "relay", "limitation": {"max_message_length": 131_072, "auth_required": True}}
INFORMATION = RelayInformation(max_message_length=131_072, auth_required=True)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["limitation", *NUMBERS, *FLAGS]), inner, max_size=6)
    ),
    max_leaves=20,
)


def test_every_limit_is_read() -> None:
    numbers = {name: place for place, name in enumerate(NUMBERS, start=1)}
    flags = {"auth_required": True, "payment_required": False, "restricted_writes": True}
    assert parse_relay_information({"limitation": {**numbers, **flags}}) == RelayInformation(**numbers, **flags)


@pytest.mark.parametrize(
    ("limits", "limit", "most"),
    [
        ({}, None, None),
        ({}, 7, None),
        ({"max_limit": 5}, None, 5),
        ({"max_limit": 5, "default_limit": 3}, None, 3),
        ({"max_limit": 5, "default_limit": 9}, None, 5),
        ({"default_limit": 3}, None, 3),
        ({"default_limit": 3}, 4, None),
        ({"max_limit": 5}, 5, None),
        ({"max_limit": 5}, 6, 5),
    ],
)
def test_a_relay_cuts_an_answer_at_its_limit_for_filters_with_one_and_without(limits, limit, most) -> None:
    assert RelayInformation(**limits).most_for(Filter(limit=limit)) == most


@given(json_values)
def test_parsing_any_document_never_fails_and_keeps_no_junk(document: Any) -> None:
    information = parse_relay_information(document)
    for name in NUMBERS:
        value = getattr(information, name)
        assert value is None or (type(value) is int and value > 0)
    for name in FLAGS:
        assert getattr(information, name) in (None, True, False)


@pytest.mark.parametrize("value", [None, True, "100", 1.5, 0, -1, 2**64, [100], {}])
def test_a_number_that_is_none_is_as_good_as_absent(value: Any) -> None:
    assert parse_relay_information({"limitation": dict.fromkeys(NUMBERS, value)}) == RelayInformation()


@pytest.mark.parametrize("value", [None, 0, 1, "true", [], {}])
def test_a_flag_that_is_none_is_as_good_as_absent(value: Any) -> None:
    assert parse_relay_information({"limitation": dict.fromkeys(FLAGS, value)}) == RelayInformation()


@pytest.mark.parametrize("document", [None, [], "x", {}, {"limitation": None}, {"limitation": [1]}])
def test_a_document_without_limits_has_none(document: Any) -> None:
    assert parse_relay_information(document) == RelayInformation()


# The edge


@asynccontextmanager
async def relay(answer: Callable[[bytes, asyncio.StreamWriter], Any]) -> AsyncIterator[str]:
    """A server that reads one request head and hands it to `answer`."""
    tasks: set[asyncio.Task[None] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await answer(await reader.readuntil(b"\r\n\r\n"), writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            if task is not None:
                task.cancel()


def says(*parts: bytes) -> Callable[[bytes, asyncio.StreamWriter], Any]:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return answer


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


async def test_the_relay_is_asked_at_its_own_address() -> None:
    heads: list[bytes] = []

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        writer.write(http(orjson.dumps(DOCUMENT)))

    async with relay(answer) as url:
        assert await fetch_relay_information(f"{url}/room?a=b#c") == INFORMATION
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "GET /room?a=b HTTP/1.1"
    assert f"Host: {url.removeprefix('ws://')}" in lines
    assert "Accept: application/nostr+json" in lines


async def test_an_answer_counts_although_the_relay_keeps_the_connection_open() -> None:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(http(orjson.dumps(DOCUMENT)))
        await asyncio.sleep(60)

    async with relay(answer) as url:
        assert await fetch_relay_information(url, timeout=10) == INFORMATION


async def test_chunked_and_unmeasured_answers_are_read() -> None:
    body = orjson.dumps(DOCUMENT)
    half = len(body) // 2
    chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (body[:half], body[half:], b""))
    async with relay(says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks)) as url:
        assert await fetch_relay_information(url) == INFORMATION
    async with relay(says(b"HTTP/1.1 200 OK\r\n\r\n", body[:half], body[half:])) as url:
        assert await fetch_relay_information(url) == INFORMATION


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000 + b"\r\n\r\n{}",
        http(b"<html>"),
        http(b"\xff"),
        http(b'{"limitation":'),
        http(b"{}", status="404 Not Found"),
        http(b"", status="301 Moved", headers="Location: http://127.0.0.1/\r\n"),
    ],
)
async def test_an_answer_that_is_no_document_is_a_relay_error(answer: bytes) -> None:
    async with relay(says(answer)) as url:
        with pytest.raises(RelayError):
            await fetch_relay_information(url)


async def test_an_endless_answer_is_cut_off() -> None:
    sent = 0

    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 4_096)
            sent += 4_096
            await writer.drain()

    async with relay(answer) as url:
        with pytest.raises(RelayError, match="64 KiB"):
            await fetch_relay_information(url)
    # What the operating system held in its buffers came on top.
    assert sent < 1_000 * MAX_DOCUMENT_BYTES


async def test_an_answer_that_drips_is_given_up() -> None:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with relay(answer) as url:
        with pytest.raises(RelayError, match=r"0\.2 seconds"):
            await fetch_relay_information(url, timeout=0.2)


async def test_nobody_there_is_a_relay_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(RelayError):
            await fetch_relay_information(f"ws://127.0.0.1:{port}")


async def test_wss_speaks_tls() -> None:
    hello: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.append(await reader.readexactly(3))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        with pytest.raises(RelayError):
            await fetch_relay_information(f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    # A TLS record that carries a handshake.
    assert hello[0][:2] == b"\x16\x03"


@pytest.mark.parametrize("url", ["http://127.0.0.1", "file:///etc/passwd", "wss://u:p@127.0.0.1"])
async def test_nothing_but_a_relays_address_is_asked(url: str) -> None:
    with pytest.raises(MalformedError):
        await fetch_relay_information(url)


async def test_a_real_relay_says_its_limits() -> None:
    limits = RelayLimits()
    async with RelayServer(require_auth=True) as server:
        assert await fetch_relay_information(server.url) == RelayInformation(
            max_message_length=limits.message_bytes,
            max_subscriptions=limits.subscriptions,
            max_limit=limits.results,
            default_limit=limits.results,
            max_content_length=limits.event_bytes - AROUND_CONTENT_BYTES,
            auth_required=True,
            payment_required=False,
            restricted_writes=False,
        )
