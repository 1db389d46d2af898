"""The providers of a benchmark: many in one process, each with its own key, relay connection and `Provider`.

Those of one process share a journal and one stand-in engine. Two such processes share nothing, neither with each
other nor with the customer.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pylon.bench.credit import PRICE, Lending, payments
from pylon.bench.process import Calls, Settings, serve
from pylon.clock import Clock, SystemClock
from pylon.collect import keep_for_good
from pylon.errors import UnreachableError
from pylon.inference.child.supervisor import EngineState
from pylon.inference.engine import EngineSpec, Generation, GenerationRequest, ModelInfo, Progress
from pylon.inference.instant import MODEL_ID
from pylon.inference.service import EngineStatus, InferenceService
from pylon.money.schema import MONEY
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import Journal
from pylon.provider.rows import SCHEMA
from pylon.provider.service import Provider
from pylon.provider.settings import ProviderSettings
from pylon.store.database import Database
from pylon.store.group import GroupCommit

# Providers that connect at once. A relay accepts one connection after another: with all at once the last would time
# out.
START_TOGETHER = 25
READY_S = 60.0
# Slots of the shared engine when none are set: answers that take no time are made as they come.
TOGETHER = 1_024


class EngineShare(InferenceService):
    """The shared engine as one provider sees it: with the slots of a machine of its own."""

    def __init__(self, engine: InferenceService, slots: int) -> None:
        self._engine = engine
        self._slots = slots

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[Progress], None] | None = None
    ) -> Generation:
        return await self._engine.generate(request, on_progress)

    @property
    def follows_schemas(self) -> bool:
        return self._engine.follows_schemas

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def model(self) -> ModelInfo | None:
        return self._engine.model

    @property
    def state(self) -> EngineState:
        return self._engine.state

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        return self._engine.watch(listener)

    def status(self) -> EngineStatus:
        return replace(self._engine.status(), slots=self._slots)


@dataclass(slots=True)
class ProviderGroup:
    """What the providers of this process share. `lending` is None if their work is free and has no accounts."""

    database: Database
    journal: Journal
    inference: InferenceService
    clock: Clock
    lending: Lending | None

    async def start(self, url: str) -> str:
        """Starts one provider on one relay; returns its public key."""
        secret = SecretKey.generate()
        pool = RelayPool([url], secret=secret)
        pool.start()
        await pool.wait_open(READY_S)
        keys = ConversationKeys(secret)
        settings, money = ProviderSettings(), None
        if self.lending is not None:
            settings = ProviderSettings(price=PRICE)
            money = payments(self.database, self.clock, secret.public, self.lending)
        provider = Provider(
            secret=secret,
            keys=keys,
            pool=pool,
            inference=self.inference,
            journal=self.journal,
            settings=settings,
            model=MODEL_ID,
            clock=self.clock,
            payments=money,
        )
        await provider.start()
        return secret.public

    async def start_all(self, urls: list[str], providers: int) -> list[str]:
        """Starts providers, spread evenly over the relays; returns their public keys."""
        room = asyncio.Semaphore(START_TOGETHER)

        async def one(number: int) -> str:
            async with room:
                return await self.start(urls[number % len(urls)])

        return await asyncio.gather(*map(one, range(providers)))


@asynccontextmanager
async def provider_group(settings: Settings) -> AsyncIterator[tuple[object, Calls]]:
    """Opens the group. Settings: `folder` for the journal, `slots` of each provider, `each_s` seconds of a job.

    With `accounts` a customer has one job on trial at each provider, and after the call `lend` any number on credit.
    `together` is how many jobs the shared engine runs at once.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = await Database.open(Path(settings["folder"]) / "pylon.db", [SCHEMA, MONEY], label="play")
        stack.push_async_callback(database.close)
        group = GroupCommit(database)
        group.start()
        stack.push_async_callback(group.close)
        together = settings.get("together", TOGETHER)
        spec = EngineSpec("instant", MODEL_ID, slots=together, options={"delay_s": settings.get("each_s", 0.0)})
        inference = InferenceService(spec, clock)
        await inference.start()
        stack.push_async_callback(inference.close)
        await _ready(inference)
        lending = Lending() if settings.get("accounts") else None
        engine = EngineShare(inference, settings["slots"])
        all_providers = ProviderGroup(database, Journal(database, group), engine, clock, lending)

        async def start(relays: list[str], providers: int) -> dict[str, object]:
            keys = await all_providers.start_all(relays, providers)
            keep_for_good()
            return {"keys": keys}

        async def lend() -> dict[str, object]:
            if lending is not None:
                lending.on = True
            return {}

        # Providers are not closed one by one: each would withdraw its announcement, which nobody reads any more.
        yield {}, {"start": start, "lend": lend}


async def _ready(inference: InferenceService) -> None:
    changed = asyncio.Event()
    unwatch = inference.watch(changed.set)
    try:
        async with asyncio.timeout(READY_S):
            while inference.state != "ready":
                await changed.wait()
                changed.clear()
    except TimeoutError:
        raise UnreachableError(f"the stand-in engine was not ready within {READY_S:g} s") from None
    finally:
        unwatch()


if __name__ == "__main__":
    serve(provider_group)
