"""Prompts to providers and back over a real relay: the shipped provider with its stand-in engine, no fake between."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pylon.clock import SystemClock
from pylon.errors import UnreachableError
from pylon.inference.engine import EngineSpec
from pylon.inference.service import InferenceService
from pylon.money.schema import MONEY
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import Journal
from pylon.provider.rows import SCHEMA
from pylon.provider.service import Provider
from pylon.provider.settings import ProviderSettings
from pylon.relay.server import RelayServer
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer
from pylon.swarm.settings import DispatchSettings, SwarmSettings
from tests.fault_relay import FaultRelay
from tests.opened import opened_database
from tests.waiting import until

MODEL = "stand-in-instant"


@pytest.fixture
async def relay() -> AsyncIterator[RelayServer]:
    async with RelayServer() as server:
        yield server


async def serve(
    stack: AsyncExitStack,
    relay: RelayServer | FaultRelay,
    path: Path,
    *,
    slots: int = 4,
    delay_s: float = 0.02,
    others: tuple[str, ...] = (),
) -> str:
    """Starts a provider; its public key."""
    secret = SecretKey.generate()
    database, group = await stack.enter_async_context(opened_database(path, SCHEMA, MONEY, label="play"))
    pool = RelayPool([relay.url, *others], secret=secret)
    pool.start()
    stack.push_async_callback(pool.close)
    spec = EngineSpec("instant", MODEL, slots=slots, options={"delay_s": delay_s})
    inference = InferenceService(spec, SystemClock())
    await inference.start()
    stack.push_async_callback(inference.close)
    journal = Journal(database, group)
    keys = ConversationKeys(secret)
    provider = Provider(
        secret=secret,
        keys=keys,
        pool=pool,
        inference=inference,
        journal=journal,
        settings=ProviderSettings(),
        model=MODEL,
    )
    await provider.start()
    stack.push_async_callback(provider.close)
    return secret.public


async def test_jobs_are_spread_over_real_providers_and_answered_in_order(relay: RelayServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        keys = {await serve(stack, relay, tmp_path / f"{n}.db") for n in range(2)}
        secret = SecretKey.generate()
        pool = RelayPool([relay.url], secret=secret)
        pool.start()
        stack.push_async_callback(pool.close)
        swarm = await stack.enter_async_context(SwarmClient(pool, secret))
        outcomes = await swarm.map([f"What is {n} + {n}?" for n in range(40)])
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        assert len(answers) == 40
        assert set(Counter(answer.provider for answer in answers)) == keys
        assert all(answer.model == MODEL and answer.usage is not None and answer.attempts == 1 for answer in answers)


async def customer(
    stack: AsyncExitStack, relay: RelayServer, *, others: tuple[str, ...] = (), **settings: Any
) -> SwarmClient:
    """Starts a customer."""
    secret = SecretKey.generate()
    pool = RelayPool([relay.url, *others], secret=secret)
    pool.start()
    stack.push_async_callback(pool.close)
    rules = SwarmSettings(checks=None, **settings)
    return await stack.enter_async_context(SwarmClient(pool, secret, settings=rules))


async def test_an_answer_is_heard_piece_by_piece_while_it_is_made(relay: RelayServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        await serve(stack, relay, tmp_path / "provider.db", delay_s=4.0)
        swarm = await customer(stack, relay)
        assert await swarm.caught_up()
        *heard, answer = [piece async for piece in swarm.stream("Tell a story of a lighthouse")]
        assert isinstance(answer, Answer) and answer.attempts == 1
        # Each is the whole text so far.
        assert len(heard) > 1
        for earlier, later in pairwise([*heard, answer.text]):
            assert isinstance(later, str) and isinstance(earlier, str)
            assert later.startswith(earlier)
        assert heard[0] != answer.text


async def test_jobs_that_wait_behind_those_of_others_are_taken_to_who_is_done(
    relay: RelayServer, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        crowded, free = [await serve(stack, relay, tmp_path / f"{n}.db", slots=1, delay_s=1.0) for n in range(2)]
        others = [await customer(stack, relay, allow=frozenset({crowded})) for _ in range(6)]
        maps = [asyncio.create_task(other.map(["one", "two"])) for other in others]
        await until(lambda: all(other._parts.deciders.dispatcher.in_flight >= 2 for other in others))
        ours = await customer(stack, relay)
        assert await ours.caught_up()
        outcomes = await ours.map([f"question {n}" for n in range(4)])
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        assert len(answers) == 4
        # A machine takes two at most, so two of the four began at the crowded one; the first may have had its turn.
        moved = [answer for answer in answers if answer.attempts == 2]
        assert moved and {answer.provider for answer in moved} == {free}
        for each in maps:
            each.cancel()
        await asyncio.gather(*maps, return_exceptions=True)


async def test_a_relay_without_providers_says_that_nobody_is_there(relay: RelayServer) -> None:
    secret = SecretKey.generate()
    pool = RelayPool([relay.url], secret=secret)
    pool.start()
    settings = SwarmSettings(dispatch=DispatchSettings(patience_s=0.3))
    async with SwarmClient(pool, secret, settings=settings) as swarm:
        assert await swarm.caught_up()
        with pytest.raises(UnreachableError, match="0 providers heard of, 0 alive"):
            await swarm.complete("Anybody?")
    await pool.close()


async def test_a_relay_that_is_gone_costs_no_job_a_second_try_where_another_is_there(
    relay: RelayServer, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        other = RelayServer()
        async with other:
            await serve(stack, relay, tmp_path / "a.db", others=(other.url,))
            swarm = await customer(stack, relay, others=(other.url,))
            assert all(isinstance(one, Answer) for one in await swarm.map([f"before {n}" for n in range(10)]))
        await until(lambda: swarm._parts.relays.unused == {other.url})
        outcomes = await swarm.map([f"after {n}" for n in range(10)])
        assert [one.attempts for one in outcomes] == [1] * 10
