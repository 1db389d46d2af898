"""Providers are heard of, whatever one of them says."""

import asyncio
import time

import pytest

from pylon.clock import SystemClock
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.swarm.providers.directory import Change, Directory, ProviderUp
from pylon.swarm.providers.presence import Presence
from tests.swarm.fakes import FakeProvider, FakeRelays


class Faulty(Directory):
    """Fails over what one key says."""

    bad = ""

    def observe(self, event: Event, now: float) -> list[Change]:
        if event.pubkey == self.bad:
            raise ValueError("a fault of ours")
        return super().observe(event, now)


async def test_announcements_that_cannot_be_asked_for_keep_nobody_from_being_heard(monkeypatch) -> None:
    relays, heard = FakeRelays(), asyncio.Queue[str]()
    lacking = FakeProvider(relays, now=time.time(), seen=False)
    lacking.beat()

    async def fails(filters: tuple[Filter, ...], *, timeout: float) -> list[Event]:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(relays, "query", fails)
    presence = Presence(
        relays, Directory(), ConversationKeys(SecretKey.generate()), SystemClock(),
        lambda change: heard.put_nowait(change.listing.provider),
    )  # fmt: skip
    running = asyncio.create_task(presence.run())
    try:
        await asyncio.wait_for(presence.caught_up.wait(), 5)
        good = FakeProvider(relays, now=time.time())
        assert await asyncio.wait_for(heard.get(), 5) == good.public
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("when", ["read", "told"])
async def test_a_provider_that_cannot_be_taken_in_keeps_nobody_else_from_being_heard(when: str) -> None:
    relays, heard = FakeRelays(), asyncio.Queue[str]()
    bad = FakeProvider(relays, now=time.time())
    directory = Faulty()
    directory.bad = bad.public if when == "read" else ""

    def changed(change: Change) -> None:
        assert isinstance(change, ProviderUp)
        if change.listing.provider == bad.public:
            raise ValueError("a fault of ours")
        heard.put_nowait(change.listing.provider)

    keys = ConversationKeys(SecretKey.generate())
    presence = Presence(relays, directory, keys, SystemClock(), changed)
    running = asyncio.create_task(presence.run())
    try:
        await asyncio.wait_for(presence.caught_up.wait(), 5)
        good = FakeProvider(relays, now=time.time())
        assert await asyncio.wait_for(heard.get(), 5) == good.public
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
