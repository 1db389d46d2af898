"""Which way the connection to a relay takes."""

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request

from pylon import __version__
from pylon.errors import RelayError
from pylon.nostr.client.nip11 import fetch_relay_information
from pylon.nostr.websocket.opening import open_socket, proxy_for, why_not_open
from pylon.relay.server import RelayServer


@pytest.fixture
def proxied(monkeypatch):
    """As behind a company's proxy, which here is one that nobody reaches."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


async def test_a_relay_of_this_machine_is_reached_without_the_proxy_that_leads_outside(proxied):
    async with RelayServer() as relay:
        socket = await open_socket(relay.url, None)
        await socket.close()


async def test_every_other_relay_is_reached_through_it(proxied):
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await open_socket("ws://192.0.2.1:7447", None)
    assert proxy_for("wss://relay.example") is True
    assert [proxy_for(url) for url in ("ws://[::1]:7447", "ws://localhost", "ws://127.0.0.1/x")] == [None] * 3


async def test_relays_are_told_the_name_of_the_program_and_not_what_it_is_made_of():
    told: list[str] = []

    def hear(_: ServerConnection, request: Request) -> None:
        told.extend(request.headers.get_all("User-Agent"))

    async def nothing(_: ServerConnection) -> None: ...

    async with serve(nothing, "127.0.0.1", 0, process_request=hear) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        await (await open_socket(url, None)).close()
        # It speaks websocket only, and refuses the request once it has heard it.
        with pytest.raises(RelayError):
            await fetch_relay_information(url)
    assert told == [f"pylon/{__version__}"] * 2


async def test_why_a_relay_is_not_reached_is_told_without_numbers_and_names_of_classes():
    with pytest.raises(ConnectionRefusedError) as refused:
        await open_socket("ws://127.0.0.1:9", None)
    assert why_not_open(refused.value) == "Connection refused"
    assert why_not_open(TimeoutError()) == "no answer in time"
