"""A run that was interrupted, and taken up again, over a real relay and with the shipped provider."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pylon.clock import SystemClock
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.server import RelayServer
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.runs.journal import RunJournal
from pylon.swarm.schema import SWARM
from pylon.swarm.settings import SwarmSettings
from tests.opened import opened_database
from tests.swarm.test_exchange import serve
from tests.swarm.test_reservation import cancel
from tests.waiting import until

SPECS = [JobSpec(f"line {n}", max_tokens=8) for n in range(12)]
# Longer than a provider may be silent: it says that it works on it, and relays keep that word.
SLOW_S = 4.0
# Less than an answer may take.
SOON_S = 50.0


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


class Customer:
    """What of one survives its process."""

    def __init__(self, relay: RelayServer, database: Database, group: GroupCommit) -> None:
        self.relay, self.database, self.group, self.secret = relay, database, group, SecretKey.generate()

    async def process(self, stack: AsyncExitStack, providers: set[str]) -> SwarmClient:
        pool = RelayPool([self.relay.url], secret=self.secret)
        pool.start()
        stack.push_async_callback(pool.close)
        swarm = SwarmClient(pool, self.secret, settings=SwarmSettings(own=frozenset(providers), checks=None))
        await stack.enter_async_context(swarm)
        await until(lambda: {listing.provider for listing in swarm.directory} == providers, 30.0)
        return swarm

    async def journal(self, *, resume: bool) -> RunJournal:
        return await RunJournal.open(self.database, self.group, SystemClock(), SPECS, resume=resume)

    async def interrupted(self, swarm: SwarmClient) -> None:
        """A run that is ended when all that is out was heard of, and none of it answered."""
        asking = asyncio.create_task(swarm.map(SPECS, journal=await self.journal(resume=False)))
        await until(lambda: (flights := list(swarm._parts.flights)) and all(one.heard for one in flights), 30.0)
        await cancel(asking)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("same_process", [True, False])
async def test_what_was_taken_back_is_asked_again_at_once_and_held_against_nobody(
    tmp_path: Path, stack: AsyncExitStack, same_process: bool
) -> None:
    relay = await stack.enter_async_context(RelayServer())
    providers = {await serve(stack, relay, tmp_path / f"{n}.db", slots=8, delay_s=SLOW_S) for n in range(2)}
    database, group = await stack.enter_async_context(opened_database(tmp_path / "customer.db", SWARM))
    customer = Customer(relay, database, group)
    async with AsyncExitStack() as first:
        swarm = await customer.process(first, providers)
        await customer.interrupted(swarm)
        if not same_process:
            await first.aclose()
            swarm = await customer.process(stack, providers)
        async with asyncio.timeout(SOON_S):
            outcomes = await swarm.map(SPECS, journal=await customer.journal(resume=True))
        assert all(isinstance(one, Answer) for one in outcomes)
        assert {one.provider for one in outcomes if isinstance(one, Answer)} == providers
        assert [swarm.rest_of(one) for one in providers] == [None, None]
