"""The jobs that have not ended: those that wait for a payment or for the engine, and those that run."""

import asyncio

from pylon import log
from pylon.errors import MalformedError
from pylon.jobs.cancel import parse_cancel
from pylon.money.accounts.account import Decision
from pylon.nostr.event import Event
from pylon.provider.payments.payment_gate import PaymentGate
from pylon.provider.queue import Job
from pylon.provider.rows import JobState
from pylon.provider.work.runner import Runner

logger = log.get("provider")


class ActiveJobs:
    """Payment gate and runner as one. Without a payment gate, work is free."""

    def __init__(self, *, payment_gate: PaymentGate | None, runner: Runner) -> None:
        self._payment_gate = payment_gate
        self._runner = runner

    @property
    def takes_payment(self) -> bool:
        """Whether jobs may have to wait for a payment."""
        return self._payment_gate is not None

    @property
    def unpaid(self) -> int:
        """How many jobs wait for a payment."""
        return 0 if self._payment_gate is None else self._payment_gate.waiting

    @property
    def newcomers_full(self) -> bool:
        """Whether no further job of a customer that has never paid may wait for a payment."""
        return self._payment_gate is not None and self._payment_gate.full

    @property
    def wallet_down(self) -> bool:
        """Whether the wallet does not answer, so that no payment can be asked for."""
        return self._payment_gate is not None and self._payment_gate.down

    def unpaid_of(self, customer: str) -> int:
        """How many of this customer's jobs wait for its payment."""
        return 0 if self._payment_gate is None else self._payment_gate.of_customer(customer)

    def paid_of(self, customer: str) -> int:
        """How many of this customer's jobs wait for the engine or run."""
        running = sum(1 for one in self._runner.running.values() if one.job.request.customer == customer)
        return self._runner.queue.of_customer(customer) + running

    def has(self, job_id: str) -> bool:
        """Whether this job is active."""
        if job_id in self._runner.running or self._runner.queue.get(job_id) is not None:
            return True
        return self._payment_gate is not None and self._payment_gate.has(job_id)

    def say_again(self, job_id: str) -> None:
        """Tells the customer of an active job again how that stands."""
        if self._payment_gate is not None and self._payment_gate.has(job_id):
            self._payment_gate.say_again(job_id)
        else:
            self._runner.say_again(job_id)

    async def take(self, job: Job, decision: Decision) -> None:
        """Takes on a job that is in the journal, by the decision on its payment."""
        if self._payment_gate is None:
            self._runner.add(job)
        else:
            await self._payment_gate.handle(job, decision)

    async def restore(self, job: Job, state: JobState) -> None:
        """Takes up a job that an earlier process left in this state."""
        if state is JobState.AWAITING_FUNDS and self._payment_gate is not None:
            await self._payment_gate.restore(job)
        else:
            self._runner.add(job)

    async def take_back(self, event: Event) -> list[tuple[str, str]]:
        """Cancels the jobs that this deletion request (NIP-09) names, if they are its author's.

        Returns those that are not active, as pairs of author and job id. A malformed event names none.
        """
        try:
            cancellation = parse_cancel(event)
        except MalformedError:
            return []
        customer, named = cancellation.customer, dict.fromkeys(cancellation.requests)
        here = {job_id for job_id in named if self.has(job_id)}
        # At once, so that their writes share one flush to disk.
        await asyncio.gather(*(self._let_go(job_id, customer) for job_id in named if job_id in here))
        return [(customer, job_id) for job_id in named if job_id not in here]

    async def _let_go(self, job_id: str, customer: str) -> None:
        try:
            # The payment gate first: a job that is paid for meanwhile is with the runner when that is asked.
            if self._payment_gate is not None:
                await self._payment_gate.cancel(job_id, customer)
            await self._runner.cancel(job_id, customer)
        except Exception:
            logger.exception("a job could not be released", job=job_id)
