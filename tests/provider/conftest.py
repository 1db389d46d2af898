"""A provider on a real relay with the stand-in engine."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pylon.clock import Clock, SystemClock
from pylon.inference.child.process import COMMAND
from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.engine import EngineSpec, Generation
from pylon.inference.service import InferenceService
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.nwc.client import NwcWallet
from pylon.money.payments.guard import GuardedWallet
from pylon.money.playbank.bank import PlayBank
from pylon.money.playbank.schema import PLAYBANK
from pylon.money.playbank.service import PlayBankService
from pylon.money.schema import MONEY
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import Journal
from pylon.provider.parts import Payments
from pylon.provider.rows import SCHEMA
from pylon.provider.service import Provider
from pylon.provider.settings import ProviderSettings
from pylon.relay.server import RelayServer
from pylon.store.database import Database
from tests.customer import Customer
from tests.opened import opened_database

MODEL = "stand-in-instant"


@dataclass
class Serving:
    """A provider and what it stands on."""

    provider: Provider
    inference: InferenceService
    journal: Journal
    database: Database
    secret: SecretKey
    stack: AsyncExitStack

    @property
    def public(self) -> str:
        return self.secret.public

    async def stop(self) -> None:
        await self.stack.aclose()

    def hold(self) -> asyncio.Event:
        """From now on the engine is given no job before this is set."""
        let, generate = asyncio.Event(), self.inference.generate

        async def when_let(*args: Any) -> Generation:
            await let.wait()
            return await generate(*args)

        self.inference.generate = when_let  # type: ignore[method-assign]
        return let


type Serve = Callable[..., Awaitable[Serving]]


@pytest.fixture
async def relay() -> AsyncIterator[RelayServer]:
    async with RelayServer() as server:
        yield server


@pytest.fixture
async def serve(relay: RelayServer, tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts a provider: `serve(delay_s=…, slots=…, settings changes…)`. A second call with `secret` restarts."""
    stack = AsyncExitStack()

    async def start(
        *,
        delay_s: float = 0.0,
        slots: int = 4,
        secret: SecretKey | None = None,
        name: str = "a",
        command: Sequence[str] = COMMAND,
        payments: Callable[[Database], Payments] | None = None,
        others: tuple[str, ...] = (),
        provider_clock: Clock | None = None,
        **changes: Any,
    ) -> Serving:
        mine = AsyncExitStack()
        stack.push_async_callback(mine.aclose)
        secret = secret or SecretKey.generate()
        clock = SystemClock()
        database, group = await mine.enter_async_context(
            opened_database(tmp_path / f"{name}.db", SCHEMA, MONEY, label="play")
        )
        pool = RelayPool([relay.url, *others], secret=secret)
        pool.start()
        await pool.opened(10.0)
        mine.push_async_callback(pool.close)
        spec = EngineSpec("instant", MODEL, slots=slots, options={"delay_s": delay_s})
        inference = InferenceService(spec, clock, limits=ChildLimits(backoff_s=0.01), command=command)
        await inference.start()
        mine.push_async_callback(inference.close)
        settings = replace(ProviderSettings(), **changes)
        journal = Journal(database, group)
        provider = Provider(
            secret=secret,
            keys=ConversationKeys(secret),
            pool=pool,
            inference=inference,
            journal=journal,
            settings=settings,
            model=MODEL,
            payments=None if payments is None else payments(database),
            clock=provider_clock,
        )
        await provider.start()
        mine.push_async_callback(provider.close)
        return Serving(provider, inference, journal, database, secret, mine)

    yield start
    await stack.aclose()


@pytest.fixture
async def another_customer(relay: RelayServer) -> AsyncIterator[Callable[[], Awaitable[Customer]]]:
    stack = AsyncExitStack()

    async def make() -> Customer:
        secret = SecretKey.generate()
        pool = RelayPool([relay.url], secret=secret)
        pool.start()
        stack.push_async_callback(pool.close)
        customer = Customer(pool, secret)
        stack.push_async_callback(customer.close)
        return customer

    yield make
    await stack.aclose()


@pytest.fixture
async def customer(another_customer: Callable[[], Awaitable[Customer]]) -> Customer:
    return await another_customer()


class Bank:
    """A playbank on the relay, and wallets at it."""

    def __init__(self, relay, stack, bank, service) -> None:
        self.relay, self.stack, self.bank, self.service = relay, stack, bank, service

    async def wallet(self, account: str, sats: int = 0, read_timeout_s: float = 10.0) -> GuardedWallet:
        if sats:
            await self.bank.faucet(account, Msat.from_sats(sats))
        link = await self.service.open_link(account, (self.relay.url,), can_pay=True)
        pool = RelayPool(link.relays, secret=link.secret)
        pool.start()
        self.stack.push_async_callback(pool.close)
        wallet = NwcWallet(link, pool, SystemClock(), read_timeout_s=read_timeout_s)
        await wallet.start()
        self.stack.push_async_callback(wallet.close)
        return GuardedWallet(wallet, Network.PLAY)


@pytest.fixture
async def bank(relay, tmp_path):
    async with AsyncExitStack() as stack:
        key, clock = SecretKey.generate(), SystemClock()
        database = await Database.open(tmp_path / "bank.db", [PLAYBANK], label="playbank")
        stack.push_async_callback(database.close)
        pool = RelayPool([relay.url], secret=key)
        pool.start()
        stack.push_async_callback(pool.close)
        play = PlayBank(database, key, clock)
        service = PlayBankService(play, key, pool, clock)
        await service.start()
        stack.push_async_callback(service.close)
        yield Bank(relay, stack, play, service)
