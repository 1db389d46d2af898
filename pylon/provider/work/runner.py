"""Runs jobs, from the queue to the published result: as many at once as the engine batches well."""

import asyncio
import sqlite3
from collections.abc import Callable

from pylon import log
from pylon.clock import Clock
from pylon.errors import EngineError, ParameterError, PromptError, WireError
from pylon.inference.engine import Generation, Progress
from pylon.inference.service import InferenceService
from pylon.jobs.codes import ErrorCode
from pylon.jobs.result import Finish
from pylon.money.accounts.usage import Usage
from pylon.nostr.event import Event
from pylon.provider.contents import Contents, put_aside
from pylon.provider.journal import Journal
from pylon.provider.queue import Job, JobQueue
from pylon.provider.replies import Replies
from pylon.provider.rows import JobState
from pylon.provider.work.generation import request_of
from pylon.provider.work.latency import Latency
from pylon.provider.work.overdue import Overdue
from pylon.provider.work.results import Results
from pylon.provider.work.running import Phase, Running
from pylon.provider.work.stream import Stream
from pylon.tasks import end, this_task

logger = log.get("provider")


class Runner:
    """Owns the queue. Each job that runs is one task, until a relay has acknowledged its result."""

    def __init__(
        self,
        *,
        inference: InferenceService,
        journal: Journal,
        contents: Contents,
        results: Results,
        replies: Replies,
        clock: Clock,
        processing_after_s: float,
    ) -> None:
        self.queue = JobQueue()
        self.running: dict[str, Running] = {}
        # How many of the running jobs the engine has.
        self.computing = 0
        self._feeding = False
        # How long the engine takes for a job (a moving average, in seconds), from which waits are estimated.
        self.seconds_per_job = 1.0
        self.latency = Latency()
        self._inference = inference
        self._journal = journal
        self._contents = contents
        self._results = results
        self._replies = replies
        self._clock = clock
        self._overdue = Overdue(
            queue=self.queue,
            replies=replies,
            clock=clock,
            after_s=processing_after_s,
            wait_s=self._wait_s,
            expire=self._expire,
        )
        # Since when each queued job waits (monotonic).
        self._since: dict[str, float] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def close(self) -> None:
        """Stops at once. Jobs that have not ended stay in the journal, and run after the next start."""
        # Otherwise each job that ends would make room for the next.
        self._closed = True
        try:
            await end(*(running.task for running in self.running.values()))
        finally:
            await self._overdue.close()

    async def wait_idle(self) -> None:
        """Waits until no job is queued or running."""
        await self._idle.wait()

    def add(self, job: Job) -> None:
        """Queues a job that is in the journal, and starts it if there is room."""
        self._idle.clear()
        # A job that begins at once keeps its contents: they would be read back at once.
        if self.queue or not self._has_room:
            job = put_aside(job)
        self.queue.push(job)
        self._since[job.id] = self._clock.monotonic()
        self._overdue.add(job)
        self._feed()
        self._overdue.queued(job)

    def say_again(self, job_id: str) -> None:
        """Tells the customer of a queued or running job again how long that waits."""
        running = self.running.get(job_id)
        if (job := running.job if running is not None else self.queue.get(job_id)) is not None:
            self._overdue.say(job)

    async def cancel(self, job_id: str, customer: str) -> None:
        """Cancels a job, if it is this customer's, who pays for what it was sent of the answer."""
        running = self.running.get(job_id)
        if running is not None:
            if running.job.request.customer == customer and running.phase is Phase.COMPUTING:
                running.phase = Phase.STOPPING
                running.task.cancel()
            return
        # Anybody may send a cancellation, so a job of another customer must not lose its place in the queue.
        job = self.queue.get(job_id)
        if job is not None and job.request.customer == customer:
            self.queue.remove(job_id)
            self._overdue.heard(job_id)
            try:
                event = await self._charge_sent(job, job.sent, 0)
            except Exception:
                logger.exception("a withdrawn job could not be charged", job=job_id)
                event = await self._after_error(job)
            if event is not None:
                self._results.publish(event, job_id, job.relay)
            self._check_idle()

    # --- from the queue to the engine ---------------------------------------------------------------------------

    def _feed(self) -> None:
        # An engine that fails at once would call this again while its job is being started.
        if self._feeding or not self.queue:
            return
        self._feeding = True
        try:
            self._fill_slots()
        finally:
            self._feeding = False

    @property
    def _has_room(self) -> bool:
        slots = self._inference.slots
        # A job whose answer is being journaled takes no slot, as long as there are at most `slots` of these.
        return not self._closed and self.computing < slots and len(self.running) < 2 * slots

    def _fill_slots(self) -> None:
        loop = asyncio.get_running_loop()
        while self._has_room and (job := self.queue.pop()) is not None:
            # An eager task puts itself into `running` before anything else can cancel it.
            asyncio.Task(self._work(job), loop=loop, name=f"job {job.id[:8]}", eager_start=True)

    def _wait_s(self, job: Job) -> float:
        return self.queue.wait_s(job.id, self._inference.slots, self.seconds_per_job)

    # --- one that runs ------------------------------------------------------------------------------------------

    async def _work(self, job: Job) -> None:
        running = self.running[job.id] = Running(job, this_task())
        try:
            event = await self._result(job, running)
        except Exception:
            logger.exception("a job failed because of an internal error", job=job.id)
            event = await self._after_error(job)
        finally:
            del self.running[job.id]
            self._overdue.heard(job.id)
            self._feed()
            self._check_idle()
        if event is not None:
            published = await self._results.publish_and_wait(event, job)
            if published and running.answered:
                published_s = self._clock.monotonic() - running.answered
                self.latency.note(running.queued_s, running.answered - running.began, published_s)

    async def _result(self, job: Job, running: Running) -> Event | None:
        """Runs a job. Returns its journaled result; None if it ended without one."""
        if job.terms.expires_at <= self._clock.wall():
            await self._expire(job)
            return None
        try:
            generation = await self._generate(job, running)
        except asyncio.CancelledError:
            if running.phase is not Phase.STOPPING:
                raise
            running.task.uncancel()
            run_ms = round((self._clock.monotonic() - running.began) * 1_000)
            return await self._charge_sent(running.job, running.sent, run_ms)
        except PromptError as error:
            # The hint says what would fit.
            reason = f"{error}. {error.hint}" if error.hint else str(error)
            await self._end(job, JobState.FAILED, ErrorCode.TOO_LARGE, reason)
        except ParameterError as error:
            await self._end(job, JobState.FAILED, ErrorCode.UNSUPPORTED_PARAM, str(error))
        except EngineError as error:
            logger.warning("a job failed", job=job.id, error=str(error))
            await self._end(job, JobState.FAILED, ErrorCode.ENGINE_FAILED, "the model did not answer")
        else:
            self.seconds_per_job += 0.1 * (generation.run_ms / 1_000 - self.seconds_per_job)
            usage = Usage(generation.prompt_tokens, generation.completion_tokens)
            return await self._sign(running.job, generation.text, Finish(generation.finish), usage, generation.run_ms)
        return None

    async def _generate(self, job: Job, running: Running) -> Generation:
        self.computing += 1
        running.began = now = self._clock.monotonic()
        running.queued_s = now - self._since.pop(job.id, now)
        try:
            job = running.job = await self._contents.whole(job)
            generation = await self._inference.generate(request_of(job), await self._progress(job, running))
            running.answered = self._clock.monotonic()
            return generation
        finally:
            self.computing -= 1
            # The next job need not wait until this one's answer is journaled.
            self._feed()

    async def _progress(self, job: Job, running: Running) -> Callable[[Progress], None] | None:
        # An answer that is made again after a crash may be different, and pieces of two texts would mix.
        if not job.request.job.parameters.stream or job.again:
            return None
        try:
            # Written before the first piece goes out, so that after a crash the next process sends none.
            await self._journal.begun(job.id)
        except sqlite3.Error as error:
            logger.warning("an answer cannot be streamed", job=job.id, error=str(error))
            return None
        stream = running.stream = Stream(job, journal=self._journal, replies=self._replies, clock=self._clock)

        def progress(step: Progress) -> None:
            if stream.goes_on(step):
                self._overdue.heard(job.id)

        return progress

    # --- how it ends --------------------------------------------------------------------------------------------

    async def _charge_sent(self, job: Job, sent: Usage | None, run_ms: int) -> Event | None:
        """Charges a job that its customer took back for what was sent of the answer, and ends it.

        Returns the result that says what it costs; None if it costs nothing.
        """
        if sent is None or not job.terms.quote:
            await self._end(job, JobState.CANCELLED, ErrorCode.CANCELLED, "", wasted=job.id in self.running)
            return None
        # Otherwise a customer could stream an answer, cancel just before its end, and pay nothing. It has the pieces,
        # so the result holds no text.
        return await self._sign(job, "", Finish.CANCELLED, sent, run_ms)

    async def _after_error(self, job: Job) -> Event | None:
        """The result, if one was journaled before an unexpected error. Otherwise the job ends as failed."""
        self._begin_writing(job)
        try:
            written = await self._results.written(job.id)
        except Exception:
            logger.exception("it is not known whether a job has a result", job=job.id)
            written = None
        if written is None:
            await self._end(job, JobState.FAILED, ErrorCode.ENGINE_FAILED, "something went wrong here")
        return written

    async def _sign(self, job: Job, text: str, finish: Finish, usage: Usage, run_ms: int) -> Event | None:
        self._begin_writing(job)
        try:
            job = await self._contents.whole(job)
            return await self._results.sign(job, text, finish, usage, run_ms)
        except WireError as error:
            logger.warning("a result could not be created", job=job.id, error=str(error))
            await self._end(job, JobState.FAILED, ErrorCode.ENGINE_FAILED, "the answer could not be written")
            return None

    async def _expire(self, job: Job) -> None:
        await self._end(job, JobState.EXPIRED, ErrorCode.EXPIRED, "the deadline passed before the job's turn came")

    async def _end(self, job: Job, state: JobState, code: ErrorCode, reason: str, *, wasted: bool = False) -> None:
        # Before the first `await`: meanwhile the job could be cancelled, or feedback become due.
        self._begin_writing(job)
        self._overdue.heard(job.id)
        await self._results.end_without(job, state, code, reason, wasted=wasted)
        self._check_idle()

    def _begin_writing(self, job: Job) -> None:
        self._since.pop(job.id, None)
        if (running := self.running.get(job.id)) is not None:
            running.phase = Phase.WRITING

    def _check_idle(self) -> None:
        if not self.queue and not self.running:
            self._idle.set()
