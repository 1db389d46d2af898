"""The payment gate: runs jobs whose payment is there, and asks customers for the others.

A customer has at most one open invoice. Its other jobs wait for the same one, and feedback for each names it: events
get lost, and a customer that comes back must be able to pay. `Waiting` knows which jobs wait, `InvoiceIssuer` makes
the invoices, and `PaymentWatch` learns what was paid.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from weakref import WeakValueDictionary

from pylon import log
from pylon.clock import Clock
from pylon.jobs.codes import ErrorCode
from pylon.money.accounts.account import AskTopUp, Basis, Decision, Run, TooMuch, WaitForTopUp
from pylon.money.invoices.allowance import PACE_S
from pylon.money.invoices.store import Issued
from pylon.provider.contents import put_aside
from pylon.provider.customers import Standing
from pylon.provider.payments.invoice_issuer import InvoiceIssuer, NotIssued
from pylon.provider.payments.open_invoice import Misfit, unpaid
from pylon.provider.payments.payment_watch import PaymentWatch
from pylon.provider.payments.settlement import AccountSettlement
from pylon.provider.payments.waiting import Waiting
from pylon.provider.queue import Job
from pylon.provider.replies import Replies
from pylon.provider.rows import JobState
from pylon.tasks import Tasks

logger = log.get("provider")

# See `Results.end`.
type End = Callable[[Job, JobState, ErrorCode, str], Awaitable[None]]


class PaymentGate:
    """`run` queues a job that may run; `end` ends one without a result and tells its customer. At most `most` jobs of
    customers that have never paid may wait."""

    def __init__(
        self,
        *,
        issuer: InvoiceIssuer,
        settlement: AccountSettlement,
        replies: Replies,
        clock: Clock,
        run: Callable[[Job], None],
        end: End,
        most: int,
    ) -> None:
        self._issuer = issuer
        self._settlement = settlement
        self._replies = replies
        self._clock = clock
        self._run = run
        self._end_job = end
        self._waiting = Waiting(most)
        # A lock for each customer, for as long as somebody holds it or waits for it; see `_turn`.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # The tasks that are making invoices.
        self._asks = Tasks()
        self._watch = PaymentWatch(
            waiting=self._waiting, issuer=issuer, clock=clock, decide=self._decide_on_all, time_out=self._time_out
        )

    @property
    def down(self) -> bool:
        """Whether the wallet does not answer."""
        return self._issuer.down

    @property
    def full(self) -> bool:
        """Whether no further job of a customer that has never paid may wait for a payment."""
        return not self._waiting.has_room(self._clock.wall())

    @property
    def waiting(self) -> int:
        """How many jobs wait for a payment."""
        return len(self._waiting)

    def of_customer(self, customer: str) -> int:
        """How many of this customer's jobs wait for its payment."""
        return len(self._waiting.of_customer(customer))

    def has(self, job_id: str) -> bool:
        """Whether this job waits for a payment."""
        return job_id in self._waiting

    def say_again(self, job_id: str) -> None:
        """Sends the customer of a waiting job its invoice again, or `processing` if it has none yet."""
        if (job := self._waiting.get(job_id)) is None:
            return
        if (told := self._waiting.told(job_id)) is not None:
            self._replies.payment_required(job.request, job.relay, told.amount, told.invoice)
        else:
            self._replies.processing(job.request, job.relay)

    async def start(self) -> None:
        """Looks up what was paid before this process began, then listens for payments."""
        await self._watch.start()

    async def close(self) -> None:
        """Stops. Waiting jobs stay in the journal."""
        try:
            await self._watch.close()
        finally:
            await self._asks.close()

    async def restore(self, job: Job) -> None:
        """Takes up a job that waited when an earlier process ended."""
        decision = await self._settlement.decide(job)
        if decision is not None:
            await self.handle(job, decision)

    async def handle(self, job: Job, decision: Decision) -> None:
        """Takes on a job that is in the journal, by the decision on its payment."""
        if not isinstance(decision, AskTopUp | WaitForTopUp):
            await self._do(job, decision)
            return
        # Keys cost nothing, so a flood of them gets limited room. A customer that has paid before is not part of one.
        newcomer = not await self._issuer.has_paid(job.request.customer)
        if newcomer and not self._waiting.makes_room(self._clock.wall()):
            reason = f"{self._waiting.newcomers} jobs of new customers are waiting for payment here"
            await self._write_end(job, JobState.FAILED, ErrorCode.BUSY, reason)
            return
        self._waiting.add(put_aside(job), newcomer=newcomer)
        self._watch.wake()
        # Decided again, since a payment may have come before the job was added to those that wait.
        await self._decide(job.id)

    async def cancel(self, job_id: str, customer: str) -> None:
        """Cancels a waiting job, if it is this customer's. If its invoice is paid later, that becomes credit."""
        job = self._waiting.get(job_id)
        if job is not None and job.request.customer == customer:
            await self._end(job, JobState.CANCELLED, ErrorCode.CANCELLED, "")

    # --- what a job's customer hears ----------------------------------------------------------------------------

    async def _say_what_is_due(self, job: Job, decision: AskTopUp | WaitForTopUp) -> None:
        if self._waiting.is_asked(job.request.customer):
            # The invoice is named once it is made. Until then the customer hears that the job is not lost.
            self._replies.processing(job.request, job.relay)
        elif isinstance(decision, WaitForTopUp):
            await self._show_open(job, decision)
        elif self._waiting.must_stand_in_line(job):
            self._stand_in_line(job)
        else:
            self._waiting.asks(job.request.customer)
            # In a task of its own: a slow wallet must not hold up other customers.
            self._asks.start(self._ask(job, decision), f"job {job.id[:8]} asks for a payment")

    async def _show_open(self, job: Job, decision: WaitForTopUp) -> None:
        found = await self._issuer.invoice_for(job, decision)
        if isinstance(found, Misfit):
            self._waiting.misfits(job.request.customer, True)
        if isinstance(found, Issued):
            self._show(job, found)
        else:
            # There is none any more, it is about to expire, or it will be replaced.
            self._replies.processing(job.request, job.relay)

    def _show(self, job: Job, issued: Issued) -> None:
        if self._waiting.tell(job.id, issued):
            self._replies.payment_required(job.request, job.relay, issued.amount, issued.invoice)

    def _stand_in_line(self, job: Job) -> None:
        if self._waiting.stand_in_line(job):
            self._replies.processing(job.request, job.relay, PACE_S * self._waiting.relays_in_line)

    # --- one invoice is made ------------------------------------------------------------------------------------

    async def _ask(self, job: Job, decision: AskTopUp) -> None:
        try:
            answer = await self._issuer.issue(job, decision.amount)
            if isinstance(answer, NotIssued):
                await self._not_issued(job, answer)
            else:
                self._show_new(job, answer)
        except Exception:
            # The job still waits. Without an open invoice it is decided on again.
            logger.exception("a payment could not be asked for", job=job.id)
        finally:
            self._waiting.asked(job.request.customer)

    def _show_new(self, job: Job, issued: Issued) -> None:
        self._waiting.invoiced(job)
        if not self.has(job.id):
            # The job was cancelled meanwhile: the invoice goes to another one.
            self._waiting.left(job.request.customer)
            return
        self._show(job, issued)
        for other in self._waiting.of_customer(job.request.customer):
            self._show(other, issued)

    async def _not_issued(self, job: Job, why: NotIssued) -> None:
        match why:
            case NotIssued.ANOTHER:
                self._waiting.left(job.request.customer)
            case NotIssued.LATER:
                self._stand_in_line(job)
            case NotIssued.UNPAID:
                reason = "too many invoices of this customer were not paid within the last hour"
                await self._end(job, JobState.FAILED, ErrorCode.CUSTOMER_LIMIT, reason)
            case NotIssued.RAN_OUT:
                await self._time_out(job)
            case NotIssued.PAID:
                await self._end(job, JobState.FAILED, ErrorCode.CREDIT_EXHAUSTED, "ask again with a new request")
            case NotIssued.WALLET:
                self._watch.wake()
                await self._end(job, JobState.FAILED, ErrorCode.PAUSED, "wallet")

    # --- a job ends without having run --------------------------------------------------------------------------

    async def _time_out(self, job: Job) -> None:
        reason = unpaid(job, self._waiting.told(job.id))
        await self._end(job, JobState.EXPIRED, ErrorCode.PAYMENT_TIMEOUT, reason)

    async def _end(self, job: Job, state: JobState, code: ErrorCode, reason: str) -> None:
        """Ends a waiting job without a result, unless it was paid for or has ended meanwhile."""
        async with self._turn(job.request.customer):
            if self.has(job.id):
                await self._write_end(job, state, code, reason)

    async def _write_end(self, job: Job, state: JobState, code: ErrorCode, reason: str) -> None:
        await self._end_job(job, state, code, reason)
        self._waiting.remove(job.id)
        self._waiting.left(job.request.customer)

    # --- decided on again ----------------------------------------------------------------------------------------

    async def _decide_on_all(self, customer: str, first: str) -> None:
        for job in sorted(self._waiting.of_customer(customer), key=lambda job: job.id != first):
            await self._decide(job.id)

    async def _decide(self, job_id: str) -> None:
        if (waiting := self._waiting.get(job_id)) is None:
            return
        # The lock is taken for each job, so that cancelling one does not wait for all others of its customer.
        async with self._turn(waiting.request.customer):
            # Again: it may have ended meanwhile.
            if (job := self._waiting.get(job_id)) is None:
                return
            decision = await self._settlement.decide(job)
            if decision is None:
                self._waiting.remove(job_id)
            else:
                await self._do(job, decision)

    def _turn(self, customer: str) -> asyncio.Lock:
        """Held from a decision on a waiting job until memory agrees with the disk.

        Otherwise a job could be both cancelled and run, or two invoices be asked for. Each customer has its own: a
        flood has a thousand jobs that wait, and each is decided on with a flush to the disk.
        """
        return self._turns.setdefault(customer, asyncio.Lock())

    async def _do(self, job: Job, decision: Decision) -> None:
        match decision:
            case Run():
                self._waiting.remove(job.id)
                # Its own money is worth more than an earlier job: it does not wait among strangers.
                paid = decision.basis is Basis.PREPAID and job.standing is Standing.STRANGER
                self._run(replace(job, standing=Standing.RECENT) if paid else job)
            case TooMuch():
                reason = "this costs more than an account here may hold"
                await self._write_end(job, JobState.FAILED, ErrorCode.CREDIT_EXHAUSTED, reason)
            case AskTopUp() | WaitForTopUp():
                await self._say_what_is_due(job, decision)
