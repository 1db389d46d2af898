"""A provider on a real relay with the stand-in engine, and a customer made of bare events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pylon.clock import SystemClock
from pylon.inference.engine import EngineSpec
from pylon.inference.service import InferenceService
from pylon.jobs.feedback import Feedback, parse_feedback
from pylon.jobs.kinds import FEEDBACK, RESULT_KINDS, RLM_REQUEST
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, open_draft, private_draft
from pylon.jobs.result import JobResult, parse_result
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip44 import ConversationKeys
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import SCHEMA
from pylon.provider.service import Provider
from pylon.provider.settings import ProviderSettings
from pylon.relay.server import RelayServer
from pylon.store.database import Database
from pylon.store.group import GroupCommit

MODEL = "stand-in-instant"


class Customer:
    """Sends events and keeps what comes back."""

    def __init__(self, pool: RelayPool, secret: SecretKey) -> None:
        self.secret = secret
        self.keys = ConversationKeys(secret)
        self.pool = pool
        self.answers: list[Event] = []
        self._arrived = asyncio.Event()
        kinds = frozenset({FEEDBACK, *RESULT_KINDS})
        mine = Filter(kinds=kinds, tags={"p": frozenset({secret.public})})
        self._subscription = pool.subscribe(lambda: (mine,), name="answers")
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for received in self._subscription:
            self.answers.append(received.event)
            self._arrived.set()

    async def close(self) -> None:
        self._task.cancel()
        await self._subscription.close()

    def job(
        self, text: str = "How many legs has a spider?", *, expires_in: int = 60, **parameters: Any
    ) -> JobRequest:
        now = int(SystemClock().wall())
        return JobRequest(text, JobParameters(**parameters), RLM_REQUEST, expiration=now + expires_in)

    async def ask(self, provider: str, job: JobRequest, *, private: bool = True) -> Event:
        now = int(SystemClock().wall())
        draft = (
            private_draft(job, provider, self.keys, created_at=now)
            if private
            else open_draft(job, provider, salt="5eed", created_at=now)
        )
        return await self.send(draft)

    async def send(self, draft: EventDraft) -> Event:
        event = self.secret.sign(draft)
        await self.pool.publish(event)
        return event

    def results(self, request: Event) -> list[JobResult]:
        return [parse_result(e, self.keys) for e in self._of(request) if e.kind in RESULT_KINDS]

    def feedback(self, request: Event) -> list[Feedback]:
        return [parse_feedback(e, self.keys) for e in self._of(request) if e.kind == FEEDBACK]

    def _of(self, request: Event) -> list[Event]:
        return [event for event in self.answers if event.tag("e") == request.id]

    async def until[T](self, found: Callable[[], T], timeout: float = 20.0) -> T:
        """The first true value of `found`, looked for after each answer."""
        async with asyncio.timeout(timeout):
            while not (value := found()):
                self._arrived.clear()
                await self._arrived.wait()
        return value

    async def result(self, request: Event) -> JobResult:
        return (await self.until(lambda: self.results(request)))[0]

    async def refusal(self, request: Event) -> Feedback:
        found = await self.until(lambda: [f for f in self.feedback(request) if f.code is not None])
        return found[0]


@dataclass
class Serving:
    """A provider and what it stands on."""

    provider: Provider
    inference: InferenceService
    database: Database
    secret: SecretKey
    stack: AsyncExitStack

    @property
    def public(self) -> str:
        return self.secret.public

    async def stop(self) -> None:
        await self.stack.aclose()


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
        *, delay_s: float = 0.0, slots: int = 4, secret: SecretKey | None = None, name: str = "a", **changes: Any
    ) -> Serving:
        mine = AsyncExitStack()
        stack.push_async_callback(mine.aclose)
        secret = secret or SecretKey.generate()
        clock = SystemClock()
        database = await Database.open(tmp_path / f"{name}.db", [SCHEMA], label="play")
        mine.push_async_callback(database.close)
        group = GroupCommit(database)
        group.start()
        mine.push_async_callback(group.close)
        pool = RelayPool([relay.url], secret=secret)
        pool.start()
        mine.push_async_callback(pool.close)
        inference = InferenceService(EngineSpec("instant", MODEL, slots=slots, options={"delay_s": delay_s}), clock)
        await inference.start()
        mine.push_async_callback(inference.close)
        settings = replace(ProviderSettings(), **changes)
        provider = Provider(secret, ConversationKeys(secret), pool, inference, database, group, settings, MODEL)
        await provider.start()
        mine.push_async_callback(provider.close)
        return Serving(provider, inference, database, secret, mine)

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
