"""Connections whose address is judged: over a real relay on loopback, under a name that no resolver knows."""

import asyncio
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from pylon.nostr.client.connection import RelayConnection
from pylon.nostr.client.nip11 import RelayInformation
from pylon.nostr.websocket.dialing import dial_judged, resolve
from pylon.nostr.websocket.opening import open_socket
from pylon.relay.server import RelayServer
from tests.waiting import until


async def here(host: str) -> Iterable[str]:
    assert host == "relay.example.com"
    return ["127.0.0.1"]


async def test_a_relay_is_connected_to_at_the_address_that_was_judged() -> None:
    judged: list[str] = []

    def may(address: str) -> bool:
        judged.append(address)
        return True

    async with RelayServer() as relay:
        port = relay.url.rpartition(":")[2]
        dial = partial(dial_judged, may_dial=may, resolve=here)
        connection = RelayConnection(f"ws://relay.example.com:{port}", dial=dial)
        connection.start()
        assert await connection.wait_open(10)
        # The document came over the same judgement.
        assert connection.status.information.max_subscriptions == 64
        await connection.close()
    assert judged == ["127.0.0.1"] * 2


async def test_where_one_of_several_addresses_may_not_be_dialled_none_is() -> None:
    async def two(_: str) -> Iterable[str]:
        return ["127.0.0.1", "127.0.0.2"]

    async with RelayServer() as relay:
        port = int(relay.url.rpartition(":")[2])
        with pytest.raises(OSError, match="not public"):
            await dial_judged("x", port, may_dial=lambda address: address == "127.0.0.1", resolve=two)
        opened = await dial_judged("x", port, may_dial=lambda _: True, resolve=two)
        opened.close()


async def test_a_name_behind_which_nobody_listens_is_an_error() -> None:
    async with RelayServer() as relay:
        port = int(relay.url.rpartition(":")[2])
    with pytest.raises(OSError, match="cannot be reached"):
        await dial_judged("relay.example.com", port, may_dial=lambda _: True, resolve=here)


@contextmanager
def mute(address: str, port: int) -> Iterator[None]:
    """An address that answers no attempt to connect, as one of a network that leads nowhere."""
    with ExitStack() as opened:
        full = opened.enter_context(socket.socket())
        try:
            full.bind((address, port))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        full.listen(0)
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        yield


@pytest.mark.parametrize("judged", [True, False])
async def test_a_relay_is_reached_though_the_first_of_its_addresses_never_answers(
    judged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def two(_: str) -> Iterable[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async def found(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in await two(host)]

    async with RelayServer() as relay:
        port = int(relay.url.rpartition(":")[2])
        with mute("127.0.0.2", port):
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
            dial = partial(dial_judged, may_dial=lambda _: True, resolve=two)
            opened = await open_socket(f"ws://relay.example.com:{port}", dial if judged else None)
            assert opened.remote_address == ("127.0.0.1", port)
            await opened.close()


@pytest.mark.parametrize("dialled", [True, False])
@pytest.mark.parametrize("elsewhere", ["ws://127.0.0.1:1/", "ws://[", "https://relay.example.com/", "ws://h:99999/"])
async def test_a_relay_that_sends_us_elsewhere_is_not_reached_and_that_is_no_fault_of_ours(
    dialled: bool, elsewhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    def away(connection: ServerConnection, request: Request) -> Response:
        return Response(302, "Found", Headers({"Location": elsewhere}))

    async def nobody(_: ServerConnection) -> None:
        pass

    async def silent(_: str) -> RelayInformation:
        return RelayInformation()

    async with serve(nobody, "127.0.0.1", 0, process_request=away) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        dial = partial(dial_judged, may_dial=lambda _: True, resolve=here)
        name = "relay.example.com" if dialled else "127.0.0.1"
        connection = RelayConnection(f"ws://{name}:{port}", learn=silent, dial=dial if dialled else None)
        connection.start()
        await until(lambda: connection.status.error)
        assert connection.status.state == "connecting"
        await connection.close()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_addresses_are_tried_in_the_order_that_the_system_prefers(monkeypatch) -> None:
    preferred = [f"192.0.2.{number}" for number in (9, 3, 7, 1, 8, 2, 6, 4, 5)]

    async def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(0, 0, 0, "", (address, 443)) for address in (*preferred, preferred[-1])]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert list(await resolve("relay.example.com")) == preferred
