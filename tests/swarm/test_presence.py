"""Providers are heard of, whatever one of them says."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from pylon.clock import SystemClock
from pylon.jobs.kinds import HEARTBEAT
from pylon.nostr.client.subscriptions import Filters
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool_subscription import Received
from pylon.swarm.providers import presence as presence_module
from pylon.swarm.providers.directory import Change, Directory, ProviderUp
from pylon.swarm.providers.presence import PAGE, Presence
from tests.swarm.fakes import FakeProvider, FakeRelays, FakeSubscription


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

    async def fails(filters: tuple[Filter, ...], **_: object) -> list[Event]:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(relays, "query", fails)
    presence = Presence(
        relays, Directory(), ConversationKeys(SecretKey.generate()), SystemClock(),
        lambda change: heard.put_nowait(change.listing.provider), tuple,
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
    presence = Presence(relays, directory, keys, SystemClock(), changed, tuple)
    running = asyncio.create_task(presence.run())
    try:
        await asyncio.wait_for(presence.caught_up.wait(), 5)
        good = FakeProvider(relays, now=time.time())
        assert await asyncio.wait_for(heard.get(), 5) == good.public
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class Crowded(FakeRelays):
    """Answers each filter with the newest 500 events at most, as common relay software does."""

    most = 500

    def subscribe(self, filters: Filters, *, name: str = "") -> FakeSubscription:
        subscription = super().subscribe(filters, name=name)
        while not subscription.queue.empty():
            subscription.queue.get_nowait()
        for event in self._newest(subscription.filters):
            subscription.queue.put_nowait(Received(event, self.urls[0]))
        return subscription

    async def query(
        self, filters: tuple[Filter, ...], *, relays: Sequence[str] | None = None, timeout: float = 10.0
    ) -> list[Event]:
        await super().query(filters, relays=relays, timeout=timeout)
        return self._newest(filters)

    def _newest(self, filters: tuple[Filter, ...]) -> list[Event]:
        found: dict[str, Event] = {}
        for one in filters:
            matching = sorted(filter(one.matches, self.stored.values()), key=lambda event: -event.created_at)
            found |= {event.id: event for event in matching[: min(one.limit or self.most, self.most)]}
        return list(found.values())

    def crowd(self, count: int, at: float) -> None:
        """So many heartbeats of that time, each of another key, that say nothing."""
        first = len(self.stored)
        for n in range(first, first + count):
            event = Event(f"{n:064x}", f"{n:064x}", int(at), HEARTBEAT, (), "x", "")
            self.stored[event.id] = event


@asynccontextmanager
async def heard_by(relays: FakeRelays, known: tuple[str, ...] = ()) -> AsyncGenerator[Directory]:
    """Who is known to be alive when a new customer has caught up."""
    directory, keys = Directory(), ConversationKeys(SecretKey.generate())
    presence = Presence(relays, directory, keys, SystemClock(), lambda _: None, lambda: known)
    running = asyncio.create_task(presence.run())
    try:
        await asyncio.wait_for(presence.caught_up.wait(), 10)
        yield directory
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("ahead_s", [800, 0], ids=["ahead", "now"])
async def test_heartbeats_that_fill_a_relay_s_answer_hide_no_provider(ahead_s: int) -> None:
    relays, now = Crowded(), time.time()
    provider = FakeProvider(relays, now=now - 20)
    relays.crowd(600 if ahead_s else 499, now + ahead_s)
    relays.crowd(400, now - 10)
    async with heard_by(relays) as directory:
        assert directory.get(provider.public) is not None


async def test_whom_we_know_is_asked_for_by_its_key_and_hidden_by_no_crowd() -> None:
    relays, now = Crowded(), time.time()
    relays.crowd(3_000, now)
    provider = FakeProvider(relays, now=now)
    async with heard_by(relays) as directory:
        assert directory.get(provider.public) is None, "one second holds more than a page"
    async with heard_by(relays, (provider.public,)) as directory:
        assert directory.get(provider.public) is not None


async def test_no_more_heartbeats_are_read_than_the_directory_holds(monkeypatch) -> None:
    monkeypatch.setattr(presence_module, "MAX_PROVIDERS", 2_000)
    relays, now = Crowded(), time.time()
    for second in range(12):
        relays.crowd(501, now - second)
    async with heard_by(relays):
        pages = [one for [one] in relays.queries if one.limit == PAGE]
    assert len(pages) == 2_000 // PAGE


async def test_a_relay_that_does_not_answer_holds_up_nobody() -> None:
    class HalfSilent(Crowded):
        async def query(
            self, filters: tuple[Filter, ...], *, relays: Sequence[str] | None = None, timeout: float = 10.0
        ) -> list[Event]:
            if relays == ("ws://silent.invalid",):
                await asyncio.Event().wait()
            return await super().query(filters, relays=relays, timeout=timeout)

    relays, now = HalfSilent(takes_at={"ws://silent.invalid": 65_536, "ws://fake.invalid": 65_536}), time.time()
    provider = FakeProvider(relays, now=now - 20)
    relays.crowd(600, now + 800)
    async with heard_by(relays) as directory:
        assert directory.get(provider.public) is not None
