"""Decides whether a job may run and what it costs, and writes that together with the job's row in the journal.

Free and paid work use the same protocol. With accounts, the change of a job's row and that of the account are one
transaction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pylon.errors import MoneyError
from pylon.money.accounts import holds as hold_store
from pylon.money.accounts import store as account_store
from pylon.money.accounts.account import TRUSTED, Basis, Decision, Run, Terms, Trial
from pylon.money.accounts.holds import Admission
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.store import Done
from pylon.nostr.event import Event
from pylon.provider import rows
from pylon.provider.journal import Journal
from pylon.provider.queue import Job
from pylon.provider.rows import JobState, Work
from pylon.records import record
from pylon.store.database import Transaction

# Signs the result with this receipt; None for free work.
type Sign = Callable[[AccountReceipt | None], Event]


class Settlement(Protocol):
    """How jobs are taken on, charged and ended. Methods return when their writes are on disk."""

    async def take(self, job: Job) -> Decision | None:
        """Journals a job. Returns whether it may run or what must be paid first; None if it was taken on before."""

    async def finish(self, job: Job, work: Work, sign: Sign) -> Event:
        """The signed result, journaled with the receipt for what the job cost.

        `sign` may be called more than once; only the event that is returned counts.
        """

    async def end(
        self,
        job_id: str,
        state: JobState,
        *,
        code: str,
        finished_at: float,
        feedback: Event | None = None,
        wasted: bool = False,
    ) -> None:
        """Ends a job without a result: it costs nothing. See `rows.end` for `feedback`.

        `wasted`: it had begun when its customer took it back.
        """

    async def forget(self, *, before: float) -> None:
        """Deletes what accounts know of jobs that ended before then (Unix seconds), as the journal does its rows."""


class FreeSettlement:
    """Charges nothing; the journal counts tokens all the same.

    Jobs that an earlier process took on for a price still cost it, and what was held on their customers' accounts is
    released. Those of them that waited for a payment cost nothing.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._accounts = AccountSettlement(journal, CreditPolicy(stranger=TRUSTED, trial=None))

    async def take(self, job: Job) -> Decision | None:
        """See `Settlement`."""
        return Run(Basis.METERED) if await self._journal.admitted(job) else None

    async def finish(self, job: Job, work: Work, sign: Sign) -> Event:
        """See `Settlement`."""
        if job.left:
            return await self._accounts.finish(job, work, sign)
        event = sign(None)
        await self._journal.signed(job.id, event, work)
        return event

    async def end(
        self,
        job_id: str,
        state: JobState,
        *,
        code: str,
        finished_at: float,
        feedback: Event | None = None,
        wasted: bool = False,
    ) -> None:
        """See `Settlement`."""
        await self._accounts.end(job_id, state, code=code, finished_at=finished_at, feedback=feedback, wasted=wasted)

    async def forget(self, *, before: float) -> None:
        """See `Settlement`."""
        await self._accounts.forget(before=before)


@dataclass(frozen=True, slots=True)
class CreditPolicy:
    """What customers get before they pay. A stranger gets a trial job; a trusted customer is never charged."""

    stranger: Terms = field(default_factory=lambda: Terms(trial=True))
    trial: Trial | None = field(default_factory=Trial)

    def terms(self, job: Job) -> Terms:
        """The terms of this job's customer."""
        return TRUSTED if job.trusted else self.stranger

    def account(self, job: Job) -> str:
        """The account that a job is charged to: its customer's public key."""
        return job.request.customer


class AccountSettlement:
    """Keeps an account for each customer: a job's quote is held while it runs, its result charges what it used."""

    def __init__(self, journal: Journal, policy: CreditPolicy) -> None:
        self._journal = journal
        self._policy = policy

    async def take(self, job: Job) -> Decision | None:
        """See `Settlement`."""
        return await self._journal.transact_in(_take, _Taking(job, self.admission(job)))

    async def decide(self, job: Job) -> Decision | None:
        """Decides again on a job that waits for its customer's payment; None if it waits no more."""
        taking = _Taking(job, self.admission(job))

        async def step(tx: Transaction) -> Decision | None:
            if await rows.state(tx, job.id) is not JobState.AWAITING_FUNDS:
                # Nothing may be held for a job that has ended: nothing would release it.
                return None
            (decision,) = await _decide(tx, [taking])
            if isinstance(decision, Run):
                await rows.move(tx, job.id, JobState.AWAITING_FUNDS, JobState.QUEUED)
            return decision

        return await self._journal.transact(step)

    def admission(self, job: Job) -> Admission:
        """What a customer's account is asked before its job runs."""
        return Admission(
            self._policy.account(job),
            job.id,
            job.terms.quote,
            self._policy.terms(job),
            job.received_at,
            job.request.job.topup,
            self._policy.trial,
        )

    async def finish(self, job: Job, work: Work, sign: Sign) -> Event:
        """See `Settlement`. The charge is never above the quote, whatever the count of tokens says."""
        finishing = _finishing(job, work, sign)
        if job.left:
            return await self._journal.transact(lambda tx: _finish_left(tx, job, finishing))
        return await self._journal.transact_in(_finish, finishing)

    async def end(
        self,
        job_id: str,
        state: JobState,
        *,
        code: str,
        finished_at: float,
        feedback: Event | None = None,
        wasted: bool = False,
    ) -> None:
        """See `Settlement`."""

        async def step(tx: Transaction) -> None:
            await account_store.release(tx, job_id, wasted=wasted)
            await rows.end(tx, job_id, state, code=code, finished_at=finished_at, feedback=feedback)

        await self._journal.transact(step)

    async def forget(self, *, before: float) -> None:
        """See `Settlement`."""
        await self._journal.transact(lambda tx: account_store.forget(tx, before=before))


@record
class _Taking:
    job: Job
    admission: Admission


async def _take(tx: Transaction, takings: list[_Taking]) -> list[Decision | None]:
    # A job may have been taken on before, or be twice in this batch.
    new = [await rows.insert(tx, taking.job) for taking in takings]
    inserted = [taking for taking, is_new in zip(takings, new, strict=True) if is_new]
    decisions = await _decide(tx, inserted)
    for taking, decision in zip(inserted, decisions, strict=True):
        if not isinstance(decision, Run):
            await rows.move(tx, taking.job.id, JobState.QUEUED, JobState.AWAITING_FUNDS)
    decided = iter(decisions)
    return [next(decided) if is_new else None for is_new in new]


async def _decide(tx: Transaction, takings: Sequence[_Taking]) -> list[Decision]:
    for taking in takings:
        seen = taking.job.request.job.account_seen
        # First, and for every job: the customer has seen that receipt whether or not the job may run.
        await account_store.acknowledge(tx, taking.admission.customer, seen, taking.admission.now)
    return await hold_store.admit(tx, [taking.admission for taking in takings])


@record
class _Finishing:
    done: Done
    work: Work
    sign: Sign


def _finishing(job: Job, work: Work, sign: Sign) -> _Finishing:
    used = job.terms.price.charge(work.prompt_tokens, work.completion_tokens)
    return _Finishing(Done(job.id, min(used, job.terms.quote), work.finished_at), work, sign)


async def _finish(tx: Transaction, finishing: list[_Finishing]) -> list[Event]:
    receipts = await account_store.charge(tx, [each.done for each in finishing])
    events = [each.sign(receipt) for each, receipt in zip(finishing, receipts, strict=True)]
    results = zip(finishing, events, receipts, strict=True)
    signed = await rows.sign(
        tx, [(each.done.job, event, each.work, receipt.charge_msat) for each, event, receipt in results]
    )
    if signed < len(events):
        # Rolls back the charges: one of the jobs has ended, and has no result.
        raise MoneyError("a job that has ended is not charged")
    return events


async def _finish_left(tx: Transaction, job: Job, finishing: _Finishing) -> Event:
    """Finishes a job of an earlier process, in which work may have been free: then nothing is held for it."""
    if not await hold_store.is_held(tx, job.id):
        if not job.terms.quote:
            event = finishing.sign(None)
            if not await rows.sign(tx, [(job.id, event, finishing.work, 0)]):
                raise MoneyError("a job that has ended has no result")
            return event
        # It waited for a payment when work became free. Its customer waits for a receipt, which says that it is free.
        await hold_store.admit(
            tx, [Admission(job.request.customer, job.id, job.terms.quote, TRUSTED, job.received_at)]
        )
    (event,) = await _finish(tx, [finishing])
    return event
