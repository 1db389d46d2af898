"""The service provider put together: intake, runner, outbox and presence around one journal.

What survives a crash is in the journal. `start` first takes up what the last process left: results that no
relay has acknowledged are published again, jobs that have none are run again.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pylon import log
from pylon.clock import Clock, SystemClock
from pylon.forever import forever
from pylon.inference.service import EngineStatus, InferenceService
from pylon.jobs.codes import ErrorCode
from pylon.money.receiver import Receiver
from pylon.money.wallet import Wallet
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip44 import ConversationKeys
from pylon.nostr.pool import RelayPool
from pylon.provider import regulars
from pylon.provider.admission import Load
from pylon.provider.asking import Asking
from pylon.provider.intake import Intake
from pylon.provider.journal import Journal
from pylon.provider.outbox import Outbox
from pylon.provider.presence import Presence
from pylon.provider.queue import Job
from pylon.provider.replies import Replies
from pylon.provider.results import Results
from pylon.provider.rows import JobState
from pylon.provider.runner import Runner
from pylon.provider.settings import ProviderSettings
from pylon.provider.settlement import AccountSettlement, CreditPolicy, FreeSettlement, Settlement
from pylon.provider.till import Till
from pylon.store.database import Database

logger = log.get("provider")

# Answers are kept until nobody may ask for them again; the numbers of a job for as long as an owner looks back.
KEEP_RESULTS_S = 3_600
KEEP_ROWS_S = 90 * 86_400
HOUSEKEEPING_S = 600
PAUSED, WRITTEN = "paused", "written_again"
# So often it is tried whether something can be written, after something could not.
WRITE_AGAIN_S = 10.0


@dataclass(frozen=True, slots=True)
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
    jobs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Takings:
    """How payment is taken: through this wallet, on these terms, booked in this database."""

    database: Database
    wallet: Wallet
    receiver: Receiver
    credit: CreditPolicy = field(default_factory=CreditPolicy)


class Provider:
    """One node's serving side."""

    def __init__(
        self,
        secret: SecretKey,
        keys: ConversationKeys,
        pool: RelayPool,
        inference: InferenceService,
        journal: Journal,
        settings: ProviderSettings,
        model: str,
        clock: Clock | None = None,
        takings: Takings | None = None,
    ) -> None:
        """`takings` is how payment is taken; None serves for free."""
        self.settings = settings
        self._clock = clock or SystemClock()
        self._inference = inference
        self._model = model
        self._journal = journal
        self._outbox = Outbox(pool, self._clock.wall)
        replies = Replies(secret, keys, self._outbox, self._clock, settings.trusted.__contains__)
        accounts = None if takings is None else AccountSettlement(journal, settings.price, takings.credit)
        self._accounts = accounts
        self._settlement: Settlement = accounts or FreeSettlement(journal)
        self._results = Results(
            secret=secret,
            keys=keys,
            inference=inference,
            journal=journal,
            settlement=self._settlement,
            outbox=self._outbox,
            replies=replies,
            clock=self._clock,
        )
        self._runner = Runner(
            inference=inference,
            journal=journal,
            results=self._results,
            replies=replies,
            clock=self._clock,
            processing_after_s=settings.processing_after_s,
        )
        self._till: Till | None = None
        if takings is not None and accounts is not None:
            self._till = Till(
                asking=Asking(
                    database=takings.database,
                    wallet=takings.wallet,
                    receiver=takings.receiver,
                    clock=self._clock,
                ),
                settlement=accounts,
                replies=replies,
                clock=self._clock,
                run=self._runner.add,
                most=settings.max_unpaid,
            )
        self._intake = Intake(
            secret.public,
            keys,
            pool,
            self._journal,
            self._settlement,
            self._till,
            self._runner,
            replies,
            self._outbox,
            settings,
            self._clock,
            self._load,
            self._cannot_write,
        )
        self._presence = Presence(secret, pool, settings, self._clock, inference.status, self._room)
        self._paused = ""
        # Which owner rules hold, and what others hear of them. Whoever watches them says so; it is written nowhere.
        self._held, self._held_told = "", ""
        self._draining = False
        self._housekeeper: asyncio.Task[None] | None = None
        # Runs while nothing can be written.
        self._no_disk: asyncio.Task[None] | None = None
        self._unwatch: Callable[[], None] | None = None

    async def start(self) -> None:
        """Takes up what was left, then listens and is seen."""
        self._paused = await self._journal.setting(PAUSED)
        if self._till is not None:
            await self._till.start()
        await self._recover()
        self._intake.start(await self._journal.customers(regulars.MOST))
        self._presence.start()
        self._housekeeper = asyncio.create_task(forever(self._keep_house, "housekeeping"), name="housekeeping")
        # A model that becomes ready, or falls away, is told at once.
        self._unwatch = self._inference.watch(self._presence.changed)

    async def drain(self, timeout: float) -> bool:
        """Takes nothing new on and finishes what is there; whether all of it was, within `timeout` seconds."""
        self._draining = True
        self._presence.changed()
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
        for task in filter(None, (self._housekeeper, self._no_disk)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._intake.close()
        if self._till is not None:
            await self._till.close()
        await self._runner.close()
        await self._presence.close()
        await self._outbox.close()

    async def pause(self, reason: str = "owner") -> None:
        """Takes nothing new on, over restarts too; what is there is finished."""
        await self._journal.remember(PAUSED, reason)
        self._paused = reason
        self._presence.changed()

    async def resume(self) -> None:
        """Takes jobs on again."""
        await self._journal.remember(PAUSED, "")
        self._paused = ""
        self._draining = False
        self._presence.changed()

    def hold(self, reason: str, told: str) -> None:
        """Takes nothing new on while owner rules hold; empty lets go. A pause by hand lasts beside it.

        `reason` names them, `told` is what customers and heartbeats say.
        """
        if (reason, told) != (self._held, self._held_told):
            self._held, self._held_told = reason, told
            self._presence.changed()

    @property
    def paused(self) -> str:
        """Why nothing is taken on, for its owner, or empty."""
        return self._paused or self._held or self._disk

    @property
    def _closed(self) -> str:
        """The same for others."""
        return "draining" if self._draining else self._paused or self._held_told or self._disk

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits here."""
        return bool(self._runner.running) or len(self._runner.queue) > 0

    async def status(self) -> ProviderStatus:
        """How things stand."""
        return ProviderStatus(
            self.paused,
            self._draining,
            len(self._runner.queue),
            len(self._runner.running),
            self._outbox.waiting,
            self._till.waiting if self._till else 0,
            self._till is not None and self._till.down,
            self._inference.status(),
            self._runner.latency.told(),
            await self._journal.counts(),
        )

    async def _recover(self) -> None:
        again = 0
        for pending in await self._journal.pending():
            if pending.result is not None:
                # The result's own first `e` tag names the request; only the result is kept once it is signed.
                self._results.publish(pending.result, pending.result.tag("e") or "", pending.relay)
                continue
            job = self._intake.restore(pending)
            if job is None:
                await self._settlement.end(
                    pending.event.id,
                    JobState.EXPIRED,
                    code=ErrorCode.EXPIRED.value,
                    finished_at=self._clock.wall(),
                )
                continue
            again += 1
            if pending.state is JobState.AWAITING_FUNDS and self._till is not None:
                await self._till.restore(job)
            else:
                self._runner.add(job)
        if again:
            logger.info("taking up jobs that were left", jobs=again)

    def _load(self, customer: str, ahead: Sequence[Job]) -> Load:
        model = self._inference.model
        sha256 = "" if model is None else model.sha256
        own = sum(1 for r in self._runner.running.values() if r.job.request.customer == customer)
        own += sum(1 for job in ahead if job.request.customer == customer)
        paused = self._closed
        if self._inference.state == "failed":
            paused = paused or "engine"
        till = self._till
        unpaid = till.of_customer(customer) if till else 0
        return Load(
            ((self._model, sha256),),
            len(self._runner.queue) + len(self._runner.running) + len(ahead),
            self._runner.queue.of_customer(customer) + own + unpaid,
            paused,
            till is not None and till.down,
            self._inference.follows_schemas,
            unpaid,
        )

    def _room(self) -> tuple[int, float, str]:
        slots = self._inference.slots
        waiting = len(self._runner.queue)
        # Answers that are being written down take no slot, until there are as many of them as slots.
        free = max(0, min(slots - self._runner.computing, 2 * slots - len(self._runner.running)) - waiting)
        queue_s = waiting / slots * self._runner.seconds_per_job if waiting else 0.0
        return free, queue_s, self._closed

    @property
    def _disk(self) -> str:
        """A reason for taking nothing on, or empty."""
        return "disk" if self._no_disk is not None and not self._no_disk.done() else ""

    def _cannot_write(self) -> None:
        if not self._disk:
            logger.error("nothing can be written here; until it can, jobs are refused")
            self._no_disk = asyncio.create_task(self._until_written(), name="until written")
            self._presence.changed()

    async def _until_written(self) -> None:
        while True:
            await asyncio.sleep(WRITE_AGAIN_S)
            try:
                await self._journal.remember(WRITTEN, str(int(self._clock.wall())))
            except sqlite3.Error as error:
                logger.warning("still nothing can be written here", error=str(error))
                continue
            self._presence.changed()
            return

    async def _keep_house(self) -> None:
        now = self._clock.wall()
        await self._journal.forget(results_before=now - KEEP_RESULTS_S, rows_before=now - KEEP_ROWS_S)
        if self._accounts is not None:
            await self._accounts.forget(before=now - KEEP_ROWS_S)
        await asyncio.sleep(HOUSEKEEPING_S)
