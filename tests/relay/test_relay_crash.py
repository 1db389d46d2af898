"""kill -9 in the middle of publishing: what got an OK is there afterwards."""

import asyncio
import sys
from types import SimpleNamespace

import orjson
import pytest
from relay_peer import note, peer
from websockets.exceptions import ConnectionClosed

from pylon.relay.server import RelayServer

PUBLISHERS = 3
# So many events of each publisher wait for their OK: however fast the relay is, it dies before the last is sent.
AHEAD = 200
PROGRAM = """
import asyncio, sys
from pathlib import Path
from pylon import log
from pylon.relay.server import RelayServer

async def main():
    async with RelayServer(Path(sys.argv[1])) as relay:
        print(relay.url, flush=True)
        await asyncio.Event().wait()

log.configure("error")
asyncio.run(main())
"""


async def publish_until_killed(relay, events, accepted):
    async with peer(relay) as client:
        # Whoever is killed while it still greets says something else than a connection that was lost.
        await accepted.connected.wait()
        for event in events[:AHEAD]:
            await client.say("EVENT", event.to_dict())
        others = iter(events[AHEAD:])
        while True:
            _, id_, ok, _ = orjson.loads(await client.websocket.recv())
            assert ok
            accepted.ids.append(id_)
            if len(accepted.ids) < accepted.enough:
                await client.say("EVENT", next(others).to_dict())
            elif len(accepted.ids) == accepted.enough:
                accepted.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
@pytest.mark.parametrize("enough", [1, 150])
async def test_no_event_that_got_an_ok_is_lost_when_the_relay_is_killed(tmp_path, enough):
    path = tmp_path / "relay.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(path), stdout=asyncio.subprocess.PIPE
    )
    try:
        relay = SimpleNamespace(url=(await process.stdout.readline()).decode().strip())
        accepted = SimpleNamespace(ids=[], enough=enough, kill=process.kill, connected=asyncio.Barrier(PUBLISHERS))
        publishers = [
            asyncio.create_task(
                publish_until_killed(relay, [note(content=f"{who} {n}") for n in range(400)], accepted)
            )
            for who in range(PUBLISHERS)
        ]
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*publishers, return_exceptions=True)
        assert all(isinstance(outcome, ConnectionClosed) for outcome in outcomes)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    async with RelayServer(path) as again, peer(again) as client:
        found = set()
        for start in range(0, len(accepted.ids), 400):
            found.update(await client.fetch({"ids": accepted.ids[start : start + 400]}))
        assert found == set(accepted.ids)
