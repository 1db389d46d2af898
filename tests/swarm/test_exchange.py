"""Prompts to providers and back over a real relay: the shipped provider with its stand-in engine, no fake between."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pylon.clock import SystemClock
from pylon.errors import UnreachableError
from pylon.inference.engine import EngineSpec
from pylon.inference.service import InferenceService
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip44 import ConversationKeys
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import SCHEMA, Journal
from pylon.provider.service import Provider
from pylon.provider.settings import ProviderSettings
from pylon.relay.server import RelayServer
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer
from pylon.swarm.settings import DispatchSettings, SwarmSettings
from tests.fault_relay import FaultRelay

MODEL = "stand-in-instant"


@pytest.fixture
async def relay() -> AsyncIterator[RelayServer]:
    async with RelayServer() as server:
        yield server


async def serve(stack: AsyncExitStack, relay: RelayServer | FaultRelay, path: Path) -> str:
    """Starts a provider; its public key."""
    secret = SecretKey.generate()
    database = await Database.open(path, [SCHEMA], label="play")
    stack.push_async_callback(database.close)
    group = GroupCommit(database)
    group.start()
    stack.push_async_callback(group.close)
    pool = RelayPool([relay.url], secret=secret)
    pool.start()
    stack.push_async_callback(pool.close)
    spec = EngineSpec("instant", MODEL, slots=4, options={"delay_s": 0.02})
    inference = InferenceService(spec, SystemClock())
    await inference.start()
    stack.push_async_callback(inference.close)
    journal = Journal(database, group)
    keys = ConversationKeys(secret)
    provider = Provider(secret, keys, pool, inference, journal, ProviderSettings(), MODEL)
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
