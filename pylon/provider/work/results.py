"""The end of a job: its result, or that it has none. Either is journaled before the customer is told."""

from functools import partial

from pylon import log
from pylon.clock import Clock
from pylon.inference.service import InferenceService
from pylon.jobs.answer import Address
from pylon.jobs.codes import ErrorCode
from pylon.jobs.kinds import result_kind
from pylon.jobs.result import Finish, JobResult, ModelUsed, Timing, result_draft
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import Usage
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.provider.customers import Customers
from pylon.provider.journal import Journal
from pylon.provider.outbox import Outbox, Publication
from pylon.provider.payments.settlement import Settlement
from pylon.provider.queue import Job
from pylon.provider.refusal import Refusal, taken_back
from pylon.provider.replies import Replies, answer_expiry
from pylon.provider.rows import JobState, Work

logger = log.get("provider")

# How long a result that was asked for again is worth sending, in seconds.
REPEAT_S = 60


class Results:
    """Signs results, and publishes each until a relay has it or it has expired."""

    def __init__(
        self,
        *,
        secret: SecretKey,
        keys: ConversationKeys,
        inference: InferenceService,
        journal: Journal,
        settlement: Settlement,
        outbox: Outbox,
        replies: Replies,
        clock: Clock,
        customers: Customers,
    ) -> None:
        self._secret = secret
        self._keys = keys
        self._inference = inference
        self._journal = journal
        self._settlement = settlement
        self._outbox = outbox
        self._replies = replies
        self._clock = clock
        self._customers = customers

    async def sign(self, job: Job, text: str, finish: Finish, usage: Usage, run_ms: int) -> Event:
        """Signs the result of a job and journals it with its charge. `run_ms` is the engine's time in milliseconds.

        Raises `WireError` when no event can be made of this text, `sqlite3.Error` when it cannot be written.
        """
        asked = job.event
        assert asked is not None  # noqa: S101 - the runner has read its contents
        now = self._clock.wall()
        run_s = run_ms / 1_000
        model = self._inference.model
        address = Address(job.id, job.request.customer, job.request.private, answer_expiry(job.terms.expires_at, now))
        limit = self._outbox.event_bytes(job.relay)

        def sign(receipt: AccountReceipt | None) -> Event:
            result = JobResult(
                address,
                result_kind(job.request.job.kind),
                text,
                model=None if model is None else ModelUsed(model.id, model.sha256, model.quantization),
                usage=usage,
                timing=Timing.rounded(max(0.0, now - job.received_at - run_s), run_s),
                finish=finish,
                account=receipt,
            )
            plain = job.request.plain
            draft = result_draft(result, self._keys, request=asked, created_at=int(now), limit=limit, plain=plain)
            return self._secret.sign(draft)

        work = Work(usage.prompt_tokens, usage.completion_tokens, run_ms, now)
        event = await self._settlement.finish(job, work, sign)
        self._customers.served(job.request.customer, now)
        return event

    async def written(self, job_id: str) -> Event | None:
        """The job's result in the journal; None if there is none."""
        return (await self._journal.known([job_id])).get(job_id)

    async def end(self, job: Job, state: JobState, code: ErrorCode, reason: str, *, wasted: bool = False) -> None:
        """Ends a job without a result, and tells its customer. `wasted`: it was taken back when it had begun.

        If the customer took the job back, it is told only if the job was not free, but then until a relay has it.
        Raises what the write raises, and then tells nobody: the next start finds the job's row unchanged and may
        answer it after all, and a customer that had gone elsewhere would pay twice.
        """
        if wasted and job.terms.quote:
            self._customers.wasted(job.request.customer)
        refusal = taken_back(job) if state is JobState.CANCELLED else None
        feedback = None if refusal is None else self._replies.refusal(refusal)
        await self._settlement.end(
            job.id, state, code=code.value, finished_at=self._clock.wall(), feedback=feedback, wasted=wasted
        )
        if feedback is not None:
            self.tell(feedback, job.id, job.relay)
        elif state is not JobState.CANCELLED:
            self._replies.refuse(Refusal.of(job, code, reason))

    async def end_without(
        self, job: Job, state: JobState, code: ErrorCode, reason: str, *, wasted: bool = False
    ) -> None:
        """The same, but a failed write is only logged."""
        try:
            await self.end(job, state, code, reason, wasted=wasted)
        except Exception:
            logger.exception("the end of a job could not be stored", job=job.id, state=state.value)

    async def end_left(self, job_id: str, refusal: Refusal | None) -> None:
        """Ends a job of an earlier process that this one cannot do, and tells its customer until a relay has it.

        Without a `refusal`, because the customer is no longer served, it is told nothing.
        """
        if refusal is None:
            await self._settlement.end(job_id, JobState.FAILED, code="", finished_at=self._clock.wall())
            return
        code = refusal.code
        feedback = self._replies.refusal(refusal)
        state = JobState.EXPIRED if code is ErrorCode.EXPIRED else JobState.FAILED
        await self._settlement.end(job_id, state, code=code.value, finished_at=self._clock.wall(), feedback=feedback)
        if feedback is not None:
            self.tell(feedback, job_id, refusal.relay)

    def tell(self, feedback: Event, job_id: str, relay: str) -> None:
        """Publishes a journaled error until a relay has it or it has expired."""

        def told(_: bool) -> None:
            self._journal.drop_error(job_id)

        self._outbox.put(Publication(feedback, relay, done=told))

    def publish(self, event: Event, job_id: str, relay: str) -> None:
        """Publishes a journaled result until a relay has it, and then settles the job; or until it has expired."""
        self._outbox.put(self._publication(event, job_id, relay))

    def repeat(self, event: Event, relay: str) -> None:
        """Publishes a result once more, for a customer that asked again and waits for it now."""
        self._outbox.put(Publication(event, relay, give_up_after_s=REPEAT_S))

    async def publish_and_wait(self, event: Event, job: Job) -> bool:
        """Like `publish`, but in the calling task. Returns whether a relay has the result."""
        return await self._outbox.publish_and_wait(self._publication(event, job.id, job.relay))

    def _publication(self, event: Event, job_id: str, relay: str) -> Publication:
        return Publication(event, relay, done=partial(self._published, job_id))

    def _published(self, job_id: str, published: bool) -> None:
        if published:
            self._journal.settled(job_id)
        else:
            logger.warning("no relay took a result before it expired", job=job_id)
            self._journal.undelivered(job_id)
