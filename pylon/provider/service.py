"""The service provider (NIP-90): intake, runner, outbox and presence around one journal.

Whatever must survive a crash is in the journal. `start` first takes up what the last process left there. `parts` puts
the parts together.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from pylon.clock import Clock, SystemClock
from pylon.inference.service import EngineStatus, InferenceService
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.customers import Customers
from pylon.provider.housekeeping import Housekeeping
from pylon.provider.journal import Journal
from pylon.provider.occupancy import Occupancy
from pylon.provider.parts import Payments, Surroundings, answering, listening
from pylon.provider.pauses import Pauses
from pylon.provider.presence import Presence
from pylon.provider.settings import ProviderSettings
from pylon.provider.writable import Writable

# How many jobs of earlier processes are looked through for whom they were done.
LOOK_BACK_JOBS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """What `pylon status` shows of the provider."""

    paused: str
    draining: bool
    queued: int
    running: int
    unpublished: int
    awaiting_funds: int
    wallet_down: bool
    engine: EngineStatus
    # By phase; see `Latency.as_dict`.
    latency: dict[str, dict[str, Any]]
    # Why no relay took the last announcement or heartbeat; empty when one did.
    unannounced: str
    jobs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Left:
    """How much is still to be finished, by what is in memory."""

    running: int
    queued: int
    # Results and feedback that no relay has acknowledged.
    unpublished: int


class Provider:
    """One node's serving side."""

    def __init__(
        self,
        *,
        secret: SecretKey,
        keys: ConversationKeys,
        pool: RelayPool,
        inference: InferenceService,
        journal: Journal,
        settings: ProviderSettings,
        model: str,
        clock: Clock | None = None,
        payments: Payments | None = None,
        since: float = 0.0,
    ) -> None:
        """Without `payments` all work is free. Requests from before `since` (Unix seconds) are ignored: the journal
        may not know that they were answered."""
        self.settings = settings
        clock = clock or SystemClock()
        self._inference = inference
        self._journal = journal
        self._customers = Customers()
        around = Surroundings(
            secret=secret,
            keys=keys,
            pool=pool,
            inference=inference,
            journal=journal,
            settings=settings,
            clock=clock,
            customers=self._customers,
        )
        answers = answering(around, payments)
        self._outbox, self._runner = answers.outbox, answers.runner
        self._payment_gate, self._active_jobs = answers.payment_gate, answers.active_jobs
        self._disk = Writable(journal=journal, clock=clock, changed=self._changed)
        self._pauses = Pauses(journal, self._disk)
        occupancy = Occupancy(
            inference=inference,
            model=model,
            runner=self._runner,
            active_jobs=self._active_jobs,
            pauses=self._pauses,
            customers=self._customers,
        )
        listens = listening(around, answers, occupancy, self._disk, since)
        self._intake, self._refusals = listens.intake, listens.refusals
        self._open_cancels, self._recovery = listens.open_cancels, listens.recovery
        self._presence = Presence(
            secret=secret,
            pool=pool,
            settings=settings,
            model=model,
            clock=clock,
            engine=inference.status,
            load=occupancy.room,
        )
        self._housekeeping = Housekeeping(journal=journal, settlement=answers.settlement, clock=clock)
        self._unwatch: Callable[[], None] | None = None

    async def start(self) -> None:
        """Takes up what the last process left, then listens for requests and announces itself."""
        await self._pauses.start()
        self._customers.restore(await self._journal.customers(LOOK_BACK_JOBS))
        if self._payment_gate is not None:
            await self._payment_gate.start()
        await self._recovery.run()
        await self._refusals.start()
        self._intake.start()
        self._open_cancels.start()
        self._presence.start()
        self._housekeeping.start()
        # A model that becomes ready or fails is announced at once.
        self._unwatch = self._inference.watch(self._changed)

    async def drain(self, timeout: float) -> bool:
        """Takes no new jobs and finishes those that are here. Returns whether all were, within `timeout` seconds."""
        self._pauses.draining = True
        self._changed()
        try:
            async with asyncio.timeout(timeout):
                await self._runner.wait_idle()
                return await self._outbox.wait_empty(timeout)
        except TimeoutError:
            return False

    async def close(self) -> None:
        """Stops now. Unfinished jobs stay in the journal."""
        if self._unwatch is not None:
            self._unwatch()
        # The stack closes the last one first, and all of them even if one fails or this task is cancelled.
        async with AsyncExitStack() as parts:
            parts.push_async_callback(self._outbox.close)
            parts.push_async_callback(self._presence.close)
            parts.push_async_callback(self._runner.close)
            if self._payment_gate is not None:
                parts.push_async_callback(self._payment_gate.close)
            parts.push_async_callback(self._disk.close)
            parts.push_async_callback(self._refusals.close)
            parts.push_async_callback(self._intake.close)
            parts.push_async_callback(self._open_cancels.close)
            parts.push_async_callback(self._housekeeping.close)

    async def pause(self, reason: str = "owner") -> None:
        """Takes no new jobs until `resume`, even after a restart. Jobs that are here are finished."""
        await self._pauses.pause(reason)
        self._changed()

    async def resume(self) -> None:
        """Takes jobs again, unless an owner rule or the disk forbids it."""
        await self._pauses.resume()
        self._changed()

    def hold(self, reason: str, public_reason: str) -> None:
        """Takes no new jobs while owner rules hold; an empty `reason` ends that, but not a pause by hand.

        `reason` names the rules to the owner; `public_reason` is what customers and heartbeats say.
        """
        if self._pauses.hold(reason, public_reason):
            self._changed()

    @property
    def paused(self) -> str:
        """Why no jobs are taken, for the owner to read; empty if they are."""
        return self._pauses.reason

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits here."""
        return bool(self._runner.running) or len(self._runner.queue) > 0

    @property
    def draining(self) -> bool:
        """Whether a drain began, which only `resume` ends."""
        return self._pauses.draining

    @property
    def left(self) -> Left:
        """How much is still to be finished. Cheap, unlike `status`, which counts the journal's rows."""
        return Left(len(self._runner.running), len(self._runner.queue), self._outbox.waiting)

    async def status(self) -> ProviderStatus:
        """What `pylon status` shows. Raises `sqlite3.Error`."""
        return ProviderStatus(
            paused=self.paused,
            draining=self._pauses.draining,
            queued=len(self._runner.queue),
            running=len(self._runner.running),
            unpublished=self._outbox.waiting,
            awaiting_funds=self._active_jobs.unpaid,
            wallet_down=self._active_jobs.wallet_down,
            engine=self._inference.status(),
            latency=self._runner.latency.as_dict(),
            unannounced=self._presence.fault,
            jobs=await self._journal.counts(),
        )

    def _changed(self) -> None:
        self._presence.changed()
