"""The end of a job: its result, or that it has none; made, written down, and only then told."""

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
from pylon.provider.journal import Journal
from pylon.provider.outbox import Letter, Outbox
from pylon.provider.payments.settlement import Settlement
from pylon.provider.queue import Job
from pylon.provider.refusal import Refusal, taken_back
from pylon.provider.replies import Replies, answer_expiry
from pylon.provider.rows import JobState, Work

logger = log.get("provider")

# A result that is asked for again is of no use to anybody later.
REPEAT_S = 60


class Results:
    """Signs results, and publishes each until a relay has it or until it has expired."""

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
    ) -> None:
        self._secret = secret
        self._keys = keys
        self._inference = inference
        self._journal = journal
        self._settlement = settlement
        self._outbox = outbox
        self._replies = replies
        self._clock = clock

    async def sign(self, job: Job, text: str, finish: Finish, usage: Usage, run_ms: int) -> Event:
        """The result of a job, on disk with what it cost. Raises `WireError` when none can be made of this text."""
        asked = job.event
        assert asked is not None  # noqa: S101 - who has it signed has read it
        now = self._clock.wall()
        run_s = run_ms / 1_000
        model = self._inference.model
        with_account = partial(
            JobResult,
            Address(job.id, job.request.customer, job.request.private, answer_expiry(job.terms.expires_at, now)),
            result_kind(job.request.job.kind),
            text,
            None if model is None else ModelUsed(model.id, model.sha256, model.quantization),
            usage,
            Timing.rounded(max(0.0, now - job.received_at - run_s), run_s),
            finish,
        )
        limit = self._outbox.event_bytes(job.relay)

        def sign(receipt: AccountReceipt | None) -> Event:
            result = with_account(account=receipt)
            return self._secret.sign(
                result_draft(
                    result,
                    self._keys,
                    request=asked,
                    created_at=int(now),
                    limit=limit,
                    plain=job.request.plain,
                )
            )

        work = Work(usage.prompt_tokens, usage.completion_tokens, run_ms, now)
        return await self._settlement.finish(job, work, sign)

    async def written(self, job_id: str) -> Event | None:
        """The result that stands in the journal, if one does."""
        return (await self._journal.known([job_id])).get(job_id)

    async def end(self, job: Job, state: JobState, code: ErrorCode, reason: str) -> None:
        """Writes down that a job has no result, and tells its customer. Of one that was taken back it is told until a
        relay has it, and only where it would have cost something. Raises what the writing does: then nobody hears
        that there is no answer, since the next start finds the job's row as it was, and may answer after all. Whoever
        had heard so would have gone elsewhere, and pay two.
        """
        refusal = taken_back(job) if state is JobState.CANCELLED else None
        word = None if refusal is None else self._replies.refusal(refusal)
        await self._settlement.end(job.id, state, code=code.value, finished_at=self._clock.wall(), word=word)
        if word is not None:
            self.tell(word, job.id, job.relay)
        elif state is not JobState.CANCELLED:
            self._replies.refuse(Refusal.of(job, code, reason))

    async def end_without(self, job: Job, state: JobState, code: ErrorCode, reason: str) -> None:
        """The same for whoever can do nothing about it when that cannot be written down."""
        try:
            await self.end(job, state, code, reason)
        except Exception:
            logger.exception("the end of a job could not be stored", job=job.id, state=state.value)

    async def end_left(self, job_id: str, refusal: Refusal | None) -> None:
        """Writes down that a job of an earlier process is not done any more, together with what its customer is told,
        and tells it. None where its customer is not heard any more: that hears nothing either.
        """
        if refusal is None:
            await self._settlement.end(job_id, JobState.FAILED, code="", finished_at=self._clock.wall())
            return
        code = refusal.code
        word = self._replies.refusal(refusal)
        state = JobState.EXPIRED if code is ErrorCode.EXPIRED else JobState.FAILED
        await self._settlement.end(job_id, state, code=code.value, finished_at=self._clock.wall(), word=word)
        if word is not None:
            self.tell(word, job_id, refusal.relay)

    def tell(self, word: Event, job_id: str, relay: str) -> None:
        """Publishes a journaled error until a relay has it, or until it has expired."""

        def told(_: bool) -> None:
            self._journal.told(job_id)

        self._outbox.put(Letter(word, relay, done=told))

    def publish(self, event: Event, job_id: str, relay: str) -> None:
        """Publishes a journaled result until a relay has it, then settles the job; or until it has expired."""
        self._outbox.put(self._letter(event, job_id, relay))

    def repeat(self, event: Event, relay: str) -> None:
        """Publishes a result once more, for a customer that asks again and waits for it."""
        self._outbox.put(Letter(event, relay, worth_s=REPEAT_S))

    async def carry(self, event: Event, job: Job) -> bool:
        """The same in the task that calls; whether a relay has it."""
        return await self._outbox.carry(self._letter(event, job.id, job.relay))

    def _letter(self, event: Event, job_id: str, relay: str) -> Letter:
        return Letter(event, relay, done=partial(self._published, job_id))

    def _published(self, job_id: str, published: bool) -> None:
        if published:
            self._journal.settled(job_id)
        else:
            logger.warning("no relay took a result before it expired", job=job_id)
            self._journal.undelivered(job_id)
