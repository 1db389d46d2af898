"""The service provider put together: intake, runner, outbox and presence around one journal.

What survives a crash is in the journal, and `start` first takes up what the last process left.
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
from pylon.provider.closed import Closed
from pylon.provider.contents import Contents
from pylon.provider.housekeeping import Housekeeping
from pylon.provider.intake.intake import Intake, for_provider
from pylon.provider.intake.not_taken import NotTaken
from pylon.provider.intake.open_cancels import OpenCancels
from pylon.provider.intake.refused import Refused
from pylon.provider.journal import Journal
from pylon.provider.judge import Judge
from pylon.provider.occupancy import Occupancy
from pylon.provider.outbox import Outbox
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
    # See `Latency.told`.
    latency: dict[str, dict[str, Any]]
    # Why no relay took the last announcement or heartbeat; empty when one did.
    unannounced: str
    jobs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Left:
    """What is still to be finished here, as memory has it."""

    running: int
    queued: int
    # Results that no relay has said OK to.
    unpublished: int


@dataclass(frozen=True, slots=True)
class Takings:
    """How payment is taken: through this wallet, on these terms, booked in this database."""

    database: Database
    wallet: Wallet
    receiver: Receiver
    credit: CreditPolicy = field(default_factory=CreditPolicy)

    def asking(self, clock: Clock) -> Asking:
        """Who asks for it."""
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
        takings: Takings | None = None,
        since: float = 0.0,
    ) -> None:
        """`takings` is how payment is taken; None serves for free. Requests from before `since` (Unix seconds), which
        the journal may know nothing of, are not looked at."""
        self.settings = settings
        clock = clock or SystemClock()
        self._inference = inference
        self._journal = journal
        self._outbox = outbox = Outbox(pool, clock)
        replies = Replies(secret=secret, keys=keys, outbox=outbox, clock=clock, trusted=settings.trusted.__contains__)
        accounts = None if takings is None else AccountSettlement(journal, takings.credit)
        settlement: Settlement = accounts or FreeSettlement(journal)
        results = Results(
            secret=secret,
            keys=keys,
            inference=inference,
            journal=journal,
            settlement=settlement,
            outbox=outbox,
            replies=replies,
            clock=clock,
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
        if takings is not None and accounts is not None:
            self._till = Till(
                asking=takings.asking(clock),
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
        self._closed = Closed(journal, self._disk)
        occupancy = Occupancy(
            inference=inference, model=model, runner=self._runner, in_hand=self._in_hand, closed=self._closed
        )
        self._presence = Presence(
            secret=secret, pool=pool, settings=settings, clock=clock, engine=inference.status, load=occupancy.room
        )
        judge = Judge(provider=secret.public, keys=keys, settings=settings, clock=clock, load=occupancy.load)
        self._not_taken = NotTaken(
            trusted=settings.trusted.__contains__,
            journal=journal,
            in_hand=self._in_hand,
            results=results,
            replies=replies,
            refused=Refused(journal, clock),
            outbox=outbox,
            clock=clock,
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
        """Takes up what was left, then listens and is seen."""
        await self._closed.start()
        if self._till is not None:
            await self._till.start()
        await self._recovery.run()
        await self._not_taken.start()
        self._intake.start()
        self._open_cancels.start()
        self._presence.start()
        self._housekeeping.start()
        # A model that becomes ready, or falls away, is told at once.
        self._unwatch = self._inference.watch(self._changed)

    async def drain(self, timeout: float) -> bool:
        """Takes nothing new on and finishes what is there; whether all of it was, within `timeout` seconds."""
        self._closed.draining = True
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
        # From the last to the first. Whoever closes this may be cancelled meanwhile, and none of them shall go on.
        async with AsyncExitStack() as parts:
            parts.push_async_callback(self._outbox.close)
            parts.push_async_callback(self._presence.close)
            parts.push_async_callback(self._runner.close)
            if self._till is not None:
                parts.push_async_callback(self._till.close)
            parts.push_async_callback(self._disk.close)
            parts.push_async_callback(self._intake.close)
            parts.push_async_callback(self._open_cancels.close)
            parts.push_async_callback(self._housekeeping.close)

    async def pause(self, reason: str = "owner") -> None:
        """Takes nothing new on, over restarts too; what is there is finished."""
        await self._closed.pause(reason)
        self._changed()

    async def resume(self) -> None:
        """Takes jobs on again."""
        await self._closed.resume()
        self._changed()

    def hold(self, reason: str, told: str) -> None:
        """Takes nothing new on while owner rules hold; empty lets go. A pause by hand lasts beside it.

        `reason` names them, `told` is what customers and heartbeats say.
        """
        if self._closed.hold(reason, told):
            self._changed()

    @property
    def paused(self) -> str:
        """Why nothing is taken on, for its owner, or empty."""
        return self._closed.reason

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits here."""
        return bool(self._runner.running) or len(self._runner.queue) > 0

    @property
    def draining(self) -> bool:
        """Whether it finishes what is there and takes nothing new on, until `resume`."""
        return self._closed.draining

    @property
    def left(self) -> Left:
        """How much there is to be finished. It costs nothing to ask, unlike `status`, which counts the journal."""
        return Left(len(self._runner.running), len(self._runner.queue), self._outbox.waiting)

    async def status(self) -> ProviderStatus:
        """How things stand."""
        return ProviderStatus(
            paused=self.paused,
            draining=self._closed.draining,
            queued=len(self._runner.queue),
            running=len(self._runner.running),
            unpublished=self._outbox.waiting,
            awaiting_funds=self._in_hand.unpaid,
            wallet_down=self._in_hand.wallet_down,
            engine=self._inference.status(),
            latency=self._runner.latency.told(),
            unannounced=self._presence.fault,
            jobs=await self._journal.counts(),
        )

    def _changed(self) -> None:
        # Others hear of it at once.
        self._presence.changed()
