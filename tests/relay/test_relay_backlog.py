"""A client that comes back with much to say to a relay that has much to tell it: neither waits for the other."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from pylon.nostr.event import Event, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay import server
from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer
from pylon.relay.session import LAGGING
from tests.waiting import until

# More than the system keeps on its way, in each direction.
STORED, WAITING, BYTES = 300, 200, 60_000
KEY = SecretKey.generate()


def event(number: int, kind: int) -> Event:
    return KEY.sign(EventDraft(kind, str(number % 10) * BYTES, (("n", str(number)),)))


@asynccontextmanager
async def pooled(relay: RelayServer):
    pool = RelayPool([relay.url])
    pool.start()
    try:
        await pool.wait_open()
        yield pool
    finally:
        await pool.close()


async def test_much_that_is_stored_and_much_that_waits_to_be_published_pass_each_other(tmp_path):
    async with RelayServer(tmp_path / "r.db") as relay:
        port = int(relay.url.rpartition(":")[2])
        pool = RelayPool([relay.url])
        pool.start()
        await pool.wait_open()
        await asyncio.gather(*(pool.publish(event(n, 7), timeout=60) for n in range(STORED)))
        subscription = pool.subscribe(lambda: (Filter(kinds=frozenset({7})),))

        async def read() -> None:
            async for _ in subscription:
                pass

        reading = asyncio.create_task(read())
        await subscription.caught_up.wait()
    publishing = asyncio.gather(*(pool.publish(event(n, 1), timeout=60) for n in range(WAITING)))
    async with RelayServer(tmp_path / "r.db", port=port), asyncio.timeout(50):
        assert len(await publishing) == WAITING
    reading.cancel()
    await pool.close()


async def test_a_relay_that_pings_amid_a_long_answer_stops_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_PING_S", 0.02)
    async with RelayServer(tmp_path / "r.db") as relay:
        async with pooled(relay) as pool:
            await asyncio.gather(*(pool.publish(event(n, 7), timeout=60) for n in range(STORED)))
        async with pooled(relay) as pool:
            events = [event(n, 1) for n in range(WAITING)]
            subscription = pool.subscribe(lambda: (Filter(kinds=frozenset({7})),))

            async def read() -> None:
                async for _ in subscription:
                    pass

            reading = asyncio.create_task(read())
            async with asyncio.timeout(50):
                await asyncio.gather(*(pool.publish(one, timeout=60) for one in events))
                await subscription.caught_up.wait()
            reading.cancel()


async def test_a_peer_that_asks_and_reads_nothing_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_PING_S", 0.1)
    monkeypatch.setattr(server, "_PONG_S", 0.3)
    async with RelayServer(tmp_path / "r.db") as relay:
        async with pooled(relay) as pool:
            await asyncio.gather(*(pool.publish(event(n, 7), timeout=60) for n in range(STORED)))
        async with connect(relay.url, max_queue=1, ping_interval=None, close_timeout=0.1) as peer:
            await peer.send('["REQ","a",{"kinds":[7]}]')
            peer.transport.pause_reading()
            await until(lambda: not relay.connections)
            peer.transport.abort()


async def test_the_last_word_to_a_peer_that_reads_too_slowly_is_text(tmp_path):
    async with RelayServer(tmp_path / "r.db", limits=RelayLimits(queue_bytes=200_000)) as relay:
        async with connect(relay.url, max_size=None, max_queue=1) as peer, pooled(relay) as pool:
            await peer.recv()
            await peer.send('["REQ","a",{"kinds":[1]}]')
            await peer.recv()
            await asyncio.gather(*(pool.publish(event(n, 1), timeout=60) for n in range(WAITING)))
            said = []
            with pytest.raises(ConnectionClosedError):
                while True:
                    said.append(await peer.recv())
            assert all(isinstance(one, str) for one in said)
            assert LAGGING in said[-1]
