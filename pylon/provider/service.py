"""The service provider (NIP-90): intake, runner, outbox and presence around one journal.

Whatever must survive a crash is in the journal. `start` first takes up what the last process left there.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from pylon.clock import Clock, SystemClock
from pylon.inference.service import EngineStatus, InferenceService
from pylon.money.invoices.receiver import Receiver
from pylon.money.wallet import Wallet
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.contents import Contents
from pylon.provider.customers import Customers
from pylon.provider.housekeeping import Housekeeping
from pylon.provider.intake.crowd import Crowd
from pylon.provider.intake.intake import Intake, for_provider
from pylon.provider.intake.not_taken import NotTaken
from pylon.provider.intake.open_cancels import OpenCancels
from pylon.provider.intake.refused import Refused
from pylon.provider.journal import Journal
from pylon.provider.judge import Judge
from pylon.provider.occupancy import Occupancy
from pylon.provider.outbox import Outbox
from pylon.provider.pauses import Pauses
from pylon.provider.payments.asking import Asking
from pylon.provider.payments.settlement import AccountSettlement, CreditPolicy, FreeSettlement, Settlement
from pylon.provider.payments.till import Till
from pylon.provider.presence import Presence
from pylon.provider.recovery import Recovery
from pylon.provider.replies import Replies
from pylon.provider.settings import ProviderSettings
from pylon.provider.work.in_hand import InHand
from pylon.provider.work.results import Results
from pylon.provider.work.runner import Runner
from pylon.provider.writable import Writable
from pylon.store.database import Database

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


@dataclass(frozen=True, slots=True)
class Payments:
    """How payments are received: through this wallet, on these terms, and booked in this database."""

    database: Database
    wallet: Wallet
    receiver: Receiver
    credit: CreditPolicy = field(default_factory=CreditPolicy)

    def asking(self, clock: Clock) -> Asking:
        """What asks customers for payments."""
        return Asking(database=self.database, wallet=self.wallet, receiver=self.receiver, clock=clock)


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
        self._outbox = outbox = Outbox(pool, clock)
        replies = Replies(secret=secret, keys=keys, outbox=outbox, clock=clock, trusted=settings.trusted.__contains__)
        accounts = None if payments is None else AccountSettlement(journal, payments.credit)
        settlement: Settlement = accounts or FreeSettlement(journal)
        self._customers = Customers()
        results = Results(
            secret=secret,
            keys=keys,
            inference=inference,
            journal=journal,
            settlement=settlement,
            outbox=outbox,
            replies=replies,
            clock=clock,
            customers=self._customers,
        )
        self._runner = Runner(
            inference=inference,
            journal=journal,
            contents=Contents(journal, keys),
            results=results,
            replies=replies,
            clock=clock,
            processing_after_s=settings.processing_after_s,
        )
        self._till: Till | None = None
        if payments is not None and accounts is not None:
            self._till = Till(
                asking=payments.asking(clock),
                settlement=accounts,
                replies=replies,
                clock=clock,
                run=self._runner.add,
                end=results.end,
                most=settings.max_unpaid,
            )
        self._in_hand = InHand(till=self._till, runner=self._runner)
        self._open_cancels = OpenCancels(pool, self._in_hand.has, self._in_hand.take_back)
        self._disk = Writable(journal=journal, clock=clock, changed=self._changed)
        self._pauses = Pauses(journal, self._disk)
        occupancy = Occupancy(
            inference=inference,
            model=model,
            runner=self._runner,
            in_hand=self._in_hand,
            pauses=self._pauses,
            customers=self._customers,
        )
        self._presence = Presence(
            secret=secret,
            pool=pool,
            settings=settings,
            model=model,
            clock=clock,
            engine=inference.status,
            load=occupancy.room,
        )
        judge = Judge(provider=secret.public, keys=keys, settings=settings, clock=clock, load=occupancy.load)
        self._not_taken = NotTaken(
            trusted=settings.trusted.__contains__,
            journal=journal,
            in_hand=self._in_hand,
            results=results,
            replies=replies,
            refused=Refused(journal, clock),
            crowd=Crowd(replies),
            outbox=outbox,
            clock=clock,
            customers=self._customers,
        )
        self._intake = Intake(
            pool=pool,
            filters=lambda: for_provider(secret.public, settings, clock.wall(), since),
            judge=judge,
            settlement=settlement,
            in_hand=self._in_hand,
            open_cancels=self._open_cancels,
            not_taken=self._not_taken,
            cannot_write=self._disk.failed,
        )
        self._recovery = Recovery(
            journal=journal, judge=judge, in_hand=self._in_hand, open_cancels=self._open_cancels, results=results
        )
        self._housekeeping = Housekeeping(journal=journal, settlement=settlement, clock=clock)
        self._unwatch: Callable[[], None] | None = None

    async def start(self) -> None:
        """Takes up what the last process left, then listens for requests and announces itself."""
        await self._pauses.start()
        self._customers.restore(await self._journal.customers(LOOK_BACK_JOBS))
        if self._till is not None:
            await self._till.start()
        await self._recovery.run()
        await self._not_taken.start()
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
            if self._till is not None:
                parts.push_async_callback(self._till.close)
            parts.push_async_callback(self._disk.close)
            parts.push_async_callback(self._not_taken.close)
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
            awaiting_funds=self._in_hand.unpaid,
            wallet_down=self._in_hand.wallet_down,
            engine=self._inference.status(),
            latency=self._runner.latency.as_dict(),
            unannounced=self._presence.fault,
            jobs=await self._journal.counts(),
        )

    def _changed(self) -> None:
        self._presence.changed()
