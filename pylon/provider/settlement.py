"""On what a job runs and what it costs, written together with the job's own row.

The provider is the same for free and for paid work: it asks one of these, and the answer is on disk when it comes
back. With accounts, the step of a job and its money are one transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pylon.money import account_store
from pylon.money.account import TRUSTED, Basis, Decision, Run, Terms, Trial
from pylon.money.price import Price
from pylon.money.receipt import AccountReceipt
from pylon.nostr.event import Event
from pylon.provider import journal as rows
from pylon.provider.journal import JobState, Journal, Work
from pylon.provider.queue import Job
from pylon.store.database import Transaction

type Sign = Callable[[AccountReceipt | None], Event]


class Settlement(Protocol):
    """What a provider asks about money. Every method returns when its writes are on disk."""

    async def take(self, job: Job) -> Decision | None:
        """Writes a job down, and says whether it may run or what has to be paid first; None when it stands there."""

    async def finish(self, job: Job, work: Work, sign: Sign) -> Event:
        """The signed result, journaled with the receipt for what the job cost.

        `sign` may be called more than once: what it made counts when it comes back.
        """

    async def end(self, job_id: str, state: JobState, *, code: str, finished_at: float) -> None:
        """A job ends without a result, and costs nothing."""


class FreeSettlement:
    """Nobody is charged; the journal counts tokens all the same."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def take(self, job: Job) -> Decision | None:
        """See `Settlement`."""
        return Run(Basis.METERED) if await self._journal.admitted(job) else None

    async def finish(self, job: Job, work: Work, sign: Sign) -> Event:
        """See `Settlement`."""
        event = sign(None)
        await self._journal.signed(job.id, event, work)
        return event

    async def end(self, job_id: str, state: JobState, *, code: str, finished_at: float) -> None:
        """See `Settlement`."""
        await self._journal.ended(job_id, state, code=code, finished_at=finished_at)


@dataclass(frozen=True, slots=True)
class CreditPolicy:
    """What customers get before they pay. `stranger` has a trial job; `trusted` is never charged."""

    stranger: Terms = field(default_factory=lambda: Terms(trial=True))
    trial: Trial | None = field(default_factory=Trial)

    def terms(self, job: Job) -> Terms:
        """The terms of this job's customer."""
        return TRUSTED if job.trusted else self.stranger

    def account(self, job: Job) -> str:
        """Whose account a job is on: its customer's."""
        return job.request.customer


class AccountSettlement:
    """An account for every customer: quotes are held while jobs run, results charge what was used."""

    def __init__(self, journal: Journal, price: Price, policy: CreditPolicy) -> None:
        self._journal = journal
        self._price = price
        self._policy = policy

    async def take(self, job: Job) -> Decision | None:
        """See `Settlement`."""

        async def step(tx: Transaction) -> Decision | None:
            if not await rows.insert(tx, job):
                return None
            decision = await self._decide(tx, job)
            if not isinstance(decision, Run):
                await rows.move(tx, job.id, JobState.QUEUED, JobState.AWAITING_FUNDS)
            return decision

        return await self._journal.transact(step)

    async def decide(self, job: Job) -> Decision:
        """What `take` says, anew for a job that waits for its customer's payment."""

        async def step(tx: Transaction) -> Decision:
            decision = await self._decide(tx, job)
            if isinstance(decision, Run):
                await rows.move(tx, job.id, JobState.AWAITING_FUNDS, JobState.QUEUED)
            return decision

        return await self._journal.transact(step)

    async def _decide(self, tx: Transaction, job: Job) -> Decision:
        customer, now = self._policy.account(job), job.received_at
        await account_store.acknowledge(tx, customer, job.request.job.account_seen, now)
        return await account_store.admit(
            tx,
            customer,
            job.id,
            job.terms.quote,
            terms=self._policy.terms(job),
            now=now,
            wish=job.request.job.topup,
            trial=self._policy.trial,
        )

    async def finish(self, job: Job, work: Work, sign: Sign) -> Event:
        """See `Settlement`. The charge is never above the quote, whatever the count of tokens says."""
        used = self._price.charge(work.prompt_tokens, work.completion_tokens)
        charged = min(used, job.terms.quote)

        async def step(tx: Transaction) -> Event:
            receipt = await account_store.charge(tx, job.id, charged, work.finished_at)
            event = sign(receipt)
            await rows.sign(tx, job.id, event, work, receipt.charge_msat)
            return event

        return await self._journal.transact(step)

    async def end(self, job_id: str, state: JobState, *, code: str, finished_at: float) -> None:
        """See `Settlement`."""

        async def step(tx: Transaction) -> None:
            await account_store.release(tx, job_id)
            await rows.end(tx, job_id, state, code=code, finished_at=finished_at)

        await self._journal.transact(step)
