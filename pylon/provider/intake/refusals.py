"""Answers requests that are not taken on: with a refusal or, if they were taken on before, with the same answer."""

from collections.abc import Callable, Sequence

from pylon import log
from pylon.clock import Clock
from pylon.jobs.codes import ErrorCode
from pylon.nostr.event import Event
from pylon.provider.customers import Customers, Standing
from pylon.provider.intake.refused_requests import RefusedRequests
from pylon.provider.intake.shared_refusals import SharedRefusals
from pylon.provider.journal import Journal
from pylon.provider.outbox import Outbox
from pylon.provider.queue import Job
from pylon.provider.refusal import Refusal
from pylon.provider.refusal_budget import RefusalBudget, RefusalLimits
from pylon.provider.replies import Replies
from pylon.provider.work.active_jobs import ActiveJobs
from pylon.provider.work.results import Results

logger = log.get("provider")

# How often a key may have answers repeated: enough for a map whose relay delivers nothing.
AGAIN = RefusalLimits(burst=1_000.0, per_s=20.0, total_burst=5_000.0, total_per_s=200.0)

# How often strangers get a refusal of their own, sealed for each. It leaves room in the budget of all for customers.
STRANGERS = RefusalLimits(total_burst=200.0, total_per_s=50.0)
# How often a stranger is named in a shared refusal beyond that, so that in a flood nobody waits for a word in vain.
SHARED = RefusalLimits(burst=1_000.0, per_s=20.0, total_burst=20_000.0, total_per_s=5_000.0)


class Refusals:
    """`live` requests were sent just now. Others were stored at a relay, and their customers may wait no more."""

    def __init__(
        self,
        *,
        trusted: Callable[[str], bool],
        journal: Journal,
        active_jobs: ActiveJobs,
        results: Results,
        replies: Replies,
        refused: RefusedRequests,
        shared_refusals: SharedRefusals,
        outbox: Outbox,
        clock: Clock,
        customers: Customers,
    ) -> None:
        self._trusted = trusted
        self._journal = journal
        self._active_jobs = active_jobs
        self._results = results
        self._replies = replies
        self._refused = refused
        self._shared_refusals = shared_refusals
        self._outbox = outbox
        self._clock = clock
        self._again = RefusalBudget(AGAIN)
        self._strangers = RefusalBudget(STRANGERS)
        self._shared = RefusalBudget(SHARED)
        self._customers = customers

    async def start(self) -> None:
        """Reads what earlier processes refused. Raises `sqlite3.Error`."""
        await self._refused.start()
        self._shared_refusals.start()

    async def close(self) -> None:
        """Stops telling strangers that they were refused."""
        await self._shared_refusals.close()

    def earlier(self, job: Job) -> Refusal | None:
        """The refusal of a job that was refused before; None if it was not. It stays refused: its customer has gone
        elsewhere."""
        code = self._refused.code(job.id)
        if code is None and self._refused.may_be_forgotten(job.request.created_at):
            # Since it is not known, no: if it was refused, its customer must not be charged for it.
            code = ErrorCode.BUSY
        if code is None:
            return None
        return Refusal.of(job, code, "this request was refused before; a new request may succeed")

    async def refuse(self, refused: Sequence[Refusal], *, live: bool) -> None:
        """Tells the customers. A request that was taken on before is answered as it was then instead."""
        known = await self._journal.known(refusal.id for refusal in refused)
        unsaid: list[Refusal] = []
        for refusal in refused:
            if refusal.id in known:
                if live:
                    self._repeat(refusal.customer, refusal.id, refusal.relay, known[refusal.id])
            elif live or self._refused.code(refusal.id) is None:
                unsaid.append(refusal)
        await self.send(unsaid)

    async def repeat(self, job: Job) -> None:
        """Answers a job that was taken on before: over the relay where it was asked again, and without more work."""
        known = await self._journal.known([job.id])
        self._repeat(job.request.customer, job.id, job.relay, known.get(job.id))

    async def send(self, refused: Sequence[Refusal]) -> None:
        """Tells the customers of requests that are not in the journal."""
        answers: list[tuple[Refusal, Event]] = []
        shared: list[Refusal] = []
        for refusal in refused:
            if self._is_one_of_many(refusal):
                if self._shared.allow(refusal.customer, self._clock.monotonic()):
                    shared.append(refusal)
            elif (feedback := self._feedback(refusal)) is not None:
                answers.append((refusal, feedback))
        if told := [*(refusal for refusal, _ in answers), *shared]:
            # Before they are told: a refusal must hold even if this process crashes.
            await self._refused.remember([(refusal.id, refusal.code) for refusal in told])
        for refusal, feedback in answers:
            self._replies.say(feedback, refusal.relay)
        for refusal in shared:
            self._shared_refusals.add(refusal)

    def _is_stranger(self, customer: str) -> bool:
        return not self._trusted(customer) and self._customers.standing(customer) is Standing.STRANGER

    def _is_one_of_many(self, refusal: Refusal) -> bool:
        """Whether a stranger is refused while too many are for each to get a refusal of its own."""
        if refusal.code is ErrorCode.MALFORMED or not self._is_stranger(refusal.customer):
            return False
        return not self._strangers.allow(refusal.customer, self._clock.monotonic())

    def _repeat(self, customer: str, job_id: str, relay: str, result: Event | None) -> None:
        if not (self._trusted(customer) or self._again.allow(customer, self._clock.monotonic())):
            return
        if result is not None:
            self._results.repeat(result, relay)
        elif self._active_jobs.has(job_id):
            self._outbox.also(job_id, relay)
            self._active_jobs.say_again(job_id)

    def _feedback(self, refusal: Refusal) -> Event | None:
        customer, code = refusal.customer, refusal.code
        if code is ErrorCode.MALFORMED and self._is_stranger(customer):
            # A stranger that sends noise gets no answer.
            logger.debug("malformed request", id=refusal.id, reason=refusal.reason)
            return None
        feedback = self._replies.refusal(refusal)
        if feedback is not None:
            # Only answered refusals are logged, so that noise does not fill the log.
            logger.info("refused", job=refusal.id, customer=customer, code=code.value)
        return feedback
