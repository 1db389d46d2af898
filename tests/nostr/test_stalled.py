"""A relay that reads nothing for a while, or for ever: nothing overtakes, piles up or waits without end."""

import asyncio
import math
import sys
from unittest.mock import Mock

import orjson
import pytest
from websockets.protocol import CLIENT, Protocol

from pylon.nostr.client import authentication
from pylon.nostr.client.connection import RelayConnection
from pylon.nostr.filter import Filter
from pylon.nostr.websocket import opening as module
from pylon.nostr.websocket.receiving import DirectDelivery
from tests.nostr.scripted import ScriptedRelay
from tests.nostr.test_connection import KEY, QUICK, connected, note
from tests.waiting import until

NOTES = (Filter(kinds=frozenset({1})),)


async def stall(relay: ScriptedRelay, connection: RelayConnection):
    """More than the system keeps on its way goes out to a relay that reads nothing; its socket."""
    await relay.until(lambda: relay.sockets)
    socket = relay.sockets[0]
    socket.transport.pause_reading()
    events = [note(f"{number} " + "x" * 100_000) for number in range(100)]
    await asyncio.gather(*(connection.publish(event, timeout=0.2) for event in events), return_exceptions=True)
    return socket


def settle_for(monkeypatch: pytest.MonkeyPatch, **quick: float | None) -> None:
    """Connections of ours with these settings in place of theirs."""
    real = module.connect
    monkeypatch.setattr(module, "connect", lambda url, **settings: real(url, **{**settings, **quick}))


async def test_closing_ends():
    async with ScriptedRelay() as relay:
        connection = RelayConnection(relay.url, backoff=QUICK)
        connection.start()
        assert await connection.wait_open(10)
        socket = await stall(relay, connection)
        closing = asyncio.create_task(connection.close())
        ended, _ = await asyncio.wait({closing}, timeout=10)
        socket.transport.abort()
        assert ended


async def test_it_is_left_after_the_time_for_a_pong(monkeypatch):
    settle_for(monkeypatch, ping_interval=0.1, ping_timeout=0.3)
    async with ScriptedRelay() as relay, connected(relay) as connection:
        socket = await stall(relay, connection)
        try:
            await relay.until(lambda: relay.connections > 1)
        finally:
            socket.transport.abort()


async def test_it_is_kept_for_as_long_as_it_takes_something(monkeypatch):
    # To get it to stall takes a while on a busy machine, and must not count as one.
    settle_for(monkeypatch, ping_interval=None, ping_timeout=1.5)
    async with ScriptedRelay() as relay, connected(relay) as connection:
        socket = await stall(relay, connection)
        assert connection._sender.socket is not None
        transport = connection._sender.socket.transport
        left = transport.get_write_buffer_size()

        def less_each_time() -> int:
            nonlocal left
            left = left * 3 // 4
            return left

        transport.get_write_buffer_size = less_each_time  # type: ignore[method-assign]
        monkeypatch.setattr(connection._sender.socket, "_unacknowledged", lambda: 0)
        await asyncio.sleep(4.0)
        assert not transport.is_closing()
        socket.transport.abort()


class Watched(DirectDelivery):
    """A connection that is behind: so much waits here, and the system keeps so much. It is checked by `check`, at
    no time of its own.
    """

    def __init__(self, *, waiting: int, kept: int) -> None:
        super().__init__(Protocol(CLIENT), ping_interval=None)
        self.waiting, self.kept, self.waited = waiting, kept, math.inf
        self.transport = Mock(get_write_buffer_size=lambda: self.waiting)

    def _unacknowledged(self) -> int:
        return self.kept

    def _watch(self, waited: float) -> None:
        self.waited = waited

    def check(self) -> bool:
        """Whether it is kept."""
        self._check_progress(self.waited)
        return not self.transport.abort.called  # type: ignore[attr-defined]


async def test_it_is_kept_while_it_reads_what_the_system_keeps_for_it():
    connection = Watched(waiting=100_000, kept=3_000_000)
    assert connection.check()
    # The system takes no more before a third of it is gone, so nothing that waits here moves.
    for _ in range(3):
        connection.kept -= 300_000
        assert connection.check()
    connection.kept -= 1_000
    assert not connection.check()


@pytest.mark.skipif(sys.platform != "linux", reason="what the system keeps is asked of Linux")
async def test_what_the_system_keeps_for_it_is_known():
    async with ScriptedRelay() as relay, connected(relay) as connection:
        socket = await stall(relay, connection)
        ours = connection._sender.socket
        assert ours is not None
        kept = ours._unacknowledged()
        assert kept
        socket.transport.resume_reading()
        await until(lambda: ours._unacknowledged() < kept)


async def test_what_waits_for_it_is_not_written_all_at_once():
    async with ScriptedRelay() as relay, connected(relay) as connection:
        socket = await stall(relay, connection)
        assert connection._sender.socket is not None
        assert connection._sender.socket.transport.get_write_buffer_size() < 500_000
        socket.transport.abort()


async def test_answers_to_its_challenges_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(authentication, "BURST", 100)
    async with ScriptedRelay() as relay, connected(relay, KEY) as connection:
        socket = await stall(relay, connection)
        for number in range(100):
            await socket.send(orjson.dumps(["AUTH", str(number)]).decode())
        await until(lambda: connection._authentication._challenge == "99")
        # Those that were given up end within a few turns of the loop; what piled up would stay.
        await until(lambda: len(connection._sender.tasks) < 5, within_s=5)
        socket.transport.abort()


async def test_a_close_does_not_overtake_its_req_while_the_way_becomes_free():
    async with ScriptedRelay() as relay, connected(relay) as connection:
        assert connection._sender.socket is not None
        left = iter((1, 0, 0, 0))
        connection._sender.socket.transport.get_write_buffer_size = lambda: next(left, 0)  # type: ignore[attr-defined]
        connection.unsubscribe(connection.subscribe(lambda: NOTES, lambda _: None))
        await relay.until(lambda: relay.of("REQ") and relay.of("CLOSE"))
        assert [message[0] for message in relay.received] == ["REQ", "CLOSE"]
