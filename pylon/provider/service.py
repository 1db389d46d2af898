"""The service provider put together: intake, runner, outbox and presence around one journal.

What survives a crash is in the journal. `start` first takes up what the last process left: results that no
relay has acknowledged are published again, jobs that have none are run again.
"""

import asyncio
from dataclasses import dataclass, field

from pylon import log
from pylon.clock import Clock, SystemClock
from pylon.inference.service import EngineStatus, InferenceService
from pylon.jobs.codes import ErrorCode
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip44 import ConversationKeys
from pylon.nostr.pool import RelayPool
from pylon.provider.admission import Load
from pylon.provider.intake import Intake
from pylon.provider.journal import JobState, Journal, Row
from pylon.provider.outbox import Outbox
from pylon.provider.presence import Presence
from pylon.provider.replies import Replies
from pylon.provider.runner import Runner
from pylon.provider.settings import ProviderSettings
from pylon.store.database import Database
from pylon.store.group import GroupCommit

logger = log.get("provider")

# Answers are kept until nobody may ask for them again; the numbers of a job for as long as an owner looks back.
KEEP_RESULTS_S = 3_600
KEEP_ROWS_S = 90 * 86_400
HOUSEKEEPING_S = 600
MODEL_WATCH_S = 0.5
PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """What `pylon status` shows of the provider."""

    paused: str
    draining: bool
    queued: int
    running: int
    unpublished: int
    engine: EngineStatus
    jobs: dict[str, int] = field(default_factory=dict)


class Provider:
    """One node's serving side."""

    def __init__(
        self,
        secret: SecretKey,
        keys: ConversationKeys,
        pool: RelayPool,
        inference: InferenceService,
        database: Database,
        group: GroupCommit,
        settings: ProviderSettings,
        model: str,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        self._inference = inference
        self._model = model
        self._journal = Journal(database, group)
        self._outbox = Outbox(pool, self._clock.wall)
        replies = Replies(secret, keys, self._outbox, self._clock, settings.trusted.__contains__)
        self._runner = Runner(
            secret, keys, inference, self._journal, self._outbox, replies, self._clock, settings.processing_after_s
        )
        self._intake = Intake(
            secret.public,
            keys,
            pool,
            self._journal,
            self._runner,
            replies,
            self._outbox,
            settings,
            self._clock,
            self._load,
        )
        self._presence = Presence(secret, pool, settings, self._clock, inference.status, self._room)
        self._paused = ""
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Takes up what was left, then listens and is seen."""
        self._paused = await self._journal.setting(PAUSED)
        self._outbox.start()
        self._runner.start()
        await self._recover()
        self._intake.start()
        self._presence.start()
        self._tasks = [
            asyncio.create_task(self._housekeeping(), name="housekeeping"),
            asyncio.create_task(self._watch_model(), name="model watch"),
        ]

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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._intake.close()
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

    async def status(self) -> ProviderStatus:
        """How things stand."""
        return ProviderStatus(
            self._paused,
            self._draining,
            len(self._runner.queue),
            len(self._runner.running),
            self._outbox.waiting,
            self._inference.status(),
            await self._journal.counts(),
        )

    async def jobs(self, *, limit: int = 50, state: JobState | None = None) -> list[Row]:
        """The newest jobs."""
        return await self._journal.rows(limit=limit, state=state)

    async def _recover(self) -> None:
        again = 0
        for pending in await self._journal.pending():
            if pending.result is not None:
                # The result's own first `e` tag names the request; only the result is kept once it is signed.
                self._runner.publish(pending.result, pending.result.tag("e") or "", pending.relay)
                continue
            job = self._intake.restore(pending.event, pending.relay, pending.received_at)
            if job is None:
                await self._journal.ended(
                    pending.event.id,
                    JobState.EXPIRED,
                    code=ErrorCode.EXPIRED.value,
                    finished_at=self._clock.wall(),
                )
                continue
            again += 1
            self._runner.add(job)
        if again:
            logger.info("taking up jobs that were left", jobs=again)

    def _load(self, customer: str) -> Load:
        engine = self._inference.status()
        sha256 = "" if engine.model is None else engine.model.sha256
        running = sum(1 for r in self._runner.running.values() if r.job.request.customer == customer)
        paused = "draining" if self._draining else self._paused
        if engine.state == "failed":
            paused = paused or "engine"
        return Load(
            ((self._model, sha256),),
            len(self._runner.queue) + len(self._runner.running),
            self._runner.queue.of_customer(customer) + running,
            paused,
        )

    def _room(self) -> tuple[int, float, str]:
        engine = self._inference.status()
        waiting = len(self._runner.queue)
        free = max(0, engine.slots - len(self._runner.running) - waiting)
        queue_s = waiting / engine.slots * self._runner.seconds_per_job if waiting else 0.0
        return free, queue_s, "draining" if self._draining else self._paused

    async def _watch_model(self) -> None:
        state = self._inference.status().state
        while True:
            await asyncio.sleep(MODEL_WATCH_S)
            now = self._inference.status().state
            if now != state:
                state = now
                self._presence.changed()

    async def _housekeeping(self) -> None:
        while True:
            now = self._clock.wall()
            await self._journal.forget(results_before=now - KEEP_RESULTS_S, rows_before=now - KEEP_ROWS_S)
            await asyncio.sleep(HOUSEKEEPING_S)
