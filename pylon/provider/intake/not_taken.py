"""Requests that are not taken on: refused in words, or, where they were taken on before, answered as then."""

from collections.abc import Callable, Sequence

from pylon import log
from pylon.clock import Clock
from pylon.jobs.codes import ErrorCode
from pylon.latest import Latest
from pylon.nostr.event import Event
from pylon.provider.intake.refused import Refused
from pylon.provider.journal import Journal
from pylon.provider.outbox import Outbox
from pylon.provider.queue import Job
from pylon.provider.refusal import Refusal
from pylon.provider.refusal_budget import RefusalBudget, RefusalLimits
from pylon.provider.replies import Replies
from pylon.provider.work.in_hand import InHand
from pylon.provider.work.results import Results

logger = log.get("provider")

# How often a key is answered once more: as often as a map over a relay that delivers nothing may need it.
AGAIN = RefusalLimits(burst=1_000.0, per_s=20.0, total_burst=5_000.0, total_per_s=200.0)

MOST_REGULARS = 10_000


class NotTaken:
    """`live` requests came just now; others were stored at a relay, and whoever sent them may wait no more."""

    def __init__(
        self,
        *,
        trusted: Callable[[str], bool],
        journal: Journal,
        in_hand: InHand,
        results: Results,
        replies: Replies,
        refused: Refused,
        outbox: Outbox,
        clock: Clock,
    ) -> None:
        self._trusted = trusted
        self._journal = journal
        self._in_hand = in_hand
        self._results = results
        self._replies = replies
        self._refused = refused
        self._outbox = outbox
        self._clock = clock
        self._again = RefusalBudget(AGAIN)
        # Whose jobs were taken on here: such a key is no stranger, and is told what is wrong with a request.
        self._regulars: Latest[str, None] = Latest(MOST_REGULARS)

    async def start(self) -> None:
        """Takes up what earlier processes said, and whose jobs they took on."""
        await self._refused.start()
        for customer in await self._journal.customers(MOST_REGULARS):
            self.served(customer)

    def served(self, customer: str) -> None:
        """It had a job taken on."""
        self._regulars.put(customer, None)

    def before(self, job: Job) -> Refusal | None:
        """What is said of a job that was refused before: there may be room for it now, and its customer has gone
        elsewhere."""
        code = self._refused.code(job.id)
        return (
            None
            if code is None
            else Refusal.of(job, code, "this request was refused before; a new request may succeed")
        )

    async def refuse(self, refused: Sequence[Refusal], *, live: bool) -> None:
        """Tells their customers, unless one was taken on before: that is answered as it was then, whatever would be
        said today."""
        known = await self._journal.known(refusal.id for refusal in refused)
        unsaid: list[Refusal] = []
        for refusal in refused:
            if refusal.id in known:
                if live:
                    self._repeat(refusal.customer, refusal.id, refusal.relay, known[refusal.id])
            elif live or self._refused.code(refusal.id) is None:
                unsaid.append(refusal)
        await self.say_no(unsaid)

    async def repeat(self, job: Job) -> None:
        """A job was taken on before: its customer gets the same answer, where it asks, and the work is not done
        twice."""
        known = await self._journal.known([job.id])
        self._repeat(job.request.customer, job.id, job.relay, known.get(job.id))

    async def say_no(self, refused: Sequence[Refusal]) -> None:
        """Tells the customers of what the journal does not have."""
        words = [(refusal, word) for refusal in refused if (word := self._word(refusal)) is not None]
        if words:
            # First: what was said has to hold, whatever becomes of this process.
            await self._refused.remember([(refusal.id, refusal.code) for refusal, _ in words])
        for refusal, word in words:
            self._replies.say(word, refusal.relay)

    def _repeat(self, customer: str, job_id: str, relay: str, result: Event | None) -> None:
        if not (self._trusted(customer) or self._again.allow(customer, self._clock.monotonic())):
            return
        if result is not None:
            self._results.repeat(result, relay)
        elif self._in_hand.has(job_id):
            self._outbox.also(job_id, relay)
            self._in_hand.say_again(job_id)

    def _word(self, refusal: Refusal) -> Event | None:
        customer, code = refusal.customer, refusal.code
        if code is ErrorCode.MALFORMED and not (self._trusted(customer) or customer in self._regulars):
            # A stranger who sends noise gets none back. Asked last, when what came along was taken on.
            logger.debug("malformed request", id=refusal.id, reason=refusal.reason)
            return None
        word = self._replies.refusal(refusal)
        if word is not None:
            # Noise has no more of the log than it has answers.
            logger.info("refused", job=refusal.id, customer=customer, code=code.value)
        return word
