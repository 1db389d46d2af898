"""A client that comes back with much to say to a relay that has much to tell it: neither waits for the other."""

import asyncio

from pylon.nostr.event import Event, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.server import RelayServer

# More than the system keeps on its way, in each direction.
STORED, WAITING, BYTES = 300, 200, 60_000
KEY = SecretKey.generate()


def event(number: int, kind: int) -> Event:
    return KEY.sign(EventDraft(kind, str(number % 10) * BYTES, (("n", str(number)),)))


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
