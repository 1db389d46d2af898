"""Providers that read none of our relays: over two real relays, with the shipped provider on the other one."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pylon import forever
from pylon.clock import SystemClock
from pylon.errors import UnreachableError
from pylon.inference.engine import EngineSpec
from pylon.inference.service import InferenceService
from pylon.jobs.announcement import announcement_draft, parse_announcement
from pylon.jobs.kinds import ANNOUNCEMENT, HEARTBEAT, RLM_REQUEST
from pylon.money.schema import MONEY
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip65 import RelayList
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import Journal
from pylon.provider.rows import SCHEMA
from pylon.provider.service import Provider
from pylon.provider.settings import ProviderSettings
from pylon.relay.server import RelayServer
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer, JobFailed
from pylon.swarm.providers.listing import Listing
from pylon.swarm.providers.reach import Reach, may_follow
from pylon.swarm.settings import DispatchSettings, SwarmSettings
from tests.opened import opened_database
from tests.relay_lists import relay_list_draft
from tests.waiting import until

OWN = ("wss://relay.example.com", "ws://192.168.1.5:7447")


@pytest.mark.parametrize(
    "url",
    [
        "wss://other.example.com",
        "wss://other.example.com/nostr?a=b",
        "wss://1.1.1.1",
        "wss://[2606:4700:4700::1111]",
        "ws://192.168.1.5:7448",
        "ws://relay.example.com",
    ],
)
def test_public_addresses_under_tls_and_hosts_of_our_own_are_followed(url: str) -> None:
    assert may_follow(url, OWN)


@pytest.mark.parametrize(
    "url",
    [
        "ws://other.example.com",
        "wss://192.168.1.6",
        "wss://10.0.0.1",
        "wss://127.0.0.1",
        "wss://[::1]",
        "wss://[::ffff:10.0.0.1]",
        "wss://169.254.169.254",
        "wss://localhost",
        "wss://printer",
        "wss://printer.local",
        "ws://192.168.1.5:80/admin?delete=1",
    ],
)
def test_a_stranger_cannot_make_us_knock_at_private_addresses(url: str) -> None:
    assert not may_follow(url, OWN)


@pytest.fixture
async def ours() -> AsyncIterator[RelayServer]:
    async with RelayServer() as server:
        yield server


@pytest.fixture
async def theirs() -> AsyncIterator[RelayServer]:
    async with RelayServer() as server:
        yield server


@pytest.fixture
async def stack(ours: RelayServer, theirs: RelayServer) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def open_pool(stack: AsyncExitStack, url: str, secret: SecretKey) -> RelayPool:
    pool = RelayPool([url], secret=secret)
    pool.start()
    stack.push_async_callback(pool.close)
    return pool


async def serve(stack: AsyncExitStack, relay: RelayServer, path: Path) -> SecretKey:
    """Starts a provider that reads this relay alone; its key."""
    secret = SecretKey.generate()
    database, group = await stack.enter_async_context(opened_database(path, SCHEMA, MONEY, label="play"))
    pool = await open_pool(stack, relay.url, secret)
    inference = InferenceService(EngineSpec("instant", "stand-in-instant", slots=4), SystemClock())
    await inference.start()
    stack.push_async_callback(inference.close)
    keys = ConversationKeys(secret)
    provider = Provider(
        secret=secret,
        keys=keys,
        pool=pool,
        inference=inference,
        journal=Journal(database, group),
        settings=ProviderSettings(),
        model="stand-in-instant",
    )
    await provider.start()
    stack.push_async_callback(provider.close)
    return secret


async def carry_over(
    stack: AsyncExitStack, provider: SecretKey, source: RelayServer, target: RelayServer, *, named: bool, listed: str
) -> None:
    """What somebody carries from relay to relay: heartbeat, announcement (naming its relays or not), NIP-65 list."""
    pool = await open_pool(stack, source.url, provider)
    to = await open_pool(stack, target.url, provider)
    wanted = Filter(kinds=frozenset({ANNOUNCEMENT, HEARTBEAT}), authors=frozenset({provider.public}))
    async with asyncio.timeout(20):
        while True:
            found = {event.kind: event for event in await pool.query((wanted,))}
            if len(found) == 2 and parse_announcement(found[ANNOUNCEMENT]).models:
                break
            await asyncio.sleep(0.05)
    announced = parse_announcement(found[ANNOUNCEMENT])
    if not named:
        announced = replace(announced, relays=())
    draft = announcement_draft(announced, created_at=found[ANNOUNCEMENT].created_at)
    await to.publish(provider.sign(draft))
    if listed:
        await to.publish(provider.sign(relay_list_draft(RelayList(read=(listed,)))))
    await to.publish(found[HEARTBEAT])


async def customer(
    stack: AsyncExitStack, relay: RelayServer, *, most: int = 4, ack_s: float = 20.0
) -> tuple[SwarmClient, RelayPool, str]:
    secret = SecretKey.generate()
    own = await open_pool(stack, relay.url, secret)
    pool = own.extended()
    stack.push_async_callback(pool.close)
    settings = SwarmSettings(dispatch=DispatchSettings(ack_s=ack_s, attempts=2))
    client = SwarmClient(pool, secret, settings=settings, reach=Reach(pool, most=most))
    return await stack.enter_async_context(client), pool, secret.public


@pytest.mark.parametrize(("named", "listed"), [(False, True), (True, True), (True, False)])
async def test_a_provider_on_another_relay_is_reached_where_it_says(
    stack, ours, theirs, tmp_path, named, listed
) -> None:
    provider = await serve(stack, theirs, tmp_path / "a.db")
    await carry_over(stack, provider, theirs, ours, named=named, listed=theirs.url if listed else "")
    client, pool, public = await customer(stack, ours)
    if not named:
        # It is asked at once, where it does not read, unless its list was seen before.
        await until(lambda: client._parts.reach.relays_of(Listing(provider.public)))
    answer = await client.complete("How many legs has a spider?", timeout=30)
    assert isinstance(answer, Answer)
    assert answer.provider == provider.public
    assert answer.attempts == 1
    assert pool.urls == [ours.url, theirs.url]
    wanted = Filter(kinds=frozenset({RLM_REQUEST}), authors=frozenset({public}))
    assert not await pool.query((wanted,), relays=[ours.url])


async def test_no_list_is_followed_when_the_owner_allows_none(stack, ours, theirs, tmp_path) -> None:
    provider = await serve(stack, theirs, tmp_path / "a.db")
    await carry_over(stack, provider, theirs, ours, named=True, listed=theirs.url)
    client, pool, _ = await customer(stack, ours, most=0, ack_s=0.5)
    # Asked in vain, or never heard of as ready: its later heartbeats are where nobody looks.
    with pytest.raises((JobFailed, UnreachableError)):
        await client.complete("How many legs has a spider?", timeout=3)
    assert pool.urls == [ours.url]


def listing(secret: SecretKey, *relays: str) -> Listing:
    return Listing(secret.public, relays=relays)


async def lost(stack: AsyncExitStack, ours: RelayServer, **options) -> tuple[Reach, RelayPool, list[str]]:
    """A `Reach` that runs, its pool, and whom it reached."""
    own = await open_pool(stack, ours.url, SecretKey.generate())
    await own.wait_open()
    pool = own.extended()
    stack.push_async_callback(pool.close)
    reach, reached = Reach(pool, **options), []
    reach.reached = reached.append
    running = asyncio.create_task(reach.run())
    stack.callback(running.cancel)
    return reach, pool, reached


async def test_a_public_name_that_stands_for_a_private_address_is_not_connected_to(stack, ours) -> None:
    async def lies(host: str) -> Iterable[str]:
        return ["1.1.1.1", "127.0.0.1"]

    reach, pool, reached = await lost(stack, ours, most=4, resolve=lies)
    provider = SecretKey.generate()
    assert reach.holds(listing(provider, "wss://rebound.example.com"))
    await until(lambda: reached == [provider.public])
    assert pool.urls == [ours.url]
    assert reach.relays_of(listing(provider)) == []


async def test_a_name_that_stands_for_a_private_address_once_it_was_judged_is_not_connected_to(stack, ours) -> None:
    knocked, asked = [], []

    async def knock(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocked.append(writer.get_extra_info("peername"))
        writer.close()

    # Loopback stands for a machine of the network at home.
    printer = await asyncio.start_server(knock, "127.0.0.1", 0)
    stack.push_async_callback(printer.wait_closed)
    stack.callback(printer.close)
    port = printer.sockets[0].getsockname()[1]

    async def rebinds(host: str) -> Iterable[str]:
        asked.append(host)
        return ["1.1.1.1"] if len(asked) == 1 else ["127.0.0.1"]

    reach, pool, reached = await lost(stack, ours, most=4, resolve=rebinds)
    provider = SecretKey.generate()
    assert reach.holds(listing(provider, f"wss://rebound.example.com:{port}"))
    await until(lambda: reached == [provider.public])
    # Once to judge it, then for the connection and for what the relay says of itself.
    assert len(asked) >= 3
    assert knocked == []
    assert pool.urls == [ours.url]


async def test_relays_are_bounded_and_those_where_most_are_reached_come_first(stack, ours, theirs) -> None:
    reach, pool, reached = await lost(stack, ours, most=1)
    async with RelayServer() as third:
        few, many = SecretKey.generate(), [SecretKey.generate() for _ in range(2)]
        assert reach.holds(listing(few, third.url))
        assert all(reach.holds(listing(key, theirs.url)) for key in many)
        await until(lambda: len(reached) == 3)
        assert pool.urls == [ours.url, theirs.url]
        assert reach.relays_of(listing(many[0])) == [theirs.url]
        assert reach.relays_of(listing(few)) == []


async def test_a_relay_is_let_go_when_nobody_is_reached_there_any_more(stack, ours, theirs) -> None:
    reach, pool, reached = await lost(stack, ours, most=4)
    first, second = SecretKey.generate(), SecretKey.generate()
    for key in (first, second):
        reach.holds(listing(key, theirs.url))
    await until(lambda: len(reached) == 2)
    reach.gone(first.public)
    await asyncio.sleep(0.3)
    assert theirs.url in pool.urls
    reach.gone(second.public)
    await until(lambda: pool.urls == [ours.url])


async def test_heartbeats_that_come_while_relays_are_looked_for_do_not_put_it_off(stack, ours) -> None:
    provider, asked = SecretKey.generate(), 0

    async def slow(host: str) -> Iterable[str]:
        nonlocal asked
        asked += 1
        assert reach.holds(replace(listing(provider, "wss://other.example.com"), queue_s=float(asked)))
        return []

    reach, _, reached = await lost(stack, ours, most=4, resolve=slow)
    assert reach.holds(listing(provider, "wss://other.example.com"))
    await until(lambda: reached == [provider.public])
    assert asked == 1


class Changing:
    """A fake pool whose queries find no list, while those of `changing` say each time that they are elsewhere."""

    urls = OWN

    def __init__(self) -> None:
        self.queries = 0
        self.changing: list[str] = []
        self.reach: Reach

    async def query(self, filters: tuple[Filter, ...], *, timeout: float) -> list[Event]:
        self.queries += 1
        await asyncio.sleep(0)
        for provider in self.changing:
            self.reach.holds(Listing(provider, relays=(f"wss://{self.queries}.example.com",)))
        return []

    async def remove(self, url: str) -> None:
        raise AssertionError("none was added")


async def test_providers_that_are_elsewhere_each_time_keep_nobody_else_from_being_reached() -> None:
    pool = Changing()
    pool.reach = reach = Reach(pool, most=1, resolve=lambda host: asyncio.sleep(0, []))  # type: ignore[arg-type]
    pool.changing = [f"{n:064x}" for n in range(250)]
    reached: list[str] = []
    reach.reached = reached.append
    for provider in (*pool.changing, "f" * 64):
        assert reach.holds(Listing(provider, relays=("wss://0.example.com",)))
    following = asyncio.create_task(reach.run())
    await until(lambda: len(reached) >= 251)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert sorted(reached) == [*pool.changing, "f" * 64]
    # Each of them was looked for twice at the most.
    assert pool.queries <= 4


async def test_an_error_while_relays_are_looked_for_keeps_nobody_from_being_reached(monkeypatch) -> None:
    monkeypatch.setattr(forever, "REST_S", 0.01)
    pool, faults = Changing(), [ValueError("a fault of ours")]
    reach = Reach(pool, most=1, resolve=lambda host: asyncio.sleep(0, []))  # type: ignore[arg-type]
    query, reached = pool.query, []
    reach.reached = reached.append

    async def fails_once(filters: tuple[Filter, ...], *, timeout: float) -> list[Event]:
        if faults:
            raise faults.pop()
        return await query(filters, timeout=timeout)

    monkeypatch.setattr(pool, "query", fails_once)
    following = asyncio.create_task(reach.run())
    assert reach.holds(Listing("a" * 64, relays=("wss://0.example.com",)))
    await until(lambda: reached == ["a" * 64])
    assert reach.holds(Listing("b" * 64, relays=("wss://0.example.com",)))
    await until(lambda: reached == ["a" * 64, "b" * 64])
    assert not faults and not following.done()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
