"""A household whose relay is reached by another address than its own, as behind a proxy."""

import asyncio
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest

from pylon import config as settings
from pylon.clock import SystemClock
from pylon.errors import UnreachableError
from pylon.node.home import Home
from pylon.node.household.hub import household_relay
from pylon.node.household.invite import decode
from pylon.node.household.inviting import Head, Joined, new_household
from pylon.node.household.joining import join
from pylon.node.household.members import HouseholdFile
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool

HEAD, MEMBER = (SecretKey(bytes([n]) * 32) for n in (11, 12))


@asynccontextmanager
async def proxy():
    """Passes bytes on to the port that it is given; yields its address and what takes that port."""
    onward: list[int] = []

    async def pass_on(reader, writer):
        with suppress(OSError):
            while some := await reader.read(65_536):
                writer.write(some)
        writer.close()

    async def connected(reader, writer):
        there = await asyncio.open_connection("127.0.0.1", onward[0])
        await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", onward.append
    finally:
        server.close()


@pytest.mark.parametrize("named", [True, False])
async def test_who_joins_over_a_proxy_is_let_in_where_its_address_is_known_and_else_told_what_to_set(
    tmp_path, monkeypatch, named
):
    monkeypatch.setattr("pylon.node.household.joining.OPEN_S", 2.0)
    if not named:
        # Nobody will, and that is what is looked at.
        monkeypatch.setattr("pylon.node.household.joining.ANSWER_S", 3.0)
    home = Home(tmp_path)
    home.create()
    file = HouseholdFile(home.folder)
    file.save(new_household(HEAD.public, (), "desk"))
    async with proxy() as (url, onward):
        relay = {"host": "127.0.0.1", "port": 0, "public_urls": [url] if named else []}
        async with household_relay(home, settings.parse({"relay": relay})) as hub:
            onward(urlsplit(hub.url).port)
            pool = RelayPool([hub.url], secret=HEAD)
            pool.start()
            await pool.wait_open()
            steps = Head(HEAD, ConversationKeys(HEAD), pool, file, SystemClock(), lambda: None).invite(
                1, 60, (url,), "desk"
            )
            invite = decode(await anext(steps))
            waiting = asyncio.create_task(anext(steps))
            if named:
                joined = await join(invite, MEMBER, "kitchen", SystemClock())
                assert await waiting == Joined(MEMBER.public, "kitchen")
                assert set(joined.members) == {HEAD.public, MEMBER.public}
            else:
                with pytest.raises(UnreachableError, match="public_urls"):
                    await join(invite, MEMBER, "kitchen", SystemClock())
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            await steps.aclose()
            await pool.close()
